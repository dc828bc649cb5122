#pragma once

// The launch of a kernel. Arguments are evaluated and copied at the launch, as CUDA does, because
// the kernel may run later.
#include <tests/cuda/sim/position.hpp>
#include <tests/cuda/sim/runtime.hpp>

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace sim::detail {

struct Launch {
  const char* kernel;
  dim3 grid, block;
  std::size_t shared_bytes;
  std::function<void()> body;              ///< what one thread does
  std::vector<const void*> pointers = {};  ///< among the arguments
};
/// Queues it on the stream; an error is what cudaGetLastError returns next.
void launch(Launch launch, cudaStream_t stream);

template <typename... Arguments>
std::tuple<std::decay_t<Arguments>...> by_value(Arguments&&... arguments) {
  return {std::forward<Arguments>(arguments)...};
}
template <typename T>
void note_pointer(std::vector<const void*>& pointers, const T& argument) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    if (argument != nullptr) pointers.push_back(static_cast<const void*>(argument));
  }
}
template <typename Call, typename... Arguments>
void launch(const char* kernel,
            dim3 grid,
            dim3 block,
            std::size_t shared_bytes,
            cudaStream_t stream,
            Call call,
            std::tuple<Arguments...> arguments) {
  Launch it{kernel, grid, block, shared_bytes, {}};
  std::apply([&](const auto&... each) { (note_pointer(it.pointers, each), ...); }, arguments);
  it.body = [call, arguments = std::move(arguments)] { std::apply(call, arguments); };
  launch(std::move(it), stream);
}

}  // namespace sim::detail

/// In CUDA: kernel<<<grid, block, shared_bytes, stream>>>(arguments). A kernel whose name has a
/// comma stands in parentheses.
#define INFOBATCH_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::sim::detail::launch(                                                 \
      #kernel,                                                           \
      (grid),                                                            \
      (block),                                                           \
      (shared_bytes),                                                    \
      (stream),                                                          \
      [=](const auto&... sim_arguments) { kernel(sim_arguments...); },   \
      ::sim::detail::by_value(__VA_ARGS__))
