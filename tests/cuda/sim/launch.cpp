// The launch of a kernel: limits are checked, then it is queued.
#include <tests/cuda/sim/arena.hpp>
#include <tests/cuda/sim/grid.hpp>
#include <tests/cuda/sim/launch.hpp>
#include <tests/cuda/sim/runtime_state.hpp>

namespace sim {
namespace detail {
namespace {

cudaError_t check(const Launch& launch) {
  const dim3 &grid = launch.grid, &block = launch.block;
  const bool empty =
      grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0;
  if (empty || grid.x > 0x7FFFFFFFU || grid.y > 65535 || grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (block.x > 1024 || block.y > 1024 || block.z > 64 ||
      std::uint64_t{block.x} * block.y * block.z > 1024) {
    return cudaErrorInvalidConfiguration;
  }
  // More than a block has by default has to be asked for.
  const auto most = static_cast<std::size_t>(runtime().most_dynamic);
  if (launch.shared_bytes > (most > kMostStaticShared ? most : kMostStaticShared)) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

std::string name_of(const char* kernel) {
  std::string name = kernel;
  while (name.size() > 1 && name.front() == '(' && name.back() == ')') {
    name = name.substr(1, name.size() - 2);
  }
  return name;
}

/// As call(), for what reports its errors through cudaGetLastError alone.
void queue_launch(cudaStream_t stream,
                  const std::string& name,
                  cudaError_t wrong,
                  std::function<void()> run) {
  Runtime& R = runtime();
  if (in_a_kernel()) called_from_a_kernel();
  const std::lock_guard<std::recursive_mutex> lock(R.mutex);
  throw_what_waits();
  bool while_running = false;
  const cudaError_t error = injected(Call::kLaunch, &while_running);
  if (R.device.devices == 0) wrong = cudaErrorNoDevice;
  if (error != cudaSuccess && !while_running) wrong = error;
  if (R.lost != cudaSuccess) wrong = R.lost;
  if (wrong != cudaSuccess) {
    (void)note_error(wrong);
    return;
  }
  run_by_chance();
  Operation operation;
  operation.kernel = name;
  operation.run = std::move(run);
  if (while_running) operation.run = [error] { throw Lost{error}; };
  (void)note_error(queue(stream, std::move(operation), Call::kLaunch));
}

}  // namespace

void launch(Launch launch, cudaStream_t stream) {
  const std::string name = name_of(launch.kernel);
  const cudaError_t wrong = check(launch);
  queue_launch(stream, name, wrong, [name, launch = std::move(launch)] {
    check_pointers(name, launch.pointers);
    run_grid(launch);
  });
}

}  // namespace detail

void enqueue(const char* name, cudaStream_t stream, std::function<void()> work) {
  detail::queue_launch(stream, name, cudaSuccess, std::move(work));
}

}  // namespace sim
