#pragma once

#include <infobatch/c_api.h>
#include <infobatch/detail/step_functions.hpp>

#include <cstddef>

// The step on a device behind the C interface: the caller's struct, checked, as the arguments of a
// backend's functions.

namespace infobatch::detail {

class CDeviceStep {
 public:
  /// @param function  of the C interface, that messages name.
  /// @throws InvalidArgument  no such device, or a shape or type that no step has.
  CDeviceStep(const char* function, const ib_device_step& step);

  // Each of them: @throws InvalidArgument  an argument is missing or breaks its rule;
  // std::bad_alloc, std::runtime_error: the device fails.
  std::size_t scratch() const;
  void forward() const;
  void backward(const void* given, const float* row_weights, void* gradient) const;
  void row_weights(float* out) const;
  void scale_rows(const float* row_weights, void* out) const;

 private:
  void need(const void* pointer, const char* name) const;
  void need_losses() const;
  StepByIds by_ids() const;
  StepInOrder in_order() const;
  StepReduction reduction() const;

  const char* function_;
  const ib_device_step& step_;
  const StepFunctions* functions_;
  StepRows rows_;
};

}  // namespace infobatch::detail
