#include <tests/cuda/sim/arena.hpp>
#include <tests/cuda/sim/barriers.hpp>
#include <tests/cuda/sim/context.hpp>
#include <tests/cuda/sim/control.hpp>
#include <tests/cuda/sim/grid.hpp>
#include <tests/cuda/sim/position.hpp>
#include <tests/cuda/sim/random.hpp>
#include <tests/cuda/sim/runtime_state.hpp>
#include <tests/cuda/sim/sanitizers.hpp>
#include <tests/cuda/sim/shared_memory.hpp>
#include <tests/cuda/sim/warp.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <utility>

namespace sim {
namespace {

using detail::Arena;
using detail::Context;

constexpr std::size_t kStack = std::size_t{256} << 10;  // touched pages count only
constexpr std::size_t kUsedStack = std::size_t{16} << 10;
constexpr std::size_t kPage = std::size_t{64} << 10;  // of any processor
constexpr std::size_t kMostTsanFibers = 4096;         // it bears some 8000

enum class State { kReady, kAtBlock, kAtWarp, kDone };

/// Lanes of one warp that wait for each other, and afterwards read what each has brought. A lane
/// stays until its next operation, so there are never more of them than lanes.
struct Meeting {
  unsigned mask = 0, arrived = 0, readers = 0;
  void* mark = nullptr;
  const char* file = nullptr;
  int line = 0;
  std::uint64_t values[32];
};
struct Warp {
  Meeting meetings[32];
  unsigned used = 0;               // the slots of `meetings` that are taken
  unsigned open = 0;               // those that wait for lanes
  unsigned exists = 0, ended = 0;  // lanes
  unsigned next_mark = 0;
};
struct Fiber {
  Context context;
  void* stack = nullptr;
  void* tsan = nullptr;
  void* fake_stack = nullptr;
  Position position;
  State state = State::kReady;
  unsigned index = 0;  // in the block
  const char* file = nullptr;
  int line = 0;
  int predicate = 0;
  unsigned barriers = 0;  // parity: a slow thread must not see what a fast one did since
  std::uint64_t atomics = 0;
  Meeting* meeting = nullptr;

  Fiber() {
    stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) throw std::bad_alloc();
    mprotect(stack, kPage, PROT_NONE);
  }
  ~Fiber() { munmap(stack, kStack); }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept over blocks: stacks
  std::vector<Warp> warps;
  Arena arena;
  const detail::Launch* launch = nullptr;
  Fiber* current = nullptr;
  Context main;
  void* main_tsan = nullptr;
  const void* main_stack = nullptr;
  std::size_t main_stack_size = 0;
  void* main_fake_stack = nullptr;
  std::vector<void*> tsan_fibers;  // of finished blocks: what they did stays known
  std::size_t threads = 0, done = 0, at_block = 0;
  detail::Votes votes{};
  char *begin_mark = nullptr, *end_mark = nullptr;  // of the launch
  Random random;
  std::exception_ptr error;
};
Machine& m() {
  static Machine* const machine = new Machine;  // a race with its end would be nobody's business
  return *machine;
}

std::string where(const Fiber& f) {
  char text[300];
  const dim3 &b = f.position.block, &t = f.position.thread;
  std::snprintf(text, sizeof text, "%s block %u", m().launch->kernel, b.x);
  std::string all = text;
  const auto more = [&](unsigned y, unsigned z, dim3 of) {
    if (of.y > 1 || of.z > 1) all += "," + std::to_string(y) + "," + std::to_string(z);
  };
  more(b.y, b.z, f.position.grid_dim);
  all += " thread " + std::to_string(t.x);
  more(t.y, t.z, f.position.block_dim);
  if (f.state == State::kDone) return all + " (ended)";
  if (f.file == nullptr) return all + " (running)";
  return all + " at " + f.file + ":" + std::to_string(f.line);
}

void to_main(bool dying) {
  Machine& M = m();
  Fiber& f = *M.current;
  ++statistics().switches;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(
        dying ? nullptr : &f.fake_stack, M.main_stack, M.main_stack_size);
  }
  // 1: the switch itself orders nothing.
  if (__tsan_switch_to_fiber != nullptr) __tsan_switch_to_fiber(M.main_tsan, 1);
  Context::change(f.context, M.main);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(f.fake_stack, nullptr, nullptr);
  }
}

void entry() {
  Machine& M = m();
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(nullptr, &M.main_stack, &M.main_stack_size);
  }
  detail::acquire(M.begin_mark);
  try {
    M.launch->body();
  } catch (...) {
    if (!M.error) M.error = std::current_exception();
  }
  detail::release(M.end_mark);
  M.current->state = State::kDone;
  to_main(true);
  std::abort();
}

/// Of a thread of the host, on which fibers run: another one may call the runtime meanwhile.
thread_local bool runs_a_kernel = false;

void resume(Fiber& f) {
  Machine& M = m();
  runs_a_kernel = true;
  M.current = &f;
  detail::position = &f.position;
  if (__sanitizer_start_switch_fiber != nullptr) {
    __sanitizer_start_switch_fiber(
        &M.main_fake_stack, static_cast<char*>(f.stack) + kPage, kStack - kPage);
  }
  if (__tsan_switch_to_fiber != nullptr) __tsan_switch_to_fiber(f.tsan, 1);
  Context::change(M.main, f.context);
  if (__sanitizer_finish_switch_fiber != nullptr) {
    __sanitizer_finish_switch_fiber(M.main_fake_stack, nullptr, nullptr);
  }
  runs_a_kernel = false;
  M.current = nullptr;
  detail::position = nullptr;
  if (M.error) std::rethrow_exception(std::exchange(M.error, nullptr));
}

void leave_meeting(Fiber& f) {
  if (f.meeting == nullptr) return;
  Warp& warp = m().warps[f.index / 32];
  f.meeting->readers &= ~(1U << f.position.lane);
  if (f.meeting->readers == 0) warp.used &= ~(1U << (f.meeting - warp.meetings));
  f.meeting = nullptr;
}

/// A thread has ended.
void after_end(Fiber& f) {
  Machine& M = m();
  ++M.done;
  leave_meeting(f);
  Warp& warp = M.warps[f.index / 32];
  warp.ended |= 1U << f.position.lane;
  for (unsigned open = warp.open; open != 0; open &= open - 1) {
    const Meeting& meeting = warp.meetings[__builtin_ctz(open)];
    if ((meeting.mask & warp.ended) == 0) continue;
    const auto waits = static_cast<unsigned>(__builtin_ctz(meeting.arrived));
    throw Fault("a lane of the mask has ended: " + where(f) +
                "; waits for it: " + where(*M.fibers[f.index / 32 * 32 + waits]));
  }
}

/// All threads are at a barrier, or can no longer come to it.
void after_barrier(std::uint64_t& passed) {
  Machine& M = m();
  const Fiber* first = nullptr;
  for (std::size_t t = 0; t < M.threads && first == nullptr; ++t) {
    if (M.fibers[t]->state == State::kAtBlock) first = M.fibers[t].get();
  }
  if (M.done > 0) throw Fault("a barrier that ended threads never reach: " + where(*first));
  M.votes = {0, static_cast<int>(M.threads)};
  for (std::size_t t = 0; t < M.threads; ++t) {
    Fiber& f = *M.fibers[t];
    if (f.line != first->line || f.file != first->file) {
      throw Fault("threads of one block meet in different barriers: " + where(*first) + "; " +
                  where(f));
    }
    M.votes.nonzero += f.predicate;
    f.state = State::kReady;
  }
  M.at_block = 0;
  ++statistics().barriers;
  if (++passed > schedule().most_barriers) {
    throw Fault("a block that does not end: " + std::to_string(passed) + " barriers, " +
                where(*first));
  }
}

[[noreturn]] void report_deadlock() {
  Machine& M = m();
  std::string text = "deadlock, threads wait for what does not come: ";
  int listed = 0;
  const char* last_file = nullptr;
  int last_line = 0;
  // One of each place is enough.
  for (std::size_t t = 0; t < M.threads && listed < 4; ++t) {
    const Fiber& f = *M.fibers[t];
    if (f.state == State::kDone || (f.file == last_file && f.line == last_line)) continue;
    text += (listed++ > 0 ? "; " : "") + where(f);
    if (f.state == State::kAtWarp) {
      char mask[32];
      std::snprintf(mask, sizeof mask, " with mask %08x", f.meeting->mask);
      text += mask;
    }
    last_file = f.file;
    last_line = f.line;
  }
  throw Fault(text);
}

dim3 coordinates(std::uint64_t index, dim3 of) {
  return {static_cast<unsigned>(index % of.x),
          static_cast<unsigned>(index / of.x % of.y),
          static_cast<unsigned>(index / of.x / of.y)};
}

void begin_threads(dim3 block) {
  Machine& M = m();
  const dim3 in_block = M.launch->block;
  M.threads = std::size_t{in_block.x} * in_block.y * in_block.z;
  M.done = M.at_block = 0;
  if (M.warps.size() < (M.threads + 31) / 32) M.warps.resize((M.threads + 31) / 32);
  for (std::size_t w = 0; w * 32 < M.threads; ++w) {
    Warp& warp = M.warps[w];
    const std::size_t left = M.threads - w * 32;
    warp.used = warp.open = warp.ended = warp.next_mark = 0;
    warp.exists = left >= 32 ? 0xFFFFFFFFU : (1U << left) - 1;
  }
  while (M.fibers.size() < M.threads) M.fibers.push_back(std::make_unique<Fiber>());
  for (std::size_t t = 0; t < M.threads; ++t) {
    Fiber& f = *M.fibers[t];
    f.position = {coordinates(t, in_block), block, in_block, M.launch->grid, unsigned(t % 32)};
    f.state = State::kReady;
    f.index = static_cast<unsigned>(t);
    f.file = nullptr;
    f.barriers = 0;
    f.atomics = 0;
    f.meeting = nullptr;
    f.fake_stack = nullptr;
    if (__tsan_create_fiber != nullptr) {
      // ThreadSanitizer takes what an earlier block's thread left on this stack for a race, unless
      // the memory is new; to order the two threads would hide those that are. The part that
      // kernels use.
      mmap(static_cast<char*>(f.stack) + kStack - kUsedStack,
           kUsedStack,
           PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
           -1,
           0);
    }
    detail::allow(static_cast<char*>(f.stack) + kPage, kStack - kPage);
    f.context.prepare(static_cast<char*>(f.stack) + kPage, kStack - kPage, entry);
    if (__tsan_create_fiber != nullptr) {
      f.tsan = __tsan_create_fiber(0);
      char name[64];
      std::snprintf(name, sizeof name, "block %u thread %zu", block.x, t);
      __tsan_set_fiber_name(f.tsan, name);
    }
  }
}

void forget_tsan_fibers() {
  for (void* const fiber : m().tsan_fibers) __tsan_destroy_fiber(fiber);
  m().tsan_fibers.clear();
}

void end_threads() {
  Machine& M = m();
  for (std::size_t t = 0; t < M.threads; ++t) {
    Fiber& f = *M.fibers[t];
    if (f.tsan == nullptr) continue;
    if (f.state !=
        State::kDone) {  // after a fault: what it has done is nevertheless before what follows
      __tsan_switch_to_fiber(f.tsan, 1);
      detail::release(M.end_mark);
      __tsan_switch_to_fiber(M.main_tsan, 1);
    }
    M.tsan_fibers.push_back(f.tsan);
    f.tsan = nullptr;
  }
}

void run_threads(std::vector<unsigned>& order) {
  Machine& M = m();
  std::uint64_t passed = 0;
  while (M.done < M.threads) {
    if (schedule().order == Schedule::kRandom) M.random.shuffle(order);
    bool progress = false;
    for (const unsigned t : order) {
      Fiber& f = *M.fibers[t];
      if (f.state != State::kReady) continue;
      progress = true;
      resume(f);
      if (f.state == State::kDone) after_end(f);
    }
    if (M.at_block > 0 && M.at_block + M.done == M.threads) {
      after_barrier(passed);
    } else if (!progress) {
      report_deadlock();
    }
  }
}

void run_block(dim3 block, std::vector<unsigned>& order) {
  Machine& M = m();
  ++statistics().blocks;
  M.arena.begin(M.launch->shared_bytes, schedule().poison);
  detail::release(M.begin_mark);
  begin_threads(block);
  std::string wrong;
  try {
    run_threads(order);
  } catch (...) {
    end_threads();
    (void)M.arena.end();
    throw;
  }
  end_threads();
  wrong = M.arena.end();
  if (!wrong.empty()) {
    throw Fault(std::string(M.launch->kernel) + " block " + std::to_string(block.x) + ": " + wrong);
  }
}

/// Whatever way a grid is left.
class Grid {
 public:
  explicit Grid(const detail::Launch& launch) {
    Machine& M = m();
    M.launch = &launch;
    M.error = nullptr;
    M.random.seed(schedule().seed);
    // New for each launch: one launch says nothing about another.
    M.begin_mark = marks_.get();
    M.end_mark = marks_.get() + 8;
    if (__tsan_get_current_fiber != nullptr) M.main_tsan = __tsan_get_current_fiber();
  }
  ~Grid() {
    Machine& M = m();
    detail::acquire(M.end_mark);
    M.arena.forget();
    forget_tsan_fibers();
    M.current = nullptr;
    detail::position = nullptr;
  }
  Grid(const Grid&) = delete;
  Grid& operator=(const Grid&) = delete;

 private:
  std::unique_ptr<char[]> marks_ = std::make_unique<char[]>(16);
};

}  // namespace

namespace detail {

const Position* position = nullptr;

bool in_a_kernel() { return runs_a_kernel; }

void outside_of_a_kernel() { throw Fault("threadIdx and its like have no value outside a kernel"); }

void run_grid(const Launch& launch) {
  const Grid grid(launch);
  const bool descending = schedule().order == Schedule::kDescending;
  std::vector<unsigned> order(std::size_t{launch.block.x} * launch.block.y * launch.block.z);
  std::iota(order.begin(), order.end(), 0U);
  if (descending) std::reverse(order.begin(), order.end());
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<std::uint64_t> blocks_order;
  if (schedule().order == Schedule::kRandom) {
    blocks_order.resize(blocks);
    std::iota(blocks_order.begin(), blocks_order.end(), std::uint64_t{0});
    m().random.shuffle(blocks_order);
  }
  for (std::uint64_t k = 0; k < blocks; ++k) {
    const std::uint64_t b = !blocks_order.empty() ? blocks_order[k]
                            : descending          ? blocks - 1 - k
                                                  : k;
    run_block(coordinates(b, launch.grid), order);
    if (m().tsan_fibers.size() > kMostTsanFibers) forget_tsan_fibers();
  }
}

void* dynamic_shared_memory() {
  if (position == nullptr) outside_of_a_kernel();
  return m().arena.dynamic();
}
void* shared_memory(
    const void* key, std::size_t bytes, std::size_t alignment, const char* file, int line) {
  if (position == nullptr) outside_of_a_kernel();
  return m().arena.piece(key, bytes, alignment, file, line);
}

Votes meet_block(int predicate, const char* file, int line) {
  if (position == nullptr) outside_of_a_kernel();
  Machine& M = m();
  Fiber& f = *M.current;
  leave_meeting(f);
  void* const mark = M.arena.block_mark(f.barriers++ & 1);
  f.file = file;
  f.line = line;
  f.predicate = predicate != 0 ? 1 : 0;
  f.state = State::kAtBlock;
  ++M.at_block;
  release(mark);
  to_main(false);
  acquire(mark);
  return M.votes;
}

const std::uint64_t* meet_warp(unsigned mask, std::uint64_t value, const char* file, int line) {
  if (position == nullptr) outside_of_a_kernel();
  Machine& M = m();
  Fiber& f = *M.current;
  Warp& warp = M.warps[f.index / 32];
  const unsigned mine = 1U << f.position.lane;
  leave_meeting(f);
  f.file = file;
  f.line = line;
  if ((mask & mine) == 0) throw Fault("a lane outside its own mask: " + where(f));
  for (unsigned open = warp.open; open != 0 && f.meeting == nullptr; open &= open - 1) {
    Meeting& meeting = warp.meetings[__builtin_ctz(open)];
    if (meeting.mask == mask) f.meeting = &meeting;
  }
  if (f.meeting == nullptr) {
    if ((mask & ~warp.exists) != 0) {
      throw Fault("a lane of the mask does not exist: " + where(f));
    }
    if ((mask & warp.ended) != 0) throw Fault("a lane of the mask has ended: " + where(f));
    const int slot = __builtin_ctz(~warp.used);
    warp.used |= 1U << slot;
    warp.open |= 1U << slot;
    f.meeting = &warp.meetings[slot];
    f.meeting->mask = f.meeting->readers = mask;
    f.meeting->arrived = 0;
    f.meeting->mark = M.arena.warp_mark(f.index / 32, warp.next_mark++);
    f.meeting->file = file;
    f.meeting->line = line;
  }
  Meeting& meeting = *f.meeting;
  if (meeting.file != file || meeting.line != line) {
    const auto other = static_cast<unsigned>(__builtin_ctz(meeting.arrived));
    throw Fault("lanes of one warp meet in different operations: " + where(f) + "; " +
                where(*M.fibers[f.index / 32 * 32 + other]));
  }
  meeting.values[f.position.lane] = value;
  meeting.arrived |= mine;
  f.state = State::kAtWarp;
  release(meeting.mark);
  if (meeting.arrived == mask) {
    ++statistics().warp_ops;
    warp.open &= ~(1U << (&meeting - warp.meetings));
    for (unsigned lanes = mask; lanes != 0; lanes &= lanes - 1) {
      const auto lane = static_cast<unsigned>(__builtin_ctz(lanes));
      M.fibers[f.index / 32 * 32 + lane]->state = State::kReady;
    }
  }
  to_main(false);
  acquire(meeting.mark);
  return meeting.values;
}

void before_atomic() {
  Machine& M = m();
  if (M.current == nullptr) return;  // host code may use them too
  Fiber& f = *M.current;
  if (++f.atomics > schedule().most_atomics) {
    f.file = nullptr;
    throw Fault("a thread that does not end: " + std::to_string(f.atomics) + " atomics, " +
                where(f));
  }
  const double chance = schedule().yield_at_atomics;
  if (chance > 0 && M.random.unit() < chance) to_main(false);
}

void fail(const char* what, const char* file, int line) {
  std::string text = std::string(what) + ": " + file + ":" + std::to_string(line);
  if (m().current != nullptr) text += ", " + where(*m().current);
  throw Fault(text);
}

}  // namespace detail
}  // namespace sim
