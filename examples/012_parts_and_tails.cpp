// Batches in parts and short last batches, with the engine alone.
//
// One learns: a batch comes back whole or in parts m, ..., m, rest; what is another part is refused
// and nothing has changed; a loop that splits its batches declares whether it drops a short one.

#include <infobatch/error.hpp>
#include <infobatch/session.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr std::int64_t kSize = 1000;
constexpr std::int64_t kBatch = 64;  // 1000 = 15 * 64 + 40: the last batch of a full epoch has 40
constexpr std::int64_t kPart = 24;   // 24, 24, 16, and of the last one 24, 16

/// The losses of samples: here a figure of each, in a training loop what the criterion returns.
std::vector<float> losses_of(const infobatch::Slice& slice,
                             std::int64_t begin,
                             std::int64_t count) {
  std::vector<float> losses;
  for (std::int64_t i = begin; i < begin + count; ++i) {
    losses.push_back(static_cast<float>(slice.ids()[i] % 10));
  }
  return losses;
}

/// One epoch in micro-batches. @return samples that were trained on.
std::int64_t train(infobatch::Session& session, bool drop_last) {
  std::int64_t trained = 0;
  session.begin();
  while (true) {
    const infobatch::Slice batch = session.next(kBatch);
    if (batch.count == 0) return trained;
    if (drop_last && batch.count < kBatch) continue;
    for (std::int64_t begin = 0; begin < batch.count; begin += kPart) {
      const std::int64_t count = std::min(kPart, batch.count - begin);
      const std::vector<float> losses = losses_of(batch, begin, count);
      float loss = 0.0f;
      session.update(losses.data(), count, infobatch::Reduction::kMean, &loss);
      trained += count;
    }
  }
}

/// A part of another size than the first one's. @return whether it was refused.
bool refuses_other_parts(infobatch::Session& session) {
  session.begin();
  const infobatch::Slice batch = session.next(kBatch);
  session.observe(losses_of(batch, 0, kPart).data(), kPart);
  try {
    session.observe(losses_of(batch, kPart, 20).data(), 20);
  } catch (const infobatch::StateError& error) {
    std::printf("refused: %.76s...\n", error.what());
  }
  const bool refused = session.position() == kPart && session.pending() == kBatch - kPart;
  session.discard_epoch();
  return refused;
}

/// Where the run stands behind an epoch of which the short last batch was dropped.
std::int64_t epoch_behind_a_dropped_tail(bool declared) {
  infobatch::Config config;
  config.epochs = 8;
  if (declared) config.drop_last = true;
  infobatch::Session session(kSize, config, /*threads=*/1);
  train(session, /*drop_last=*/true);
  return session.epoch();
}

}  // namespace

int main() {
  infobatch::Config config;
  config.epochs = 8;
  infobatch::Session session(kSize, config, /*threads=*/1);
  const bool refused = refuses_other_parts(session);
  const std::int64_t trained = train(session, /*drop_last=*/false);
  std::printf("epoch 0 trained %d of %d samples in parts of %d\n",
              static_cast<int>(trained),
              static_cast<int>(kSize),
              static_cast<int>(kPart));
  const std::int64_t declared = epoch_behind_a_dropped_tail(true);
  const std::int64_t undeclared = epoch_behind_a_dropped_tail(false);
  std::printf(
      "behind a dropped tail the epoch is over if drop_last is declared: epoch %d, else %d\n",
      static_cast<int>(declared),
      static_cast<int>(undeclared));
  return refused && trained == kSize && declared == 1 && undeclared == 0 ? 0 : 1;
}
