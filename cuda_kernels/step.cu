#include <cuda_kernels/device.hpp>
#include <cuda_kernels/half.hpp>
#include <cuda_kernels/step.hpp>
#include <infobatch/detail/backend_status.hpp>
#include <infobatch/score.hpp>

#include <cstring>
#include <new>
#include <type_traits>

namespace infobatch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAll = 0xFFFFFFFFu;
constexpr std::int64_t kRowsOfOneLaunch = 4096;
constexpr std::int64_t kWideRow = 1024;  // from here on a block adds a row, below a warp does
constexpr std::int64_t kMostPartials = 4096;
constexpr long long kRow = 1LL << 32;

/// What losses are computed in.
template <typename Loss>
using Wide = std::conditional_t<std::is_same_v<Loss, double>, double, float>;

template <typename Loss>
__device__ inline Wide<Loss> widened(Loss loss) {
  if constexpr (std::is_same_v<Loss, double>) {
    return loss;
  } else {
    return to_float(loss);
  }
}
template <typename Out>
__device__ inline Out rounded(double value) {
  if constexpr (std::is_same_v<Out, double>) {
    return value;
  } else if constexpr (std::is_same_v<Out, float>) {
    return static_cast<float>(value);
  } else if constexpr (std::is_same_v<Out, Half>) {
    return to_half(static_cast<float>(value));
  } else {
    return to_bfloat16(static_cast<float>(value));
  }
}

/// The place of one row: its weight, and where its score goes.
struct InOrder {
  StepInOrder place;
  std::int64_t begin;  // of the cursor, where there is one

  __device__ void start() {
    begin = place.cursor == nullptr ? place.begin : static_cast<std::int64_t>(place.cursor[0]);
  }
  __device__ bool inside(std::int64_t row) const { return begin + row < place.size; }
  __device__ float weight(std::int64_t row) const {
    return inside(row) ? place.weights[begin + row] : 0.0f;
  }
  __device__ void record(std::int64_t row, float score) const {
    if (place.staged != nullptr && inside(row)) place.staged[begin + row] = score;
  }
  /// Behind the last read of the cursor, by one thread.
  __device__ void move_on(std::int64_t rows) const {
    if (place.cursor == nullptr) return;
    const std::int64_t left = place.size - begin;
    const std::int64_t taken = rows < left ? rows : left;
    place.cursor[0] += static_cast<unsigned long long>(taken);
    place.cursor[1] += static_cast<unsigned long long>(rows - taken);
  }
};

struct ByIds {
  StepByIds place;
  long long first;

  __device__ void start() { first = place.losses == nullptr ? 0 : place.row[0]; }
  __device__ std::int64_t slot(std::int64_t row) const {
    const std::int64_t id = place.ids[row];
    return id < 0 ? 0 : id >= place.samples ? place.samples + 1 : id + 1;
  }
  __device__ float weight(std::int64_t row) const { return place.weights[slot(row)]; }
  __device__ void record(std::int64_t row, float score) const {
    if (place.losses == nullptr) return;
    const auto bits = static_cast<std::int32_t>(float_bits(score));
    atomicMax(&place.losses[slot(row)], first + row * kRow + bits);
  }
  __device__ void move_on(std::int64_t rows) const {
    if (place.losses != nullptr) place.row[0] += rows * kRow;
  }
};

/// A sum over the lanes of a warp or over the threads of a block, always in the same order; of the
/// block it is thread 0's alone.
__device__ inline double warp_sum(double value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(kAll, value, step);
  return value;
}
__device__ inline double block_sum(double value, double* of_warps) {
  const int thread = static_cast<int>(threadIdx.x);
  value = warp_sum(value);
  if (thread % 32 == 0) of_warps[thread / 32] = value;
  __syncthreads();
  if (thread == 0) {
    for (int w = 1; w < kWarps; ++w) value += of_warps[w];
  }
  __syncthreads();  // of_warps may be written again
  return value;
}

__device__ inline float score_of_row(double sum, std::int64_t width) {
  return score_of_loss(static_cast<float>(width == 1 ? sum : sum / static_cast<double>(width)));
}

/// Sums of a step: of weight * loss, and of weights.
struct Sums {
  double loss;
  double weight;
};

/// The last of a step: divides, writes, moves the cursor. One thread.
template <typename Loss, typename Place>
__device__ void finish(const Sums& sums,
                       const Place& place,
                       std::int64_t rows,
                       const StepReduction& reduction,
                       const StepResult& result) {
  place.move_on(rows);
  if (reduction.kind == StepReduction::kNone) return;
  const double divisor = reduction.kind == StepReduction::kWeighted
                             ? sums.weight * reduction.divisor
                             : reduction.divisor;
  static_cast<Wide<Loss>*>(result.loss)[0] = static_cast<Wide<Loss>>(sums.loss / divisor);
  if (result.scale != nullptr) result.scale[0] = 1.0 / divisor;
}

/// A step of few rows of one loss each: one block, thread t adds rows t, t + 256, ...
template <typename Loss, typename Place>
__global__ void __launch_bounds__(kThreads)
    step_of_one_block(const INFOBATCH_GRID_CONSTANT StepRows rows,
                      const INFOBATCH_GRID_CONSTANT Place given,
                      const INFOBATCH_GRID_CONSTANT StepReduction reduction,
                      const INFOBATCH_GRID_CONSTANT StepResult result) {
  INFOBATCH_SHARED(double, of_warps, kWarps);
  Place place = given;
  place.start();
  const auto* const losses = static_cast<const Loss*>(rows.losses);
  Sums sums{0.0, 0.0};
  for (std::int64_t row = threadIdx.x; row < rows.rows; row += kThreads) {
    const Wide<Loss> loss = widened(losses[row]);
    const float weight = place.weight(row);
    place.record(row, score_of_row(static_cast<double>(loss), 1));
    sums.loss += static_cast<double>(weight) * static_cast<double>(loss);
    sums.weight += static_cast<double>(weight);
    if (reduction.kind == StepReduction::kNone) {
      static_cast<Wide<Loss>*>(result.loss)[row] = static_cast<Wide<Loss>>(weight) * loss;
    }
  }
  sums.loss = block_sum(sums.loss, of_warps);
  sums.weight = block_sum(sums.weight, of_warps);
  if (threadIdx.x == 0) finish<Loss>(sums, place, rows.rows, reduction, result);
}

/// Who adds a row: a thread, a warp or a block.
enum class Group { kThread, kWarp, kBlock };

/// Rows that a block adds side by side.
template <Group kGroup>
constexpr int kRowsOfBlock = kGroup == Group::kThread ? kThreads
                             : kGroup == Group::kWarp ? kWarps
                                                      : 1;

/// The sum of a row, with the group's first thread; element j is added by thread j mod the group's
/// size.
template <Group kGroup, typename Loss>
__device__ double row_sum(const Loss* row, std::int64_t width, double* of_warps) {
  if constexpr (kGroup == Group::kThread) {
    double sum = 0.0;
    for (std::int64_t j = 0; j < width; ++j) sum += static_cast<double>(widened(row[j]));
    return sum;
  } else {
    constexpr int kSize = kGroup == Group::kWarp ? 32 : kThreads;
    double sum = 0.0;
    for (std::int64_t j = threadIdx.x % kSize; j < width; j += kSize) {
      sum += static_cast<double>(widened(row[j]));
    }
    return kGroup == Group::kWarp ? warp_sum(sum) : block_sum(sum, of_warps);
  }
}

/// Records the scores of all rows; partials[b] receives what the rows of block b add up to. A block
/// takes row groups b, b + blocks, ...
template <Group kGroup, typename Loss, typename Place>
__global__ void __launch_bounds__(kThreads) add_rows(const INFOBATCH_GRID_CONSTANT StepRows rows,
                                                     const INFOBATCH_GRID_CONSTANT Place given,
                                                     Sums* partials) {
  INFOBATCH_SHARED(double, of_warps, kWarps);
  constexpr int kRows = kRowsOfBlock<kGroup>;
  constexpr int kSize = kThreads / kRows;
  Place place = given;
  place.start();
  const auto* const losses = static_cast<const Loss*>(rows.losses);
  const int mine = static_cast<int>(threadIdx.x) / kSize;
  const bool first_of_group = static_cast<int>(threadIdx.x) % kSize == 0;
  const std::int64_t stride = std::int64_t{gridDim.x} * kRows;
  Sums sums{0.0, 0.0};
  // All threads make the same rounds, because they meet in them.
  for (std::int64_t base = std::int64_t{blockIdx.x} * kRows; base < rows.rows; base += stride) {
    const std::int64_t row = base + mine;
    const bool exists = row < rows.rows;
    const Loss* const data = losses + (exists ? row : 0) * rows.width;
    const double sum = row_sum<kGroup>(data, exists ? rows.width : 0, of_warps);
    if (!exists || !first_of_group) continue;
    const float weight = place.weight(row);
    place.record(row, score_of_row(sum, rows.width));
    sums.loss += static_cast<double>(weight) * sum;
    sums.weight += static_cast<double>(weight);
  }
  sums.loss = block_sum(sums.loss, of_warps);
  sums.weight = block_sum(sums.weight, of_warps);
  if (threadIdx.x == 0) partials[blockIdx.x] = sums;
}

/// Adds the partials of all blocks, and finishes the step. One block.
template <typename Loss, typename Place>
__global__ void __launch_bounds__(kThreads)
    add_partials(const Sums* INFOBATCH_RESTRICT partials,
                 std::int64_t count,
                 const INFOBATCH_GRID_CONSTANT Place given,
                 std::int64_t rows,
                 const INFOBATCH_GRID_CONSTANT StepReduction reduction,
                 const INFOBATCH_GRID_CONSTANT StepResult result) {
  INFOBATCH_SHARED(double, of_warps, kWarps);
  Place place = given;
  place.start();
  Sums sums{0.0, 0.0};
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
    sums.loss += partials[i].loss;
    sums.weight += partials[i].weight;
  }
  sums.loss = block_sum(sums.loss, of_warps);
  sums.weight = block_sum(sums.weight, of_warps);
  if (threadIdx.x == 0) finish<Loss>(sums, place, rows, reduction, result);
}

/// Weighs every loss: [rows, width] of float or double.
template <typename Loss, typename Place>
__global__ void __launch_bounds__(kThreads) weigh_all(const INFOBATCH_GRID_CONSTANT StepRows rows,
                                                      const INFOBATCH_GRID_CONSTANT Place given,
                                                      void* out) {
  Place place = given;
  place.start();
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t count = rows.rows * rows.width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    const auto weight = static_cast<Wide<Loss>>(place.weight(i / rows.width));
    static_cast<Wide<Loss>*>(out)[i] = weight * widened(static_cast<const Loss*>(rows.losses)[i]);
  }
}

/// Elements that a thread moves at once: 16 bytes of the narrower type.
template <typename T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));

template <typename T>
struct alignas(16) Vector {
  T of[kVector<T>];
};

/// gradient[i, j] = given * scale * weight of row i.
template <typename Loss>
__global__ void __launch_bounds__(kThreads)
    spread_gradient(std::int64_t rows,
                    std::int64_t width,
                    const Wide<Loss>* INFOBATCH_RESTRICT given,
                    const double* INFOBATCH_RESTRICT scale,
                    const float* INFOBATCH_RESTRICT row_weights,
                    Loss* INFOBATCH_RESTRICT gradient) {
  const double factor = static_cast<double>(given[0]) * scale[0];
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t count = rows * width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    gradient[i] = rounded<Loss>(factor * static_cast<double>(row_weights[i / width]));
  }
}

template <typename In, typename Out>
__device__ inline Out scaled(In value, float weight) {
  if constexpr (std::is_same_v<In, double>) {
    return rounded<Out>(value * static_cast<double>(weight));
  } else {
    return rounded<Out>(static_cast<double>(to_float(value) * weight));
  }
}

/// out[i, j] = in[i, j] * row_weights[i], an element at a time.
template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads)
    scale_elements(std::int64_t rows,
                   std::int64_t width,
                   const In* in,
                   const float* INFOBATCH_RESTRICT row_weights,
                   Out* out) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t count = rows * width;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    out[i] = scaled<In, Out>(in[i], row_weights[i / width]);
  }
}

/// The same, 16 bytes at a time, of one type, whose rows are whole vectors.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    scale_vectors(std::int64_t rows,
                  std::int64_t vectors,  // of a row
                  const Vector<T>* in,
                  const float* INFOBATCH_RESTRICT row_weights,
                  Vector<T>* out) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t count = rows * vectors;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    const float weight = row_weights[i / vectors];
    Vector<T> vector = in[i];
    INFOBATCH_UNROLL
    for (int k = 0; k < kVector<T>; ++k) vector.of[k] = scaled<T, T>(vector.of[k], weight);
    out[i] = vector;
  }
}

template <Group kGroup, typename Loss>
__global__ void __launch_bounds__(kThreads)
    score_rows(const INFOBATCH_GRID_CONSTANT StepRows rows, float* scores) {
  INFOBATCH_SHARED(double, of_warps, kWarps);
  constexpr int kRows = kRowsOfBlock<kGroup>;
  constexpr int kSize = kThreads / kRows;
  const std::int64_t row = std::int64_t{blockIdx.x} * kRows + static_cast<int>(threadIdx.x) / kSize;
  const bool exists = row < rows.rows;
  const Loss* const data = static_cast<const Loss*>(rows.losses) + (exists ? row : 0) * rows.width;
  const double sum = row_sum<kGroup>(data, exists ? rows.width : 0, of_warps);
  if (exists && static_cast<int>(threadIdx.x) % kSize == 0) {
    scores[row] = score_of_row(sum, rows.width);
  }
}

__global__ void __launch_bounds__(kThreads)
    gather_weights(const INFOBATCH_GRID_CONSTANT ByIds place, std::int64_t rows, float* out) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row < rows) out[row] = place.weight(row);
}

// --- host

/// Calls call(a value of the type).
template <typename Call>
void with_type(LossType type, const Call& call) {
  switch (type) {
    case LossType::kHalf:
      return call(Half{});
    case LossType::kBfloat16:
      return call(Bfloat16{});
    case LossType::kFloat:
      return call(float{});
    case LossType::kDouble:
      return call(double{});
  }
}

Group group_of(std::int64_t width) {
  return width == 1 ? Group::kThread : width < kWideRow ? Group::kWarp : Group::kBlock;
}

int rows_of_block(Group group) {
  return group == Group::kThread ? kRowsOfBlock<Group::kThread>
         : group == Group::kWarp ? kRowsOfBlock<Group::kWarp>
                                 : kRowsOfBlock<Group::kBlock>;
}

/// Calls call(std::integral_constant of the group).
template <typename Call>
void with_group(Group group, const Call& call) {
  switch (group) {
    case Group::kThread:
      return call(std::integral_constant<Group, Group::kThread>{});
    case Group::kWarp:
      return call(std::integral_constant<Group, Group::kWarp>{});
    case Group::kBlock:
      return call(std::integral_constant<Group, Group::kBlock>{});
  }
}

bool one_launch(const StepRows& rows) {
  return rows.rows == 0 || (rows.width == 1 && rows.rows <= kRowsOfOneLaunch);
}

std::int64_t partials_of(const StepRows& rows) {
  const std::int64_t blocks = blocks_for(rows.rows, rows_of_block(group_of(rows.width)));
  return blocks < kMostPartials ? blocks : kMostPartials;
}

/// Blocks for an element-wise kernel, which strides over what is more.
std::int64_t blocks_of_elements(std::int64_t count) {
  constexpr std::int64_t kMost = 16384;
  const std::int64_t blocks = blocks_for(count, kThreads);
  return blocks < kMost ? blocks : kMost;
}

template <typename Place>
void step(const StepRows& rows,
          const Place& place,
          const StepReduction& reduction,
          const StepResult& result,
          cudaStream_t stream) {
  with_type(rows.type, [&](auto loss) {
    using Loss = decltype(loss);
    if (one_launch(rows)) {
      INFOBATCH_CUDA_LAUNCH(
          (step_of_one_block<Loss, Place>), 1, kThreads, stream, rows, place, reduction, result);
      return;
    }
    if (reduction.kind == StepReduction::kNone) {
      INFOBATCH_CUDA_LAUNCH((weigh_all<Loss, Place>),
                            blocks_of_elements(rows.rows * rows.width),
                            kThreads,
                            stream,
                            rows,
                            place,
                            result.loss);
    }
    auto* const partials = static_cast<Sums*>(result.scratch);
    const std::int64_t blocks = partials_of(rows);
    with_group(group_of(rows.width), [&](auto group) {
      INFOBATCH_CUDA_LAUNCH((add_rows<decltype(group)::value, Loss, Place>),
                            blocks,
                            kThreads,
                            stream,
                            rows,
                            place,
                            partials);
    });
    INFOBATCH_CUDA_LAUNCH((add_partials<Loss, Place>),
                          1,
                          kThreads,
                          stream,
                          partials,
                          blocks,
                          place,
                          rows.rows,
                          reduction,
                          result);
  });
}

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

}  // namespace

std::size_t step_scratch(const StepRows& rows) {
  return one_launch(rows) ? 0 : static_cast<std::size_t>(partials_of(rows)) * sizeof(Sums);
}

void step_in_order(const StepRows& rows,
                   const StepInOrder& place,
                   const StepReduction& reduction,
                   const StepResult& result,
                   cudaStream_t stream) {
  step(rows, InOrder{place, 0}, reduction, result, stream);
}

void step_by_ids(const StepRows& rows,
                 const StepByIds& place,
                 const StepReduction& reduction,
                 const StepResult& result,
                 cudaStream_t stream) {
  step(rows, ByIds{place, 0}, reduction, result, stream);
}

void step_backward(const StepRows& shape,
                   const void* given,
                   const double* scale,
                   const float* row_weights,
                   void* gradient,
                   cudaStream_t stream) {
  const std::int64_t count = shape.rows * shape.width;
  if (count == 0) return;
  with_type(shape.type, [&](auto loss) {
    using Loss = decltype(loss);
    INFOBATCH_CUDA_LAUNCH((spread_gradient<Loss>),
                          blocks_of_elements(count),
                          kThreads,
                          stream,
                          shape.rows,
                          shape.width,
                          static_cast<const Wide<Loss>*>(given),
                          scale,
                          row_weights,
                          static_cast<Loss*>(gradient));
  });
}

void scale_rows(const StepRows& rows,
                const float* row_weights,
                void* out,
                LossType out_type,
                cudaStream_t stream) {
  const std::int64_t count = rows.rows * rows.width;
  if (count == 0) return;
  with_type(rows.type, [&](auto value) {
    using In = decltype(value);
    const auto* const in = static_cast<const In*>(rows.losses);
    if (out_type == rows.type && rows.width % kVector<In> == 0 && aligned(in) && aligned(out)) {
      INFOBATCH_CUDA_LAUNCH((scale_vectors<In>),
                            blocks_of_elements(count / kVector<In>),
                            kThreads,
                            stream,
                            rows.rows,
                            rows.width / kVector<In>,
                            reinterpret_cast<const Vector<In>*>(in),
                            row_weights,
                            static_cast<Vector<In>*>(out));
      return;
    }
    with_type(out_type, [&](auto result) {
      using Out = decltype(result);
      INFOBATCH_CUDA_LAUNCH((scale_elements<In, Out>),
                            blocks_of_elements(count),
                            kThreads,
                            stream,
                            rows.rows,
                            rows.width,
                            in,
                            row_weights,
                            static_cast<Out*>(out));
    });
  });
}

void row_scores(const StepRows& rows, float* scores, cudaStream_t stream) {
  if (rows.rows == 0) return;
  const Group group = group_of(rows.width);
  with_type(rows.type, [&](auto loss) {
    with_group(group, [&](auto of) {
      INFOBATCH_CUDA_LAUNCH((score_rows<decltype(of)::value, decltype(loss)>),
                            blocks_for(rows.rows, rows_of_block(group)),
                            kThreads,
                            stream,
                            rows,
                            scores);
    });
  });
}

void weights_of_ids(const StepByIds& place, std::int64_t rows, float* out, cudaStream_t stream) {
  if (rows == 0) return;
  INFOBATCH_CUDA_LAUNCH(
      gather_weights, blocks_for(rows, kThreads), kThreads, stream, ByIds{place, 0}, rows, out);
}

namespace {

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

const detail::StepFunctions& step_functions() {
  using detail::BackendError;
  static const detail::StepFunctions functions = {
      [](const StepRows* rows) { return step_scratch(*rows); },
      [](const StepRows* rows,
         const StepInOrder* place,
         const StepReduction* reduction,
         const StepResult* result,
         void* stream,
         BackendError* error) {
        return detail::status_of(
            error, [&] { step_in_order(*rows, *place, *reduction, *result, stream_of(stream)); });
      },
      [](const StepRows* rows,
         const StepByIds* place,
         const StepReduction* reduction,
         const StepResult* result,
         void* stream,
         BackendError* error) {
        return detail::status_of(
            error, [&] { step_by_ids(*rows, *place, *reduction, *result, stream_of(stream)); });
      },
      [](const StepRows* shape,
         const void* given,
         const double* scale,
         const float* row_weights,
         void* gradient,
         void* stream,
         BackendError* error) {
        return detail::status_of(error, [&] {
          step_backward(*shape, given, scale, row_weights, gradient, stream_of(stream));
        });
      },
      [](const StepRows* rows,
         const float* row_weights,
         void* out,
         LossType out_type,
         void* stream,
         BackendError* error) {
        return detail::status_of(
            error, [&] { scale_rows(*rows, row_weights, out, out_type, stream_of(stream)); });
      },
      [](const StepRows* rows, float* scores, void* stream, BackendError* error) {
        return detail::status_of(error, [&] { row_scores(*rows, scores, stream_of(stream)); });
      },
      [](const StepByIds* place, std::int64_t rows, float* out, void* stream, BackendError* error) {
        return detail::status_of(error,
                                 [&] { weights_of_ids(*place, rows, out, stream_of(stream)); });
      }};
  return functions;
}

}  // namespace infobatch::cuda
