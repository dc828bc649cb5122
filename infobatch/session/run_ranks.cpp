#include <infobatch/detail/policy.hpp>
#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/run.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

// A run on several ranks: each session delivers its share of the plan and stages its losses; behind
// an exchange every session folds those of all ranks.

namespace infobatch {

using detail::message;
using detail::ObservedBy;

namespace {

constexpr int kMostRanks = 1 << 20;

/// A field of a report that must be equal on all ranks.
struct CommonField {
  const char* name;
  std::int64_t (*get)(const RankReport&);
};

template <auto kMember>
std::int64_t get_field(const RankReport& report) {
  return static_cast<std::int64_t>(report.*kMember);
}

constexpr CommonField kCommon[] = {
    {"number of ranks", get_field<&RankReport::ranks>},
    {"split", get_field<&RankReport::split>},
    {"padding", get_field<&RankReport::padding>},
    {"rule version", get_field<&RankReport::rule_version>},
    {"number of samples", get_field<&RankReport::size>},
    {"seed", get_field<&RankReport::seed>},
    {"digest of the options", get_field<&RankReport::config>},
    {"epoch", get_field<&RankReport::epoch>},
    {"epoch to begin (-1: the next iteration)", get_field<&RankReport::target>},
    {"whether the epoch has begun", get_field<&RankReport::begun>},
    {"whether the epoch goes on",
     [](const RankReport& report) { return std::int64_t{report.stays == 1}; }},
    {"digest of the scores", get_field<&RankReport::scores>},
    {"samples of the plan", get_field<&RankReport::kept>},
    {"digest of the plan", get_field<&RankReport::plan>},
    {"samples observed before the load", get_field<&RankReport::origin>},
};

}  // namespace

void Session::Impl::set_range(const IdRange& range, Gather gather) {
  const auto refuse = [](const std::string& rule) { throw InvalidArgument("set_range: " + rule); };
  if (!gather) refuse("gather must be a function, got none");
  if (range.ranks < 1 || range.rank < 0 || range.rank >= range.ranks) {
    refuse(message("rank must be in [0, ranks), got ", range.rank, " of ", range.ranks));
  }
  if (range.first < 0 || range.first % kDrawGroup != 0) {
    refuse(message("first must be a multiple of ", kDrawGroup, ", got ", range.first));
  }
  if (range.total < 0 || range.total > kMaxTable || range.first > range.total - size) {
    refuse(message("the ",
                   size,
                   " samples must lie in the table, of at most ",
                   kMaxTable,
                   ", got first = ",
                   range.first,
                   " of ",
                   range.total));
  }
  if (policy_->cuts_ranks) {
    std::vector<std::string> fit;
    for (const Policy* policy : policies()) {
      if (!policy->cuts_ranks) fit.emplace_back(policy->card.name);
    }
    refuse(message("needs a policy without ranks of scores, which are not known across ranges: ",
                   detail::join(fit, ", "),
                   ", got \"",
                   config.policy,
                   "\""));
  }
  if (config.target_saved) refuse("target_saved must not be set, a range has no budget of its own");
  if (config.whole_batches > 0) {
    refuse(message("whole_batches must be 0, got ", config.whole_batches));
  }
  if (weights_) refuse("sampling_weight must not be set, its mean is that of one range");
  if (distributed()) refuse("ranks must not be set: each range has a session that is one process");
  if (made_for_ != nullptr && made_for_ != &detail::cpu_backend()) {
    refuse(message(R"(backend must be "cpu", got ")", made_for_->name, "\""));
  }
  if (reported().entered || reported().number > 0 || totals_.epochs > 0) {
    throw StateError("set_range: it must be called before the first epoch begins, got a later one");
  }
  auto peers = std::make_unique<detail::Peers>(range, std::move(gather));
  const detail::RangeReport own{
      range.first, size, range.total, kRuleVersion, detail::fingerprint_of(config.to_json())};
  peers->call([&] { detail::check_ranges(peers->gather(&own, 1)); });
  peers_ = std::move(peers);
  unplan(running_);
}

void Session::Impl::set_ranks(const Ranks& ranks) {
  if (ranks.size < 1 || ranks.size > kMostRanks) {
    throw InvalidArgument(
        message("set_ranks: size must be in [1, ", kMostRanks, "], got ", ranks.size));
  }
  if (ranks.rank < 0 || ranks.rank >= ranks.size) {
    throw InvalidArgument(
        message("set_ranks: rank must be in [0, ", ranks.size, "), got ", ranks.rank));
  }
  if (config.whole_batches > kMaxSize / ranks.size) {
    throw InvalidArgument(message("set_ranks: whole_batches * size must be at most ",
                                  kMaxSize,
                                  ", got ",
                                  config.whole_batches,
                                  " * ",
                                  ranks.size));
  }
  if (reported().entered || reported().number > 0 || totals_.epochs > 0) {
    throw StateError(
        "set_ranks: must come before the first epoch begins, got a run that has begun");
  }
  const std::uint64_t digest = detail::fingerprint_of(config.to_json());
  unlook();
  unplan(running_);
  ranks_ = ranks;
  plan_config_.whole_batches = config.whole_batches * ranks.size;
  config_digest_ = digest;
}

/// Deals a plan: the epoch's own is then the share of this rank. Nothing has changed where it
/// throws.
void Session::Impl::deal(Epoch& epoch,
                         detail::PlanHolder whole,
                         std::int64_t origin,
                         Buffer<std::int64_t> order) const {
  detail::Share share;
  share.deal = detail::Deal(ranks_, whole->size(), origin);
  share.order = std::move(order);
  epoch.plan = detail::PlanHolder(detail::make_share(*whole.get(), share));
  epoch.whole = std::move(whole);
  epoch.share = std::move(share);
}

/// Whether the next iteration goes on with the running epoch: 1 whatever was observed of it, 2
/// behind a load, as long as no rank has observed more of it.
int Session::Impl::stays() const {
  if (pinned_ || !running_.entered) return 1;
  return resumed_ && !over(running_) ? 2 : 0;
}

void Session::Impl::require_exchange(const char* function) const {
  if (!running_.entered || running_.taken.done) return;
  throw StateError(message(function,
                           ": on ",
                           ranks_.size,
                           " ranks the losses of an epoch must be exchanged before another one "
                           "begins (losses_to_share, take_losses), got epoch ",
                           running_.number,
                           " without"));
}

/// Behind an exchange no loss of the epoch is taken any more: other ranks would not have it.
void Session::Impl::require_open(const Epoch& epoch) const {
  if (!epoch.taken.done) return;
  throw StateError(
      message("update: losses must come before those of all ranks are exchanged, got "
              "some of epoch ",
              epoch.number,
              " behind its exchange"));
}

RankReport Session::Impl::report_to_share(std::int64_t target) {
  unlook();
  RankReport report;
  report.rank = ranks_.rank;
  report.ranks = ranks_.size;
  report.split = static_cast<std::int64_t>(ranks_.split);
  report.padding = static_cast<std::int64_t>(ranks_.padding);
  report.rule_version = kRuleVersion;
  report.size = size;
  report.seed = config.seed;
  report.config = config_digest_;
  report.epoch = running_.number;
  report.target = target;
  report.begun = running_.entered ? 1 : 0;
  report.stays = target < 0 ? stays() : target == running_.number ? 1 : 0;
  if (compare_scores_) {
    const auto bytes = static_cast<std::size_t>(size) * sizeof(float);
    report.scores =
        detail::fingerprint_of({reinterpret_cast<const char*>(columns.scores()), bytes});
  }
  if (!running_.entered) return report;
  const detail::EpochFacts& facts = running_.facts;
  report.kept = kept_of(running_);
  report.plan = detail::plan_digest(*whole_of(running_).get());
  report.origin = running_.share.deal.origin();
  report.observed = facts.by == ObservedBy::kNone ? 0 : facts.observed;
  report.entering = facts.by == ObservedBy::kOrder ? trusted_of(facts).count() : report.observed;
  report.over = over(running_) ? 1 : 0;
  return report;
}

void Session::Impl::agree(const RankReport* reports, std::int64_t count) const {
  if (count != ranks_.size || reports == nullptr) {
    throw InvalidArgument(
        message("agree: reports must be one of each of ", ranks_.size, " ranks, got ", count));
  }
  std::vector<std::string> found;
  for (std::int64_t r = 0; r < count; ++r) {
    if (reports[r].rank != r) {
      found.push_back(message("in place of rank ", r, " stands rank ", reports[r].rank));
    }
    for (const CommonField& field : kCommon) {
      const std::int64_t own = field.get(reports[r]);
      const std::int64_t first = field.get(reports[0]);
      if (own == first) continue;
      found.push_back(message("rank ", r, ": ", field.name, " ", own, ", rank 0: ", first));
    }
  }
  if (found.empty()) return;
  throw StateError("agree: all ranks must be at the same place of the same run, got " +
                   detail::join(found, "; "));
}

RankLosses Session::Impl::losses_to_share() {
  unlook();
  if (!distributed() || !running_.entered) {
    throw StateError(
        message("losses_to_share: an epoch of several ranks must have begun, got epoch ",
                running_.number,
                distributed() ? ", which has not" : " of one rank"));
  }
  const detail::EpochFacts& facts = running_.facts;
  const detail::Deal& deal = running_.share.deal;
  if (running_.log.lent()) detail::wait_for(backend());
  shared_.resize(facts.kept);
  const detail::Trusted trusted = trusted_of(facts);
  const std::int64_t end = std::min(trusted.end, running_.log.end());
  for (std::int64_t row = 0; row < facts.kept; ++row) {
    float loss = unseen();
    const bool is_trusted = row < end && (row < trusted.gap_begin || row >= trusted.gap_end);
    if (is_trusted && (!sharded() || deal.place(ranks_.rank, row) >= 0)) {
      const float staged = running_.log.data()[row];
      loss = is_unseen(staged) ? staged : score_of_loss(staged);
    }
    shared_[row] =
        sharded() ? static_cast<std::int32_t>(float_bits(loss)) : detail::ordered_bits(loss);
  }
  return {shared_.data(), facts.kept};
}

/// The losses of all ranks by position of the plan.
Buffer<float> Session::Impl::losses_of_ranks(const std::int32_t* bits,
                                             std::int64_t count,
                                             std::int64_t ranks) const {
  Buffer<float> losses(kept_of(running_));
  std::fill(losses.begin(), losses.end(), unseen());
  const auto kept_loss = [](float loss) { return is_unseen(loss) ? loss : score_of_loss(loss); };
  if (!sharded()) {
    for (std::int64_t p = 0; p < count; ++p) {
      losses[p] = kept_loss(detail::loss_of_ordered(bits[p]));
    }
    return losses;
  }
  const detail::Share& share = running_.share;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::int32_t* const theirs = bits + rank * count;
    for (std::int64_t row = 0; row < count; ++row) {
      const std::int64_t place = share.deal.place(rank, row);
      if (place < 0) continue;
      losses[share.position(place)] =
          kept_loss(bits_float(static_cast<std::uint32_t>(theirs[row])));
    }
  }
  return losses;
}

void Session::Impl::take_losses(const std::int32_t* bits,
                                std::int64_t count,
                                const RankReport* reports,
                                std::int64_t ranks) {
  unlook();
  agree(reports, ranks);
  const bool is_own = reports[ranks_.rank].epoch == running_.number &&
                      reports[ranks_.rank].kept == kept_of(running_);
  if (!distributed() || !running_.entered || !is_own) {
    throw StateError(
        message("take_losses: the reports must be of the epoch that is to be left, got ",
                "those of epoch ",
                reports[ranks_.rank].epoch,
                " in epoch ",
                running_.number));
  }
  if (count != running_.facts.kept || (count > 0 && bits == nullptr)) {
    throw InvalidArgument(message("take_losses: losses must be those of ",
                                  running_.facts.kept,
                                  sharded() ? " rows of each rank, got " : " samples, got ",
                                  bits == nullptr ? 0 : count));
  }
  detail::TakenLosses taken;
  taken.losses = losses_of_ranks(bits, count, ranks);
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    taken.observed += reports[rank].observed;
    taken.dropped += reports[rank].observed - reports[rank].entering;
    taken.over = taken.over || reports[rank].over != 0;
  }
  taken.done = true;
  running_.taken = std::move(taken);
  compare_scores_ = false;
}

RankRows Session::Impl::rank_rows() const {
  RankRows rows;
  const Epoch& epoch = reported();
  if (!epoch.whole) return rows;
  const detail::Deal& deal = epoch.share.deal;
  rows.rows = deal.rows();
  rows.weights = epoch.share.row_weights.data();
  for (const std::int64_t end : {deal.history(), deal.rows()}) {
    if (end == 0 || (rows.short_rows > 0 && rows.row[0] == end - 1)) continue;
    const std::int64_t places = deal.places_before(end) - deal.places_before(end - 1);
    if (places == ranks_.size) continue;
    rows.row[rows.short_rows] = end - 1;
    rows.missing[rows.short_rows++] = ranks_.size - places;
  }
  return rows;
}

}  // namespace infobatch
