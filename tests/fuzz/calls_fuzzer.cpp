#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/fuzz/calls.hpp>
#include <tests/fuzz/oracles.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Bytes -> calls on a session, in any order. What is known of the right answer is worked out here:
// which rows are out, which losses were given for which sample, what a plan is, that a refused call
// changes nothing, and that a session that took over a state answers as a new one that did.

using namespace infobatch;
using fuzz::Call;
using fuzz::require;

namespace {

constexpr int kMostCalls = 120;

template <typename Items>
std::ptrdiff_t ssize(const Items& items) {
  return static_cast<std::ptrdiff_t>(std::size(items));
}

/// INFOBATCH_FUZZ_TRACE=1: tells the calls of an input, to find out what is wrong with one.
bool traces() {
  static const bool traced = std::getenv("INFOBATCH_FUZZ_TRACE") != nullptr;
  return traced;
}

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {}
  bool empty() const { return data_ == end_; }
  unsigned take() { return empty() ? 0u : *data_++; }
  std::int64_t below(std::int64_t bound) { return bound > 0 ? take() % bound : 0; }

 private:
  const std::uint8_t* data_;
  const std::uint8_t* end_;
};

/// What a call did: how it was refused, or what it returned.
struct Answer {
  std::string refused;  // empty: it was not
  Slice slice;
  std::vector<float> floats;
  std::int64_t number = 0;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// A plan that is held while the session goes on, and what it was.
struct Held {
  PlanRef plan;
  std::vector<std::int64_t> ids;
  std::vector<float> weights;
};

class Harness {
 public:
  Harness(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {
    variant_ = fuzz::variant_of(bytes_.take());
    variant_.size = static_cast<std::int64_t>(bytes_.take() % 41);
    Config& config = variant_.config;
    if (config.whole_batches == 0) {
      batch_ = 1 + bytes_.take() % 12;
    } else {
      bytes_.take();
      batch_ = config.whole_batches;
    }
    const unsigned warnings = bytes_.take();
    const unsigned loader = bytes_.take();
    if (warnings % 8 >= 5) {  // a run that never prunes, and warns of it
      config.epochs = 1 + warnings / 8 % 2;
      config.target_saved.reset();
    }
    loses_ = loader % 8 == 7;
    config.lookahead = loader / 8 % 4 == 3;
    session_ = fuzz::make_session(variant_);
    if (warnings % 4 == 1) throw_on_warning();
    if (warnings % 4 == 2) call_on_warning();
    given_.resize(static_cast<std::size_t>(variant_.size));
  }

  void run() {
    for (int i = 0; i < kMostCalls && !bytes_.empty(); ++i) {
      call(static_cast<Call>(bytes_.take() % static_cast<unsigned>(Call::kCalls)));
      check_truth();
    }
    check_held();
    fuzz::be_quiet(*session_);
    session_->discard_epoch();
    fuzz::run_epochs(*session_, 2);
    check_truth_of_run();
  }

 private:
  // --- warnings

  void throw_on_warning() {
    throws_ = true;
    session_->set_warning_handler(
        [](const std::string&) { throw std::length_error("a handler that throws"); });
  }

  /// The handler calls the session: nothing of what it changes is known to the oracles.
  void call_on_warning() {
    reenters_ = true;
    session_->set_warning_handler([this](const std::string&) {
      if (inside_) return;
      inside_ = true;
      Session& s = *session_;
      try {
        const float loss = 0.5f;
        const std::int64_t id = bytes_.below(variant_.size + 1);
        float weight = 0.0f;
        switch (bytes_.take() % 13) {
          case 0:
            s.begin();
            break;
          case 1:
            s.next(batch_);
            break;
          case 2:
            s.observe_ids(&loss, &id, 1, &weight);
            break;
          case 3:
            s.observe(&loss, 1);
            break;
          case 4:
            s.set_epoch(bytes_.below(9));
            break;
          case 5:
            s.length();
            break;
          case 6:
            s.discard_epoch();
            break;
          case 7:
            s.deserialize(s.serialize());
            break;
          case 8:
            s.epoch_arrays();
            break;
          case 9:
            s.stage(&loss, 0, 1);
            break;
          case 10:
            s.plan();
            break;
          case 11:
            s.weights(&id, 1, &weight);
            break;
          default:
            s.statistics();
        }
      } catch (const StateError&) {
      } catch (const InvalidArgument&) {
      } catch (const IndexError&) {
      }
      inside_ = false;
    });
  }

  // --- one call

  /// Makes the call, on the session's twin too, and compares what they did. A refused call changes
  /// nothing that can be seen.
  template <typename Make>
  Answer make(const Make& make_call) {
    const auto answer_of = [&](Session& session) {
      Answer answer;
      try {
        make_call(session, answer);
      } catch (const StateError& error) {
        answer.refused = error.what();
      } catch (const InvalidArgument& error) {
        answer.refused = error.what();
      } catch (const IndexError& error) {
        answer.refused = error.what();
      } catch (const std::length_error& error) {
        require(throws_, "only a handler throws what is no error of the session");
        answer.refused = error.what();
      }
      return answer;
    };
    // What the call before left is what this one finds: writing a state is most of the work here.
    const std::string before = known_.empty() ? session_->serialize() : std::move(known_);
    known_.clear();
    const std::int64_t epoch = session_->epoch();
    const std::int64_t position = session_->position();
    const std::int64_t pending = session_->pending();
    const double progress = session_->progress();
    Answer answer = answer_of(*session_);
    const bool compared = twin_ != nullptr || !answer.refused.empty() || traces();
    const std::string after = compared ? session_->serialize() : std::string();
    if (traces()) {
      std::fprintf(stderr,
                   "  slice [%lld, +%lld), number %lld, epoch %lld, position %lld%s%s\n",
                   static_cast<long long>(answer.slice.begin),
                   static_cast<long long>(answer.slice.count),
                   static_cast<long long>(answer.number),
                   static_cast<long long>(session_->epoch()),
                   static_cast<long long>(session_->position()),
                   answer.refused.empty() ? "" : ", refused: ",
                   answer.refused.c_str());
      if (after != before && !answer.refused.empty()) {
        std::fprintf(stderr, "  before: %s\n  after:  %s\n", before.c_str() + 8, after.c_str() + 8);
      }
    }
    if (!answer.refused.empty() && !reenters_) {
      require(after == before, "a refused call leaves the state as it was");
      require(session_->epoch() == epoch && session_->position() == position &&
                  session_->pending() == pending && session_->progress() == progress,
              "a refused call leaves the position as it was");
    }
    if (twin_) {
      const Answer other = answer_of(*twin_);
      require(other.refused == answer.refused, "twins refuse alike");
      require(other.slice.count == answer.slice.count && other.slice.begin == answer.slice.begin &&
                  other.number == answer.number && same_bits(other.floats, answer.floats),
              "twins answer alike");
      require(twin_->serialize() == after, "twins are in the same state");
      require(twin_->epoch() == session_->epoch() && twin_->pending() == session_->pending(),
              "twins are at the same place");
    }
    fuzz::check_session(*session_);
    known_ = after;
    return answer;
  }

  float tag() { return 0.001f * static_cast<float>(++clock_); }

  std::vector<float> tags(std::int64_t count) {
    std::vector<float> losses;
    for (std::int64_t i = 0; i < count; ++i) losses.push_back(tag());
    if (count > 0 && bytes_.take() % 16 == 1) {
      losses[0] = std::numeric_limits<float>::quiet_NaN();
    }
    return losses;
  }

  void give(std::int64_t id, float loss) {
    if (is_finite(loss)) given_[static_cast<std::size_t>(id)].insert(loss);
  }

  /// Rows that came back in order: they are those that were out for the longest.
  void came_back(const Answer& answer, const std::vector<float>& losses) {
    if (!answer.refused.empty() || reenters_) return;
    const auto count = static_cast<std::int64_t>(losses.size());
    require(answer.slice.count == count, "a slice is as long as what was observed");
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t id = answer.slice.ids()[i];
      if (!loses_) {
        require(!out_.empty(), "no loss is taken without a row that is out");
        require(out_.front() == id, "losses are taken for the rows that are out");
      }
      if (!out_.empty()) out_.pop_front();
      give(id, losses[static_cast<std::size_t>(i)]);
    }
    while (!batches_.empty() && left_of_batch() <= 0) batches_.pop_front();
  }

  std::int64_t left_of_batch() const {
    std::int64_t behind = 0;
    for (std::size_t i = 1; i < batches_.size(); ++i) behind += batches_[i];
    return static_cast<std::int64_t>(out_.size()) - behind;
  }

  void nothing_is_out() {
    out_.clear();
    batches_.clear();
  }

  void delivered(const Answer& answer) {
    if (!answer.refused.empty() || reenters_) return;
    const Slice& slice = answer.slice;
    require(static_cast<bool>(slice.plan), "a slice has a plan");
    require(slice.begin >= 0 && slice.count >= 0 && slice.count <= slice.plan->size() - slice.begin,
            "a slice is a part of its plan");
    fuzz::check_plan(*slice.plan, variant_.size, variant_.config);
    if (slice.count == 0) return;
    if (slice.plan != last_.plan || slice.begin != last_.begin + last_.count) nothing_is_out();
    last_ = slice;
    if (loses_ && bytes_.take() % 8 == 1) return;
    out_.insert(out_.end(), slice.ids(), slice.ids() + slice.count);
    batches_.push_back(slice.count);
    hold(slice.plan);
  }

  void hold(const PlanRef& plan) {
    if (held_.size() >= 6 || (!held_.empty() && held_.back().plan == plan)) return;
    held_.push_back({plan,
                     {plan->ids(), plan->ids() + plan->size()},
                     {plan->weights(), plan->weights() + plan->size()}});
  }

  void observe_in_order(std::int64_t count, bool update) {
    const std::vector<float> losses = tags(count);
    const auto reduction = static_cast<Reduction>(bytes_.take() % 4);
    const Answer answer = make([&](Session& s, Answer& a) {
      const std::int64_t position = s.position();
      if (!update) {
        a.slice = s.observe(losses.data(), count);
        return;
      }
      a.floats.resize(losses.size() + 1);
      s.update(losses.data(), count, reduction, a.floats.data());
      const EpochArrays arrays = count > 0 ? s.epoch_arrays() : EpochArrays{};
      a.slice = Slice{arrays.plan, position, count};
    });
    came_back(answer, losses);
    if (update && answer.refused.empty() && count > 0 && !reenters_) {
      check_reduction(answer, losses, reduction);
    }
  }

  void check_reduction(const Answer& answer,
                       const std::vector<float>& losses,
                       Reduction reduction) {
    double sum = 0.0;
    double weights = 0.0;
    for (std::size_t i = 0; i < losses.size(); ++i) {
      const double weight = answer.slice.weights()[i];
      sum += weight * static_cast<double>(losses[i]);
      weights += weight;
    }
    double expected = sum;
    if (reduction == Reduction::kMean) expected /= static_cast<double>(losses.size());
    if (reduction == Reduction::kWeightedMean) expected /= weights;
    if (reduction == Reduction::kNone) {
      expected = static_cast<double>(answer.slice.weights()[0]) * static_cast<double>(losses[0]);
    }
    const double got = answer.floats[0];
    require(std::isnan(expected) ? std::isnan(got)
                                 : std::fabs(got - expected) <= 1e-5 * std::fabs(expected),
            "a reduction is that of the losses");
  }

  void observe_ids(const std::vector<std::int64_t>& ids, bool delivered) {
    const auto count = static_cast<std::int64_t>(ids.size());
    const std::vector<float> losses = tags(count);
    const Answer answer = make([&](Session& s, Answer& a) {
      a.floats.resize(ids.size());
      s.observe_ids(losses.data(), ids.data(), count, a.floats.data());
    });
    if (!answer.refused.empty()) return;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      require(ids[i] >= 0 && ids[i] < variant_.size, "an id that is taken is in the data set");
      require(answer.floats[i] >= 1.0f || reenters_, "a weight is 1 or more");
      give(ids[i], losses[i]);
    }
    if (!delivered) return;
    out_.erase(out_.begin(), out_.begin() + std::min<std::ptrdiff_t>(count, ssize(out_)));
    while (!batches_.empty() && left_of_batch() <= 0) batches_.pop_front();
  }

  void call(Call call) {
    if (traces()) std::fprintf(stderr, "call %d\n", static_cast<int>(call));
    const std::int64_t position = session_->position();
    const std::int64_t epoch = session_->epoch();
    const double progress = session_->progress();
    const bool whole = session_->statistics().kept == position;
    bool goes_back = reenters_;
    const auto oldest = [&] { return std::max<std::int64_t>(left_of_batch(), 0); };
    switch (call) {
      case Call::kBegin: {
        const Answer answer = make([](Session& s, Answer&) { s.begin(); });
        if (answer.refused.empty()) nothing_is_out();
        if (answer.refused.empty()) last_ = Slice{nullptr, -1, 0};
        goes_back = true;
        break;
      }
      case Call::kNext:
        delivered(make([&](Session& s, Answer& a) { a.slice = s.next(batch_); }));
        goes_back = true;
        break;
      case Call::kNextOther: {
        const std::int64_t count = bytes_.below(16);
        delivered(make([&](Session& s, Answer& a) { a.slice = s.next(count); }));
        goes_back = true;
        break;
      }
      case Call::kNextRows: {
        const std::int64_t count = bytes_.below(8);
        delivered(make([&](Session& s, Answer& a) { a.slice = s.next_rows(count); }));
        goes_back = true;
        break;
      }
      case Call::kObserve:
        observe_in_order(oldest(), false);
        break;
      case Call::kObserveSome:
        observe_in_order(bytes_.below(ssize(out_) + 1), false);
        break;
      case Call::kObserveTooMany:
        observe_in_order(ssize(out_) + 1 + bytes_.below(4), false);
        break;
      case Call::kUpdate:
        observe_in_order(oldest(), true);
        break;
      case Call::kAdvance:
      case Call::kAdvanceAndWrite: {
        const std::int64_t count = oldest();
        const std::vector<float> losses = tags(count);
        const Answer answer = make([&](Session& s, Answer& a) { a.slice = s.advance(count); });
        came_back(answer, losses);
        if (call == Call::kAdvance || !answer.refused.empty() || reenters_) break;
        make([&](Session& s, Answer&) {
          const EpochArrays arrays = s.epoch_arrays();
          for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t p = s.position() - count + i;
            arrays.losses[p] = losses[static_cast<std::size_t>(i)];
            give(arrays.ids[p], arrays.losses[p]);
          }
        });
        break;
      }
      case Call::kStage: {
        const std::int64_t begin = bytes_.below(variant_.size + 1);
        const std::vector<float> losses = tags(bytes_.below(9));
        stage(losses, begin);
        break;
      }
      case Call::kStageWholeEpoch: {
        std::vector<float> losses = tags(session_->statistics().kept);
        for (float& loss : losses) {
          if (bytes_.take() % 4 == 3) loss = unseen();
        }
        stage(losses, 0);
        break;
      }
      case Call::kObserveIds: {
        const auto count = static_cast<std::ptrdiff_t>(oldest());
        observe_ids({out_.begin(), out_.begin() + count}, true);
        break;
      }
      case Call::kObserveAnyIds: {
        std::vector<std::int64_t> ids;
        const std::int64_t count = bytes_.below(6);
        const std::int64_t most = last_.plan ? last_.plan->size() : 0;
        for (std::int64_t i = 0; i < count && most > 0; ++i) {
          ids.push_back(last_.plan->ids()[bytes_.below(most)]);
        }
        observe_ids(ids, false);
        break;
      }
      case Call::kObserveBadIds: {
        static constexpr std::int64_t kBad[] = {-1, INT64_MIN, INT64_MAX, 41, 0, 1, 2};
        observe_ids({kBad[bytes_.below(ssize(kBad))], bytes_.below(variant_.size)}, false);
        break;
      }
      case Call::kSetEpoch: {
        static constexpr std::int64_t kFar[] = {
            -1, kMaxEpochs, kMaxEpochs - 1, kMaxEpochs + 1, 100};
        const unsigned which = bytes_.take();
        const std::int64_t number =
            which % 16 < 5 ? kFar[which % 16] : static_cast<std::int64_t>(which / 16 % 10);
        make([&](Session& s, Answer&) { s.set_epoch(number); });
        goes_back = true;
        break;
      }
      case Call::kLength:
        make([](Session& s, Answer& a) { a.number = s.length(); });
        break;
      case Call::kPlan: {
        const Answer answer = make([](Session& s, Answer& a) {
          const std::shared_ptr<const Plan> plan = s.plan();
          a.slice = Slice{plan, 0, plan->size()};
        });
        if (!answer.slice.plan) break;
        fuzz::check_plan(*answer.slice.plan, variant_.size, variant_.config);
        hold(answer.slice.plan);
        break;
      }
      case Call::kDiscard:
        make([](Session& s, Answer&) { s.discard_epoch(); });
        goes_back = true;
        break;
      case Call::kReload:
        reload();
        goes_back = true;
        break;
      case Call::kDropLast: {
        const bool drops = bytes_.take() % 2 == 1;
        make([&](Session& s, Answer&) { s.declare_drop_last(drops); });
        declared_ = drops;
        goes_back = true;  // an epoch may be over by it, or not be any more
        break;
      }
      case Call::kColumn: {
        const std::vector<std::int32_t> values(static_cast<std::size_t>(variant_.size) + 1,
                                               bytes_.take() % 3);
        const Answer answer = make(
            [&](Session& s, Answer&) { s.set_column("other", ColumnType::kInt32, values.data()); });
        if (answer.refused.empty()) columns_["other"] = values;
        break;
      }
      case Call::kStatistics:
        make([](Session& s, Answer& a) { a.number = s.statistics().samples_planned; });
        break;
      case Call::kArrays:
        make([](Session& s, Answer& a) {
          const EpochArrays arrays = s.epoch_arrays();
          a.slice = Slice{arrays.plan, 0, arrays.size};
        });
        break;
      case Call::kBad:
        call_badly();
        break;
      case Call::kEpoch:
        if (throws_ || reenters_ || twin_) break;
        session_->discard_epoch();
        nothing_is_out();
        last_ = Slice{nullptr, -1, 0};
        fuzz::run_epochs(*session_, 1);
        known_.clear();
        note_run();
        goes_back = true;
        break;
      case Call::kWeights:
        look_up();
        break;
      case Call::kCalls:
        break;
    }
    if (goes_back) return;
    const bool longer = call == Call::kLength || call == Call::kPlan;  // a look at the next epoch
    // A short last batch that is out may have been dropped, until its losses come.
    // What is staged by ids may take positions back that were met.
    const bool stages = call == Call::kStage || call == Call::kStageWholeEpoch;
    require(session_->epoch() >= epoch || !whole || stages, "epochs go forward");
    if (!longer && session_->epoch() == epoch) {
      require(session_->position() >= position || stages, "observing goes forward");
      require(session_->progress() >= progress || stages, "progress goes forward");
    }
  }

  /// Weights by ids: of a plan that was delivered, which may be that of an earlier epoch.
  void look_up() {
    std::vector<std::int64_t> ids;
    const std::int64_t most = last_.plan ? last_.plan->size() : 0;
    for (std::int64_t count = bytes_.below(6); count > 0; --count) {
      ids.push_back(most > 0 ? last_.plan->ids()[bytes_.below(most)]
                             : bytes_.below(variant_.size + 1));
    }
    const std::string before = session_->serialize();
    const Answer answer = make([&](Session& s, Answer& a) {
      a.floats.resize(ids.size());
      s.weights(ids.data(), static_cast<std::int64_t>(ids.size()), a.floats.data());
    });
    require(session_->serialize() == before, "a look at weights observes nothing");
    if (!answer.refused.empty()) return;
    const bool current = last_.plan && last_.plan->epoch() == session_->statistics().epoch;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      require(answer.floats[i] >= 1.0f, "a weight is 1 or more");
      if (!current || reenters_) continue;
      const std::int64_t* const plan = last_.plan->ids();
      const std::int64_t at = std::find(plan, plan + last_.plan->size(), ids[i]) - plan;
      require(answer.floats[i] == last_.plan->weights()[at], "a weight is that of the plan");
    }
  }

  void stage(const std::vector<float>& losses, std::int64_t begin) {
    const auto count = static_cast<std::int64_t>(losses.size());
    const Answer answer = make([&](Session& s, Answer& a) {
      s.stage(losses.data(), begin, count);
      if (count == 0) return;
      const EpochArrays arrays = s.epoch_arrays();
      a.slice = Slice{arrays.plan, begin, count};
    });
    if (!answer.refused.empty() || reenters_) return;
    for (std::int64_t i = 0; i < answer.slice.count; ++i) {
      give(answer.slice.ids()[i], losses[static_cast<std::size_t>(i)]);
    }
  }

  void call_badly() {
    const unsigned which = bytes_.take() % 12;
    const float loss = 0.5f;
    const std::int64_t id = 0;
    const Answer answer = make([&](Session& s, Answer&) {
      float out = 0.0f;
      switch (which) {
        case 0:
          s.next(0);
          break;
        case 1:
          s.next(INT64_MIN);
          break;
        case 2:
          s.next_rows(-1);
          break;
        case 3:
          s.observe(nullptr, 1);
          break;
        case 4:
          s.observe(&loss, -1);
          break;
        case 5:
          s.observe_ids(&loss, &id, INT64_MAX, &out);
          break;
        case 6:
          s.observe_ids(&loss, nullptr, 1, &out);
          break;
        case 7:
          s.stage(&loss, INT64_MAX, INT64_MAX);
          break;
        case 8:
          s.stage(&loss, -1, 1);
          break;
        case 9:
          s.advance(INT64_MIN);
          break;
        case 10:
          s.update(&loss, 1, Reduction::kMean, nullptr);
          break;
        default:
          s.set_column("score", ColumnType::kFloat32, &loss);
      }
    });
    require(!answer.refused.empty(), "bad arguments are refused");
  }

  // --- states

  std::unique_ptr<Session> fresh() const {
    auto session = fuzz::make_session(variant_);
    for (const auto& [name, values] : columns_) {
      session->set_column(name, ColumnType::kInt32, values.data());
    }
    if (declared_) session->declare_drop_last(*declared_);
    return session;
  }

  /// The session takes over its own state, and so does a new one: from now on they are twins.
  void reload() {
    if (throws_ || reenters_) return;
    const std::string state = session_->serialize();
    const std::int64_t position = session_->position();
    twin_ = fresh();
    const LoadReport report = twin_->deserialize(state);
    require(report.position == position, "a report tells the position");
    require(twin_->serialize() == state, "a state reads back equal");
    session_->deserialize(state);
    known_.clear();
    require(session_->serialize() == state, "a state reads back equal");
    nothing_is_out();
    last_ = Slice{nullptr, -1, 0};
  }

  // --- what must hold in between

  void note_run() {
    // fuzz::run_epochs gives 0.5 and more by the hundredth of the id.
    for (std::int64_t id = 0; id < variant_.size; ++id) {
      give(id, 0.5f + 0.01f * static_cast<float>(id));
      give(id, 0.5f + 0.1f * 1.0f + 0.01f * static_cast<float>(id));
    }
  }

  /// Every score is a loss that was given for that sample; with a moving mean, between such losses.
  void check_truth() {
    if (loses_ || reenters_) return;
    for (std::int64_t id = 0; id < variant_.size; ++id) {
      const float score = session_->scores()[id];
      const std::set<float>& given = given_[static_cast<std::size_t>(id)];
      if (!is_finite(score)) continue;
      if (variant_.config.score_ema > 0.0) {
        require(!given.empty() && score >= *given.begin() * 0.99999f &&
                    score <= *given.rbegin() * 1.00001f,
                "a score is a mean of losses that were given for its sample");
      } else {
        require(given.count(score) == 1, "a score is a loss that was given for its sample");
      }
    }
  }

  void check_truth_of_run() {
    note_run();
    check_truth();
  }

  void check_held() {
    for (const Held& held : held_) {
      const bool same = std::equal(held.ids.begin(), held.ids.end(), held.plan->ids()) &&
                        std::equal(held.weights.begin(), held.weights.end(), held.plan->weights());
      require(same, "a plan that is held does not change");
    }
  }

  Bytes bytes_;
  fuzz::Variant variant_;
  std::int64_t batch_ = 1;
  bool loses_ = false;
  bool throws_ = false;
  bool reenters_ = false;
  bool inside_ = false;
  std::optional<bool> declared_;
  std::map<std::string, std::vector<std::int32_t>> columns_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Session> twin_;
  std::string known_;                 // the session's state; empty: not written
  std::deque<std::int64_t> out_;      // rows that were delivered and not observed
  std::deque<std::int64_t> batches_;  // sizes of the batches they are of
  Slice last_{nullptr, -1, 0};
  std::vector<std::set<float>> given_;
  std::vector<Held> held_;
  std::int64_t clock_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < fuzz::kHead) return 0;
  Harness(data, size).run();
  return 0;
}
