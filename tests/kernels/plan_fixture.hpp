#pragma once

#include <infobatch/detail/plan_builder.hpp>
#include <infobatch/detail/shuffle.hpp>

#include <cstdint>
#include <utility>
#include <vector>

namespace infobatch {
namespace testing {

/// A classifier that asks class_of(id) for the class of each sample below 2^24, as a table that
/// lives for ever; one for each type of function.
template <typename ClassOf>
Classifier classifier_of(const ClassOf& class_of) {
  static const std::vector<std::uint8_t> table = [&] {
    std::vector<std::uint8_t> classes(std::size_t{1} << 24);
    for (std::size_t i = 0; i < classes.size(); ++i) {
      classes[i] = static_cast<std::uint8_t>(class_of(static_cast<std::int64_t>(i)));
    }
    return classes;
  }();
  return Classifier::of_table(table.data());
}

/// A rule with two classes, where the odd multiples of 3 and all multiples of 4 are candidates.
inline EpochRule two_class_rule(double keep_ratio, KeepMode mode = KeepMode::kBernoulli) {
  EpochRule rule;
  rule.classes = {{1.0, true}, {keep_ratio, true}};
  rule.mode = mode;
  rule.classifier = classifier_of([](std::int64_t i) { return i % 6 == 3 || i % 4 == 0 ? 1 : 0; });
  return rule;
}

inline bool is_candidate(std::int64_t id) { return id % 6 == 3 || id % 4 == 0; }

/// A rule that keeps every sample.
inline EpochRule keep_all() {
  EpochRule rule;
  rule.classes = {{1.0, true}};
  return rule;
}

/// A plan as plain vectors.
struct PlanVectors {
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
  KeptCounts counts;

  friend bool operator==(const PlanVectors& a, const PlanVectors& b) {
    return a.ids == b.ids && a.weights == b.weights;
  }
};

/// What tests vary of a plan: other constants make other plans.
struct PlanOptions {
  detail::ShuffleConstants shuffle;
};

/// A plan in its own memory, without a backend.
inline PlanArrays build_plan(std::int64_t n,
                             std::uint64_t seed,
                             std::uint32_t epoch,
                             const EpochRule& rule,
                             Team& team,
                             PlanArrays recycled = {},
                             const PlanOptions& options = {}) {
  const detail::PlanTask task{n, seed, epoch, rule};
  detail::check_plan(task);
  PlanArrays plan = detail::reserve_plan(n, std::move(recycled));
  const detail::PlanMemory memory{plan.ids.data(), plan.weights.data()};
  const detail::PlanOutcome outcome = detail::fill_plan(task, options.shuffle, team, memory);
  return detail::finish_plan(std::move(plan), outcome);
}

inline PlanVectors plan_with(const PlanOptions& options,
                             std::int64_t n,
                             std::uint64_t seed,
                             std::uint32_t epoch,
                             const EpochRule& rule,
                             int threads = 1) {
  Team team(threads);
  const PlanArrays arrays = build_plan(n, seed, epoch, rule, team, {}, options);
  return {{arrays.ids.data(), arrays.ids.data() + arrays.size},
          {arrays.weights.data(), arrays.weights.data() + arrays.size},
          arrays.counts};
}

inline PlanVectors plan(std::int64_t n,
                        std::uint64_t seed,
                        std::uint32_t epoch,
                        const EpochRule& rule,
                        int threads = 1) {
  return plan_with({}, n, seed, epoch, rule, threads);
}

/// FNV-1a over the ids and the bits of the weights.
inline std::uint64_t digest(const PlanVectors& plan) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (std::size_t i = 0; i < plan.ids.size(); ++i) {
    std::uint32_t bits;
    static_assert(sizeof(bits) == sizeof(plan.weights[i]), "float32");
    __builtin_memcpy(&bits, &plan.weights[i], sizeof(bits));
    hash = (hash ^ static_cast<std::uint64_t>(plan.ids[i])) * 0x100000001b3u;
    hash = (hash ^ bits) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace testing
}  // namespace infobatch
