#include <infobatch/detail/budget.hpp>
#include <infobatch/detail/float_environment.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/run.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

// A session's state to and from bytes: the scores as they were when the running epoch was planned,
// its staged losses, and the figures that rebuild its plan from them.

namespace infobatch {

using detail::damaged;
using detail::message;
using detail::ObservedBy;

namespace {

template <typename T>
std::string_view bytes_of(const T* data, std::int64_t count) {
  return {reinterpret_cast<const char*>(data), static_cast<std::size_t>(count) * sizeof(T)};
}

float staged_loss(const detail::StateContent& content, std::int64_t position) {
  float loss;
  std::memcpy(
      &loss, content.staged.data() + static_cast<std::size_t>(position) * sizeof loss, sizeof loss);
  return loss;
}

void put(char* floats, std::int64_t index, float value) {
  std::memcpy(floats + static_cast<std::size_t>(index) * sizeof value, &value, sizeof value);
}

/// Which part of a table a state or a session is.
std::string range_text(std::int64_t first, std::int64_t size, std::int64_t total) {
  if (size == total) return "all samples";
  return message(size, " samples from ", first, " on, of ", total);
}

/// Whether a sample that was saved has the value that it has now.
bool same_values(const detail::StateColumn& saved,
                 const detail::Columns::Own& own,
                 const Resize& resize) {
  const auto bytes = static_cast<std::int64_t>(detail::element_size(own.type));
  const std::int64_t now = own.values.size() / bytes;
  for (std::int64_t i = 0; i < now; ++i) {
    const std::int64_t from = resize.saved_id(i, saved.count);
    if (from < 0) continue;
    const char* const before = saved.bytes.data() + from * bytes;
    if (std::memcmp(before, own.values.data() + i * bytes, static_cast<std::size_t>(bytes)) != 0) {
      return false;
    }
  }
  return true;
}

/// Lent losses are as the caller wrote them.
void put_scores_of_losses(char* losses, std::int64_t count) {
  for (std::int64_t p = 0; p < count; ++p) {
    float loss;
    std::memcpy(&loss, losses + static_cast<std::size_t>(p) * sizeof loss, sizeof loss);
    if (!is_unseen(loss)) put(losses, p, score_of_loss(loss));
  }
}

/// What a fold has changed, put back into copies of the arrays.
struct BeforeFold {
  detail::Trusted folded;
  detail::FoldArrays arrays;
  detail::FoldRule rule;

  template <typename Visit>
  void each(const Visit& visit) const {
    for (std::int64_t p = 0; p < folded.end; ++p) {
      if (p < folded.gap_begin || p >= folded.gap_end) visit(p);
    }
  }
  void put_scores(char* copy) const {
    each([&](std::int64_t p) {
      if (rule.needs_memory() || !is_unseen(arrays.losses[p])) {
        put(copy, arrays.ids[p], overwritten_score(rule, arrays, p));
      }
    });
  }
  void put_values(char* copy, int column) const {
    each([&](std::int64_t p) { put(copy, arrays.ids[p], overwritten_value(arrays, column, p)); });
  }
  void put_losses(char* copy) const {
    each([&](std::int64_t p) { put(copy, p, folded_loss(rule, arrays, p)); });
  }
};

/// The columns of a state, beside those of the session.
struct SavedColumns {
  Buffer<float> scores;
  std::deque<Buffer<float>> values;  // of the policy
  std::vector<const float*> policy;  // the same, as a plan takes them
};

/// @throws StateError  columns that the policy does not keep
SavedColumns copy_columns(const detail::StateContent& content,
                          View<ColumnCard> cards,
                          std::int64_t size) {
  SavedColumns saved;
  saved.scores = Buffer<float>(size);
  if (size > 0) std::memcpy(saved.scores.data(), content.scores.data(), content.scores.size());
  bool complete = content.policy.size() == static_cast<std::size_t>(cards.size);
  for (const ColumnCard& card : cards) {
    const detail::StateColumn* const column = find_column(content.policy, card.name);
    Buffer<float>& values = saved.values.emplace_back(size);
    saved.policy.push_back(values.data());
    complete = complete && column != nullptr;
    if (complete && size > 0) {
      std::memcpy(values.data(), column->bytes.data(), column->bytes.size());
    }
  }
  if (!complete) damaged("columns that its policy does not keep");
  return saved;
}

}  // namespace

std::string Session::Impl::serialize() const {
  if (distributed() && reported().entered) {
    throw StateError(message("save: on ",
                             ranks_.size,
                             " ranks the state of an epoch that has begun is in parts, got epoch ",
                             reported().number,
                             ": serialize_part on every rank, and join_parts"));
  }
  return write(/*part=*/false, /*with_scores=*/true);
}

std::string Session::Impl::serialize_part(bool with_scores) const {
  return write(/*part=*/true, with_scores);
}

/// Everything about the running epoch but its losses.
detail::StateFigures Session::Impl::figures_of(const Epoch& run, bool part) const {
  const detail::EpochFacts& facts = run.facts;
  detail::StateFigures figures;
  figures.size = size;
  figures.config = config;
  figures.epoch = run.number;
  figures.pinned = pinned_ && !resumed_;  // behind a load set_epoch still goes on in the midst
  figures.delivered = facts.by == ObservedBy::kNone && run.entered && (over(run) || run.delivered);
  if (run.plan && run.entered) {
    figures.plan = detail::StateFigures::PlanFigures{
        kept_of(run), run.choice, detail::fingerprint(*whole_of(run).get())};
    // The number of ranks matters where it made the plan another one.
    if (config.whole_batches > 0) figures.plan->ranks = run.plan_ranks;
  }
  if (part) figures.part = detail::StateFigures::PartFigures{ranks_, run.share.deal.origin()};
  if (peers_) {
    figures.range =
        detail::StateFigures::RangeFigures{peers_->range().first, peers_->range().total};
  }
  figures.by = facts.by;
  figures.observed = facts.by == ObservedBy::kNone ? 0 : facts.observed;
  if (facts.by == ObservedBy::kIds && run.log.lent()) {
    // The caller may have written more than was handed over. What is unseen stays so in a fold.
    const float* const losses = run.log.data();
    const auto seen = [](float loss) { return !is_unseen(loss); };
    figures.observed = std::count_if(losses, losses + run.log.end(), seen);
  }
  figures.split = facts.split;
  figures.proven = proven_of(facts);
  figures.lag_batches = unproven_lag_batches(facts);
  if (facts.by == ObservedBy::kOrder) {
    const bool known = facts.rows && facts.part > 0;
    figures.row_batch = known ? facts.part : facts.batch_before;
    figures.sure = trusted_of(facts).end;
    figures.doubt_end = doubt_end_of(facts);
  }
  figures.non_finite = run.log.lent() ? 0 : run.log.non_finite();
  figures.lent = run.log.lent();
  figures.totals = reported_totals();
  return figures;
}

/// The position of the plan that each row of this rank stands for; -1: padding.
std::vector<std::int64_t> Session::Impl::positions_of(const Epoch& run) const {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(run.facts.kept));
  for (std::int64_t row = 0; row < run.facts.kept; ++row) {
    const std::int64_t place = sharded() ? run.share.deal.place(ranks_.rank, row) : row;
    positions[static_cast<std::size_t>(row)] = place < 0 ? -1 : run.share.position(place);
  }
  return positions;
}

std::string Session::Impl::write(bool part, bool with_scores) const {
  // Where the next epoch was looked at, the finished one is what there is to save.
  const Epoch& run = reported();
  const detail::EpochFacts& facts = run.facts;
  if (run.log.lent()) detail::wait_for(backend());
  const detail::StateFigures figures = figures_of(run, part);
  // A look has folded losses into the scores: both are written as they were before.
  const bool has_folded = run.folded.count() > 0;
  const BeforeFold before{
      run.folded, has_folded ? fold_arrays(run) : detail::FoldArrays{}, fold_rule(run)};
  const auto raw_losses = [&](char* copy) {
    if (!run.taken.done) before.put_losses(copy);  // what was taken lies elsewhere
    if (run.log.lent()) put_scores_of_losses(copy, run.log.end());
  };
  const std::int64_t staged = facts.by == ObservedBy::kNone ? 0 : run.log.end();
  const std::int64_t scores = with_scores ? size : 0;
  std::vector<detail::StateTensor> tensors;
  tensors.push_back({"scores", "F32", scores, bytes_of(columns.scores(), scores), {}});
  if (with_scores) tensors.back().patch = [&](char* copy) { before.put_scores(copy); };
  tensors.push_back({"staged", "F32", staged, bytes_of(run.log.data(), staged), raw_losses});
  std::vector<std::int64_t> positions;
  if (part && facts.by == ObservedBy::kIds) {
    positions = positions_of(run);
    tensors.push_back({"positions", "I64", facts.kept, bytes_of(positions.data(), facts.kept), {}});
  }
  if (!with_scores) return write_state(figures, tensors);
  for (int c = 0; c < columns.policy_cards().size; ++c) {
    tensors.push_back({message("policy.", columns.policy_cards()[c].name),
                       "F32",
                       size,
                       bytes_of(columns.policy()[static_cast<std::size_t>(c)], size),
                       [&before, c](char* copy) { before.put_values(copy, c); }});
  }
  add_kept_columns(tensors);
  return write_state(figures, tensors);
}

/// The columns that a look does not change.
void Session::Impl::add_kept_columns(std::vector<detail::StateTensor>& tensors) const {
  for (const detail::Columns::Record& record : columns.record()) {
    tensors.push_back(
        {message("record.", record.name), "I32", size, bytes_of(record.values, size), {}});
  }
  for (const detail::Columns::Own& own : columns.own()) {
    tensors.push_back({"column." + own.name, detail::dtype_name(own.type), size, own.bytes(), {}});
  }
}

std::string Session::Impl::join_parts(const std::vector<std::string_view>& parts) const {
  const detail::DefaultFloatEnvironment float_environment;
  std::vector<detail::StateContent> contents;
  contents.reserve(parts.size());
  for (const std::string_view part : parts) contents.push_back(detail::read_state(part));
  const detail::JoinedParts joined = detail::join_parts(contents);
  const detail::StateFigures& figures = joined.figures;
  const auto staged = static_cast<std::int64_t>(joined.staged.size());
  std::vector<detail::StateTensor> tensors;
  const std::string_view staged_bytes = bytes_of(joined.staged.data(), staged);
  if (joined.with_scores != nullptr) {
    const detail::StateContent& content = *joined.with_scores;
    tensors.push_back({"scores", "F32", figures.size, content.scores, {}});
    tensors.push_back({"staged", "F32", staged, staged_bytes, {}});
    for (const detail::StateColumn& column : content.policy) {
      tensors.push_back({"policy." + column.name, column.dtype, column.count, column.bytes, {}});
    }
    for (const detail::StateColumn& column : content.record) {
      tensors.push_back({"record." + column.name, column.dtype, column.count, column.bytes, {}});
    }
    for (const detail::StateColumn& column : content.columns) {
      tensors.push_back({"column." + column.name, column.dtype, column.count, column.bytes, {}});
    }
    return write_state(figures, tensors);
  }
  // The scores are this session's, as they were when the epoch was planned.
  const Epoch& run = reported();
  const std::uint64_t own = run.plan ? detail::fingerprint(*whole_of(run).get()) : 0;
  const bool same_plan = !figures.plan || (run.plan && own == figures.plan->fingerprint);
  if (figures.size != size || figures.epoch != run.number || run.folded.count() > 0 || !same_plan) {
    throw InvalidArgument(message(
        "join_parts: parts without scores must be joined where the run stands, got parts of epoch ",
        figures.epoch,
        " in epoch ",
        run.number));
  }
  tensors.push_back({"scores", "F32", size, bytes_of(columns.scores(), size), {}});
  tensors.push_back({"staged", "F32", staged, staged_bytes, {}});
  for (int c = 0; c < columns.policy_cards().size; ++c) {
    tensors.push_back({message("policy.", columns.policy_cards()[c].name),
                       "F32",
                       size,
                       bytes_of(columns.policy()[static_cast<std::size_t>(c)], size),
                       {}});
  }
  add_kept_columns(tensors);
  return write_state(figures, tensors);
}

std::int64_t Session::Impl::largest_state(bool any_size) const {
  constexpr std::int64_t kHeader = std::int64_t{1} << 20;
  std::int64_t each =
      8 + 4 * columns.policy_cards().size + 8;  // with a record, wherever it is from
  std::int64_t header = kHeader;
  for (const detail::Columns::Own& own : columns.own()) {
    each += static_cast<std::int64_t>(detail::element_size(own.type));
    header += 1024;
  }
  return header + each * (any_size ? kMaxSize : size);
}

/// Is it this run's? Everything that differs is told at once.
/// @param resize  not null: samples may be others, and so may their sampling weights.
LoadReport Session::Impl::compare(const detail::StateContent& content, const Resize* resize) const {
  const detail::StateFigures& figures = content.figures;
  if (figures.part) {
    throw InvalidArgument(
        message("load: the state must be that of the whole run, got the part of rank ",
                figures.part->ranks.rank,
                " of ",
                figures.part->ranks.size,
                ": load the parts of all ranks together"));
  }

  LoadReport report;
  std::vector<std::string> refused;
  if (figures.size != size) {
    (resize != nullptr ? report.changes : refused)
        .push_back(message("size: ", figures.size, " -> ", size));
  }
  if (figures.rule_version != kRuleVersion) {
    refused.push_back(message("rule_version: ", figures.rule_version, " -> ", kRuleVersion));
  }
  const std::string saved_range =
      figures.range ? range_text(figures.range->first, figures.size, figures.range->total)
                    : range_text(0, figures.size, figures.size);
  const std::string own_range = peers_
                                    ? range_text(peers_->range().first, size, peers_->range().total)
                                    : range_text(0, size, size);
  if (saved_range != own_range) {
    refused.push_back(message("range: ", saved_range, " -> ", own_range));
  }
  detail::compare_configs(figures.config, config, refused, report.changes);
  for (const detail::StateColumn& column : content.columns) {
    const detail::Columns::Own* own = columns.find(column.name);
    if (own == nullptr) {
      refused.push_back(message("column ", column.name, ": saved -> not set"));
    } else if (column.dtype != detail::dtype_name(own->type)) {
      refused.push_back(message(
          "column ", column.name, ": ", column.dtype, " -> ", detail::dtype_name(own->type)));
    } else if (resize != nullptr) {
      if (same_values(column, *own, *resize)) continue;
      const bool follows_data = column.name == detail::SamplingWeights::kColumn;
      (follows_data ? report.changes : refused)
          .push_back(message("column ", column.name, ": other values"));
    } else if (column.bytes != own->bytes() && figures.size == size) {
      refused.push_back(message("column ", column.name, ": other values"));
    }
  }
  for (const detail::Columns::Own& own : columns.own()) {
    const bool saved = find_column(content.columns, own.name) != nullptr;
    if (!saved) refused.push_back(message("column ", own.name, ": not saved -> set"));
  }
  if (!refused.empty()) {
    throw InvalidArgument(
        "load: the state must be of the same run (only epochs, delta, drop_last, lookahead and "
        "record may differ), got saved -> own " +
        detail::join(refused, ", "));
  }
  report.text = detail::join(report.changes, "\n");
  return report;
}

/// Plans a loaded epoch anew, from the columns as they were.
void Session::Impl::plan_loaded(Epoch& run,
                                const detail::StateContent& content,
                                const float* scores,
                                const float* const* policy_columns) const {
  const detail::StateFigures& figures = content.figures;
  const detail::StateFigures::PlanFigures& plan = *figures.plan;
  const double scale = plan.choice.scale;
  const double largest = std::max(largest_scale(figures.config, policy_->reach(figures.config)),
                                  configured_scale(figures.config, policy_->card));
  if (!(scale >= 0.0) || scale > largest) damaged(message("scale = ", scale));
  // The end of pruning may have been moved by other epochs or another delta, its beginning not.
  const bool may_prune = policy_->card.prunes && run.number >= config.warmup;
  if (plan.choice.prunes && !may_prune) {
    damaged(message("samples left out of epoch ", run.number, ", which has them all"));
  }
  run.choice = plan.choice;
  Config plan_config = figures.config;
  if (plan_config.whole_batches > kMaxSize / plan.ranks) damaged("too large batches");
  plan_config.whole_batches *= plan.ranks;
  const detail::PlanRequest request{plan_config,
                                    *policy_,
                                    run.number,
                                    size,
                                    scores,
                                    policy_columns,
                                    weights_,
                                    peers_.get(),
                                    so_far(figures.totals),
                                    &run.choice,
                                    threads_,
                                    backend()};
  detail::PlannedEpoch planned = detail::plan_epoch(request, PlanArrays{});
  if (planned.plan->size() != plan.kept ||
      detail::fingerprint(*planned.plan.get()) != plan.fingerprint) {
    damaged("scores that lead to another plan than the one that was running");
  }
  run.plan = std::move(planned.plan);
  run.statistics = planned.statistics;
  run.entered = true;
  run.plan_ranks = plan.ranks;
  if (sharded()) deal_rest(run, content);
  run.facts.kept = run.plan->size();
}

/// What was observed of a loaded epoch, which has been planned.
void Session::Impl::restore_facts(Epoch& run, const detail::StateContent& content) const {
  const detail::StateFigures& figures = content.figures;
  const auto staged = static_cast<std::int64_t>(content.staged.size() / sizeof(float));
  Buffer<float> none;
  run.log.prepare(run.facts.kept, none);
  run.facts.observed = figures.observed;
  run.facts.loaded = figures.observed;
  run.facts.by = figures.by;
  run.facts.proven = figures.proven;
  run.facts.lag_batches_before = figures.lag_batches;
  run.facts.sure = figures.sure;
  run.facts.doubt_end = figures.doubt_end;
  run.facts.split = figures.split;
  run.facts.batch_before = figures.row_batch;
  if (run.whole) {
    stage_history(run, content);
  } else {
    if (staged > 0) std::memcpy(run.log.data(), content.staged.data(), content.staged.size());
    run.log.restore(staged, figures.non_finite, figures.lent);
  }
  run.facts.verified = run.facts.proven;
  const bool by_ids = figures.by == ObservedBy::kIds;
  const bool all_seen = run.facts.observed == run.facts.kept;
  run.skips_covered = by_ids && !run.whole;  // a share has what is pending behind what was observed
  run.delivery.start_at(run.facts, run.skips_covered && !all_seen ? 0 : run.facts.observed);
  // An empty epoch has nothing to observe: it is over when it has begun. One that was dropped as a
  // short batch comes again, because it may have been in the loop's hands instead.
  run.delivered = figures.delivered;
  run.facts.begun = figures.by != ObservedBy::kNone || (figures.delivered && run.facts.kept == 0);
}

LoadReport Session::Impl::deserialize(std::string_view bytes) {
  const detail::DefaultFloatEnvironment float_environment;  // reading numbers rounds, too
  const detail::StateContent content = detail::read_state(bytes);
  const detail::StateFigures& figures = content.figures;
  LoadReport report = compare(content, /*resize=*/nullptr);

  // Everything is made and checked beside the running state, which changes last.
  const SavedColumns saved = copy_columns(content, columns.policy_cards(), size);
  Epoch run;
  run.number = figures.epoch;
  start(run, figures.totals);
  run.delivery.reserve();
  if (figures.plan) plan_loaded(run, content, saved.scores.data(), saved.policy.data());
  restore_facts(run, content);

  std::copy(saved.scores.begin(), saved.scores.end(), columns.scores());
  for (std::size_t c = 0; c < saved.policy.size(); ++c) {
    std::copy_n(saved.policy[c], size, columns.policy()[c]);
  }
  for (const detail::Columns::Record& record : columns.record()) {
    const detail::StateColumn* const values = find_column(content.record, record.name);
    if (values == nullptr) {
      std::fill_n(record.values, size, record.none);
    } else if (size > 0) {
      std::memcpy(record.values, values->bytes.data(), values->bytes.size());
    }
  }
  looked_ = false;
  previous_ = Epoch{};
  running_ = std::move(run);
  totals_ = figures.totals;
  compare_scores_ = distributed();
  pinned_ = figures.pinned;
  resumed_ = !pinned_ && running_.facts.by != ObservedBy::kNone && !over(running_);
  report.epoch = running_.number;
  report.position = running_.facts.observed;
  return report;
}

/// The state of another number of samples: a session of that number ends its epoch, and this one
/// goes on with the columns.
LoadReport Session::Impl::deserialize_resized(std::string_view bytes, const Resize& resize) {
  const detail::DefaultFloatEnvironment float_environment;
  const detail::StateContent content = detail::read_state(bytes);
  const std::int64_t before = content.figures.size;
  if (before == size && resize.origin == nullptr) return deserialize(bytes);
  for (std::int64_t i = 0; resize.origin != nullptr && i < size; ++i) {
    const std::int64_t saved = resize.origin[i];
    if (saved >= -1 && saved < before) continue;
    throw InvalidArgument(message("load: resize must name saved samples, in [0, ",
                                  before,
                                  "), or -1 for a new one, got ",
                                  saved,
                                  " at ",
                                  i));
  }
  LoadReport report = compare(content, &resize);

  if (peers_) {
    throw StateError(
        "load: resize must be of a table of one range, got a session that holds a part of one");
  }
  Impl old(before, config, threads_, wording, made_for_ != nullptr ? made_for_->name : "");
  for (const detail::StateColumn& column : content.columns) {
    old.set_column(column.name, columns.find(column.name)->type, column.bytes.data());
  }
  old.deserialize(bytes);
  old.warnings = warnings;
  const Epoch& ended = old.running_;
  if (old.over(ended)) {
    if (ended.number >= kMaxEpochs) {
      throw StateError(message("load: epochs must be at most ", kMaxEpochs, ", got the next one"));
    }
    old.end_epoch(ended.number + 1);
    old.commit_look();
  } else if (ended.facts.by != ObservedBy::kNone) {
    throw InvalidArgument(message("load: resize needs a state of between two epochs, got ",
                                  ended.facts.observed,
                                  " of ",
                                  ended.facts.kept,
                                  " samples of epoch ",
                                  ended.number,
                                  " observed: save when it is over, or behind set_epoch(",
                                  ended.number + 1,
                                  ") where the loop broke off"));
  }
  Epoch run;
  run.number = old.running_.number;
  start(run, old.totals_);
  run.delivery.reserve();

  const auto carry = [&](auto* own, const auto* saved, auto none) {
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t from = resize.saved_id(i, before);
      own[i] = from < 0 ? none : saved[from];
    }
  };
  carry(columns.scores(), old.columns.scores(), never_observed());
  for (std::size_t c = 0; c < columns.policy().size(); ++c) {
    carry(columns.policy()[c], old.columns.policy()[c], never_observed());
  }
  for (int r = 0; r < columns.record().size; ++r) {
    const detail::Columns::Record& own = columns.record()[r];
    carry(own.values, old.columns.record()[r].values, own.none);
  }
  warnings = old.warnings;
  looked_ = false;
  previous_ = Epoch{};
  running_ = std::move(run);
  totals_ = old.totals_;
  compare_scores_ = distributed();
  pinned_ = old.pinned_;
  resumed_ = false;
  report.epoch = running_.number;
  return report;
}

/// Deals a loaded epoch: what was observed of it, and the rest, each from rank 0 on.
void Session::Impl::deal_rest(Epoch& run, const detail::StateContent& content) const {
  const std::int64_t kept = run.plan->size();
  std::int64_t origin = content.figures.observed;
  Buffer<std::int64_t> order;
  if (content.figures.by == ObservedBy::kIds && origin < kept) {
    // By ids, what was observed may lie anywhere.
    order = Buffer<std::int64_t>(kept);
    std::int64_t seen = 0;
    std::int64_t pending = origin;
    for (std::int64_t p = 0; p < kept; ++p) {
      order[is_unseen(staged_loss(content, p)) ? pending++ : seen++] = p;
    }
  }
  if (content.figures.by == ObservedBy::kNone) origin = 0;
  deal(run, std::move(run.plan), origin, std::move(order));
}

/// This rank's rows of what was observed before; padding among them counts as observed.
void Session::Impl::stage_history(Epoch& run, const detail::StateContent& content) const {
  const detail::Deal& deal = run.share.deal;
  const std::int64_t rows = deal.history();
  std::int64_t non_finite = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t place = deal.place(ranks_.rank, row);
    float loss = 0.0f;
    if (place >= 0) loss = staged_loss(content, run.share.position(place));
    if (!is_unseen(loss) && !is_finite(loss)) ++non_finite;
    run.log.data()[row] = loss;
  }
  const bool lent = content.figures.lent;
  run.log.restore(rows, lent ? 0 : non_finite, lent);
  if (run.facts.by == ObservedBy::kIds) run.log.fill_unseen(run.plan->size());
  run.facts.observed = rows;
  run.facts.proven = deal.rows_within(run.facts.proven);
  run.facts.sure = deal.rows_within(run.facts.sure);
  const std::int64_t doubted = run.facts.doubt_end;  // up to the end of the row it lies in
  run.facts.doubt_end = std::min(rows, (doubted + ranks_.size - 1) / ranks_.size);
}

}  // namespace infobatch
