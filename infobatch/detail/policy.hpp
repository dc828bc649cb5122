#pragma once

#include <infobatch/card.hpp>
#include <infobatch/config.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/epoch_rule.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace infobatch {

/// What a policy may look at when a pruned epoch begins. Nothing in it may be changed.
struct PolicyInput {
  const Config& config;
  std::int64_t epoch;              ///< 0-based
  std::int64_t size;               ///< N
  const float* scores;             ///< [N]; NaN: never observed
  const float* const* columns;     ///< those of the card, in its order, [N] each; NaN: unknown
  const ScoreSum& sum;             ///< exact sum and count of the observed scores
  float threshold;                 ///< i is below the mean score iff scores[i] < threshold
  const detail::Workers& workers;  ///< the backend: who counts, and finds ranks and draws
};

/// What a rule leaves out at scale 1, as far as the options tell.
struct RuleReach {
  double class_ratio = 0.0;  ///< the largest prune ratio of a class
  double of_all = 0.0;       ///< at most this fraction of the N samples
  int classes = 2;
};

/// A selection rule: its card, and pure functions of the options and of (columns, epoch, seed).
///
/// A policy says which class every sample belongs to, as plain data, and with which probability
/// each class is kept; the engine draws, weighs by the inverse, shuffles, and solves a fixed budget
/// for the one number that all it leaves out is in proportion to: its scale.
struct Policy {
  PolicyCard card;
  /// At scale 1.
  RuleReach (*reach)(const Config& config);
  /// How many samples the rule leaves out at scale 1, in expectation; this many times the scale is
  /// what it leaves out.
  double (*candidates)(const PolicyInput& input);
  /// Classes and keep ratios of the epoch. The rule refers to the columns until it is used.
  EpochRule (*select)(const PolicyInput& input, double scale);
  bool cuts_ranks = false;  ///< its classes are cut by rank among all samples
};

/// The policy of that name, or nullptr.
const Policy* find_policy(const std::string& name);

/// All policies, in the order of the documentation.
const std::vector<const Policy*>& policies();

/// Their names.
std::vector<std::string> policy_names();
/// The same, then nullptr, in an array that lives for ever. Takes no memory.
const char* const* policy_name_list() noexcept;

}  // namespace infobatch
