#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/state.hpp>
#include <tests/fuzz/oracles.hpp>
#include <tests/support/reseal.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

// Bytes -> a session's state. An input is a byte that names the run, and a file; the checksum is
// put right first, so that what stands behind it is met. A file is refused and changes nothing, or
// it is a state that can be saved, read back and run on with.

using namespace infobatch;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

constexpr unsigned kUnsealed = 0x80;  // of the first byte: leaves the checksum as it is

/// The same bytes where the data set has another size: refused, or trained on with.
void try_resized(fuzz::Variant variant, const std::string& bytes) {
  variant.size += 5;
  const auto session = fuzz::make_session(variant);
  const std::string before = session->serialize();
  try {
    session->deserialize(bytes, Resize{});
  } catch (const std::exception& error) {
    const bool known = dynamic_cast<const FileError*>(&error) != nullptr ||
                       dynamic_cast<const InvalidArgument*>(&error) != nullptr ||
                       dynamic_cast<const StateError*>(&error) != nullptr;
    fuzz::require(known, error.what());
    fuzz::require(session->serialize() == before, "a refused state changes nothing");
    return;
  }
  fuzz::check_session(*session);
  fuzz::run_epochs(*session, 2, true);
  const auto other = fuzz::make_session(variant);
  const std::string saved = session->serialize();
  other->deserialize(saved);
  fuzz::require(other->serialize() == saved, "a resized state reads back equal");
}

void try_state(unsigned number, const std::string& bytes) {
  const fuzz::Variant variant = fuzz::variant_of(number);
  try_resized(variant, bytes);
  const auto session = fuzz::make_session(variant);
  if ((number & 0x40) != 0) {  // one that is in the middle of an epoch
    fuzz::run_epochs(*session, 1);
    session->begin();
    const Slice slice = session->next(variant.config.whole_batches > 0 ? 4 : 7);
    const std::vector<float> losses(static_cast<std::size_t>(slice.count), 0.25f);
    session->observe(losses.data(), slice.count);
  }
  const std::string before = session->serialize();
  LoadReport report;
  try {
    report = session->deserialize(bytes);
  } catch (const FileError&) {
    fuzz::require(session->serialize() == before, "a refused state changes nothing");
    return;
  } catch (const InvalidArgument&) {
    fuzz::require(session->serialize() == before, "a refused state changes nothing");
    return;
  }
  fuzz::require(report.position == session->position(), "the report tells the position");
  fuzz::check_session(*session);
  const std::string saved = session->serialize();

  const auto other = fuzz::make_session(variant);
  other->deserialize(saved);
  fuzz::require(other->serialize() == saved, "an accepted state reads back equal");
  fuzz::run_epochs(*session, 4, true);
  fuzz::run_epochs(*other, 4, true);
  fuzz::require(session->serialize() == other->serialize(), "equal states run alike");

  const auto last = fuzz::make_session(variant);
  const std::string end = session->serialize();
  last->deserialize(end);
  fuzz::require(last->serialize() == end, "what an accepted state became reads back equal");
}

// --- mutations that keep a file a file

std::string mutated(std::string text, bool grows) {
  const std::size_t size = text.size();
  const std::size_t most = grows ? size + 64 : size;
  if (most == 0) return text;
  text.resize(most);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), size, most));
  return text;
}

/// Puts another number in the place of one of the text.
std::string with_forged_number(std::string text, std::mt19937& random) {
  static const char* const kNumbers[] = {"0",
                                         "1",
                                         "-1",
                                         "2",
                                         "4",
                                         "5",
                                         "19",
                                         "20",
                                         "21",
                                         "7",
                                         "8",
                                         "0.0",
                                         "0.5",
                                         "1.0",
                                         "1e308",
                                         "-0.0",
                                         "4294967295",
                                         "4294967296",
                                         "1099511627776",
                                         "115292150460684697",
                                         "115292150460684698",
                                         "2305843009213693952",
                                         "2305843009213693951",
                                         "2305843009213693953",
                                         "4611686018427387904",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "-9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "true",
                                         "false",
                                         "null"};
  std::vector<std::size_t> places;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i - 1] == ':' && text[i] != '"' && text[i] != '{' && text[i] != '[') {
      places.push_back(i);
    }
  }
  if (places.empty()) return text;
  const std::size_t at = places[random() % places.size()];
  const std::size_t end = std::min(text.find_first_of(",}", at), text.size());
  return text.replace(at, end - at, kNumbers[random() % std::size(kNumbers)]);
}

/// Gives the state the plan that its figures and scores lead to.
std::string replanned(const std::string& bytes, const fuzz::Variant& variant) {
  detail::StateContent content;
  try {
    content = detail::read_state(bytes);
  } catch (const FileError&) {
    return bytes;
  } catch (const InvalidArgument&) {
    return bytes;
  }
  detail::StateFigures& figures = content.figures;
  if (!figures.plan || figures.size != variant.size) return bytes;
  const Policy* policy = find_policy(figures.config.policy);
  if (!(figures.plan->choice.scale >= 0.0 && figures.plan->choice.scale <= 1.0)) return bytes;
  std::vector<float> scores(static_cast<std::size_t>(figures.size) + 1);
  std::memcpy(scores.data(), content.scores.data(), content.scores.size());
  std::vector<std::vector<float>> values;
  std::vector<const float*> columns;
  for (const ColumnCard& card : policy->card.columns) {
    const auto column = std::find_if(content.policy.begin(),
                                     content.policy.end(),
                                     [&](const auto& c) { return c.name == card.name; });
    if (column == content.policy.end()) return bytes;
    values.emplace_back(scores.size());
    std::memcpy(values.back().data(), column->bytes.data(), column->bytes.size());
  }
  for (const std::vector<float>& column : values) columns.push_back(column.data());
  const detail::PlanRequest request{figures.config,
                                    *policy,
                                    figures.epoch,
                                    figures.size,
                                    scores.data(),
                                    columns.data(),
                                    {},
                                    nullptr,
                                    RunSoFar{figures.totals.pruned},
                                    &figures.plan->choice,
                                    1,
                                    detail::cpu_backend()};
  const detail::PlannedEpoch planned = detail::plan_epoch(request, PlanArrays{});
  figures.plan->kept = planned.plan->size();
  figures.plan->fingerprint = detail::fingerprint(*planned.plan.get());
  figures.observed = std::min(figures.observed, figures.plan->kept);
  std::string staged(content.staged);
  if (figures.by == detail::ObservedBy::kIds) {
    const float none = unseen();
    while (staged.size() < static_cast<std::size_t>(figures.plan->kept) * sizeof none) {
      staged.append(reinterpret_cast<const char*>(&none), sizeof none);
    }
    staged.resize(static_cast<std::size_t>(figures.plan->kept) * sizeof none);
  } else {
    staged.resize(static_cast<std::size_t>(figures.observed) * sizeof(float));
  }
  std::vector<detail::StateTensor> tensors = {
      {"scores", "F32", figures.size, content.scores, {}},
      {"staged", "F32", static_cast<std::int64_t>(staged.size() / sizeof(float)), staged, {}}};
  for (const detail::StateColumn& column : content.columns) {
    tensors.push_back({"column." + column.name, column.dtype, column.count, column.bytes, {}});
  }
  for (const detail::StateColumn& column : content.policy) {
    tensors.push_back({"policy." + column.name, column.dtype, column.count, column.bytes, {}});
  }
  return detail::write_state(figures, tensors);
}

/// The file with a part of its content changed; empty where it is no file.
std::string changed_file(const std::string& bytes, const fuzz::Variant& variant, unsigned seed) {
  detail::SafeTensors file;
  try {
    file = detail::read_safetensors(bytes);
  } catch (const FileError&) {
    return {};
  }
  std::mt19937 random(seed);
  std::string tensor;  // owns what a view refers to
  const unsigned kind = random() % 16;
  if (kind < 4) {
    std::string& state = file.metadata["state"];
    state = mutated(state, true);
  } else if (kind < 10) {
    std::string& state = file.metadata["state"];
    for (unsigned n = 1 + random() % 2; n > 0; --n) state = with_forged_number(state, random);
  } else if (kind < 15 && !file.tensors.empty()) {
    detail::TensorView& view = file.tensors[random() % file.tensors.size()];
    tensor = mutated(std::string(view.data), kind == 14);
    if (kind == 14 && view.shape.size() == 1) {
      tensor.resize(tensor.size() / sizeof(float) * sizeof(float));
      view.shape[0] = static_cast<std::int64_t>(tensor.size() / sizeof(float));
    } else {
      tensor.resize(view.data.size());
    }
    view.data = tensor;
  } else {
    file.metadata[mutated("column", true)] = mutated("1", true);
  }
  std::string result = testing::reseal(detail::write_safetensors(file));
  return random() % 2 == 0 ? replanned(result, variant) : result;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t most,
                                               unsigned seed) {
  if (size > 1 && seed % 4 != 0) {
    const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string changed = changed_file(bytes, fuzz::variant_of(data[0]), seed / 4);
    if (!changed.empty() && changed.size() < most) {
      std::memcpy(data + 1, changed.data(), changed.size());
      return changed.size() + 1;
    }
  }
  return LLVMFuzzerMutate(data, size, most);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if ((data[0] & kUnsealed) == 0) bytes = testing::reseal(std::move(bytes));
  try_state(data[0], bytes);
  return 0;
}
