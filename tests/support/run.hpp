#pragma once

// What the tests of the engine share: simulated losses, loops over an epoch, copies to compare.

#include <infobatch/score.hpp>
#include <infobatch/session.hpp>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace infobatch::testing {

/// A uniform number in [0, 1), a pure function of two integers (SplitMix64).
inline double uniform(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = a * 0x9e3779b97f4a7c15u + b * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/// The loss of a sample in an epoch as a network would show it: skewed, hard samples stay hard, all
/// of them get easier.
inline float simulated_loss(std::int64_t id, std::int64_t epoch) {
  const auto sample = static_cast<std::uint64_t>(id);
  const double difficulty = -std::log1p(-uniform(sample, 0));
  const double noise = 0.5 + uniform(sample, static_cast<std::uint64_t>(epoch) + 1);
  return static_cast<float>(difficulty * noise / (1.0 + 0.1 * static_cast<double>(epoch)));
}

inline Config config_of(std::int64_t epochs, double prune_ratio = 0.5) {
  Config config;
  config.epochs = epochs;
  config.prune_ratio = prune_ratio;
  return config;
}

/// Ids and the bits of the weights, in order.
struct PlanCopy {
  std::vector<std::int64_t> ids;
  std::vector<std::uint32_t> weights;

  bool operator==(const PlanCopy& other) const {
    return ids == other.ids && weights == other.weights;
  }
  bool operator!=(const PlanCopy& other) const { return !(*this == other); }
};

inline void append(PlanCopy& copy, const Slice& slice) {
  for (std::int64_t i = 0; i < slice.count; ++i) {
    copy.ids.push_back(slice.ids()[i]);
    copy.weights.push_back(float_bits(slice.weights()[i]));
  }
}

inline PlanCopy copy_of(const std::shared_ptr<const Plan>& plan) {
  PlanCopy copy;
  append(copy, Slice{plan, 0, plan->size()});
  return copy;
}

inline std::vector<std::uint32_t> score_bits(const Session& session) {
  std::vector<std::uint32_t> bits;
  for (std::int64_t i = 0; i < session.size(); ++i) bits.push_back(float_bits(session.scores()[i]));
  return bits;
}

/// Collects the warnings of a session instead of printing them.
class Warnings {
 public:
  explicit Warnings(Session& session) {
    session.set_warning_handler([texts = texts_](const std::string& t) { texts->push_back(t); });
  }
  const std::vector<std::string>& all() const { return *texts_; }
  int count(const std::string& fragment) const {
    int found = 0;
    for (const std::string& text : *texts_) found += text.find(fragment) != text.npos ? 1 : 0;
    return found;
  }

 private:
  std::shared_ptr<std::vector<std::string>> texts_ = std::make_shared<std::vector<std::string>>();
};

/// The message of the `Error` that `call` throws; says so where nothing is thrown.
template <typename Error, typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Losses of a slice as `loss(id)` gives them.
template <typename Loss>
std::vector<float> losses_of(const Slice& slice, const Loss& loss) {
  std::vector<float> losses;
  for (std::int64_t i = 0; i < slice.count; ++i) losses.push_back(loss(slice.ids()[i]));
  return losses;
}

/// Goes on with an iteration that has begun, to its end or for `batches` batches; of the size that
/// the session's plans are made for, where there is one.
template <typename Loss>
PlanCopy run_batches(Session& session,
                     std::int64_t batch,
                     const Loss& loss,
                     std::int64_t batches = INT64_MAX) {
  if (session.config().whole_batches > 0) batch = session.config().whole_batches;
  PlanCopy seen;
  for (; batches > 0; --batches) {
    const Slice slice = session.next(batch);
    if (slice.count == 0) break;
    append(seen, slice);
    session.observe(losses_of(slice, loss).data(), slice.count);
  }
  return seen;
}

/// One epoch of the loop: begins an iteration and observes all of it, in order.
template <typename Loss>
PlanCopy run_epoch(Session& session, std::int64_t batch, const Loss& loss) {
  session.begin();
  return run_batches(session, batch, loss);
}

/// The same with the simulated losses of the running epoch.
inline PlanCopy run_epoch(Session& session, std::int64_t batch) {
  session.begin();
  const std::int64_t epoch = session.epoch();
  return run_batches(session, batch, [=](std::int64_t id) { return simulated_loss(id, epoch); });
}

/// Gives the samples these scores: one epoch with them as losses, then the boundary.
inline void set_scores(Session& session, const std::vector<float>& scores) {
  run_epoch(session, session.size() + 1, [&](std::int64_t id) {
    return scores[static_cast<std::size_t>(id)];
  });
  session.set_epoch(session.epoch());
}

}  // namespace infobatch::testing
