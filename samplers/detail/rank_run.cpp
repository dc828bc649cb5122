#include <infobatch/error.hpp>
#include <samplers/detail/rank_run.hpp>
#include <samplers/detail/store_meeting.hpp>
#include <samplers/detail/translate.hpp>
#include <samplers/options.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

namespace infobatch::detail {
namespace {

/// The bytes of all ranks, of any length.
std::vector<std::string> gather_texts(Exchange& exchange,
                                      const std::string& own,
                                      const std::string& what) {
  const auto ranks = static_cast<std::size_t>(exchange.size());
  const auto length = static_cast<std::int64_t>(own.size());
  std::vector<std::int64_t> lengths(ranks);
  exchange.gather(&length, sizeof length, lengths.data(), what);
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = own;
  padded.resize(static_cast<std::size_t>(longest));
  std::string all(ranks * padded.size(), '\0');
  exchange.gather(padded.data(), longest, all.data(), what);
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    texts.push_back(all.substr(rank * padded.size(), static_cast<std::size_t>(lengths[rank])));
  }
  return texts;
}

using Fields = std::map<std::string, std::string>;

/// The fields of a JSON object and their values as they stand there; commas in brackets and texts
/// separate none.
Fields fields_of(const std::string& json) {
  Fields fields;
  int depth = 0;
  bool in_text = false;
  std::string name;
  std::string word;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text && c == '\\') {
      word += c;
      word += json[++i];
      continue;
    }
    if (c == '"') in_text = !in_text;
    const bool opens = !in_text && (c == '{' || c == '[');
    const bool closes = !in_text && (c == '}' || c == ']');
    if (closes) --depth;
    if (!in_text && depth == 1 && c == ':') {
      name = std::exchange(word, {});
    } else if (!in_text && (depth == 0 || (depth == 1 && c == ',' && !closes))) {
      if (!name.empty()) fields[name] = std::exchange(word, {});
      name.clear();
    } else if (c != '"' && (in_text || (c != ' ' && c != '\n'))) {
      word += c;
    }
    if (opens && ++depth == 1) word.clear();
  }
  return fields;
}

constexpr const char* kDefaultSeed = "default seed";  // the one that may differ

Fields own_fields(const Exchange& exchange, std::int64_t size, const Options& options) {
  const Config config = options.config();
  Fields fields = fields_of(config.to_json());
  if (!options.seed().has_value()) fields["seed"] = "none";
  fields[kDefaultSeed] = message(config.seed);
  fields["samples"] = message(size);
  fields["ranks"] = message(exchange.size());
  fields["split"] = options.split() == Split::kGlobal ? "global" : "sharded";
  fields["padding"] = options.padding() == Padding::kTrim ? "trim" : "pad";
  return fields;
}

std::string text_of_fields(const Fields& fields) {
  std::string text;
  for (const auto& [name, value] : fields) text += message(name, '=', value, '\n');
  return text;
}

Fields fields_of_text(std::string_view text) {
  Fields fields;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string line(text.substr(0, end));
    const std::size_t equals = std::min(line.find('='), line.size());
    fields[line.substr(0, equals)] = line.substr(std::min(equals + 1, line.size()));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return fields;
}

std::string value_of(const Fields& fields, const std::string& name) {
  const auto found = fields.find(name);
  return found == fields.end() ? "none" : found->second;
}

}  // namespace

Config agree_on_run(Exchange& exchange, std::int64_t size, const Options& options) {
  constexpr const char* kWhat = "InfoBatch";
  Config config = options.config();
  exchange.meet(kWhat);
  const std::string own = text_of_fields(own_fields(exchange, size, options));
  std::vector<Fields> found;
  for (const std::string& text : gather_texts(exchange, own, kWhat)) {
    found.push_back(fields_of_text(text));
  }
  std::vector<std::string> wrong;
  std::vector<int> who;
  for (int rank = 1; rank < exchange.size(); ++rank) {
    Fields names = found[0];
    names.insert(found[static_cast<std::size_t>(rank)].begin(),
                 found[static_cast<std::size_t>(rank)].end());
    bool differs = false;
    for (const auto& [name, value] : names) {
      const std::string theirs = value_of(found[static_cast<std::size_t>(rank)], name);
      const std::string first = value_of(found[0], name);
      if (name == kDefaultSeed || theirs == first) continue;
      wrong.push_back(message("rank ", rank, ": ", name, ' ', theirs, ", rank 0: ", first));
      differs = true;
    }
    if (differs) who.push_back(rank);
  }
  if (!wrong.empty()) {
    throw RankError("InfoBatch: all ranks must make the same run, got " + join(wrong, "; "), who);
  }
  if (!options.seed().has_value()) {
    config.seed = std::strtoull(value_of(found[0], kDefaultSeed).c_str(), nullptr, 10);
  }
  return config;
}

void RankRun::failed(const char* what, const std::exception& error) noexcept {
  try {
    exchange_->fail(what, words_of(error));
  } catch (const std::exception&) {
    // Whatever becomes of that, the error is this rank's.
  }
}

void RankRun::begin(std::int64_t target, const char* what) {
  if (alone()) return;
  if (target >= 0 || !met_) exchange_losses(target, what);
  met_ = target >= 0;
}

void RankRun::exchange_losses(std::int64_t target, const char* what) {
  met_ = false;
  RankReport own;
  tell_failure(what, [&] { own = session_.report_to_share(target); });
  exchange_->meet(what);
  std::vector<RankReport> reports(static_cast<std::size_t>(exchange_->size()));
  exchange_->gather(&own, sizeof own, reports.data(), what);
  agree(reports, what);
  if (!Session::must_share(reports.data(), exchange_->size())) return;
  const RankLosses losses = translated([&] { return session_.losses_to_share(); }, what);
  const bool is_global = session_.ranks().split == Split::kGlobal;
  const auto count = static_cast<std::size_t>(losses.count);
  std::vector<std::int32_t> all;
  if (is_global) {
    all.assign(losses.bits, losses.bits + losses.count);
    exchange_->largest(all.data(), losses.count, what);
  } else {
    constexpr std::int64_t kBytes = sizeof(std::int32_t);
    all.resize(count * reports.size());
    exchange_->gather(losses.bits, losses.count * kBytes, all.data(), what);
  }
  const auto take = [&] {
    session_.take_losses(all.data(), losses.count, reports.data(), exchange_->size());
  };
  translated(take, what);
  warn_of_unsound(reports);
}

void RankRun::agree(const std::vector<RankReport>& reports, const char* what) const {
  const auto count = static_cast<std::int64_t>(reports.size());
  try {
    session_.agree(reports.data(), count);
  } catch (const StateError& error) {
    // Whose: that of which this alone differs from rank 0's. What a rank may have of its own does
    // not count.
    std::vector<int> who;
    const auto common = [&](RankReport report) {
      report.observed = report.entering = report.over = 0;
      return report;
    };
    for (std::int64_t rank = 1; rank < count; ++rank) {
      RankReport two[] = {common(reports[0]), common(reports[static_cast<std::size_t>(rank)])};
      two[0].rank = two[1].rank = 0;
      static_assert(sizeof(RankReport) == 19 * sizeof(std::int64_t), "no padding to compare");
      if (reports[static_cast<std::size_t>(rank)].rank != rank ||
          std::memcmp(&two[0], &two[1], sizeof two[0]) != 0) {
        who.push_back(static_cast<int>(rank));
      }
    }
    throw RankError(told_as(what, error), who);
  }
}

/// Each rank's own warning cannot know that it was another one's loop.
void RankRun::warn_of_unsound(const std::vector<RankReport>& reports) {
  std::vector<int> ranks;
  for (const RankReport& report : reports) {
    if (report.entering < report.observed) ranks.push_back(static_cast<int>(report.rank));
  }
  if (ranks.empty() || std::exchange(warned_, true)) return;
  TORCH_WARN("infobatch: losses of ",
             rank_numbers(ranks),
             " were not sound in epoch ",
             reports[0].epoch,
             " and enter on no rank; those of all others enter on every rank");
}

std::vector<std::string> RankRun::parts(const char* what) {
  std::string own;
  tell_failure(what, [&] {
    own = translated([&] { return session_.serialize_part(/*with_scores=*/false); }, what);
  });
  exchange_->meet(what);
  return gather_texts(*exchange_, own, what);
}

std::string RankRun::state(const char* what) {
  if (alone()) return translated([&] { return session_.serialize(); });
  const std::vector<std::string> found = parts(what);
  return translated([&] { return session_.join_parts({found.begin(), found.end()}); }, what);
}

void RankRun::save(const std::string& path) {
  if (alone()) return translated([&] { session_.save(path); });
  const std::vector<std::string> found = parts("save");
  if (exchange_->rank() == 0) {
    tell_failure("save", [&] {
      translated([&] { session_.save_parts(path, {found.begin(), found.end()}); }, "save");
    });
  }
  exchange_->meet("save");
}

}  // namespace infobatch::detail
