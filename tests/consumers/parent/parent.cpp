#include <infobatch/session.hpp>

#include <parent.hpp>

#include <cstdint>
#include <vector>

long long pruned_epoch(long long size) {
  infobatch::Config config;
  config.epochs = 10;
  infobatch::Session session(size, config);
  session.begin();
  for (auto batch = session.next(64); batch.count > 0; batch = session.next(64)) {
    std::vector<float> losses;
    for (std::int64_t i = 0; i < batch.count; ++i) {
      losses.push_back(batch.ids()[i] % 2 == 0 ? 0.1F : 2.0F);
    }
    session.observe(losses.data(), batch.count);
  }
  session.begin();
  return session.length();
}
