#include <infobatch/detail/atomic_file.hpp>
#include <tests/failures/calls.hpp>
#include <tests/failures/injection.hpp>
#include <tests/failures/world.hpp>
#include <tests/support/catch2_shim.hpp>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

// Rule 17 for the whole C interface: in every situation of a session every call is made again and
// again, each time with another request for memory or a thread that the system refuses. What can be
// seen of the session is then as before, the call can be made again, and the run ends to the bit as
// one in which nothing failed.

namespace infobatch::testing {
namespace {

struct Counts {
  std::int64_t tried[kResources] = {};    // runs in which at least one request was refused
  std::int64_t refused[kResources] = {};  // requests
  std::int64_t out_of_memory = 0;         // calls that failed
  std::int64_t made_up_for = 0;           // calls that succeeded all the same
  std::int64_t pairs = 0;                 // of a situation and a call
  std::size_t broken = 0;
  std::set<std::string> calls;
  std::set<std::string> situations;
};

Counts counts;

/// Told once, when the program ends.
class Report {
 public:
  ~Report() {
    if (counts.calls.empty()) return;
    std::printf("failures: %zu calls in %zu situations, %lld pairs\n",
                counts.calls.size(),
                counts.situations.size(),
                static_cast<long long>(counts.pairs));
    for (int resource = 0; resource < kResources; ++resource) {
      std::printf("  %-14s %8lld runs, %8lld requests refused\n",
                  kResourceNames[resource],
                  static_cast<long long>(counts.tried[resource]),
                  static_cast<long long>(counts.refused[resource]));
    }
    std::printf("  calls that failed %lld, that did without %lld, broken promises %zu\n",
                static_cast<long long>(counts.out_of_memory),
                static_cast<long long>(counts.made_up_for),
                counts.broken);
  }
} report;

/// The disk is not what is tested: nothing waits for it while this lives. A thread's last error
/// and texts have their memory from now on.
class Quick {
 public:
  Quick() : before_(detail::file_calls()) {
    detail::file_calls().flush = [](int) { return 0; };
    ib_session_size(nullptr, nullptr);
  }
  ~Quick() { detail::file_calls() = before_; }

 private:
  detail::FileCalls before_;
};

/// A folder that is there while this lives.
class Folder {
 public:
  Folder() {
    static int number = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("infobatch_failures_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const char* name) const { return (path_ / name).string(); }
  std::size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

int lowest_free_file() {
  const int file = ::dup(0);
  ::close(file);
  return file;
}

/// One call in one situation, without failures and with them.
class Trial {
 public:
  Trial(const Situation& situation, const Call& call, std::vector<std::string>& broken)
      : situation_(situation), call_(call), broken_(broken) {
    {
      World world(situation_);
      state_ = world.sight().state;
    }
    write(folder_.file("saved"), state_);
    World world(situation_);
    make_ready(world);
    before_ = world.sight();
    expected_ = call_.make(world);
    if (expected_ != IB_OK && !(world.sight() == before_))
      fail("refused, and has changed something");
    after(world, expected_);
    trace_ = world.trace;
  }

  /// The k-th request is refused, for k = first, first + step, ... until the call asks for fewer.
  void run(Resource resource, bool onwards, std::int64_t first = 1, std::int64_t step = 1) {
    for (std::int64_t k = first; run_once(resource, onwards, k); k += step) {
    }
  }

 private:
  void make_ready(World& world) {
    world.path = folder_.file("path");
    world.saved = folder_.file("saved");
    world.state = state_;
    if (saves()) write(world.path, "old");
    if (call_.prepare != nullptr) call_.prepare(world);
  }

  void after(World& world, ib_status status) {
    world.note("status", status);
    if (status == IB_OK && call_.look != nullptr) call_.look(world);
    if (saves() && folder_.files() != 2) fail("leaves a file");
    if (saves() && status == IB_OK && content(world.path) != world.sight().state) {
      fail("has saved another state");
    }
    world.finish();
  }

  bool run_once(Resource resource, bool onwards, std::int64_t k) {
    now_ = std::string(kResourceNames[static_cast<int>(resource)]) + " " + std::to_string(k) +
           (onwards ? " and on" : "");
    const std::size_t broken_before = broken_.size();
    const Live before = live();
    const int files = lowest_free_file();
    bool reached = false;
    {
      World world(situation_);
      make_ready(world);
      Failure failure(resource, k, onwards);
      ib_status status = call_.make(world);
      failure.end();
      const std::int64_t failed = failure.failed();
      reached = failed > 0;
      if (reached) {
        ++counts.tried[static_cast<int>(resource)];
        counts.refused[static_cast<int>(resource)] += failed;
      }
      if (status == expected_) {
        if (reached) ++counts.made_up_for;
        if (status != IB_OK && !(world.sight() == before_))
          fail("refused, and has changed something");
      } else {
        ++counts.out_of_memory;
        check_failure(world, status, resource);
        status = call_.make(world);
        if (status != expected_) fail("made again: " + std::string(ib_last_error()));
      }
      after(world, status);
      if (world.trace != trace_) {
        fail("goes on otherwise: " + difference(world.trace, trace_));
      }
    }
    if (broken_.size() > broken_before) return reached;  // which took memory
    const Live left = live();
    if (left.blocks > before.blocks) {
      fail("leaks " + std::to_string(left.blocks - before.blocks) + " blocks");
    }
    if (left.mapped > before.mapped) {
      fail("leaks " + std::to_string(left.mapped - before.mapped) + " mapped bytes");
    }
    if (lowest_free_file() != files) fail("leaves a file open");
    return reached;
  }

  void check_failure(World& world, ib_status status, Resource resource) {
    const std::string text = ib_last_error();
    if (status != IB_OUT_OF_MEMORY || resource == Resource::kThread) {
      fail("status " + std::to_string(status) + ": " + text);
    }
    const std::string reason = ib_last_reason();
    if (text != std::string(call_.function) + ": out of memory") fail("says: " + text);
    if (reason != "out of memory") fail("says without the function: " + reason);
    const Sight seen = world.sight();
    if (seen.state != before_.state) fail("has changed the state");
    if (seen.scores != before_.scores) fail("has changed the scores");
    if (seen.figures != before_.figures) {
      fail("has changed figures: " + difference(seen.figures, before_.figures));
    }
    if (saves() && folder_.files() != 2) fail("leaves a file, having failed");
    if (saves() && content(world.path) != "old") fail("has written the file, having failed");
  }

  bool saves() const { return std::strcmp(call_.function, "ib_session_save") == 0; }

  /// The first line that differs.
  static std::string difference(const std::string& seen, const std::string& wanted) {
    std::size_t at = 0;
    while (at < seen.size() && at < wanted.size() && seen[at] == wanted[at]) ++at;
    const std::size_t line = at == 0 ? 0 : wanted.rfind('\n', at - 1) + 1;
    return seen.substr(line, seen.find('\n', at) - line) + " instead of " +
           wanted.substr(line, wanted.find('\n', at) - line);
  }

  void fail(const std::string& what) {
    broken_.push_back(std::string(situation_.name) + " | " + call_.function + " " + call_.variant +
                      " | " + now_ + " | " + what);
  }

  const Situation& situation_;
  const Call& call_;
  std::vector<std::string>& broken_;
  Folder folder_;
  std::string now_ = "no failure";
  std::string state_;
  Sight before_;
  ib_status expected_ = IB_OK;
  std::string trace_;
};

void require_none(const std::vector<std::string>& broken) {
  constexpr std::size_t kMostShown = 40;
  for (std::size_t i = 0; i < broken.size() && i < kMostShown; ++i) UNSCOPED_INFO(broken[i]);
  counts.broken += broken.size();
  CHECK(broken.size() == 0);
}

void count(const Situation& situation, const Call& call) {
  ++counts.pairs;
  counts.calls.insert(call.function);
  counts.situations.insert(situation.name);
}

/// Every `usual`-th request is refused: a small session's call asks twenty times, a large one's a
/// hundred times. All of them where INFOBATCH_EVERY_REQUEST is set, which takes some minutes.
std::int64_t step_of(std::int64_t usual) {
  return std::getenv("INFOBATCH_EVERY_REQUEST") == nullptr ? usual : 1;
}

/// Where a pair begins: a call's situations take turns, so that all its requests have theirs.
std::int64_t first_of(std::int64_t step) { return 1 + counts.pairs % step; }

TEST_CASE("a call without memory changes nothing and can be made again",
          "[failures][rule17][slow]") {
  const Quick quick;
  const std::int64_t step = step_of(4);
  for (const Situation& situation : small_situations()) {
    std::vector<std::string> broken;
    for (const Call& call : session_calls()) {
      count(situation, call);
      Trial trial(situation, call, broken);
      trial.run(Resource::kAny, false, first_of(step), step);
      trial.run(Resource::kAny, true, first_of(step), step);
    }
    require_none(broken);
  }
}

TEST_CASE("a large session without memory or threads changes nothing", "[failures][rule17][slow]") {
  const Quick quick;
  const std::int64_t apart = step_of(13), step = step_of(39);
  for (const Situation& situation : large_situations()) {
    std::vector<std::string> broken;
    for (const Call& call : session_calls()) {
      if (!call.large) continue;
      count(situation, call);
      Trial trial(situation, call, broken);
      trial.run(Resource::kMap, false);
      trial.run(Resource::kMap, true);
      trial.run(Resource::kThread, false);
      trial.run(Resource::kThread, true);
      trial.run(Resource::kAny, false, first_of(apart), step);
      trial.run(Resource::kAny, true, first_of(apart), step);
    }
    require_none(broken);
  }
}

}  // namespace
}  // namespace infobatch::testing
