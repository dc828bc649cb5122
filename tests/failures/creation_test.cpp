#include <infobatch/c_api.h>
#include <tests/failures/injection.hpp>
#include <tests/support/catch2_shim.hpp>

#include <cstdint>
#include <string>

// The calls of the C interface that take no session.

namespace infobatch::testing {
namespace {

constexpr const char* kJson = R"({"epochs": 5, "keep": "exact", "whole_batches": 10})";
constexpr const char* kWrong = R"({"epochs": 0, "keep": "other", "unknown": 1})";

ib_config config;
ib_session* session = nullptr;
const char* text = nullptr;

/// Makes the call with the k-th request refused, for k = 1, 2, ..., until it asks for fewer.
void refuse_each(const char* function,
                 ib_status expected,
                 ib_status (*call)(),
                 std::int64_t least) {
  CAPTURE(function);
  REQUIRE(call() == expected);  // also gives a thread's texts their memory
  const std::string told = expected == IB_OK ? "" : ib_last_error();
  ib_session_destroy(session);
  session = nullptr;
  for (const bool onwards : {false, true}) {
    bool reached = true;
    std::int64_t k = 1;
    for (; reached; ++k) {
      CAPTURE(k, onwards);
      const Live before = live();
      Failure failure(Resource::kAny, k, onwards);
      ib_status status = call();
      failure.end();
      reached = failure.failed() > 0;
      if (status != expected) {
        const std::string error = ib_last_error();
        CHECK(status == IB_OUT_OF_MEMORY);
        CHECK(error == std::string(function) + ": out of memory");
        CHECK(std::string(ib_last_reason()) == "out of memory");
        CHECK(session == nullptr);
        status = call();
      }
      CHECK(status == expected);
      if (expected != IB_OK) CHECK(ib_last_error() == told);
      ib_session_destroy(session);
      session = nullptr;
      CHECK(live().blocks <= before.blocks);
      CHECK(live().mapped <= before.mapped);
    }
    CHECK(k > least);
  }
}

TEST_CASE("creation without memory is refused as such", "[failures][rule17]") {
  ib_session_size(nullptr, nullptr);  // the last error has its memory from now on
  ib_config_init(&config, sizeof config);
  config.epochs = 5;
  config.policy = "infobatch_quantile";
  const auto create = [] { return ib_session_create(97, &config, 1, &session); };
  refuse_each("ib_session_create", IB_OK, create, 5);
  refuse_each(
      "ib_session_create",
      IB_OK,
      [] { return ib_session_create(std::int64_t{1} << 20, &config, 0, &session); },
      5);
  refuse_each(
      "ib_config_validate", IB_OK, [] { return ib_config_validate(&config); }, 1);
  refuse_each(
      "ib_session_create_json",
      IB_OK,
      [] { return ib_session_create_json(97, kJson, 1, &session); },
      20);
  refuse_each(
      "ib_session_create_json",
      IB_INVALID_ARGUMENT,
      [] { return ib_session_create_json(-1, kWrong, -1, &session); },
      20);
  refuse_each(
      "ib_config_problems_json",
      IB_OK,
      [] { return ib_config_problems_json(kWrong, -1, -1, &text); },
      20);
  CHECK(std::string(text).find("unknown") != std::string::npos);
  config.epochs = 0;
  refuse_each("ib_session_create", IB_INVALID_ARGUMENT, create, 5);
  refuse_each(
      "ib_config_validate", IB_INVALID_ARGUMENT, [] { return ib_config_validate(&config); }, 1);
}

TEST_CASE("calls without a status take no memory", "[failures][rule17]") {
  const Failure failure(Resource::kAny, 1, true);
  ib_config_init(&config, sizeof config);
  const char* const* const names = ib_policy_names();
  const char* const version = ib_version();
  const char* const error = ib_last_error();
  const char* const reason = ib_last_reason();
  ib_session_destroy(nullptr);
  ib_plan_release(nullptr);
  const bool given =
      names != nullptr && version != nullptr && error != nullptr && reason != nullptr;
  const std::int64_t failed = failure.failed();
  CHECK(failed == 0);
  CHECK(given);
}

}  // namespace
}  // namespace infobatch::testing
