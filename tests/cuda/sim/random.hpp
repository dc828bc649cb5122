#pragma once

// Random numbers of a seed, for orders: splitmix64.
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sim {

class Random {
 public:
  void seed(std::uint64_t seed) { state_ = seed; }
  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double unit() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i-- > 1;) std::swap(items[i], items[(*this)() % (i + 1)]);
  }

 private:
  std::uint64_t state_ = 0;
};

}  // namespace sim
