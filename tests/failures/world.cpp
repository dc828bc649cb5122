#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <tests/failures/world.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace infobatch::testing {
namespace {

constexpr std::int64_t kEpochs = 5;

void receive(const char* text, void* user_data) {
  auto* const received = static_cast<Received*>(user_data);
  ++received->count;
  received->texts += detail::fingerprint_of(text);
}

void require(ib_status status, const char* what) {
  if (status != IB_OK) throw std::runtime_error(std::string(what) + ": " + ib_last_error());
}

std::int64_t running_epoch(const ib_session* session) {
  ib_statistics statistics;
  statistics.struct_size = sizeof statistics;
  require(ib_session_statistics(session, &statistics), "statistics");
  return statistics.epoch;
}

/// As simulated_loss, but quick.
float loss_of(std::int64_t id, std::int64_t epoch) {
  return static_cast<float>(
      uniform(static_cast<std::uint64_t>(id), static_cast<std::uint64_t>(epoch)));
}

}  // namespace

ib_session* new_session(const Situation& situation, Received* received) {
  ib_config config;
  ib_config_init(&config, sizeof config);
  config.epochs = kEpochs;
  if (situation.options != nullptr) situation.options(config);
  ib_session* session = nullptr;
  require(ib_session_create(situation.size, &config, situation.threads, &session), "create");
  require(ib_session_set_warning_handler(session, receive, received), "set_warning_handler");
  return session;
}

World::World(const Situation& given)
    : situation(given), session(new_session(given, &received)), column(0) {
  column.resize(static_cast<std::size_t>(situation.size));
  for (std::size_t i = 0; i < column.size(); ++i) column[i] = static_cast<float>(i % 10);
  if (situation.prepare != nullptr) situation.prepare(*this);
  // What calls may need.
  require(ib_session_pending(session, &count), "pending");
  if (count == 0) count = situation.batch;
  if (situation.loop == Loop::kParts) count = std::min<std::int64_t>(count, 4);
  ids = last_ids;
  for (std::int64_t i = 0; ids.empty() && i < std::min(situation.batch, situation.size); ++i) {
    ids.push_back(i);
  }
  const std::size_t slots = std::max(static_cast<std::size_t>(count), ids.size());
  losses.clear();
  for (std::size_t i = 0; i < slots; ++i) {
    losses.push_back(loss_of(static_cast<std::int64_t>(i), 77));
  }
  weights.assign(slots, 0.0f);
}

World::~World() { ib_session_destroy(session); }

void World::note(const char* what, std::int64_t value) {
  detail::append(trace, what);
  trace += ' ';
  detail::append(trace, value);
  trace += '\n';
}

void World::note_slice(const ib_slice& part) {
  note("begin", part.begin);
  note("count", part.count);
  const auto size = static_cast<std::size_t>(part.count);
  const auto bits_of = [&](const void* data, std::size_t each) {
    const std::string_view all(static_cast<const char*>(data), size * each);
    return static_cast<std::int64_t>(detail::fingerprint_of(all));
  };
  if (size > 0) note("ids", bits_of(part.ids, sizeof *part.ids));
  if (size > 0) note("weights", bits_of(part.weights, sizeof *part.weights));
}

void World::begin() { note("began", ib_session_begin(session)); }

void World::give_losses(const ib_slice& part) {
  const std::int64_t epoch = running_epoch(session);
  losses.resize(static_cast<std::size_t>(part.count));
  last_ids.assign(part.ids, part.ids + part.count);
  for (std::size_t i = 0; i < losses.size(); ++i) {
    losses[i] = loss_of(last_ids[i], epoch);
    if (nan_losses && epoch <= 1 && last_ids[i] % 7 == 0) {
      losses[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const std::int64_t most = situation.loop == Loop::kParts ? 4 : part.count;
  switch (situation.loop) {
    case Loop::kOrder:
    case Loop::kParts:
    case Loop::kRows:
      for (std::int64_t done = 0; done < part.count; done += most) {
        const std::int64_t now = std::min(most, part.count - done);
        note("observed", ib_session_observe(session, losses.data() + done, now, nullptr));
      }
      break;
    case Loop::kIds:
      weights.assign(losses.size(), 0.0f);
      std::reverse(last_ids.begin(), last_ids.end());
      std::reverse(losses.begin(), losses.end());
      note("observed",
           ib_session_observe_ids(
               session, losses.data(), last_ids.data(), part.count, weights.data()));
      break;
    case Loop::kLent: {
      ib_slice where;
      note("advanced", ib_session_advance(session, part.count, &where));
      note("staged", ib_session_stage(session, losses.data(), where.begin, part.count));
      break;
    }
  }
}

bool World::step() {
  ib_slice part{};
  const ib_status status = situation.loop == Loop::kRows
                               ? ib_session_next_rows(session, situation.batch, &part)
                               : ib_session_next(session, situation.batch, &part);
  note("next", status);
  if (status != IB_OK || part.count == 0) return false;
  note_slice(part);
  give_losses(part);
  return true;
}

void World::steps(int wanted) {
  for (int i = 0; i < wanted; ++i) step();
}

void World::epoch() {
  begin();
  while (step()) {
  }
}

void World::finish() {
  // What is out comes back first, in the parts that are pending.
  std::int64_t pending = 0;
  while (ib_session_pending(session, &pending) == IB_OK && pending > 0) {
    if (situation.loop == Loop::kParts) pending = std::min<std::int64_t>(pending, 4);
    losses.assign(static_cast<std::size_t>(pending), 0.5f);
    const ib_status status = ib_session_observe(session, losses.data(), pending, nullptr);
    note("rest", status);
    if (status != IB_OK) break;
  }
  while (step()) {
  }
  const std::int64_t epochs = situation.size > 1000 ? 1 : kEpochs + 1;
  std::int64_t last = running_epoch(session);
  for (std::int64_t i = 0; i < epochs && last < kEpochs; ++i) {
    epoch();
    last = running_epoch(session);
  }
  std::int64_t length = 0;
  note("length", ib_session_length(session, &length));
  note("is", length);
  const char* held = nullptr;
  while (ib_session_next_warning(session, &held) == IB_OK && held != nullptr) {
    receive(held, &received);
  }
  const Sight last_sight = sight();
  trace += last_sight.figures;
  note("state", static_cast<std::int64_t>(detail::fingerprint_of(last_sight.state)));
  note_slice({nullptr, nullptr, 0, 0});
  const std::string_view bits(reinterpret_cast<const char*>(last_sight.scores.data()),
                              last_sight.scores.size() * sizeof(std::uint32_t));
  note("scores", static_cast<std::int64_t>(detail::fingerprint_of(bits)));
  note("warnings", received.count);
  note("texts", static_cast<std::int64_t>(received.texts));
}

Sight World::sight() const {
  Sight seen;
  const char* data = nullptr;
  std::size_t size = 0;
  require(ib_session_serialize(session, &data, &size), "serialize");
  seen.state.assign(data, size);
  const float* floats = nullptr;
  require(ib_session_scores(session, &floats), "scores");
  seen.scores.resize(static_cast<std::size_t>(situation.size));
  std::memcpy(seen.scores.data(), floats, seen.scores.size() * sizeof(float));
  const auto add = [&](const char* name, auto value) {
    detail::append(seen.figures, name);
    seen.figures += ' ';
    detail::append(seen.figures, value);
    seen.figures += '\n';
  };
  ib_statistics s;
  s.struct_size = sizeof s;
  require(ib_session_statistics(session, &s), "statistics");
  add("epoch", s.epoch);
  add("planned", s.planned);
  add("prunes", s.prunes);
  add("kept", s.kept);
  add("pruned", s.pruned);
  add("candidates", s.candidates);
  add("prune_ratio", s.prune_ratio);
  add("observed", s.observed);
  if (!std::isnan(s.mean_score)) add("mean_score", s.mean_score);
  add("samples_full", s.samples_full);
  add("samples_planned", s.samples_planned);
  add("actual_saved", s.actual_saved);
  add("non_finite_epoch", s.non_finite_epoch);
  add("non_finite_total", s.non_finite_total);
  add("short_batch", s.short_batch);
  add("dropped_total", s.dropped_total);
  std::int64_t figure = 0;
  require(ib_session_epoch(session, &figure), "epoch");
  add("next epoch", figure);
  require(ib_session_position(session, &figure), "position");
  add("position", figure);
  require(ib_session_pending(session, &figure), "pending");
  add("pending", figure);
  double progress = 0.0;
  require(ib_session_progress(session, &progress), "progress");
  add("progress", progress);
  // More losses than samples are refused, in the words of the session.
  const float loss = 0.0f;
  const ib_status refused = ib_session_observe(session, &loss, situation.size + 1, nullptr);
  add("refused", static_cast<std::int64_t>(refused));
  add("because", std::string(ib_last_reason()));
  return seen;
}

// --- situations

namespace {

void take_epoch_and_steps(World& w) {
  w.epoch();
  w.begin();
  w.steps(3);
}

void end_of_epoch(World& w) {
  w.epoch();
  w.epoch();
}

void end_and_length(World& w) {
  end_of_epoch(w);
  std::int64_t length = 0;
  require(ib_session_length(w.session, &length), "length");
}

void one_batch_out(World& w) {
  take_epoch_and_steps(w);
  ib_slice out{};
  require(ib_session_next(w.session, w.situation.batch, &out), "next");
  w.last_ids.assign(out.ids, out.ids + out.count);
}

void half_a_batch(World& w) {
  take_epoch_and_steps(w);
  ib_slice out{};
  require(ib_session_next(w.session, w.situation.batch, &out), "next");
  const float some[4] = {0.1f, 0.2f, 0.3f, 0.4f};
  require(ib_session_observe(w.session, some, 4, nullptr), "observe");
}

void reload(World& w) {
  const char* data = nullptr;
  std::size_t size = 0;
  require(ib_session_serialize(w.session, &data, &size), "serialize");
  ib_session* const other = new_session(w.situation, &w.received);
  require(ib_session_deserialize(other, data, size, nullptr), "deserialize");
  ib_session_destroy(w.session);
  w.session = other;
}

void never_observed(World& w) {
  w.epoch();
  w.begin();
  ib_slice out{};
  do {
    require(ib_session_next(w.session, w.situation.batch, &out), "next");
  } while (out.count > 0);
}

void no_options(ib_config&) {}
void few_epochs(ib_config& config) { config.epochs = 2; }
void ema(ib_config& config) { config.score_ema = 0.5; }
void exact(ib_config& config) {
  config.keep = "exact";
  config.whole_batches = 10;
}
void quantile(ib_config& config) { config.policy = "infobatch_quantile"; }
void budget(ib_config& config) {
  config.has_target_saved = 1;
  config.target_saved = 0.2;
}
void short_budget(ib_config& config) {  // two pruned epochs are to save what three may
  config.has_target_saved = 1;
  config.target_saved = 0.5;
}

}  // namespace

const std::vector<Situation>& small_situations() {
  static const std::vector<Situation> all = {
      {"fresh", Loop::kOrder, no_options, nullptr},
      {"fresh, will never prune", Loop::kOrder, few_epochs, nullptr},
      {"planned, not begun",
       Loop::kOrder,
       few_epochs,
       [](World& w) { require(ib_session_length(w.session, &w.number), "length"); }},
      {"in an epoch", Loop::kOrder, no_options, take_epoch_and_steps},
      {"in an epoch, a batch out", Loop::kOrder, no_options, one_batch_out},
      {"in a batch", Loop::kParts, no_options, half_a_batch},
      {"by ids", Loop::kIds, no_options, take_epoch_and_steps},
      {"by rows", Loop::kRows, no_options, take_epoch_and_steps},
      {"end of an epoch", Loop::kOrder, no_options, end_of_epoch},
      {"end of an epoch by ids", Loop::kIds, no_options, end_of_epoch},
      {"end of an epoch, length asked", Loop::kOrder, no_options, end_and_length},
      {"end of an epoch by ids, length asked", Loop::kIds, no_options, end_and_length},
      {"loaded in an epoch",
       Loop::kOrder,
       no_options,
       [](World& w) {
         take_epoch_and_steps(w);
         reload(w);
       }},
      {"loaded in an epoch by ids",
       Loop::kIds,
       no_options,
       [](World& w) {
         take_epoch_and_steps(w);
         reload(w);
       }},
      {"loaded at the end of an epoch",
       Loop::kOrder,
       no_options,
       [](World& w) {
         end_of_epoch(w);
         reload(w);
       }},
      {"set to an epoch",
       Loop::kOrder,
       no_options,
       [](World& w) {
         end_of_epoch(w);
         require(ib_session_set_epoch(w.session, 3), "set_epoch");
       }},
      {"moving average, end", Loop::kOrder, ema, end_of_epoch},
      {"moving average, length asked", Loop::kOrder, ema, end_and_length},
      {"budget", Loop::kOrder, budget, end_of_epoch},
      {"budget that falls short",
       Loop::kOrder,
       short_budget,
       [](World& w) {
         for (int epoch = 0; epoch < 3; ++epoch) w.epoch();
       }},
      {"whole batches", Loop::kOrder, exact, end_of_epoch},
      {"whole batches, length asked", Loop::kOrder, exact, end_and_length},
      {"quantiles", Loop::kOrder, quantile, end_of_epoch},
      {"quantiles, length asked", Loop::kOrder, quantile, end_and_length},
      {"losses that are not finite",
       Loop::kOrder,
       no_options,
       [](World& w) {
         w.nan_losses = true;
         w.epoch();
       }},
      {"losses that are not finite, in an epoch by ids",
       Loop::kIds,
       no_options,
       [](World& w) {
         w.nan_losses = true;
         take_epoch_and_steps(w);
       }},
      {"losses that are not finite, warnings held",
       Loop::kOrder,
       ema,
       [](World& w) {
         w.nan_losses = true;
         require(ib_session_hold_warnings(w.session), "hold_warnings");
         end_and_length(w);
       }},
      {"columns",
       Loop::kOrder,
       no_options,
       [](World& w) {
         require(ib_session_set_column(w.session, "b", IB_FLOAT32, w.column.data()), "set_column");
         require(ib_session_set_column(w.session, "d", IB_UINT8, w.column.data()), "set_column");
       }},
      {"lent arrays",
       Loop::kLent,
       no_options,
       [](World& w) {
         w.epoch();
         w.begin();
         ib_epoch_arrays arrays;
         arrays.struct_size = sizeof arrays;
         require(ib_session_epoch_arrays(w.session, &arrays), "epoch_arrays");
         w.steps(3);
       }},
      {"never observed", Loop::kOrder, no_options, never_observed},
      {"never observed, length asked",
       Loop::kOrder,
       no_options,
       [](World& w) {
         never_observed(w);
         require(ib_session_length(w.session, &w.number), "length");
       }},
      {"no samples", Loop::kOrder, no_options, [](World& w) { w.epoch(); }, 0},
  };
  return all;
}

const std::vector<Situation>& large_situations() {
  constexpr std::int64_t kBatch = std::int64_t{1} << 18;
  constexpr std::int64_t kTwo = 2 * kBatch + 1234;  // samples for two threads
  constexpr std::int64_t kThree = 3 * kBatch + 1234;
  static const std::vector<Situation> all = {
      {"large, end of an epoch",
       Loop::kOrder,
       no_options,
       [](World& w) { w.epoch(); },
       kThree,
       3,
       kBatch},
      {"large, by ids, exact, moving average, in an epoch",
       Loop::kIds,
       [](ib_config& config) {
         config.keep = "exact";
         config.score_ema = 0.5;
       },
       [](World& w) {
         w.begin();
         w.step();
       },
       kTwo,
       2,
       kBatch},
      {"large, quantiles, length asked",
       Loop::kOrder,
       quantile,
       [](World& w) {
         w.epoch();
         require(ib_session_length(w.session, &w.number), "length");
       },
       kTwo,
       2,
       kBatch},
  };
  return all;
}

}  // namespace infobatch::testing
