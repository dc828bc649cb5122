#include <infobatch/detail/owned_plan.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/plan_holder.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

// Counted references to plans: who holds one may read it for ever, and memory is used again only
// where nobody does.

using namespace infobatch;
using namespace infobatch::testing;
using detail::PlanHolder;

namespace {

/// A plan that says when it ends.
class Probe final : public Plan {
 public:
  explicit Probe(int* ended) : ended_(ended) {}
  ~Probe() override { ++*ended_; }

 private:
  int* ended_;
};

detail::OwnedPlan* owned_plan(std::int64_t size) {
  PlanArrays arrays;
  arrays.size = size;
  arrays.ids = Buffer<std::int64_t>(size);
  arrays.weights = Buffer<float>(size);
  return new detail::OwnedPlan(0, size, std::move(arrays));
}

}  // namespace

TEST_CASE("the last reference ends a plan", "[session][plan_ref]") {
  int ended = 0;
  auto* const plan = new Probe(&ended);
  PlanRef first(plan);
  REQUIRE(PlanRef::count(plan) == 1);
  {
    PlanRef second = first;
    REQUIRE(PlanRef::count(plan) == 2);
    PlanRef third = std::move(second);
    REQUIRE(PlanRef::count(plan) == 2);
    REQUIRE(second == nullptr);  // NOLINT: moved from
    REQUIRE(third == first);
    PlanRef& same = third;
    third = same;
    REQUIRE(PlanRef::count(plan) == 2);
    first = nullptr;
    REQUIRE(PlanRef::count(plan) == 1);
    REQUIRE(third != nullptr);
    REQUIRE(third != first);
    REQUIRE_FALSE(static_cast<bool>(first));
    first = third;
    REQUIRE(ended == 0);
  }
  REQUIRE(PlanRef::count(plan) == 1);
  first = PlanRef();
  REQUIRE(ended == 1);
  REQUIRE(PlanRef::count(nullptr) == 0);
}

TEST_CASE("references that are paid for in advance are adopted or given back",
          "[session][plan_ref]") {
  int ended = 0;
  auto* const plan = new Probe(&ended);
  PlanRef::take_many(plan, 10);
  {
    const PlanRef one = PlanRef::adopt(plan);
    REQUIRE(PlanRef::count(plan) == 10);
  }
  REQUIRE(PlanRef::count(plan) == 9);
  PlanRef::give_back(plan, 0);
  PlanRef::give_back(plan, 8);
  REQUIRE(ended == 0);
  PlanRef::give_back(plan, 1);
  REQUIRE(ended == 1);
  PlanRef::take_many(nullptr, 3);
  PlanRef::give_back(nullptr, 3);
}

TEST_CASE("a reference and a shared pointer keep the same plan, in both directions",
          "[session][plan_ref]") {
  int ended = 0;
  auto* const plan = new Probe(&ended);
  PlanRef reference(plan);
  std::shared_ptr<const Plan> shared = reference;
  REQUIRE(shared.get() == plan);
  REQUIRE(PlanRef::count(plan) == 2);
  std::shared_ptr<const Plan> copy = shared;
  REQUIRE(PlanRef::count(plan) == 2);  // copies of a shared pointer count among themselves
  reference = nullptr;
  REQUIRE(ended == 0);
  PlanRef back = copy;
  REQUIRE(back.get() == plan);
  REQUIRE(PlanRef::count(plan) == 2);
  std::weak_ptr<const Plan> weak = shared;
  shared.reset();
  copy.reset();
  REQUIRE(weak.expired());  // and a weak pointer keeps no plan
  REQUIRE(PlanRef::count(plan) == 1);
  std::shared_ptr<const Plan> again = back;
  back = nullptr;
  REQUIRE(ended == 0);
  again.reset();
  REQUIRE(ended == 1);

  const std::shared_ptr<const Plan> nothing = PlanRef();
  REQUIRE(nothing == nullptr);
  REQUIRE(PlanRef(nothing) == nullptr);
}

TEST_CASE("a holder gives its memory away only where nobody else holds the plan",
          "[session][plan_ref]") {
  PlanHolder holder(owned_plan(5));
  const std::int64_t* const ids = holder->ids();
  PlanRef lent = holder.lend();
  REQUIRE(lent->ids() == ids);
  REQUIRE_FALSE(holder.release_arrays().has_value());
  std::shared_ptr<const Plan> shared = lent;
  lent = nullptr;
  REQUIRE_FALSE(holder.release_arrays().has_value());
  shared.reset();
  for (int i = 0; i < 200000; ++i) holder.lend();  // more than are paid for at once
  PlanRef held = holder.lend();
  REQUIRE_FALSE(holder.release_arrays().has_value());
  held = nullptr;
  const std::optional<PlanArrays> arrays = holder.release_arrays();
  REQUIRE(arrays.has_value());
  REQUIRE(arrays->ids.data() == ids);
}

TEST_CASE("a plan outlives its holder as long as a reference does", "[session][plan_ref]") {
  PlanRef kept;
  {
    PlanHolder first(owned_plan(3));
    kept = first.lend();
    PlanHolder second = std::move(first);
    REQUIRE(second.get() == kept.get());
    REQUIRE(first.get() == nullptr);  // NOLINT: moved from
    REQUIRE(first.lend() == nullptr);
    REQUIRE_FALSE(first.release_arrays().has_value());
    first = std::move(second);
    REQUIRE(first.get() == kept.get());
  }
  REQUIRE(PlanRef::count(kept.get()) == 1);
  REQUIRE(kept->size() == 3);
}

TEST_CASE("plans that somebody holds stay as they are while others are made",
          "[session][plan_ref]") {
  constexpr std::int64_t kSize = 400;
  constexpr std::int64_t kEpochs = 60;
  std::map<std::int64_t, std::pair<PlanRef, PlanCopy>> held;
  std::vector<std::shared_ptr<const Plan>> shared;
  std::vector<Slice> slices;
  {
    Session session(kSize, config_of(kEpochs), 2);
    session.hold_warnings();
    for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      session.begin();
      REQUIRE(session.epoch() == epoch);
      if (epoch % 3 != 1) {
        held[epoch] = {session.plan(), copy_of(session.plan())};
      }
      if (epoch % 5 == 0) shared.push_back(session.plan());
      bool first = true;
      while (true) {
        const Slice slice = session.next(64);
        if (slice.count == 0) break;
        if (first && epoch % 4 == 2) slices.push_back(slice);
        first = false;
        session.observe(
            losses_of(slice, [=](std::int64_t id) { return simulated_loss(id, epoch); }).data(),
            slice.count);
      }
      if (epoch % 7 == 6) held.erase(held.begin());  // memory that comes free in between
      for (const auto& [number, plan] : held) {
        REQUIRE(plan.first->epoch() == number);
        REQUIRE(copy_of(plan.first) == plan.second);
      }
    }
  }
  for (const auto& [number, plan] : held) {  // beyond the session
    REQUIRE(plan.first->epoch() == number);
    REQUIRE(copy_of(plan.first) == plan.second);
  }
  for (const auto& plan : shared) {
    if (const auto it = held.find(plan->epoch()); it != held.end()) {
      REQUIRE(plan.get() == it->second.first.get());
    }
  }
  for (const Slice& slice : slices) REQUIRE(slice.plan->epoch() % 4 == 2);
}

TEST_CASE("a plan that nobody holds gives its memory to a later one", "[session][plan_ref]") {
  Session session(500, config_of(20), 1);
  session.hold_warnings();
  std::map<const std::int64_t*, int> places;
  for (int epoch = 0; epoch < 12; ++epoch) {
    run_epoch(session, 100);
    ++places[session.plan()->ids()];
  }
  REQUIRE(places.size() <= 4);
}
