#include <infobatch/atomic_file.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/json_fields.hpp>
#include <infobatch/error.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/safetensors.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

// The saved state: scores, the staged losses of the running epoch, and the figures that rebuild its
// plan from the scores, which stand still while an epoch runs.

namespace infobatch {
namespace {

using detail::get;
using detail::get_count;
using detail::get_object;
using detail::get_value;
using detail::JsonMember;
using detail::JsonValue;
using detail::JsonWriter;
using detail::message;

constexpr int kSchema = 1;
constexpr std::int64_t kMostSamples = std::int64_t{1} << 62;  // that sums over a run may reach
constexpr const char* kFormat = "infobatch-state";

template <typename T>
std::string_view bytes_of(const T* data, std::int64_t count) {
  return {reinterpret_cast<const char*>(data), static_cast<std::size_t>(count) * sizeof(T)};
}

void copy_floats(const detail::TensorView& tensor, float* out) {
  if (!tensor.data.empty()) std::memcpy(out, tensor.data.data(), tensor.data.size());
}

[[noreturn]] void damaged(const std::string& what) {
  throw FileError("load: the state must be whole, got " + what);
}

/// Scores and staged losses are finite or never observed; losses staged by ids may be unseen.
void check_floats(const float* values, std::int64_t count, const char* name, bool may_be_unseen) {
  for (std::int64_t i = 0; i < count; ++i) {
    const bool reserved =
        float_bits(values[i]) == kNeverObservedBits || (may_be_unseen && is_unseen(values[i]));
    if (!is_finite(values[i]) && !reserved) {
      damaged(message("a non-finite value in ", name, " at ", i));
    }
  }
}

/// The state's JSON object.
JsonValue parse_state(const std::string& text) {
  constexpr int kDeepest = 8;
  try {
    JsonValue state = detail::parse_json(text, kDeepest);
    if (state.is_object()) return state;
  } catch (const detail::JsonError& error) {
    damaged(message("damaged metadata: ", error.what()));
  }
  damaged("metadata without a state");
}

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

/// What a state's metadata and tensors add up to, so that damage anywhere is noticed.
std::string checksum(std::string_view state, std::string_view scores, std::string_view staged) {
  return hex(detail::fingerprint_of(staged,
                                    detail::fingerprint_of(scores, detail::fingerprint_of(state))));
}

/// Every option that differs, as "name: saved -> own", in two lists.
void compare(const Config& saved,
             const Config& own,
             std::vector<std::string>& refused,
             std::vector<std::string>& changed) {
  constexpr int kDeepest = 8;
  const JsonValue a = detail::parse_json(saved.to_json(), kDeepest);
  const JsonValue b = detail::parse_json(own.to_json(), kDeepest);
  for (const JsonMember& member : a.members) {
    const JsonValue& other = get_value(b, member.key.c_str());
    if (member.value == other) continue;
    const bool may = member.key == "epochs" || member.key == "delta";
    (may ? changed : refused)
        .push_back(message(
            member.key, ": ", detail::to_text(member.value), " -> ", detail::to_text(other)));
  }
}

}  // namespace

std::string Session::serialize() {
  // Where the next epoch was looked at, the finished one is what there is to save; the look is
  // taken back for as long as that takes.
  struct TurnedBack {
    explicit TurnedBack(Session& session) : session_(session) {
      if (!session_.peeked_) return;
      swap();
      session_.exchange_staged();
    }
    ~TurnedBack() {
      if (!session_.peeked_) return;
      session_.exchange_staged();
      swap();
    }
    void swap() {
      std::swap(session_.running_, session_.previous_);
      std::swap(session_.totals_, session_.previous_totals_);
    }
    Session& session_;
  } const turned_back(*this);
  const Running& run = running_;
  const bool by_ids = run.mode == Mode::kIds;
  JsonWriter state;
  state.begin_object();
  state.member("rule_version", kRuleVersion).member("size", size_);
  state.key("config").raw(config_.to_json());
  state.member("epoch", run.epoch);
  state.member("delivered", run.mode == Mode::kNone && (over(run) || run.delivered));
  state.member("pinned", pinned_);
  state.member("observed_by", run.mode == Mode::kNone ? "none" : by_ids ? "ids" : "cursor");
  state.member("observed", observed(run)).member("batch", run.batch).member("step", run.step);
  state.member("non_finite", run.non_finite);
  state.key("plan");
  if (run.plan == nullptr) {
    state.null();
  } else {
    state.begin_object();
    state.member("kept", run.plan->size()).member("prunes", run.choice.prunes);
    state.member("strength", run.choice.strength).member("limited", run.choice.limited);
    state.member("fingerprint", hex(detail::fingerprint(*run.plan))).end_object();
  }
  state.key("totals").begin_object();
  state.member("epochs", totals_.epochs).member("pruned", totals_.pruned);
  state.member("non_finite", totals_.non_finite).end_object();
  const std::string text = state.end_object().take();
  const std::string_view scores = bytes_of(scores_.data(), size_);
  const std::string_view staged = bytes_of(run.staged.data(), run.staged_end);
  detail::SafeTensors content;
  content.metadata = {{"format", kFormat},
                      {"schema", std::to_string(kSchema)},
                      {"state", text},
                      {"checksum", checksum(text, scores, staged)}};
  content.tensors = {{"scores", "F32", {size_}, scores},
                     {"staged", "F32", {run.staged_end}, staged}};
  return detail::write_safetensors(content);
}

LoadReport Session::deserialize(const std::string& bytes) try {
  const detail::SafeTensors content = detail::read_safetensors(bytes);
  const auto meta = [&](const char* key) {
    const auto it = content.metadata.find(key);
    return it == content.metadata.end() ? std::string() : it->second;
  };
  if (meta("format") != kFormat) damaged("a safetensors file of another program");
  if (meta("schema") != std::to_string(kSchema)) {
    throw InvalidArgument(
        message("load: schema must be ", kSchema, ", got \"", meta("schema"), "\""));
  }
  const detail::TensorView& scores = content.vector("scores", "F32");
  const detail::TensorView& staged = content.vector("staged", "F32");
  if (meta("checksum") != checksum(meta("state"), scores.data, staged.data)) {
    damaged("another checksum than the one it was written with");
  }
  const JsonValue state = parse_state(meta("state"));

  // Is it this run's? Everything that differs is told at once.
  const auto size = get<std::int64_t>(state, "size");
  const auto rules = get<std::int64_t>(state, "rule_version");
  const Config saved = Config::from_json(detail::to_text(get_object(state, "config")));
  LoadReport report;
  std::vector<std::string> refused;
  if (size != size_) refused.push_back(message("size: ", size, " -> ", size_));
  if (rules != kRuleVersion) {
    refused.push_back(message("rule_version: ", rules, " -> ", kRuleVersion));
  }
  compare(saved, config_, refused, report.changes);
  if (!refused.empty()) {
    throw InvalidArgument(
        "load: the state must be of the same run (only epochs and delta may "
        "differ), got saved -> own " +
        detail::join(refused, ", "));
  }

  // Everything is read and checked beside the running state, which changes last.
  if (scores.shape[0] != size_) damaged(message(scores.shape[0], " scores"));
  Buffer<float> table(size_);
  copy_floats(scores, table.data());
  check_floats(table.data(), size_, "scores", /*may_be_unseen=*/false);

  Running run;
  run.epoch = get_count(state, "epoch", kMaxEpochs);
  run.batch = get_count(state, "batch", INT64_MAX);
  run.step = get_count(state, "step", INT64_MAX);
  run.non_finite = get_count(state, "non_finite", kMostSamples);
  Totals totals;
  const JsonValue& sums = get_object(state, "totals");
  totals.epochs = get_count(sums, "epochs", kMaxEpochs);
  totals.pruned = get_count(sums, "pruned", kMostSamples);
  totals.non_finite = get_count(sums, "non_finite", kMostSamples);

  const auto pinned = get<bool>(state, "pinned");
  const auto observed_by = get<std::string>(state, "observed_by");
  const JsonValue& plan = get_value(state, "plan");
  if (plan.is_object()) {
    run.choice.prunes = get<bool>(plan, "prunes");
    run.choice.strength = get<double>(plan, "strength");
    run.choice.limited = get<bool>(plan, "limited");
    if (!(run.choice.strength >= 0.0) ||
        run.choice.strength >
            std::max(policy_->largest_strength(saved), policy_->configured_strength(saved))) {
      damaged(message("strength = ", run.choice.strength));
    }
    const detail::PlanRequest request{
        saved, *policy_, run.epoch, size_, table.data(), totals.pruned, &run.choice, threads_};
    detail::PlannedEpoch planned = detail::plan_epoch(request, PlanArrays{});
    if (hex(detail::fingerprint(*planned.plan)) != get<std::string>(plan, "fingerprint")) {
      damaged("scores that lead to another plan than the one that was running");
    }
    run.plan = std::move(planned.plan);
    run.statistics = planned.statistics;
  } else if (observed_by != "none") {
    damaged("losses without a plan");
  }
  const std::int64_t kept = run.plan == nullptr ? 0 : run.plan->size();
  const std::int64_t seen = get_count(state, "observed", kept);
  run.staged_end = staged.shape[0];
  if (observed_by == "cursor") {
    run.mode = Mode::kCursor;
    run.cursor = run.handed = seen;
    if (run.staged_end != seen) damaged(message(run.staged_end, " losses for ", seen));
  } else if (observed_by == "ids") {
    run.mode = Mode::kIds;
    run.covered = seen;
    run.skips_covered = true;
    if (run.staged_end != kept) damaged(message(run.staged_end, " losses for ", kept));
  } else if (observed_by != "none" || run.staged_end != 0) {
    damaged("observed_by = " + observed_by);
  }
  // An empty epoch has nothing to observe: it is over when it has begun. One that was dropped as a
  // short batch comes again, because it may have been in the loop's hands instead.
  run.delivered = get<bool>(state, "delivered") && run.plan != nullptr && run.mode == Mode::kNone;
  run.begun = run.delivered && kept == 0;
  run.staged = Buffer<float>(kept);
  copy_floats(staged, run.staged.data());
  check_floats(run.staged.data(), run.staged_end, "staged", run.mode == Mode::kIds);
  if (run.mode == Mode::kIds) {
    std::int64_t covered = 0;
    for (std::int64_t p = 0; p < kept; ++p) covered += is_unseen(run.staged[p]) ? 0 : 1;
    if (covered != seen) damaged(message(covered, " losses for ", seen));
    if (covered == kept) run.handed = kept;
  }

  scores_ = std::move(table);
  running_ = std::move(run);
  totals_ = totals;
  peeked_ = false;
  pinned_ = pinned;
  previous_ = Running{};
  resumed_ = !pinned_ && running_.mode != Mode::kNone && !over(running_);
  report.epoch = running_.epoch;
  report.position = observed(running_);
  return report;
} catch (const detail::JsonError& error) {
  damaged(error.what());
}

void Session::save(const std::string& path) { detail::write_file_atomically(path, serialize()); }

LoadReport Session::load(const std::string& path) { return deserialize(detail::read_file(path)); }

}  // namespace infobatch
