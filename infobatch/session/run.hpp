#pragma once

#include <infobatch/detail/peers.hpp>
#include <infobatch/detail/planner.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/columns.hpp>
#include <infobatch/session/delivery.hpp>
#include <infobatch/session/fold.hpp>
#include <infobatch/session/loss_log.hpp>
#include <infobatch/session/mutex.hpp>
#include <infobatch/session/plan_holder.hpp>
#include <infobatch/session/share.hpp>
#include <infobatch/session/soundness.hpp>
#include <infobatch/session/state.hpp>
#include <infobatch/session/totals.hpp>
#include <infobatch/session/warnings.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace infobatch {

/// A session put together from its parts. Every function that changes something first does what can
/// fail, beside the state or so that it can be taken back, and then changes the state without a
/// chance to fail.
///
/// The end of an epoch is a *look*: its losses are folded into the scores, the next epoch is
/// planned and becomes the running one, while the finished one is kept as `previous_`. Looking is
/// what `length` does, and it can be taken back to the bit (`unlook`), for a late update or where
/// planning fails. Beginning the next epoch is a look that is committed.
///
/// The functions expect the mutex to be held; session.cpp takes it. Those that take the lock let go
/// of it while a warning handler runs.
class Session::Impl {
 public:
  using Lock = std::unique_lock<detail::CallMutex>;

  Impl(std::int64_t size, Config config, int threads, Wording wording, const std::string& backend);

  // run.cpp: epochs
  std::int64_t epoch() const;
  void set_epoch(std::int64_t epoch, Lock& lock);
  std::shared_ptr<const Plan> plan(Lock& lock);
  std::int64_t length(Lock& lock);
  void discard_epoch() noexcept;
  void begin(Lock& lock);
  double progress() const;
  Statistics statistics() const;
  void set_column(const std::string& name, ColumnType type, const void* data);

  // run_step.cpp: delivery and observation
  template <bool kRows>
  Slice deliver(std::int64_t asked, Lock& lock);
  std::int64_t pending() const;
  Slice observe(const float* losses, std::int64_t count);
  Slice advance(std::int64_t count);
  void observe_ids(const float* losses,
                   const std::int64_t* ids,
                   std::int64_t count,
                   float* weights);
  void weights(const std::int64_t* ids, std::int64_t count, float* weights);
  EpochArrays epoch_arrays();
  void stage(const float* losses, std::int64_t begin, std::int64_t count);

  // run_ranks.cpp: a share of the plan, and the losses of all of them
  void set_ranks(const Ranks& ranks);
  RankReport report_to_share(std::int64_t target);
  void agree(const RankReport* reports, std::int64_t count) const;
  RankLosses losses_to_share();
  Buffer<float> losses_of_ranks(const std::int32_t* bits,
                                std::int64_t count,
                                std::int64_t ranks) const;
  void take_losses(const std::int32_t* bits,
                   std::int64_t count,
                   const RankReport* reports,
                   std::int64_t ranks);
  RankRows rank_rows() const;
  void set_range(const IdRange& range, Gather gather);
  const Ranks& ranks() const { return ranks_; }

  // run_state.cpp: the saved state
  std::string serialize() const;
  std::string serialize_part(bool with_scores) const;
  std::string join_parts(const std::vector<std::string_view>& parts) const;
  LoadReport deserialize(std::string_view bytes);
  LoadReport deserialize_resized(std::string_view bytes, const Resize& resize);
  /// @param any_size  of a session of any number of samples.
  std::int64_t largest_state(bool any_size = false) const;

  /// Calls the handler for each warning that waits, with the lock released.
  void deliver(Lock& lock);
  bool next_warning(std::string* text, WarningKind* kind);

  const std::int64_t size;
  const Config config;
  Wording wording;
  mutable detail::CallMutex mutex;
  detail::Columns columns;
  detail::Warnings warnings;
  std::shared_ptr<const WarningHandler> handler;
  bool warnings_held = false;

  void declare_drop_last(std::optional<bool> drop_last) noexcept;
  void suspect(std::string cause) noexcept { reported().suspicion.swap(cause); }
  std::int64_t position() const { return reported().facts.observed; }

 private:
  /// One epoch in progress.
  struct Epoch {
    std::int64_t number = 0;
    detail::PlanHolder plan;     // empty until asked for; on several ranks the share of this one
    detail::PlanHolder whole;    // then the whole plan, else empty
    detail::Share share;         // and how it was dealt
    detail::TakenLosses taken;   // the losses of all ranks
    int plan_ranks = 1;          // those whose batches Config::whole_batches made whole
    detail::EpochChoice choice;  // how the plan was made
    Statistics statistics;       // of the plan
    bool iterating = false;      // an iteration began, in this process
    bool entered = false;        // an iteration began at some time: the plan is part of the state
    bool delivered = false;      // loaded: it was over, although nothing of it was observed
    bool skips_covered =
        false;  // by ids, loaded: positions that were observed are not pending again
    detail::EpochFacts facts;
    detail::Delivery delivery;
    detail::LossLog log;
    std::string suspicion;      // a cause that a binding named for a refusal
    detail::Trusted folded;     // what of the log is in the scores
    Buffer<float> overwritten;  // by it, where the fold needs memory
  };

  /// The running epoch, or the finished one while the next is only looked at.
  const Epoch& reported() const { return looked_ ? previous_ : running_; }
  Epoch& reported() { return looked_ ? previous_ : running_; }
  const detail::Totals& reported_totals() const { return looked_ ? previous_totals_ : totals_; }
  bool over(const Epoch& epoch) const;
  RunSoFar so_far(const detail::Totals& totals) const noexcept {
    return {totals.pruned, totals.samples - totals.epochs * size};
  }

  /// Several sessions make up the run.
  bool distributed() const { return ranks_.size > 1; }
  bool sharded() const { return distributed() && ranks_.split == Split::kSharded; }
  /// The plan of all ranks.
  static const detail::PlanHolder& whole_of(const Epoch& epoch) {
    return epoch.whole ? epoch.whole : epoch.plan;
  }
  static std::int64_t kept_of(const Epoch& epoch) {
    return epoch.whole ? epoch.whole->size() : epoch.facts.kept;
  }

  // run.cpp
  double checked_sampling_weights(ColumnType type, const void* data) const;
  void note_kept(const Epoch& left) noexcept;
  void start(Epoch& epoch, const detail::Totals& before) const noexcept;
  void make_plan(Epoch& epoch);
  void ensure_plan();
  void unplan(Epoch& epoch) noexcept;
  void end_epoch(std::int64_t next);
  void look(std::int64_t next);
  void look_elsewhere(std::int64_t next);
  void look_at(std::int64_t number) noexcept;
  void unlook() noexcept;
  void commit_look() noexcept;
  void rewind() noexcept;
  void drop_old_look() noexcept;
  void prepare_begin();
  void prepare_epoch(std::int64_t epoch);
  void prepare_plan();
  template <typename Prepare>
  void prepare_and_deliver(Lock& lock, const Prepare& prepare);
  detail::FoldArrays fold_arrays(const Epoch& epoch) const noexcept;
  detail::FoldRule fold_rule(const Epoch& epoch) const noexcept {
    return {config.score_ema,
            epoch.log.lent() && !epoch.taken.done,
            fold_columns_.data(),
            static_cast<int>(fold_columns_.size())};
  }
  void recycle_plan(Epoch& epoch) noexcept;
  void note_forgotten(const Epoch& left) noexcept;
  void note_plan(const Epoch& epoch) noexcept;

  const detail::Backend& backend() const noexcept {
    return made_for_ != nullptr ? *made_for_ : detail::backend();
  }

  // run_ranks.cpp
  void deal(Epoch& epoch,
            detail::PlanHolder whole,
            std::int64_t origin,
            Buffer<std::int64_t> order) const;
  void require_exchange(const char* function) const;
  void require_open(const Epoch& epoch) const;
  void check_on_ranks(const Epoch& epoch) const;
  /// Why an id may be missing in a plan.
  const char* absent() const {
    return sharded() ? "which this epoch leaves out, or another rank delivers"
                     : "which this epoch leaves out";
  }
  int stays() const;

  // run_state.cpp
  std::string write(bool part, bool with_scores) const;
  detail::StateFigures figures_of(const Epoch& run, bool part) const;
  std::vector<std::int64_t> positions_of(const Epoch& run) const;
  void add_kept_columns(std::vector<detail::StateTensor>& tensors) const;
  LoadReport compare(const detail::StateContent& content, const Resize* resize) const;
  void plan_loaded(Epoch& run,
                   const detail::StateContent& content,
                   const float* scores,
                   const float* const* policy_columns) const;
  void restore_facts(Epoch& run, const detail::StateContent& content) const;
  void deal_rest(Epoch& run, const detail::StateContent& content) const;
  void stage_history(Epoch& run, const detail::StateContent& content) const;

  // run_step.cpp
  Slice deliver_nothing();
  struct Span {
    std::int64_t begin;
    std::int64_t end;
  };
  Span next_pending(std::int64_t count) const noexcept;
  [[noreturn]] void refuse_batch(std::int64_t count) const;
  [[noreturn]] void refuse_delivery(bool rows) const;
  Epoch& check_observation(std::int64_t count);

  const Policy* policy_;
  Ranks ranks_;
  Config plan_config_;  // that of plans: whole_batches counts the samples of all ranks
  std::uint64_t config_digest_ = 0;
  bool compare_scores_ = false;  // behind a load, until the ranks have compared them
  Buffer<std::int32_t> shared_;  // what losses_to_share lent out
  std::vector<detail::FoldColumn> fold_columns_;
  detail::SamplingWeights weights_;       // the user's column of that name
  std::unique_ptr<detail::Peers> peers_;  // a part of a larger table: who holds the rest
  int threads_;
  const detail::Backend* made_for_;  // nullptr: whichever the process works with
  std::optional<bool> drop_last_;
  Epoch running_;
  detail::Totals totals_;
  bool pinned_ = false;   // set_epoch was called and its iteration has not begun
  bool resumed_ = false;  // load was called and nothing was observed since
  bool looked_ = false;   // `running_` is only looked at, `previous_` is the finished one
  Epoch previous_;
  detail::Totals previous_totals_;
  PlanArrays spare_plan_;  // memory of a plan that nobody holds any more
  Buffer<float> spare_staged_;
  Buffer<float> spare_overwritten_;
};

}  // namespace infobatch
