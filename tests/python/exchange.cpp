// A training over the engine that hands its state on as a file: test_resume.py goes on with it in
// Python, and hands one back.
//
//   infobatch_python_exchange SIZE EPOCHS SEED BATCH IN OUT STEPS
//
// Goes on from the file IN ("-": begins), makes at most STEPS steps, and writes the file OUT.
// Prints a line a step: the epoch, then each sample with the bits of its weighted loss.

#include <infobatch/column.hpp>
#include <infobatch/session.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace {

std::uint32_t bits(float value) {
  std::uint32_t found = 0;
  std::memcpy(&found, &value, sizeof found);
  return found;
}

void step(infobatch::Session& session, const infobatch::Slice& batch) {
  const auto epoch = static_cast<long long>(batch.plan->epoch());
  std::vector<float> losses;
  for (std::int64_t i = 0; i < batch.count; ++i) {
    losses.push_back(static_cast<float>(8 * batch.ids()[i] + epoch) / 4096.0F);
  }
  session.update(losses.data(), batch.count, infobatch::Reduction::kNone, losses.data());
  std::printf("%lld", epoch);
  for (std::int64_t i = 0; i < batch.count; ++i) {
    std::printf(" %lld:%08x",
                static_cast<long long>(batch.ids()[i]),
                static_cast<unsigned>(bits(losses[static_cast<std::size_t>(i)])));
  }
  std::printf("\n");
}

void train(char** arguments) {
  const std::int64_t size = std::atoll(arguments[0]);
  infobatch::Config config;
  config.epochs = std::atoll(arguments[1]);
  config.seed = std::strtoull(arguments[2], nullptr, 10);
  const std::int64_t batch_size = std::atoll(arguments[3]);
  infobatch::Session session(size, config);
  std::vector<std::int64_t> classes;
  for (std::int64_t i = 0; i < size; ++i) classes.push_back(i % 10);
  session.set_column("class", infobatch::ColumnType::kInt64, classes.data());
  if (std::strcmp(arguments[4], "-") != 0) session.load(arguments[4]);
  std::int64_t left = std::atoll(arguments[6]);
  while (left > 0 && session.epoch() < config.epochs) {
    session.begin();
    for (infobatch::Slice batch; left > 0 && (batch = session.next(batch_size)).count > 0; --left) {
      step(session, batch);
    }
  }
  session.save(arguments[5]);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 8) {
    std::fprintf(stderr, "usage: %s SIZE EPOCHS SEED BATCH IN OUT STEPS\n", arguments[0]);
    return 2;
  }
  try {
    train(arguments + 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
    return 1;
  }
  return 0;
}
