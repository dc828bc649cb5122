#include <infobatch/backends.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>
#include <tests/support/with_backend.hpp>

#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

// The seam between a session and who works through its samples: all of a boundary passes through
// the table, and whatever a backend answers, no score is wrong.

using namespace infobatch;
using namespace infobatch::testing;
using detail::Backend;
using detail::BackendError;
using detail::BackendStatus;

namespace {

// What the table was asked for, and which call is to fail.
struct Watch {
  int sums = 0;
  int counts = 0;
  int cuts = 0;
  int plans = 0;
  int folds = 0;
  int unfolds = 0;
  int opened = 0;
  int closed = 0;
  int calls = 0;
  int fails_at = 0;  // this call fails; 0: none
  BackendStatus status = BackendStatus::kFailed;
};
Watch watch;

const Backend& cpu() { return detail::cpu_backend(); }

bool fails(BackendError* error) {
  if (++watch.calls != watch.fails_at) return false;
  std::strcpy(error->text, "the device is gone");
  return true;
}

const Backend& watched() {
  static const Backend backend = {
      sizeof(Backend),
      "watched",
      [](std::int64_t size, std::int32_t threads) {
        ++watch.opened;
        return cpu().open(size, threads);
      },
      [](void* shared) {
        ++watch.closed;
        cpu().close(shared);
      },
      [](void* shared, const float* values, std::int64_t size, ScoreSum* sum, BackendError* error) {
        ++watch.sums;
        return fails(error) ? watch.status : cpu().sum(shared, values, size, sum, error);
      },
      [](void* shared,
         const Classifier* classifier,
         std::int64_t size,
         std::int64_t* members,
         BackendError* error) {
        ++watch.counts;
        return fails(error) ? watch.status : cpu().count(shared, classifier, size, members, error);
      },
      [](void* shared, const detail::DrawTask* task, DrawCut* cut, BackendError* error) {
        ++watch.cuts;
        return fails(error) ? watch.status : cpu().cut_draws(shared, task, cut, error);
      },
      [](void* shared, const detail::RankTask* task, RankCut* cut, BackendError* error) {
        ++watch.cuts;
        return fails(error) ? watch.status : cpu().cut_rank(shared, task, cut, error);
      },
      [](void* shared,
         const detail::PlanTask* task,
         const detail::PlanMemory* memory,
         detail::PlanOutcome* outcome,
         BackendError* error) {
        ++watch.plans;
        return fails(error) ? watch.status : cpu().plan(shared, task, memory, outcome, error);
      },
      [](void* shared,
         const detail::FoldRule* rule,
         const detail::FoldArrays* arrays,
         const detail::FoldRanges* ranges,
         std::int64_t* non_finite,
         BackendError* error) {
        ++watch.folds;
        return fails(error) ? watch.status
                            : cpu().fold(shared, rule, arrays, ranges, non_finite, error);
      },
      [](void* shared,
         const detail::FoldRule* rule,
         const detail::FoldArrays* arrays,
         const detail::FoldRanges* ranges) {
        ++watch.unfolds;
        cpu().unfold(shared, rule, arrays, ranges);
      },
      {},
      nullptr,
      nullptr,
      nullptr,
      nullptr};
  return backend;
}

Config config_for(const std::string& policy) {
  Config config = config_of(8, 0.4);
  config.policy = policy;
  return config;
}

void observe_epoch(Session& session, std::int64_t epoch) {
  const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
  session.begin();
  for (Slice slice = session.next(100); slice.count > 0; slice = session.next(100)) {
    session.observe(losses_of(slice, loss).data(), slice.count);
  }
}

}  // namespace

TEST_CASE("backend: all of a boundary passes through the table", "[engine][backend]") {
  const std::string policy = GENERATE(from_range(policy_names()));
  CAPTURE(policy);
  Session plain(500, config_for(policy), 1);
  for (int epoch = 0; epoch < 3; ++epoch) observe_epoch(plain, epoch);
  watch = {};
  const WithBackend use(watched());
  Session session(500, config_for(policy), 1);
  for (int epoch = 0; epoch < 3; ++epoch) {
    observe_epoch(session, epoch);
    REQUIRE(watch.plans >= epoch + 1);
    REQUIRE(watch.sums == watch.plans);
    REQUIRE(watch.folds == watch.plans - 1);  // of the epoch before
  }
  REQUIRE(session.serialize() == plain.serialize());
  REQUIRE(watch.opened == watch.closed);
}

TEST_CASE("backend: one that fails at any call changes nothing, and the call can be made again",
          "[engine][backend][rule17]") {
  const std::string policy = GENERATE(from_range(policy_names()));
  const auto status =
      GENERATE(BackendStatus::kNoMemory, BackendStatus::kInvalid, BackendStatus::kFailed);
  CAPTURE(policy, static_cast<int>(status));
  Session plain(500, config_for(policy), 1);
  for (int epoch = 0; epoch < 2; ++epoch) observe_epoch(plain, epoch);
  const std::int64_t length = plain.length();
  const PlanCopy expected = copy_of(plain.plan());

  int failed = 0;
  for (int call = 1; failed == call - 1; ++call) {
    Session session(500, config_for(policy), 1);
    for (int epoch = 0; epoch < 2; ++epoch) observe_epoch(session, epoch);
    const std::string before = session.serialize();
    const std::vector<std::uint32_t> scores = score_bits(session);
    watch = {};
    watch.fails_at = call;
    watch.status = status;
    {
      const WithBackend use(watched());
      try {
        session.length();
      } catch (const std::bad_alloc&) {
        failed += status == BackendStatus::kNoMemory ? 1 : 0;
      } catch (const InvalidArgument& error) {
        REQUIRE(std::string(error.what()) == "the device is gone");
        failed += status == BackendStatus::kInvalid ? 1 : 0;
      } catch (const std::runtime_error& error) {
        REQUIRE(std::string(error.what()) == "the device is gone");
        failed += status == BackendStatus::kFailed ? 1 : 0;
      }
    }
    if (failed == call) {
      REQUIRE(session.serialize() == before);
      REQUIRE(score_bits(session) == scores);
    }
    REQUIRE(session.length() == length);
    REQUIRE(copy_of(session.plan()) == expected);
  }
  REQUIRE(failed >= 3);  // the fold, the sum, the plan
}

TEST_CASE("backend: what is no library of a device is refused with the reason",
          "[engine][backend][rule13]") {
  const auto absent = [] { load_backend("no_such_folder/libinfobatch_none.so"); };
  const std::string reason = message_of<InvalidArgument>(absent);
  REQUIRE(reason.rfind("load_backend: no_such_folder/libinfobatch_none.so: ", 0) == 0);
#if defined(__linux__)
  const auto another = [] { load_backend("libm.so.6"); };
  REQUIRE(message_of<InvalidArgument>(another) ==
          "load_backend: libm.so.6: no library of a device for InfoBatch");
#endif
  REQUIRE(backend_names().front() == "cpu");
  REQUIRE(steps_on("cuda") == nullptr);
  REQUIRE(std::string(backend_on("cuda")).empty());
}

TEST_CASE("backend: a table of another release, or of the processor's name, is not added",
          "[engine][backend][rule13]") {
  static Backend other = cpu();
  other.struct_size -= 8;
  REQUIRE(message_of<InvalidArgument>([] {
            detail::add_backend(other);
          }).find("a table must be of this release") != std::string::npos);
  REQUIRE(message_of<InvalidArgument>([] { detail::add_backend(cpu()); }) ==
          "add_backend: \"cpu\" is the processor's name");
  static Backend first = watched();
  static Backend second = watched();
  detail::add_backend(first);
  detail::add_backend(first);
  REQUIRE(message_of<InvalidArgument>([] { detail::add_backend(second); }) ==
          "add_backend: another \"watched\" is there");
  REQUIRE(backend_names().back() == "watched");
}

TEST_CASE("backend: a session works with the one that it was made for, whatever the process does",
          "[engine][backend]") {
  detail::add_backend([]() -> const Backend& {
    static Backend named = watched();
    named.name = "named";
    return named;
  }());
  Session plain(300, config_for("infobatch"), 1);
  Session session(300, config_for("infobatch"), 1, {}, "named");
  watch = {};
  for (int epoch = 0; epoch < 3; ++epoch) {
    observe_epoch(plain, epoch);
    REQUIRE(watch.folds == (epoch > 1 ? epoch - 1 : 0));
    observe_epoch(session, epoch);
    REQUIRE(watch.folds == epoch);
  }
  REQUIRE(session.serialize() == plain.serialize());
}

TEST_CASE("backend: arrays of a session come from its memory, and go back there",
          "[engine][backend]") {
  static std::int64_t live = 0;
  static std::int64_t taken = 0;
  static bool is_short = false;
  static Backend counting = cpu();
  counting.name = "counting";
  counting.memory = {[](std::size_t bytes) -> void* {
                       if (is_short) return nullptr;
                       ++taken;
                       ++live;
                       return ::operator new (bytes + 1, std::align_val_t{64});
                     },
                     [](void* data, std::size_t) {
                       --live;
                       ::operator delete (data, std::align_val_t{64});
                     }};
  detail::add_backend(counting);
  Session plain(300, config_for("ucb"), 1);
  {
    Session session(300, config_for("ucb"), 1, {}, "counting");
    REQUIRE(live == 3);  // scores and two columns
    observe_epoch(plain, 0);
    observe_epoch(session, 0);
    is_short = true;
    REQUIRE_THROWS_AS(session.length(), std::bad_alloc);
    is_short = false;
    for (int epoch = 1; epoch < 4; ++epoch) {
      observe_epoch(plain, epoch);
      observe_epoch(session, epoch);
    }
    REQUIRE(session.serialize() == plain.serialize());
    REQUIRE(taken < 20);  // later epochs use the memory of earlier ones
  }
  REQUIRE(live == 0);
}
