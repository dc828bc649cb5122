#pragma once

// A flow of control with a stack of its own, which is left and resumed.
#include <cstddef>

namespace sim::detail {

/// What is left behind when a flow of control is left. Not copied: the C library's has pointers
/// into itself.
class Context {
 public:
  Context();
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// The next switch to it calls `entry` on the stack. `entry` must not return.
  void prepare(void* stack, std::size_t bytes, void (*entry)());
  /// Leaves `from`, goes on in `to`; returns when someone switches back.
  static void change(Context& from, Context& to);

 private:
  void* stack_pointer_ = nullptr;
  void* ucontext_ = nullptr;  // made when it is needed
};

/// Whether `change` is this project's own code; chosen between launches only.
bool own_switch();
bool set_own_switch(bool own);

}  // namespace sim::detail
