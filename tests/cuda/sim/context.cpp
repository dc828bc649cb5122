#include <tests/cuda/sim/context.hpp>

#include <ucontext.h>

#include <cstdint>

// A switch saves what a called function has to preserve, and swaps the stack pointers. swapcontext
// also saves the signal mask, which is a system call each time. The rounding mode is not saved: no
// kernel changes it.
#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
#define INFOBATCH_SIM_OWN_SWITCH 1
asm(R"(
.text
.p2align 4
.globl infobatch_sim_change
.hidden infobatch_sim_change
.type infobatch_sim_change, @function
infobatch_sim_change:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size infobatch_sim_change, .-infobatch_sim_change
)");
#elif defined(__linux__) && defined(__aarch64__)
#define INFOBATCH_SIM_OWN_SWITCH 1
asm(R"(
.text
.p2align 4
.globl infobatch_sim_change
.hidden infobatch_sim_change
.type infobatch_sim_change, %function
infobatch_sim_change:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size infobatch_sim_change, .-infobatch_sim_change
)");
#else
#define INFOBATCH_SIM_OWN_SWITCH 0
#endif

#if INFOBATCH_SIM_OWN_SWITCH
extern "C" void infobatch_sim_change(void** leave, void* resume);
#endif

namespace sim::detail {
namespace {
bool own = INFOBATCH_SIM_OWN_SWITCH != 0;
ucontext_t* as_ucontext(void* context) { return static_cast<ucontext_t*>(context); }
}  // namespace

bool own_switch() { return own; }
bool set_own_switch(bool on) {
  own = on && INFOBATCH_SIM_OWN_SWITCH != 0;
  return INFOBATCH_SIM_OWN_SWITCH != 0;
}

Context::Context() = default;
Context::~Context() { delete as_ucontext(ucontext_); }

void Context::prepare(void* stack, std::size_t bytes, void (*entry)()) {
#if INFOBATCH_SIM_OWN_SWITCH
  if (own) {
    // What infobatch_sim_change would have left there, had it been called by `entry`'s caller.
    auto* const top = reinterpret_cast<std::uintptr_t*>(
        (reinterpret_cast<std::uintptr_t>(stack) + bytes) & ~std::uintptr_t{15});
#if defined(__x86_64__)
    std::uintptr_t* const frame = top - 8;  // six registers, the return address, the end of calls
    for (int i = 0; i < 8; ++i) frame[i] = 0;
    frame[6] = reinterpret_cast<std::uintptr_t>(entry);
#else
    std::uintptr_t* const frame = top - 20;
    for (int i = 0; i < 20; ++i) frame[i] = 0;
    frame[11] = reinterpret_cast<std::uintptr_t>(entry);  // x30
#endif
    stack_pointer_ = frame;
    return;
  }
#endif
  if (ucontext_ == nullptr) ucontext_ = new ucontext_t;
  ucontext_t& context = *as_ucontext(ucontext_);
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

void Context::change(Context& from, Context& to) {
#if INFOBATCH_SIM_OWN_SWITCH
  if (own) {
    infobatch_sim_change(&from.stack_pointer_, to.stack_pointer_);
    return;
  }
#endif
  if (from.ucontext_ == nullptr) from.ucontext_ = new ucontext_t;
  swapcontext(as_ucontext(from.ucontext_), as_ucontext(to.ucontext_));
}

}  // namespace sim::detail
