#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/state.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/reseal.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// Programs that do the step themselves, on arrays that the session lends, and sessions that are
// told every loss: the same run to the bit.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t kSize = 130;
constexpr std::int64_t kBatch = 24;
constexpr float kInf = std::numeric_limits<float>::infinity();

Config config(double ema = 0.0) {
  Config config = config_of(8);
  config.score_ema = ema;
  return config;
}

std::unique_ptr<Session> make(double ema = 0.0) {
  auto session = std::make_unique<Session>(kSize, config(ema), 1);
  session->hold_warnings();
  return session;
}

/// How the losses get into the session.
enum class Way {
  kObserve,
  kWrite,       // advance, written to the lent array
  kStage,       // advance, handed over batch by batch
  kStageAtEnd,  // advance, kept by the program, handed over in one piece at the boundary or a save
  kStageIds,    // no advance: written to the lent array by position, handed over at the end
};

float loss_of(std::int64_t id, std::int64_t epoch) {
  if ((id + epoch) % 29 == 0) return bits_float(0x7fc12345u);
  if ((id + epoch) % 31 == 0) return -kInf;
  return simulated_loss(id, epoch);
}

/// One step; the losses of `kStageAtEnd` go to `own`.
PlanCopy step(Session& session, Way way, std::vector<float>& own) {
  PlanCopy seen;
  const Slice slice = session.next(kBatch);
  append(seen, slice);
  if (slice.count == 0) return seen;
  const std::int64_t epoch = slice.plan->epoch();
  const std::vector<float> losses =
      losses_of(slice, [=](std::int64_t id) { return loss_of(id, epoch); });
  const std::size_t bytes = losses.size() * sizeof(float);
  if (way == Way::kObserve) {
    session.observe(losses.data(), slice.count);
    return seen;
  }
  if (way == Way::kStageIds) {
    const EpochArrays arrays = session.epoch_arrays();
    std::memcpy(arrays.losses + slice.begin, losses.data(), bytes);
    return seen;
  }
  const Slice observed = session.advance(slice.count);
  REQUIRE(observed.begin == slice.begin);
  REQUIRE(observed.ids() == slice.ids());
  REQUIRE(observed.weights() == slice.weights());
  if (way == Way::kWrite) {
    std::memcpy(session.epoch_arrays().losses + observed.begin, losses.data(), bytes);
  } else if (way == Way::kStage) {
    session.stage(losses.data(), observed.begin, observed.count);
  } else {
    own.resize(static_cast<std::size_t>(observed.begin));
    own.insert(own.end(), losses.begin(), losses.end());
  }
  return seen;
}

void hand_over(Session& session, Way way, const std::vector<float>& own) {
  if (way == Way::kStageAtEnd) {
    session.stage(own.data(), 0, static_cast<std::int64_t>(own.size()));
  } else if (way == Way::kStageIds) {
    const EpochArrays arrays = session.epoch_arrays();
    session.stage(arrays.losses, 0, arrays.size);
  }
}

/// All but how the losses came.
void require_same_state(const std::string& a, const std::string& b) {
  const detail::StateContent left = detail::read_state(a);
  const detail::StateContent right = detail::read_state(b);
  REQUIRE(left.scores == right.scores);
  REQUIRE(left.staged == right.staged);
  REQUIRE(left.figures.observed == right.figures.observed);
  REQUIRE(left.figures.by == right.figures.by);
  REQUIRE(left.figures.epoch == right.figures.epoch);
  REQUIRE(left.figures.totals.epochs == right.figures.totals.epochs);
  REQUIRE(left.figures.totals.pruned == right.figures.totals.pruned);
  REQUIRE(left.figures.totals.non_finite == right.figures.totals.non_finite);
  REQUIRE(left.figures.totals.dropped == right.figures.totals.dropped);
  REQUIRE(left.figures.plan->fingerprint == right.figures.plan->fingerprint);
}

std::vector<float> copied(const float* values, std::int64_t count) {
  return {values, values + count};
}

}  // namespace

TEST_CASE("lent arrays give the same run as observe, to the bit", "[session][lent_arrays]") {
  const Way way = GENERATE(Way::kWrite, Way::kStage, Way::kStageAtEnd, Way::kStageIds);
  const double ema = GENERATE(0.0, 0.4);
  const auto told = make(ema);
  const auto lent = make(ema);
  std::vector<float> unused;
  for (int epoch = 0; epoch < 8; ++epoch) {
    CAPTURE(epoch);
    told->begin();
    lent->begin();
    std::vector<float> own;
    while (true) {
      const PlanCopy seen = step(*told, Way::kObserve, unused);
      REQUIRE(step(*lent, way, own) == seen);
      if (seen.ids.empty()) break;
      if (way == Way::kStageIds) continue;
      REQUIRE(lent->position() == told->position());
      if (way == Way::kStageAtEnd) hand_over(*lent, way, own);
      const std::string state = lent->serialize();
      require_same_state(state, told->serialize());
      REQUIRE(detail::read_state(state).figures.proven ==
              detail::read_state(told->serialize()).figures.proven);
    }
    hand_over(*lent, way, own);
    REQUIRE(lent->position() == told->position());
    REQUIRE(lent->length() == told->length());
    REQUIRE(score_bits(*lent) == score_bits(*told));
    const Statistics a = lent->statistics();
    const Statistics b = told->statistics();
    REQUIRE(a.samples_planned == b.samples_planned);
    REQUIRE(a.dropped_total == b.dropped_total);
  }
  lent->begin();
  told->begin();
  REQUIRE(lent->statistics().non_finite_total == told->statistics().non_finite_total);
}

TEST_CASE("a run on lent arrays that is interrupted anywhere goes on as if it had not been",
          "[session][lent_arrays]") {
  const Way way = GENERATE(Way::kWrite, Way::kStage, Way::kStageAtEnd);
  const double ema = GENERATE(0.0, 0.4);
  const bool look = GENERATE(false, true);
  const auto told = make(ema);
  auto lent = make(ema);
  std::vector<float> unused;
  for (int epoch = 0; epoch < 8; ++epoch) {
    told->begin();
    std::vector<float> own;
    lent->begin();
    while (true) {
      const PlanCopy seen = step(*told, Way::kObserve, unused);
      REQUIRE(step(*lent, way, own) == seen);
      if (seen.ids.empty()) break;
      hand_over(*lent, way, own);
      if (look) lent->length();
      const std::string state = lent->serialize();
      require_same_state(state, told->serialize());
      lent = make(ema);
      lent->deserialize(state);
      REQUIRE(lent->serialize() == state);
      const detail::StateFigures figures = detail::read_state(state).figures;
      const bool over = figures.observed == figures.plan->kept;
      if (over) break;
      lent->begin();
      const EpochArrays arrays = lent->epoch_arrays();  // what came before lies there
      const std::int64_t position = lent->position();
      for (std::int64_t p = 0; p < arrays.size; ++p) {
        const float loss = loss_of(arrays.ids[p], arrays.epoch);
        const float staged = p < position ? score_of_loss(loss) : unseen();
        REQUIRE(float_bits(arrays.losses[p]) == float_bits(staged));
      }
    }
    told->next(kBatch);
    REQUIRE(lent->length() == told->length());
    REQUIRE(score_bits(*lent) == score_bits(*told));
  }
}

TEST_CASE("losses that are written raw are judged at the boundary and in a saved state",
          "[session][lent_arrays]") {
  const auto session = make();
  session->begin();
  const EpochArrays arrays = session->epoch_arrays();
  session->next(kSize);
  session->advance(kSize);
  const std::vector<std::uint32_t> odd = {
      0x7f800000u, 0xff800000u, 0x7f800001u, 0xffffffffu, kNeverObservedBits, 0x7fc00003u};
  for (std::int64_t p = 0; p < kSize; ++p) {
    const auto at = static_cast<std::size_t>(p);
    arrays.losses[p] = at < odd.size() ? bits_float(odd[at]) : 1.0f;
  }
  const std::string state = session->serialize();
  for (std::size_t p = 0; p < odd.size(); ++p) {  // in the array they are as they were written
    REQUIRE(float_bits(arrays.losses[p]) == odd[p]);
  }
  const auto resumed = make();
  resumed->deserialize(state);
  for (Session* const each : {session.get(), resumed.get()}) {
    each->length();
    for (std::int64_t p = 0; p < kSize; ++p) {
      const bool finite = p >= static_cast<std::int64_t>(odd.size());
      const float score = each->scores()[arrays.ids[p]];
      REQUIRE(float_bits(score) == (finite ? float_bits(1.0f) : kNeverObservedBits));
    }
    each->begin();
    REQUIRE(each->statistics().non_finite_total == static_cast<std::int64_t>(odd.size()));
    std::string text;
    REQUIRE(each->next_warning(&text));
    REQUIRE_THAT(text, ContainsSubstring("6 losses of epoch 0 were NaN or infinite"));
  }
}

TEST_CASE("what is written to the lent array over observed losses is judged, too",
          "[session][lent_arrays]") {
  const auto session = make();
  session->begin();
  const EpochArrays arrays = session->epoch_arrays();
  const std::vector<float> ones(kSize, 1.0f);
  session->next(kSize);
  session->observe(ones.data(), kSize);
  arrays.losses[4] = kInf;
  arrays.losses[5] = bits_float(0x7fc00009u);
  const std::string state = session->serialize();
  const auto resumed = make();
  resumed->deserialize(state);
  session->begin();
  resumed->begin();
  REQUIRE(score_bits(*session) == score_bits(*resumed));
  REQUIRE(session->statistics().non_finite_total == 2);
  REQUIRE(resumed->statistics().non_finite_total == 2);
}

TEST_CASE("what is written to the lent array behind a look is what was written before it",
          "[session][lent_arrays]") {
  const float written = GENERATE(bits_float(0x7fc00002u), 7.0f, kInf);  // the first: no loss at all
  const double ema = GENERATE(0.0, 0.5);
  std::vector<std::string> states;
  std::vector<std::vector<std::uint32_t>> scores;
  for (const bool looks : {false, true}) {
    const auto session = make(ema);
    std::vector<float> own;
    session->begin();
    while (!step(*session, Way::kObserve, own).ids.empty()) continue;
    session->begin();
    const EpochArrays arrays = session->epoch_arrays();
    while (!step(*session, Way::kWrite, own).ids.empty()) continue;
    if (looks) (void)session->length();  // of the next epoch: what was written is folded
    arrays.losses[4] = written;
    states.push_back(session->serialize());
    session->begin();
    scores.push_back(score_bits(*session));
  }
  REQUIRE(states[0] == states[1]);
  REQUIRE(scores[0] == scores[1]);
}

TEST_CASE("positions that nobody writes are unseen and keep their score",
          "[session][lent_arrays]") {
  const double ema = GENERATE(0.0, 0.4);
  const bool interrupt = GENERATE(false, true);
  auto session = make(ema);
  run_epoch(*session, kBatch);
  session->begin();
  EpochArrays arrays = session->epoch_arrays();
  const std::vector<float> before = copied(session->scores(), kSize);
  const std::vector<std::int64_t> ids(arrays.ids, arrays.ids + arrays.size);
  for (std::int64_t p = 0; p < arrays.size; ++p) {
    REQUIRE(float_bits(arrays.losses[p]) == kUnseenBits);
  }
  while (true) {
    const Slice slice = session->next(kBatch);
    if (slice.count == 0) break;
    session->advance(slice.count);
    for (std::int64_t p = slice.begin; p < slice.begin + slice.count; p += 3) {
      arrays.losses[p] = 9.0f;
    }
  }
  REQUIRE(session->position() == arrays.size);
  if (interrupt) {
    const std::string state = session->serialize();
    session = make(ema);
    session->deserialize(state);
  }
  session->length();
  for (std::size_t p = 0; p < ids.size(); ++p) {
    const auto id = static_cast<std::size_t>(ids[p]);
    const float score = session->scores()[id];
    if (p % 3 != 0) {
      REQUIRE(float_bits(score) == float_bits(before[id]));
    } else {
      const double want = ema * double{before[id]} + (1.0 - ema) * 9.0;
      REQUIRE(score == static_cast<float>(want));
    }
  }
}

TEST_CASE("without advance the losses are by ids: what is staged is what is covered",
          "[session][lent_arrays]") {
  const auto session = make();
  session->begin();
  EpochArrays arrays = session->epoch_arrays();
  std::vector<float> own(kSize, unseen());
  for (std::int64_t p = 0; p < kSize; p += 2) own[static_cast<std::size_t>(p)] = 2.0f;
  session->stage(own.data(), 0, kSize);
  REQUIRE(session->position() == kSize / 2);
  REQUIRE(session->pending() == 0);
  REQUIRE_THROWS_AS(session->observe(own.data(), 1), StateError);
  REQUIRE_THROWS_AS(session->advance(1), StateError);
  const float three = 3.0f;
  session->stage(&three, 1, 1);  // a part
  REQUIRE(session->position() == kSize / 2 + 1);
  session->stage(&three, 1, 1);  // once more
  REQUIRE(session->position() == kSize / 2 + 1);
  float weight = 0.0f;
  session->observe_ids(&three, arrays.ids + 3, 1, &weight);
  REQUIRE(session->position() == kSize / 2 + 2);
  const std::string state = session->serialize();
  const auto resumed = make();
  resumed->deserialize(state);
  REQUIRE(resumed->position() == kSize / 2 + 2);
  REQUIRE(resumed->serialize() == state);
  const std::vector<std::int64_t> ids(arrays.ids, arrays.ids + kSize);
  for (Session* const each : {session.get(), resumed.get()}) {
    each->set_epoch(1);
    for (std::int64_t p = 0; p < kSize; ++p) {
      const float score = each->scores()[ids[static_cast<std::size_t>(p)]];
      if (p % 2 == 0) {
        REQUIRE(score == 2.0f);
      } else if (p <= 3) {
        REQUIRE(score == 3.0f);
      } else {
        REQUIRE(float_bits(score) == kNeverObservedBits);
      }
    }
  }
}

TEST_CASE("a state that is saved between two stagings by ids can be loaded",
          "[session][lent_arrays]") {
  const bool look = GENERATE(false, true);
  const auto session = make();
  session->begin();
  const EpochArrays arrays = session->epoch_arrays();
  session->next(kSize);
  const std::int64_t last = look ? kSize : kSize - 10;
  for (std::int64_t p = 0; p < last - 1; ++p) arrays.losses[p] = 2.0f;
  if (look) arrays.losses[last - 1] = 2.0f;
  session->stage(arrays.losses, 0, kSize);
  if (look) session->length();
  if (!look) arrays.losses[last - 1] = 3.0f;  // written, and not handed over yet
  const std::string state = session->serialize();
  const auto resumed = make();
  resumed->deserialize(state);
  REQUIRE(resumed->position() == last);
  session->set_epoch(1);
  resumed->set_epoch(1);
  REQUIRE(score_bits(*session) == score_bits(*resumed));
}

TEST_CASE("losses may be written before they are handed over by ids beside a recorded one",
          "[session][lent_arrays]") {
  const auto session = make();
  session->begin();
  const EpochArrays arrays = session->epoch_arrays();
  session->next(kBatch);
  arrays.losses[3] = 5.0f;
  const float loss = 1.0f;
  float weight = 0.0f;
  session->observe_ids(&loss, arrays.ids, 1, &weight);
  const std::string state = session->serialize();
  const auto resumed = make();
  resumed->deserialize(state);
  session->set_epoch(1);
  resumed->set_epoch(1);
  REQUIRE(score_bits(*session) == score_bits(*resumed));
}

TEST_CASE("no batch waits for its losses in an epoch that is observed by ids",
          "[session][lent_arrays]") {
  const auto session = make();
  session->begin();
  const Slice slice = session->next(kBatch);
  REQUIRE(session->pending() == kBatch);
  const std::vector<float> losses(kBatch, 1.0f);
  std::vector<float> weights(kBatch);
  session->observe_ids(losses.data(), slice.ids(), kBatch, weights.data());
  REQUIRE(session->pending() == 0);
  session->next(kBatch);
  REQUIRE(session->pending() == 0);
}

TEST_CASE("the arrays stay where they are within an epoch", "[session][lent_arrays]") {
  const auto session = make();
  run_epoch(*session, kBatch);
  session->begin();
  const EpochArrays first = session->epoch_arrays();
  REQUIRE(first.epoch == 1);
  REQUIRE(first.size == session->plan()->size());
  const auto unmoved = [&] {
    const EpochArrays arrays = session->epoch_arrays();
    REQUIRE(arrays.ids == first.ids);
    REQUIRE(arrays.weights == first.weights);
    REQUIRE(arrays.losses == first.losses);
    REQUIRE(arrays.plan == first.plan);
  };
  std::vector<float> own;
  while (!step(*session, Way::kWrite, own).ids.empty()) {
    unmoved();
    session->serialize();
    session->statistics();
    unmoved();
  }
  session->length();  // a look
  unmoved();          // takes it back
  session->stage(first.losses, 0, first.size);
  unmoved();
  session->discard_epoch();
  session->begin();
  unmoved();
}

TEST_CASE("a plan that is kept keeps ids and weights beyond the epoch and the session",
          "[session][lent_arrays]") {
  EpochArrays arrays;
  PlanCopy copy;
  {
    const auto session = make();
    run_epoch(*session, kBatch);
    session->begin();
    arrays = session->epoch_arrays();
    copy = copy_of(session->plan());
    for (int epoch = 0; epoch < 3; ++epoch) run_epoch(*session, kBatch);
  }
  for (std::int64_t p = 0; p < arrays.size; ++p) {
    REQUIRE(arrays.ids[p] == copy.ids[static_cast<std::size_t>(p)]);
    REQUIRE(float_bits(arrays.weights[p]) == copy.weights[static_cast<std::size_t>(p)]);
  }
  REQUIRE(PlanRef::count(arrays.plan.get()) == 1);
}

TEST_CASE("what cannot be lent, advanced or staged is refused and changes nothing",
          "[session][lent_arrays]") {
  const auto session = make();
  const std::vector<float> losses(kSize, 1.0f);
  const std::string fresh = session->serialize();
  REQUIRE_THROWS_AS(session->epoch_arrays(), StateError);
  REQUIRE_THROWS_AS(session->advance(1), StateError);
  REQUIRE_THROWS_AS(session->stage(losses.data(), 0, 1), InvalidArgument);
  REQUIRE(session->serialize() == fresh);
  session->length();  // planned, not begun
  REQUIRE_THROWS_AS(session->epoch_arrays(), StateError);
  REQUIRE_THROWS_AS(session->stage(losses.data(), 0, 1), StateError);
  REQUIRE(session->serialize() == fresh);

  session->begin();
  session->next(10);
  session->advance(4);
  session->stage(losses.data(), 0, 3);
  const std::string before = session->serialize();
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session->advance(-1); }),
               ContainsSubstring("advance: count must be at least 0, got -1"));
  REQUIRE_THROWS_AS(session->advance(7), StateError);  // more than were delivered
  REQUIRE_THROWS_AS(session->advance(3), StateError);  // another part than the first
  REQUIRE_THROWS_AS(session->observe(losses.data(), 3), StateError);
  REQUIRE_THROWS_AS(session->advance(INT64_MAX), StateError);
  for (const auto& range :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{-1, 1},
                                                          {0, -1},
                                                          {0, kSize + 1},
                                                          {kSize, 1},
                                                          {1, INT64_MAX},
                                                          {INT64_MAX, INT64_MAX},
                                                          {INT64_MIN, 1},
                                                          {INT64_MAX, 1}}) {
    const std::int64_t begin = range.first;
    const std::int64_t count = range.second;
    CAPTURE(begin, count);
    REQUIRE_THAT(message_of<InvalidArgument>([&] { session->stage(losses.data(), begin, count); }),
                 ContainsSubstring("stage: positions must be in [0, 130], got"));
  }
  REQUIRE_THAT(message_of<InvalidArgument>([&] { session->stage(nullptr, 0, 1); }),
               ContainsSubstring("stage: losses must not be null"));
  REQUIRE_THAT(message_of<StateError>([&] { session->stage(losses.data(), 2, 3); }),
               ContainsSubstring("must have been advanced over, which are 4, got 5"));
  session->stage(nullptr, 4, 0);
  session->stage(nullptr, 0, 0);
  REQUIRE(session->serialize() == before);
  float weight = 0.0f;
  const std::int64_t id = 0;
  REQUIRE_THROWS_AS(session->observe_ids(losses.data(), &id, 1, &weight), StateError);
  REQUIRE(session->advance(0).count == 0);
  REQUIRE(session->serialize() == before);
  session->advance(4);
}

TEST_CASE("lent arrays of an empty data set are empty", "[session][lent_arrays]") {
  Session session(0, config_of(3), 1);
  session.hold_warnings();
  session.begin();
  const EpochArrays arrays = session.epoch_arrays();
  REQUIRE(arrays.size == 0);
  session.stage(arrays.losses, 0, 0);
  REQUIRE(session.advance(0).count == 0);
  REQUIRE(session.next(4).count == 0);
}
