#pragma once

#include <cstddef>
#include <cstdint>

// The step of a training loop on a device (rules 6 and 11), as plain data and C functions: the
// losses of a batch are written down as scores, weighed and reduced, and the gradient is scaled.
// None of the functions allocates or waits, and a CUDA graph can capture each of them.
//
// Sums have one order of adding, which depends on the shape alone: the same losses give the same
// bits.

namespace infobatch::detail {

/// What became of a call. What is refused or has failed changed nothing that the caller can see.
enum class BackendStatus : std::int32_t {
  kDone = 0,
  kNoMemory,
  kInvalid,  ///< the arguments are wrong; the text says which
  kFailed,   ///< the device is; the text says how
};

/// The text of a call that was kInvalid or kFailed.
struct BackendError {
  char text[512];
};

enum class LossType : std::int32_t { kHalf, kBfloat16, kFloat, kDouble };

/// Bytes of an element.
constexpr std::size_t size_of(LossType type) {
  return type == LossType::kDouble ? 8 : type == LossType::kFloat ? 4 : 2;
}

/// How a batch becomes one number.
struct StepReduction {
  enum Kind : std::int32_t {
    kNone,      ///< none: weight * loss, [rows, width]
    kDivided,   ///< sum / divisor
    kWeighted,  ///< sum / (sum of the weights of the step * divisor)
  };
  Kind kind = kDivided;
  double divisor = 1.0;
};

/// The losses of a batch.
struct StepRows {
  const void* losses = nullptr;  ///< [rows, width], contiguous, of `type`
  LossType type = LossType::kFloat;
  std::int64_t rows = 0;   ///< B
  std::int64_t width = 1;  ///< of all trailing dimensions; at least 1
};

/// Where the rows of a step in order belong: positions [begin, begin + rows) of the plan.
struct StepInOrder {
  const float* weights = nullptr;  ///< [size] of the plan
  float* staged = nullptr;         ///< [size] receives the scores; nullptr: nothing is recorded
  std::int64_t size = 0;
  std::int64_t begin = 0;  ///< without a cursor
  /// On the device, nullptr: none. begin = cursor[0], which then moves by `rows`; rows behind the
  /// plan's end weigh 0, write nothing, and are counted in cursor[1].
  unsigned long long* cursor = nullptr;
};

/// Where the rows of a step by ids belong. Tables have a slot before the first id and one behind
/// the last, for ids that do not exist.
struct StepByIds {
  const std::int64_t* ids = nullptr;  ///< [rows]
  std::int64_t samples = 0;           ///< N
  const float* weights = nullptr;     ///< [N + 2] by id + 1; 0 where the plan has none
  /// [N + 2] by id + 1, nullptr: nothing is recorded. Receives (row, from row[0] on) * 2^32 + the
  /// bits of the score as a signed number, where that is larger than what stands there: so the last
  /// row of an id wins, in whatever order a device takes the rows.
  long long* losses = nullptr;
  /// On the device: the number, times 2^32, of the next row; at least 1. Moves by `rows`.
  long long* row = nullptr;
};

/// What a step came to.
struct StepResult {
  void* loss = nullptr;  ///< one float (double of double losses), or [rows, width] of them
  /// One double for the backward: what the gradient of the loss is multiplied by, beside the
  /// weights. nullptr: not wanted.
  double* scale = nullptr;
  void* scratch = nullptr;  ///< StepFunctions::scratch() bytes of device memory
};

/// All functions queue their work on a stream, which is one of the device's own kind.
struct StepFunctions {
  /// Bytes of scratch memory for one step.
  std::size_t (*scratch)(const StepRows* rows);

  /// Records the scores of a batch, weighs its losses and reduces them: one launch for up to 4096
  /// rows of one loss, else two, or three where nothing is reduced.
  ///
  /// The score of a row is the mean over its losses, added in float64, rounded once to float32;
  /// where it is not finite, "never observed" (rule 10). Sums are in float64.
  BackendStatus (*in_order)(const StepRows* rows,
                            const StepInOrder* place,
                            const StepReduction* reduction,
                            const StepResult* result,
                            void* stream,
                            BackendError* error);
  BackendStatus (*by_ids)(const StepRows* rows,
                          const StepByIds* place,
                          const StepReduction* reduction,
                          const StepResult* result,
                          void* stream,
                          BackendError* error);

  /// The gradient of the losses of a step: gradient[i, j] = given * scale * weight of row i.
  ///
  /// One launch. Products in float32 (float64 of doubles), rounded once.
  /// @param given        one float (double of double losses): the gradient of the loss.
  /// @param scale        that of StepResult.
  /// @param row_weights  [rows]
  /// @param gradient     [rows, width] of the losses' type.
  BackendStatus (*backward)(const StepRows* shape,
                            const void* given,
                            const double* scale,
                            const float* row_weights,
                            void* gradient,
                            void* stream,
                            BackendError* error);

  /// out[i, j] = in[i, j] * row_weights[i], in float32 (float64 of doubles), rounded once: the
  /// gradient of `scale_gradient`, and that of a loss that was not reduced. One launch.
  /// @param out  of `out_type`; may be `rows->losses` where that is the same type.
  BackendStatus (*scale_rows)(const StepRows* rows,
                              const float* row_weights,
                              void* out,
                              LossType out_type,
                              void* stream,
                              BackendError* error);

  /// scores[i] = the score of row i. One launch.
  BackendStatus (*row_scores)(const StepRows* rows,
                              float* scores,
                              void* stream,
                              BackendError* error);

  /// out[i] = the weight of row i of `place`: what a backward by ids needs. One launch.
  BackendStatus (*weights_of_ids)(
      const StepByIds* place, std::int64_t rows, float* out, void* stream, BackendError* error);
};

}  // namespace infobatch::detail
