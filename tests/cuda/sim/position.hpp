#pragma once

// Where a CUDA thread stands in its grid.

struct dim3 {
  unsigned x, y, z;
  // NOLINTNEXTLINE(google-explicit-constructor): a number is a dim3 in CUDA.
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace sim {

struct Position {
  dim3 thread, block, block_dim, grid_dim;
  unsigned lane = 0;  ///< within the warp
};

namespace detail {
/// Of the thread that runs; null outside kernels.
extern const Position* position;
[[noreturn]] void outside_of_a_kernel();
}  // namespace detail

/// The position of the CUDA thread that asks.
inline const Position& here() {
  if (detail::position == nullptr) detail::outside_of_a_kernel();
  return *detail::position;
}

}  // namespace sim
