#include <cuda_kernels/fold.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session/folded.hpp>

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAll = 0xFFFFFFFFu;

/// A FoldRule by value.
struct DeviceRule {
  double ema;
  bool needs_memory;
  int n_columns;
  detail::FoldColumn columns[kMaxFoldColumns];
};

/// A thread a position: a plan has every id once, so no two meet in a score.
__global__ void __launch_bounds__(kThreads)
    fold_losses(const INFOBATCH_GRID_CONSTANT DeviceRule rule,
                detail::FoldArrays arrays,
                detail::FoldRange range,
                unsigned long long* non_finite) {
  const std::int64_t p = range.begin + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  bool bad = false;
  if (p < range.end) {
    bad =
        detail::fold_position(rule.columns, rule.n_columns, rule.ema, rule.needs_memory, arrays, p);
  }
  const unsigned bits = __ballot_sync(kAll, bad);
  if (threadIdx.x % 32 == 0 && bits != 0) {
    atomicAdd(non_finite, static_cast<unsigned long long>(__popc(bits)));
  }
}

__global__ void __launch_bounds__(kThreads)
    unfold_losses(const INFOBATCH_GRID_CONSTANT DeviceRule rule,
                  detail::FoldArrays arrays,
                  detail::FoldRange range) {
  const std::int64_t p = range.begin + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= range.end) return;
  detail::unfold_position(rule.columns, rule.n_columns, rule.needs_memory, arrays, p);
}

DeviceRule device_rule(const detail::FoldRule& rule) {
  if (rule.n_columns > kMaxFoldColumns) {
    throw InvalidArgument(detail::message("fold: a device takes up to ",
                                          int{kMaxFoldColumns},
                                          " columns of a policy, got ",
                                          rule.n_columns));
  }
  DeviceRule result{};
  result.ema = rule.ema;
  result.needs_memory = rule.needs_memory();
  result.n_columns = rule.n_columns;
  for (int c = 0; c < rule.n_columns; ++c) result.columns[c] = rule.columns[c];
  return result;
}

}  // namespace

std::int64_t fold(Work& work,
                  const detail::FoldRule& rule,
                  const detail::FoldArrays& arrays,
                  const detail::FoldRanges& ranges) {
  const DeviceRule by_value = device_rule(rule);
  auto* const non_finite = work.zeros<unsigned long long>(1);
  detail::FoldRanges folded{};
  int parts = 0;
  try {
    for (const detail::FoldRange& part : ranges.part) {
      if (part.end <= part.begin) continue;
      INFOBATCH_CUDA_LAUNCH(fold_losses,
                            blocks_for(part.end - part.begin, kThreads),
                            kThreads,
                            work.stream(),
                            by_value,
                            arrays,
                            part,
                            non_finite);
      folded.part[parts++] = part;
    }
    const auto count = static_cast<std::int64_t>(work.fetch(non_finite));
    work.give_back(non_finite);
    return count;
  } catch (...) {
    // As if it had not begun. A device that cannot even do this has lost its memory as well.
    unfold(work, rule, arrays, folded);
    throw;
  }
}

int unfold(Work& work,
           const detail::FoldRule& rule,
           const detail::FoldArrays& arrays,
           const detail::FoldRanges& ranges) noexcept {
  int parts = 0;
  try {
    const DeviceRule by_value = device_rule(rule);
    for (const detail::FoldRange& part : ranges.part) {
      if (part.end > part.begin) {
        INFOBATCH_CUDA_LAUNCH(unfold_losses,
                              blocks_for(part.end - part.begin, kThreads),
                              kThreads,
                              work.stream(),
                              by_value,
                              arrays,
                              part);
      }
      ++parts;
    }
    work.wait();
  } catch (const std::exception&) {
    // The parts before this one are on their way.
  }
  return parts;
}

}  // namespace infobatch::cuda
