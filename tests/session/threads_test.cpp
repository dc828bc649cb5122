#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/mutex.hpp>
#include <infobatch/session/state.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// Any thread may call a session; the calls wait for one another. Which comes first is the caller's
// business, so what is refused here is refused for the order, and nothing else may happen.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

/// Runs all of them at once; the message of the first one that failed, or "".
std::string run_at_once(const std::vector<std::function<void()>>& works) {
  std::atomic<bool> go{false};
  std::mutex mutex;
  std::string failure;
  std::vector<std::thread> threads;
  for (const auto& work : works) {
    threads.emplace_back([&] {
      while (!go) std::this_thread::yield();
      try {
        work();
      } catch (const std::exception& error) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (failure.empty()) failure = error.what();
      }
    });
  }
  go = true;
  for (std::thread& thread : threads) thread.join();
  return failure;
}

void require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

constexpr int kRounds = 300;

}  // namespace

TEST_CASE("the mutex lets one thread in at a time", "[session][threads]") {
  detail::CallMutex mutex;
  std::int64_t count = 0;  // not atomic
  const auto work = [&] {
    for (int i = 0; i < 20000; ++i) {
      const std::lock_guard<detail::CallMutex> lock(mutex);
      ++count;
    }
  };
  REQUIRE(run_at_once({work, work, work, work}).empty());
  REQUIRE(count == 80000);
}

TEST_CASE("a session that is called from several threads at once stays sound",
          "[session][threads]") {
  constexpr std::int64_t kSize = 200;
  Session session(kSize, config_of(50), 2);
  session.hold_warnings();
  session.set_wording({"", "", "", ""});
  const std::vector<float> losses(kSize, 0.5f);
  std::atomic<std::int64_t> trained{0};
  std::atomic<std::int64_t> refused{0};
  const auto train = [&](bool rows) {
    for (int i = 0; i < kRounds; ++i) {
      try {
        const Slice slice = rows ? session.next_rows(8) : session.next(8);
        for (std::int64_t p = 0; p < slice.count; ++p) {
          require(slice.ids()[p] >= 0 && slice.ids()[p] < kSize, "an id");
          require(slice.weights()[p] >= 1.0f, "a weight");
        }
        if (slice.count == 0) {
          session.begin();
        } else {
          session.observe(losses.data(), slice.count);
          trained += slice.count;
        }
      } catch (const StateError&) {
        ++refused;  // another thread was faster
        if (i % 16 == 0) session.discard_epoch();
      }
    }
  };
  const auto read = [&] {
    for (int i = 0; i < kRounds; ++i) {
      const Statistics s = session.statistics();
      require(s.size == kSize && s.kept + s.pruned == (s.planned ? kSize : 0), "statistics");
      require(session.position() <= kSize, "position");
      require(session.pending() <= 8, "pending");
      const double progress = session.progress();
      require(progress >= 0.0 && progress <= 1.0, "progress");
      session.epoch();
      session.column_names();
      const std::int64_t id = i % kSize;
      float weight = 1.0f;
      try {
        session.weights(&id, 1, &weight);
      } catch (const IndexError&) {  // this epoch leaves it out
      }
      require(weight >= 1.0f, "a weight by id");
      Wording words = session.wording();
      require(words.update_by_ids == std::string(words.update.size(), 'i'), "words of one call");
      words.update = std::string(static_cast<std::size_t>(i), 'u');
      words.update_by_ids = std::string(static_cast<std::size_t>(i), 'i');
      session.set_wording(std::move(words));
    }
  };
  const auto save = [&] {
    for (int i = 0; i < kRounds / 3; ++i) {
      const std::string state = session.serialize();
      const detail::StateContent content = detail::read_state(state);
      require(content.figures.size == kSize, "a state");
      if (i % 10 == 0) {
        Session resumed(kSize, config_of(50), 1);
        resumed.hold_warnings();
        resumed.deserialize(state);
        require(resumed.serialize() == state, "a resumed state");
      }
    }
  };
  const auto plan = [&] {
    std::shared_ptr<const Plan> held;
    PlanCopy copy;
    for (int i = 0; i < kRounds / 3; ++i) {
      if (held != nullptr) require(copy_of(held) == copy, "a plan that is held");
      held = session.plan();
      copy = copy_of(held);
      require(session.length() <= kSize, "length");
    }
  };
  const bool rows = GENERATE(false, true);
  const std::string failure =
      run_at_once({[&] { train(rows); }, [&] { train(rows); }, read, save, plan});
  REQUIRE(failure.empty());
  REQUIRE(trained > 0);
  // And it trains on as if nothing had been.
  session.set_epoch(40);
  REQUIRE(static_cast<std::int64_t>(run_epoch(session, 16).ids.size()) ==
          session.statistics().kept);
}

TEST_CASE("rows for many workers and updates in order: the usual loader", "[session][threads]") {
  constexpr std::int64_t kSize = 300;
  Session session(kSize, config_of(6), 1);
  session.hold_warnings();
  for (int epoch = 0; epoch < 6; ++epoch) {
    session.begin();
    std::atomic<std::int64_t> delivered{0};
    const auto worker = [&] {
      while (true) {
        const Slice slice = session.next_rows(1);
        if (slice.count == 0) return;
        ++delivered;
      }
    };
    const auto watcher = [&] {
      for (int i = 0; i < 50; ++i) {
        session.statistics();
        session.serialize();
      }
    };
    REQUIRE(run_at_once({worker, worker, worker, watcher}).empty());
    const std::int64_t kept = session.statistics().kept;
    REQUIRE(delivered == kept);
    const std::vector<float> losses(kSize, 1.0f + static_cast<float>(epoch));
    for (std::int64_t p = 0; p < kept; p += 10) {
      session.observe(losses.data(), std::min<std::int64_t>(10, kept - p));
    }
    REQUIRE(session.epoch() == epoch + 1);
  }
}

TEST_CASE("slices may be read and let go by other threads than the one that calls",
          "[session][threads]") {
  constexpr std::int64_t kSize = 500;
  Session session(kSize, config_of(30), 1);
  session.hold_warnings();
  std::mutex mutex;
  std::vector<Slice> out;
  std::atomic<bool> done{false};
  const auto train = [&] {
    for (int epoch = 0; epoch < 30; ++epoch) {
      session.begin();
      while (true) {
        Slice slice = session.next(50);
        if (slice.count == 0) break;
        const std::vector<float> losses(static_cast<std::size_t>(slice.count), 0.25f);
        session.observe(losses.data(), slice.count);
        const std::lock_guard<std::mutex> lock(mutex);
        out.push_back(std::move(slice));
      }
    }
    done = true;
  };
  const auto read = [&] {
    while (true) {
      const bool last = done;
      std::vector<Slice> taken;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        taken.swap(out);
      }
      for (const Slice& slice : taken) {
        for (std::int64_t i = 0; i < slice.count; ++i) {
          require(slice.ids()[i] >= 0 && slice.ids()[i] < kSize, "an id");
        }
      }
      if (last) return;
    }
  };
  REQUIRE(run_at_once({train, read, read}).empty());
}

TEST_CASE("warning handlers run without the lock", "[session][threads]") {
  Session session(50, config_of(10), 1);
  session.begin();
  run_batches(session, 10, [](std::int64_t id) { return id == 3 ? -INFINITY : 1.0f; });
  std::int64_t seen = -1;
  session.set_warning_handler([&](const std::string&) {
    std::thread other([&] { seen = session.statistics().epoch; });
    other.join();  // would wait for ever
  });
  session.begin();
  REQUIRE(seen == 0);
  REQUIRE(session.epoch() == 1);
}
