#pragma once

// What the fuzzing programs share: how they complain, sessions to try, and what must hold of any
// plan and any session, worked out without the engine's own state machine.

#include <infobatch/detail/options.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace infobatch::fuzz {

/// Ends the program where `truth` does not hold; the fuzzer then keeps the input.
inline void require(bool truth, const char* what) {
  if (truth) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

struct Variant {
  std::int64_t size = 20;
  Config config;
  bool column = false;
};

constexpr unsigned kOptionVariants = 5;

/// Small runs: some for the options that change how a state is made, and three for each policy of
/// the registry: as it is, with other values of its own parameters, and with a budget.
inline unsigned n_variants() {
  return kOptionVariants + 3 * static_cast<unsigned>(policies().size());
}

inline Variant variant_of(unsigned number) {
  Variant variant;
  Config& config = variant.config;
  config.epochs = 8;
  number %= n_variants();
  switch (number) {
    case 0:
      return variant;
    case 1:
      config.keep = "exact";
      config.score_ema = 0.5;
      config.record = true;
      variant.column = true;
      return variant;
    case 2:
      config.rescale = false;
      return variant;
    case 3:
      config.keep = "exact";
      config.whole_batches = 4;
      return variant;
    case 4:
      variant.size = 0;
      return variant;
    default:
      break;
  }
  const unsigned of_policy = number - kOptionVariants;
  const PolicyCard& card = policies()[of_policy / 3]->card;
  config.policy = card.name;
  switch (of_policy % 3) {
    case 1:
      variant.size = 9;
      variant.column = true;
      config.drop_last = true;
      config.record = true;
      for (const Option* parameter : card.parameters) {
        if (parameter->kind == OptionKind::kNumber) config.set(parameter->name, 0.75);
      }
      break;
    case 2:
      if (card.prunes) config.target_saved = 0.3;
      break;
    default:
      break;
  }
  return variant;
}

/// Whether the policy of a run ever leaves a sample out: its card says so, and "full" never does.
inline bool policy_prunes(const Config& config) {
  return config.policy != "full" && find_policy(config.policy)->card.prunes;
}

inline void be_quiet(Session& session) {
  session.set_warning_handler([](const std::string&) {});
}

inline std::unique_ptr<Session> make_session(const Variant& variant) {
  auto session = std::make_unique<Session>(variant.size, variant.config, 1);
  be_quiet(*session);
  if (variant.column) {
    std::vector<std::int32_t> values;
    for (std::int64_t i = 0; i <= variant.size; ++i) values.push_back(static_cast<int>(i % 3));
    session->set_column("class", ColumnType::kInt32, values.data());
  }
  return session;
}

/// Rule 7 in integers of 128 bits: whether an epoch may leave samples out.
inline bool may_prune(const Config& config, std::int64_t epoch) {
  const auto parts = static_cast<__int128>(std::llround(config.delta * 1e9));
  const auto annealing = static_cast<std::int64_t>(parts * config.epochs / 1000000000);
  return policy_prunes(config) && config.epochs > 2 && epoch >= config.warmup && epoch < annealing;
}

/// A plan is a permutation of a part of the samples, with weights of 1 or more.
/// @param loaded  made under other epochs or another delta, perhaps, as a state may have been.
inline void check_plan(const Plan& plan,
                       std::int64_t size,
                       const Config& config,
                       bool loaded = false) {
  require(plan.data_size() == size, "a plan is of the session's size");
  require(plan.size() >= 0 && plan.size() <= size, "a plan has at most every sample");
  const bool prunes = loaded ? policy_prunes(config) && plan.epoch() >= config.warmup
                             : may_prune(config, plan.epoch());
  require(prunes || plan.size() == size, "an epoch that does not prune has every sample");
  std::vector<bool> met(static_cast<std::size_t>(size));
  for (std::int64_t p = 0; p < plan.size(); ++p) {
    const std::int64_t id = plan.ids()[p];
    const float weight = plan.weights()[p];
    require(id >= 0 && id < size, "ids are in the data set");
    require(!met[static_cast<std::size_t>(id)], "a plan has no sample twice");
    met[static_cast<std::size_t>(id)] = true;
    require(is_finite(weight) && weight >= 1.0f, "weights are finite and 1 or more");
    if (!prunes || !config.rescale) require(weight == 1.0f, "weights are 1 without rescaling");
  }
}

/// What holds of every session at any time.
inline void check_session(const Session& session) {
  const double progress = session.progress();
  require(progress >= 0.0 && progress <= 1.0, "progress is in [0, 1]");
  require(session.epoch() >= 0 && session.position() >= 0, "no count is below zero");
  require(session.position() <= session.size(), "no more is observed than there is");
  require(session.pending() >= 0, "no count is below zero");
  const Statistics figures = session.statistics();
  require(figures.size == session.size(), "statistics are of the session's size");
  require(figures.kept >= 0 && figures.pruned >= 0, "no figure is below zero");
  require(!figures.planned || figures.kept + figures.pruned == figures.size,
          "every sample is kept or pruned");
  require(figures.samples_full >= 0 && figures.samples_planned >= 0 &&
              figures.samples_planned <= figures.samples_full,
          "no more is planned than there is");
  require(figures.saved >= 0.0 && figures.saved <= 1.0, "a share is in [0, 1]");
  require(figures.dropped_total >= 0 && figures.non_finite_epoch >= 0 &&
              figures.non_finite_total >= figures.non_finite_epoch,
          "no total is below zero");
  for (std::int64_t i = 0; i < session.size(); ++i) {
    const float score = session.scores()[i];
    require(is_finite(score) || float_bits(score) == kNeverObservedBits,
            "a score is finite or was never observed");
  }
}

/// Goes through the rest of the epoch that has begun, as a loader does that loses nothing.
inline void run_batches(Session& session, bool by_ids, float loss, bool loaded) {
  const Config& config = session.config();
  const std::int64_t batch = config.whole_batches > 0 ? config.whole_batches : 5;
  bool checked = false;
  while (true) {
    const Slice slice = session.next(batch);
    if (!checked) check_plan(*slice.plan.get(), session.size(), config, loaded);
    checked = true;
    if (slice.count == 0) break;
    std::vector<float> losses;
    for (std::int64_t i = 0; i < slice.count; ++i) {
      losses.push_back(loss + 0.01f * static_cast<float>(slice.ids()[i]));
    }
    if (by_ids) {
      std::vector<float> weights(losses.size());
      session.observe_ids(losses.data(), slice.ids(), slice.count, weights.data());
    } else {
      session.observe(losses.data(), slice.count);
    }
  }
}

/// Some epochs more, whole ones but for the first, which may have been interrupted, and then
/// loaded.
inline void run_epochs(Session& session, int epochs, bool loaded = false) {
  for (int i = 0; i < epochs; ++i) {
    try {
      session.begin();
    } catch (const StateError&) {
      require(session.epoch() >= kMaxEpochs, "an epoch follows, until the last one");
      return;
    }
    const std::int64_t number = session.statistics().epoch;
    // In the header, which comes first: the bytes of a tensor may look like anything.
    const std::string state = session.serialize();
    const std::string key = "observed_by\\\":\\\"";
    const bool by_ids = state.compare(state.find(key) + key.size(), 3, "ids") == 0;
    run_batches(session, by_ids, 0.5f + 0.1f * static_cast<float>(i), loaded && i == 0);
    require(session.epoch() == number + 1, "an epoch that was observed whole is over");
    check_session(session);
  }
}

}  // namespace infobatch::fuzz
