// A user's program that needs the engine alone: four epochs over 1000 samples, half of them easy.
#include <infobatch/session.hpp>

#include <cstdint>
#include <iostream>
#include <vector>

int main() {
  infobatch::Config config;
  config.epochs = 4;
  config.prune_ratio = 0.5;
  infobatch::Session session(1000, config);
  std::vector<std::int64_t> kept;
  for (std::int64_t epoch = 0; epoch < config.epochs; ++epoch) {
    session.begin();
    kept.push_back(session.length());
    for (auto slice = session.next(64); slice.count > 0; slice = session.next(64)) {
      std::vector<float> losses;
      for (std::int64_t i = 0; i < slice.count; ++i) {
        losses.push_back(slice.ids()[i] < 500 ? 0.1F : 2.0F);
      }
      session.observe(losses.data(), slice.count);
    }
  }
  // Epoch 0 and the annealed epoch 3 are full; the others leave out about half of the easy ones.
  const bool right = kept[0] == 1000 && kept[1] > 650 && kept[1] < 850 && kept[3] == 1000;
  for (const std::int64_t count : kept) std::cout << count << '\n';
  return right ? 0 : 1;
}
