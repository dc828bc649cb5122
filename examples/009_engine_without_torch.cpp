// The engine alone: a loop of any framework, or of none.
//
// One learns: a session delivers ids in order and takes the losses back in the same order. This
// program fits y = a x by hand and links no framework.

#include <infobatch/session.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  constexpr std::int64_t kSize = 2000;
  constexpr std::int64_t kBatch = 50;
  std::vector<double> x(kSize);
  std::vector<double> y(kSize);
  for (std::int64_t i = 0; i < kSize; ++i) {
    x[i] = std::sin(0.37 * static_cast<double>(i));
    y[i] = 3.0 * x[i] + 0.2 * std::pow(std::cos(1.7 * static_cast<double>(i)), 5);
  }

  infobatch::Config config;
  config.epochs = 10;
  config.prune_ratio = 0.5;
  infobatch::Session session(kSize, config);
  double slope = 0.0;
  for (std::int64_t epoch = 0; epoch < config.epochs; ++epoch) {
    session.begin();
    for (infobatch::Slice batch = session.next(kBatch); batch.count > 0;
         batch = session.next(kBatch)) {
      float losses[kBatch];
      double gradient = 0.0;
      for (std::int64_t i = 0; i < batch.count; ++i) {
        const std::int64_t id = batch.ids()[i];
        const double error = slope * x[id] - y[id];
        losses[i] = static_cast<float>(error * error);
        gradient += static_cast<double>(batch.weights()[i]) * 2.0 * error * x[id];
      }
      session.observe(losses, batch.count);
      slope -= 0.2 * gradient / static_cast<double>(batch.count);
    }
    std::printf("epoch %2d: %4d samples, slope %.3f\n",
                static_cast<int>(epoch),
                static_cast<int>(session.statistics().kept),
                slope);
  }
  const double saved = session.statistics().saved;
  std::printf("%.1f %% of the samples saved\n", 100 * saved);
  return std::abs(slope - 3.0) < 0.1 && saved > 0.1 ? 0 : 1;
}
