#pragma once

#include <infobatch/config.hpp>
#include <infobatch/epoch_rule.hpp>
#include <infobatch/exact_mean.hpp>
#include <infobatch/export.h>
#include <infobatch/threads.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch {

/// What a policy may look at when a pruned epoch begins. Nothing in it may be changed.
struct PolicyInput {
  const Config& config;
  std::int64_t epoch;   ///< 0-based
  std::int64_t size;    ///< N
  const float* scores;  ///< [N]; NaN: never observed
  const ScoreSum& sum;  ///< exact sum and count of the observed scores
  float cutoff;         ///< i is below the mean score iff scores[i] < cutoff
  Team& team;           ///< threads to use
};

/// A selection rule: a pure function of (scores, epoch, seed, parameters).
///
/// A policy only says which class every sample belongs to and with which probability each class is
/// kept; the engine draws, weighs by the inverse and shuffles. Its one free parameter is the
/// "strength" that a fixed budget solves for: the prune ratio, or a factor on several of them.
class INFOBATCH_API Policy {
 public:
  virtual ~Policy() = default;
  /// Name in `Config::policy`.
  virtual const char* name() const = 0;
  /// Whether the policy ever leaves a sample out.
  virtual bool prunes() const { return true; }
  /// Whether the rule reads the scores (else it prunes even where none is known yet).
  virtual bool needs_scores() const { return true; }
  /// The strength that the config asks for when there is no fixed budget.
  virtual double configured_strength(const Config& config) const = 0;
  /// The largest strength allowed by `max_prune_ratio`.
  virtual double largest_strength(const Config& config) const = 0;
  /// Upper bound of the share of N that a pruned epoch leaves out at the largest strength.
  virtual double largest_share(const Config& config) const = 0;
  /// The strength that leaves out `share` of the N samples in expectation; may exceed the largest,
  /// and is infinite where nothing can be left out.
  virtual double solve_strength(const PolicyInput& input, double share) const = 0;
  /// Classes and keep ratios of the epoch. The rule may refer to `input.scores` until it is used.
  virtual EpochRule rule(const PolicyInput& input, double strength) const = 0;
};

/// The policy of that name, or nullptr.
INFOBATCH_API const Policy* find_policy(const std::string& name);

/// Names of all policies, in the order of the documentation.
INFOBATCH_API std::vector<std::string> policy_names();
/// The same, then nullptr, in an array that lives for ever. Takes no memory.
INFOBATCH_API const char* const* policy_name_list() noexcept;

}  // namespace infobatch
