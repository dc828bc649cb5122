#pragma once

// A naive session to compare with: plain vectors, nothing cached, nothing taken back. What an epoch
// leads to is worked out anew whenever somebody asks.

#include <infobatch/annealing.hpp>
#include <infobatch/exact_mean.hpp>
#include <infobatch/plan_builder.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <vector>

namespace infobatch::testing {

class ReferenceSession {
 public:
  ReferenceSession(std::int64_t size, const Config& config)
      : size_(size), config_(config), table_(std::size_t(size), never_observed()) {}

  std::int64_t epoch() const { return epoch_ + (over() && !pinned_ ? 1 : 0); }
  std::int64_t position() const { return observed(); }
  std::int64_t non_finite() const { return past_non_finite_ + non_finite_; }
  const std::vector<float>& table() const { return table_; }

  std::vector<std::int64_t> running_ids() { return running_plan().ids; }

  PlanCopy plan() {
    if (over() && !pinned_) return plan_for(epoch_ + 1, after());
    return running_plan();
  }

  void set_epoch(std::int64_t epoch) {
    if (epoch != epoch_) advance(epoch);
    pinned_ = true;
  }

  void discard() {
    losses_.clear();
    begun_ = resumed_ = skips_ = by_ids_ = drained_ = false;
    handed_ = batch_ = step_ = tail_ = non_finite_ = 0;
  }

  void begin() {
    if (resumed_ && !over()) {
      handed_ = skips_ ? 0 : observed();
    } else if (pinned_ || (losses_.empty() && !over())) {
      discard();
    } else {
      advance(epoch_ + 1);
    }
    pinned_ = false;
    running_plan();
    begun_ = true;
  }

  /// Positions handed out.
  std::vector<std::int64_t> next(std::int64_t count) {
    if (!begun_) begin();
    pinned_ = false;
    batch_ = std::max(batch_, count);
    const auto kept = static_cast<std::int64_t>(running_plan().ids.size());
    std::vector<std::int64_t> out;
    for (; handed_ < kept && static_cast<std::int64_t>(out.size()) < count; ++handed_) {
      if (!skips_ || seen_before_.count(handed_) == 0) {
        out.push_back(handed_);
      } else if (!out.empty()) {
        break;
      }
    }
    if (out.empty()) {
      drained_ = true;
    } else {
      tail_ = handed_ == kept && static_cast<std::int64_t>(out.size()) < count ? out.size() : 0;
    }
    return out;
  }

  void observe(const std::vector<float>& losses) {
    if (losses_.size() > 0 && by_ids_) throw std::logic_error("by ids");
    if (observed() + static_cast<std::int64_t>(losses.size()) > handed_) {
      throw std::logic_error("more than handed out");
    }
    for (const float loss : losses) record(observed(), loss);
    if (!losses.empty()) resumed_ = false;
    step_ = std::max(step_, static_cast<std::int64_t>(losses.size()));
  }

  std::vector<std::uint32_t> observe_ids(const std::vector<float>& losses,
                                         const std::vector<std::int64_t>& ids) {
    if (losses_.size() > 0 && !by_ids_) throw std::logic_error("by order");
    const PlanCopy plan = running_plan();
    std::vector<std::int64_t> positions;
    for (const std::int64_t id : ids) {
      const auto it = std::find(plan.ids.begin(), plan.ids.end(), id);
      if (it == plan.ids.end()) throw std::logic_error("not in the plan");
      positions.push_back(it - plan.ids.begin());
    }
    std::vector<std::uint32_t> weights;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      record(positions[i], losses[i]);
      weights.push_back(plan.weights[std::size_t(positions[i])]);
    }
    by_ids_ = true;
    resumed_ = false;
    step_ = std::max(step_, static_cast<std::int64_t>(ids.size()));
    if (skips_) seen_before_ = losses_;
    return weights;
  }

  /// What a load of the saved state into a new session does to the position.
  void reload() {
    begun_ = begun_ && plan_ && plan_->ids.empty();  // an empty epoch is over when it has begun
    drained_ = false;
    tail_ = 0;
    if (!by_ids_ || losses_.empty()) {
      handed_ = observed();
    } else {
      skips_ = true;
      seen_before_ = losses_;
      handed_ = losses_.size() == running_plan().ids.size() ? observed() : 0;
    }
    resumed_ = !pinned_ && !losses_.empty() && !over();
  }

 private:
  std::int64_t observed() const { return static_cast<std::int64_t>(losses_.size()); }

  bool over() const {
    if (!plan_ || handed_ < static_cast<std::int64_t>(plan_->ids.size())) return false;
    if (plan_->ids.empty()) return begun_;
    const auto kept = static_cast<std::int64_t>(plan_->ids.size());
    if (losses_.empty()) return kept < batch_ && !drained_;  // dropped, as one batch too small
    const std::int64_t missing = kept - observed();
    return batch_ < kept ? missing <= tail_ : missing < std::max<std::int64_t>(step_, 1);
  }

  void record(std::int64_t position, float loss) {
    if (!is_finite(loss)) ++non_finite_;
    losses_[position] = is_finite(loss) ? loss : never_observed();
  }

  const PlanCopy& running_plan() {
    if (!plan_) plan_ = plan_for(epoch_, table_);
    return *plan_;
  }

  /// The table when the running epoch's losses are entered.
  std::vector<float> after() const {
    std::vector<float> table = table_;
    for (const auto& [position, loss] : losses_) {
      table[std::size_t(plan_->ids[std::size_t(position)])] = loss;
    }
    return table;
  }

  void advance(std::int64_t epoch) {
    const bool handed_out = plan_ && handed_ >= static_cast<std::int64_t>(plan_->ids.size());
    if (!losses_.empty() && !by_ids_ && handed_out && !over()) throw std::logic_error("unsound");
    table_ = after();
    past_non_finite_ += non_finite_;
    plan_.reset();
    discard();
    epoch_ = epoch;
  }

  /// The rule `infobatch` spelled out over the public plan builder.
  PlanCopy plan_for(std::int64_t epoch, const std::vector<float>& table) const {
    ScoreSum sum;
    for (const float score : table) {
      if (is_finite(score)) sum.add(score);
    }
    Team team(1);
    EpochRule rule;
    rule.classes = {KeepClass{}};
    if (prunes(config_, epoch) && sum.count() > 0) {
      rule.classes.push_back(KeepClass{1.0 - config_.prune_ratio, config_.rescale});
      rule.mode = config_.keep == "exact" ? KeepMode::kExact : KeepMode::kBernoulli;
      rule.classify = [&, cutoff = sum.cutoff()](
                          std::int64_t begin, std::int64_t end, std::uint8_t* klass) {
        for (std::int64_t i = begin; i < end; ++i) {
          klass[i - begin] = table[std::size_t(i)] < cutoff ? 1 : 0;
        }
      };
    }
    const PlanArrays arrays =
        build_plan(size_, config_.seed, static_cast<std::uint32_t>(epoch), rule, team);
    PlanCopy plan;
    for (std::int64_t p = 0; p < arrays.size; ++p) {
      plan.ids.push_back(arrays.ids[p]);
      plan.weights.push_back(float_bits(arrays.weights[p]));
    }
    return plan;
  }

  std::int64_t size_;
  Config config_;
  std::vector<float> table_;  // scores before the running epoch
  std::int64_t epoch_ = 0;
  std::optional<PlanCopy> plan_;
  std::map<std::int64_t, float> losses_;  // of the running epoch, by position
  std::map<std::int64_t, float> seen_before_;
  std::int64_t handed_ = 0;
  std::int64_t batch_ = 0;
  std::int64_t step_ = 0;
  std::int64_t tail_ = 0;
  bool drained_ = false;
  std::int64_t non_finite_ = 0;
  std::int64_t past_non_finite_ = 0;
  bool begun_ = false;
  bool pinned_ = false;
  bool resumed_ = false;
  bool skips_ = false;
  bool by_ids_ = false;
};

}  // namespace infobatch::testing
