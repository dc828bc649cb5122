#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

// What fails although there is memory: a warning handler that throws, a disk that is full.

namespace infobatch::testing {
namespace {

constexpr std::int64_t kSize = 97;
constexpr std::int64_t kBatch = 10;

struct Throwing : std::runtime_error {
  using std::runtime_error::runtime_error;
};

float nan_loss(std::int64_t id) {
  return id % 7 == 0 ? std::numeric_limits<float>::quiet_NaN() : simulated_loss(id, 0);
}

void deliver_all(Session& session) {
  session.begin();
  while (session.next(kBatch).count > 0) {
  }
}

/// A session with something to warn of at the next boundary.
struct Case {
  const char* name;
  Config config;
  std::function<void(Session&)> prepare;
};

std::vector<Case> cases() {
  Config ema = config_of(5);
  ema.score_ema = 0.5;
  const auto not_finite = [](Session& s) { run_epoch(s, kBatch, nan_loss); };
  const auto looked_at = [](Session& s) {
    run_epoch(s, kBatch);
    deliver_all(s);
    s.length();
  };
  return {{"will never prune", config_of(2), [](Session&) {}},
          {"not finite", config_of(5), not_finite},
          {"not finite, moving average", ema, not_finite},
          {"not finite, in an epoch by ids",
           config_of(5),
           [](Session& s) {
             s.begin();
             const Slice slice = s.next(kBatch);
             std::vector<float> weights(static_cast<std::size_t>(slice.count));
             const std::vector<float> losses(weights.size(),
                                             std::numeric_limits<float>::infinity());
             s.observe_ids(losses.data(), slice.ids(), slice.count, weights.data());
           }},
          {"broken off",
           config_of(5),
           [](Session& s) {
             run_epoch(s, kBatch);
             s.begin();
             s.next(kBatch);
             s.next(kBatch);
             const std::vector<float> losses(kBatch, 0.5f);
             s.observe(losses.data(), kBatch);
           }},
          {"never observed",
           config_of(5),
           [](Session& s) {
             run_epoch(s, kBatch);
             deliver_all(s);
           }},
          {"never observed, length asked", config_of(5), looked_at},
          {"set to an epoch before the first", config_of(2), [](Session& s) { s.serialize(); }}};
}

struct NamedCall {
  const char* name;
  std::function<void(Session&)> make;
};

std::vector<NamedCall> calls(const std::string& saved, const std::string& path) {
  return {{"begin", [](Session& s) { s.begin(); }},
          {"set_epoch, this", [](Session& s) { s.set_epoch(s.epoch()); }},
          {"set_epoch, next", [](Session& s) { s.set_epoch(s.epoch() + 1); }},
          {"set_epoch, later", [](Session& s) { s.set_epoch(s.epoch() + 2); }},
          {"plan", [](Session& s) { s.plan(); }},
          {"length", [](Session& s) { s.length(); }},
          {"next", [](Session& s) { s.next(kBatch); }},
          {"save", [path](Session& s) { s.save(path); }},
          {"load", [saved](Session& s) { s.load(saved); }}};
}

/// All that can be seen, and how the run goes on.
struct Seen {
  std::string state;
  std::vector<std::uint32_t> scores;
  std::vector<std::int64_t> figures;

  bool operator==(const Seen& other) const {
    return state == other.state && scores == other.scores && figures == other.figures;
  }
};

Seen seen_of(Session& s) {
  const Statistics now = s.statistics();
  return {s.serialize(),
          score_bits(s),
          {s.epoch(),
           s.position(),
           s.pending(),
           now.epoch,
           now.planned,
           now.kept,
           now.pruned,
           now.samples_full,
           now.non_finite_total,
           now.dropped_total}};
}

std::vector<PlanCopy> rest_of(Session& s) {
  std::vector<PlanCopy> plans;
  s.set_epoch(s.epoch() + 1);  // an epoch by ids would not take losses in order
  for (int epoch = 0; epoch < 4; ++epoch) plans.push_back(run_epoch(s, kBatch));
  return plans;
}

class TestFolder {
 public:
  TestFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("infobatch_failure_handlers_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const char* name) const { return (path_ / name).string(); }
  std::ptrdiff_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return std::distance(begin(all), end(all));
  }

 private:
  std::filesystem::path path_;
};

TEST_CASE("a call whose warning handler throws can be made again", "[failures][rule17]") {
  const TestFolder folder;
  int thrown = 0;
  for (const Case& situation : cases()) {
    for (const NamedCall& call : calls(folder.file("saved"), folder.file("path"))) {
      CAPTURE(situation.name, call.name);
      std::vector<std::string> expected;
      Session twin(kSize, situation.config);
      twin.set_warning_handler([&](const std::string& t) { expected.push_back(t); });
      situation.prepare(twin);
      twin.save(folder.file("saved"));
      call.make(twin);
      const Seen twin_seen = seen_of(twin);
      const std::vector<PlanCopy> twin_rest = rest_of(twin);

      std::vector<std::string> told;
      bool throws = false;
      Session session(kSize, situation.config);
      session.set_warning_handler([&](const std::string& t) {
        told.push_back(t);
        if (throws) throw Throwing(t);
      });
      situation.prepare(session);
      const Seen before = seen_of(session);
      throws = true;
      // Each warning is delivered once, so the call succeeds when all of them were.
      for (int tries = 0;; ++tries) {
        REQUIRE(tries < 4);
        try {
          call.make(session);
          break;
        } catch (const Throwing&) {
          ++thrown;
          CHECK(seen_of(session) == before);
        }
      }
      throws = false;
      CHECK(seen_of(session) == twin_seen);
      CHECK(rest_of(session) == twin_rest);
      CHECK(told == expected);
    }
  }
  CHECK(thrown >= 20);
}

TEST_CASE("after a handler threw, the run goes on as before the call", "[failures][rule17]") {
  const TestFolder folder;
  for (const Case& situation : cases()) {
    for (const NamedCall& call : calls(folder.file("saved"), folder.file("path"))) {
      CAPTURE(situation.name, call.name);
      Session twin(kSize, situation.config);
      twin.set_warning_handler([](const std::string&) {});
      situation.prepare(twin);
      twin.save(folder.file("saved"));

      Session session(kSize, situation.config);
      session.set_warning_handler([](const std::string& t) { throw Throwing(t); });
      try {
        situation.prepare(session);
      } catch (const Throwing&) {
        continue;  // it warns earlier
      }
      try {
        call.make(session);
        continue;
      } catch (const Throwing&) {
      }
      session.set_warning_handler([](const std::string&) {});
      CHECK(session.length() == twin.length());
      CHECK(copy_of(session.plan()) == copy_of(twin.plan()));
      CHECK(rest_of(session) == rest_of(twin));
      CHECK(seen_of(session) == seen_of(twin));
    }
  }
}

// --- a disk that is full

int refused_call = 0;  // the number of the call that fails
int calls_made = 0;

bool refused() {
  if (++calls_made != refused_call) return false;
  errno = ENOSPC;
  return true;
}

TEST_CASE("a save on a full disk leaves the old file", "[failures][rule17]") {
  struct Restore {
    detail::FileCalls before = detail::file_calls();
    ~Restore() { detail::file_calls() = before; }
  } restore;
  static const detail::FileCalls real = restore.before;
  detail::FileCalls& now = detail::file_calls();
  now.open = [](const char* path, int how, mode_t mode) {
    return (how & O_CREAT) != 0 && refused() ? -1 : real.open(path, how, mode);
  };
  now.write = [](int file, const void* bytes, std::size_t count) {
    // In parts, so that it fails in between, too.
    return refused() ? ssize_t{-1} : real.write(file, bytes, std::min<std::size_t>(count, 500));
  };
  now.truncate = [](int file, off_t size) { return refused() ? -1 : real.truncate(file, size); };
  now.flush = [](int file) { return refused() ? -1 : real.flush(file); };

  const TestFolder folder;
  const std::string path = folder.file("state");
  for (const bool looked_at : {false, true}) {
    int failed = 0;
    for (refused_call = 1;; ++refused_call) {
      CAPTURE(looked_at, refused_call);
      Session session(kSize, config_of(5));
      run_epoch(session, kBatch);
      if (looked_at) session.length();
      std::ofstream(path) << "old";
      const Seen before = seen_of(session);
      calls_made = 0;
      try {
        session.save(path);
      } catch (const FileError&) {
        ++failed;
        std::ifstream file(path);
        CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == "old");
        CHECK(folder.files() == 1);
        CHECK(seen_of(session) == before);
        session.save(path);
      }
      std::ifstream file(path);
      CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == before.state);
      CHECK(folder.files() == 1);
      CHECK(seen_of(session) == before);
      if (calls_made < refused_call) break;
    }
    CHECK(failed >= 5);
  }
}

}  // namespace
}  // namespace infobatch::testing
