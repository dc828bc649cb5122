#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/share.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Ranks: every session delivers its share, and behind an exchange all have the scores of one
// process that saw everything.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr std::int64_t kSize = 203;
constexpr std::int64_t kBatch = 8;

Config config() {
  Config config = config_of(10);
  config.seed = 5;
  return config;
}

/// What the network between ranks does: everybody's reports, and everybody's losses.
class World {
 public:
  explicit World(int size, Config config = ::config(), Ranks like = {}, std::int64_t n = kSize) {
    for (int rank = 0; rank < size; ++rank) {
      sessions_.push_back(std::make_unique<Session>(n, config, 1));
      sessions_.back()->hold_warnings();
      like.rank = rank;
      like.size = size;
      sessions_.back()->set_ranks(like);
    }
    split_ = like.split;
  }

  int size() const { return static_cast<int>(sessions_.size()); }
  Session& operator[](int rank) { return *sessions_[static_cast<std::size_t>(rank)]; }

  /// The exchange before an epoch. @return whether losses were exchanged.
  bool exchange(std::int64_t target = -1) {
    std::vector<RankReport> reports;
    for (auto& session : sessions_) reports.push_back(session->report_to_share(target));
    const auto ranks = static_cast<std::int64_t>(size());
    for (auto& session : sessions_) session->agree(reports.data(), ranks);
    if (!Session::must_share(reports.data(), ranks)) return false;
    std::vector<std::int32_t> all;
    std::int64_t count = 0;
    for (auto& session : sessions_) {
      const RankLosses own = session->losses_to_share();
      if (split_ == Split::kGlobal && !all.empty()) {
        for (std::int64_t i = 0; i < own.count; ++i) {
          const auto at = static_cast<std::size_t>(i);
          all[at] = std::max(all[at], own.bits[i]);
        }
      } else {
        all.insert(all.end(), own.bits, own.bits + own.count);
      }
      if (count != 0) REQUIRE(count == own.count);
      count = own.count;
    }
    for (auto& session : sessions_) session->take_losses(all.data(), count, reports.data(), ranks);
    return true;
  }

  void begin() {
    exchange();
    for (auto& session : sessions_) session->begin();
  }

  /// Steps of all ranks, one after the other; the samples in the order of the plan.
  template <typename Loss>
  PlanCopy steps(const Loss& loss, std::int64_t batch = kBatch, int count = 1000) {
    PlanCopy seen;
    for (; count > 0; --count) {
      std::vector<Slice> slices;
      for (auto& session : sessions_) {
        slices.push_back(session->next(batch));
        REQUIRE(slices.back().count == slices.front().count);  // as many rows on every rank
      }
      if (slices.front().count == 0) break;
      for (std::int64_t row = 0; row < slices.front().count; ++row) {
        for (const Slice& slice : slices) {
          if (slice.weights()[row] == 0.0f) continue;  // padding
          append(seen, Slice{slice.plan, slice.begin + row, 1});
        }
      }
      for (std::size_t r = 0; r < slices.size(); ++r) {
        sessions_[r]->observe(losses_of(slices[r], loss).data(), slices[r].count);
      }
    }
    return seen;
  }

  PlanCopy epoch(std::int64_t batch = kBatch) {
    begin();
    const std::int64_t number = sessions_.front()->epoch();
    return steps([=](std::int64_t id) { return simulated_loss(id, number); }, batch);
  }

  std::string joined(bool scores_in_parts = false) {
    std::vector<std::string> parts;
    for (int rank = 0; rank < size(); ++rank) {
      parts.push_back((*this)[rank].serialize_part(scores_in_parts && rank == 0));
    }
    std::vector<std::string_view> views(parts.rbegin(), parts.rend());  // in any order
    return (*this)[size() - 1].join_parts(views);
  }

  void load(const std::string& state) {
    for (auto& session : sessions_) session->deserialize(state);
  }

 private:
  std::vector<std::unique_ptr<Session>> sessions_;
  Split split_;
};

std::vector<std::uint32_t> score_of_all(World& world) {
  const auto first = score_bits(world[0]);
  for (int rank = 1; rank < world.size(); ++rank) REQUIRE(score_bits(world[rank]) == first);
  return first;
}

}  // namespace

TEST_CASE("ranks: a deal covers every place once, in rows of all ranks", "[session][ranks]") {
  for (int size = 1; size <= 5; ++size) {
    for (std::int64_t kept = 0; kept <= 23; ++kept) {
      for (std::int64_t origin = 0; origin <= kept; ++origin) {
        for (const Padding padding : {Padding::kPad, Padding::kTrim}) {
          CAPTURE(size, kept, origin, static_cast<int>(padding));
          const detail::Deal deal({0, size, Split::kSharded, padding}, kept, origin);
          std::vector<std::int64_t> order;
          for (std::int64_t row = 0; row < deal.rows(); ++row) {
            REQUIRE(deal.places_before(row) == static_cast<std::int64_t>(order.size()));
            std::set<std::int64_t> own;
            for (int rank = 0; rank < size; ++rank) {
              const std::int64_t place = deal.place(rank, row);
              if (place >= 0) order.push_back(place);
              if (place < 0) {
                const std::int64_t other = deal.stand_in(rank, row);
                REQUIRE((other >= 0 && other < kept));
                for (std::int64_t j = 0; j < deal.rows(); ++j)
                  REQUIRE(deal.place(rank, j) != other);
              }
            }
          }
          const std::int64_t trimmed = padding == Padding::kTrim ? (kept - origin) % size : 0;
          REQUIRE(static_cast<std::int64_t>(order.size()) == kept - trimmed);
          for (std::size_t i = 0; i < order.size(); ++i) {
            REQUIRE(order[i] == static_cast<std::int64_t>(i));
          }
        }
      }
    }
  }
}

TEST_CASE("ranks: integers are ordered as losses are, and come back to the bit",
          "[session][ranks]") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> ascending = {unseen(),
                                        -kInf,
                                        -3e38f,
                                        -1.0f,
                                        -1e-45f,
                                        -0.0f,
                                        0.0f,
                                        1e-45f,
                                        1.0f,
                                        3e38f,
                                        kInf,
                                        never_observed()};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    CAPTURE(i);
    REQUIRE(float_bits(detail::loss_of_ordered(detail::ordered_bits(ascending[i]))) ==
            float_bits(ascending[i]));
    if (i > 0) REQUIRE(detail::ordered_bits(ascending[i - 1]) < detail::ordered_bits(ascending[i]));
  }
}

TEST_CASE("ranks: plans, weights and scores are those of one process", "[session][ranks]") {
  const int size = GENERATE(1, 2, 3, 4, 7);
  const double ema = GENERATE(0.0, 0.5);
  Config given = config();
  given.score_ema = ema;
  CAPTURE(size, ema);
  World world(size, given);
  Session alone(kSize, given, 1);
  alone.hold_warnings();
  for (int epoch = 0; epoch < 6; ++epoch) {
    CAPTURE(epoch);
    REQUIRE(world.epoch() == run_epoch(alone, kBatch * size));
    REQUIRE(world[0].statistics().kept == alone.statistics().kept);
  }
  world.begin();
  alone.begin();
  REQUIRE(score_of_all(world) == score_bits(alone));
  REQUIRE(world[size - 1].statistics().samples_planned == alone.statistics().samples_planned);
}

TEST_CASE("ranks: a session of one rank is one process", "[session][ranks]") {
  World world(1);
  REQUIRE_FALSE(world.exchange());
  REQUIRE(world[0].rank_rows().rows == 0);
  run_epoch(world[0], kBatch);
  REQUIRE(world[0].length() < kSize);  // the next epoch shows at once
}

TEST_CASE("ranks: padding weighs nothing and is not recorded", "[session][ranks]") {
  World world(4, config(), {}, 5);  // two rows: three of the four ranks have padding
  world.begin();
  for (int rank = 0; rank < 4; ++rank) REQUIRE(world[rank].length() == 2);
  const auto rows = world[1].rank_rows();
  REQUIRE(rows.rows == 2);
  REQUIRE(rows.short_rows == 1);
  REQUIRE((rows.row[0] == 1 && rows.missing[0] == 3));
  REQUIRE((rows.weights[0] == 4.0f && rows.weights[1] == 1.0f));
  // Who has padding claims another loss of the sample than the rank whose it is.
  for (int rank = 0; rank < 4; ++rank) {
    const Slice slice = world[rank].next(2);
    REQUIRE(slice.weights()[1] == (rank == 0 ? 1.0f : 0.0f));
    const float losses[] = {1.0f, rank == 0 ? 2.0f : 1000.0f};
    world[rank].observe(losses, 2);
  }
  world.begin();
  score_of_all(world);
  std::vector<float> scores(world[0].scores(), world[0].scores() + 5);
  std::sort(scores.begin(), scores.end());
  REQUIRE(scores == std::vector<float>{1, 1, 1, 1, 2});
}

TEST_CASE("ranks: trimming leaves the end of the plan out", "[session][ranks]") {
  World world(4, config(), {0, 1, Split::kSharded, Padding::kTrim}, 7);
  world.begin();
  for (int rank = 0; rank < 4; ++rank) REQUIRE(world[rank].length() == 1);
  REQUIRE(world[2].rank_rows().short_rows == 0);
  world.steps([](std::int64_t) { return 1.0f; });
  world.begin();
  REQUIRE(world[0].statistics().epoch == 1);
  const auto scores = score_of_all(world);
  REQUIRE(std::count(scores.begin(), scores.end(), kNeverObservedBits) == 3);
}

TEST_CASE("rule 16: whole batches are whole on every rank", "[session][ranks]") {
  Config given = config();
  given.keep = "exact";
  given.whole_batches = 4;
  World world(3, given);
  world.epoch(4);
  for (int epoch = 1; epoch < 4; ++epoch) {
    const PlanCopy seen = world.epoch(4);
    REQUIRE(seen.ids.size() % 12 == 0);
    REQUIRE(seen.ids.size() < kSize);
    REQUIRE(world[1].statistics().short_batch == 0);
    REQUIRE(world[1].length() % 4 == 0);
  }
}

TEST_CASE("ranks: nothing shows the next epoch before the exchange", "[session][ranks]") {
  World world(2);
  world.epoch();
  for (int rank = 0; rank < 2; ++rank) {
    REQUIRE(world[rank].length() == (kSize + 1) / 2);
    REQUIRE(world[rank].plan()->epoch() == 0);
    REQUIRE_THROWS_WITH(world[rank].begin(), ContainsSubstring("must be exchanged"));
    REQUIRE_THROWS_WITH(world[rank].set_epoch(1), ContainsSubstring("must be exchanged"));
  }
  REQUIRE(world.exchange());
  world[0].begin();
  world[1].begin();
  REQUIRE(world[1].statistics().epoch == 1);
}

TEST_CASE("ranks: a look behind the exchange changes no part that is saved", "[session][ranks]") {
  // The look folds losses of all ranks by position of the plan; a part has those of its own rows.
  Config options = config();
  options.score_ema = GENERATE(0.0, 0.5);
  options.policy = GENERATE("infobatch", "ucb");
  World world(3, options);
  world.epoch();
  world.begin();
  world.steps([](std::int64_t id) {
    return id % 10 == 7 ? bits_float(0x7f800000u) : simulated_loss(id, 1);  // infinite: warned of
  });
  REQUIRE(world.exchange());
  std::vector<std::string> parts;
  for (int r = 0; r < world.size(); ++r) parts.push_back(world[r].serialize_part(true));
  for (int r = 0; r < world.size(); ++r) {
    (void)world[r].length();  // of the next epoch
    REQUIRE(world[r].serialize_part(true) == parts[std::size_t(r)]);
  }
  // While the next epoch begins, handlers of its warnings see the session between the two.
  for (int r = 0; r < world.size(); ++r) {
    std::string seen;
    world[r].set_warning_handler([&](const std::string&) { seen = world[r].serialize_part(true); });
    world[r].begin();
    REQUIRE((seen == parts[std::size_t(r)]));
  }
  std::vector<std::string_view> views(parts.begin(), parts.end());
  Session whole(kSize, options, 1);
  whole.hold_warnings();
  Session fresh(kSize, options, 1);
  whole.deserialize(fresh.join_parts(views));
  Session alone(kSize, options, 1);
  alone.hold_warnings();
  run_epoch(alone, 3 * kBatch);
  run_epoch(alone, 3 * kBatch, [](std::int64_t id) {
    return id % 10 == 7 ? bits_float(0x7f800000u) : simulated_loss(id, 1);
  });
  REQUIRE(whole.epoch() == alone.epoch());
  REQUIRE(copy_of(whole.plan()) == copy_of(alone.plan()));
}

TEST_CASE("ranks: no loss is taken behind the exchange of its epoch", "[session][ranks]") {
  World world(2);
  world.begin();
  world[1].next(4);
  const Slice slice = world[0].next(4);
  const float losses[] = {1.0f, 1.0f, 1.0f, 1.0f};
  float weights[4];
  world[0].observe(losses, 2);
  const auto refused = ContainsSubstring("behind its exchange");
  REQUIRE(world.exchange());
  REQUIRE_THROWS_WITH(world[0].observe(losses, 2), refused);
  REQUIRE_THROWS_WITH(world[0].advance(2), refused);
  REQUIRE_THROWS_WITH(world[0].stage(losses, 0, 2), refused);
  REQUIRE_THROWS_WITH(world[1].observe_ids(losses, slice.ids(), 1, weights), refused);
}

TEST_CASE("ranks: an epoch that nobody observed repeats, one that anybody did is over",
          "[session][ranks]") {
  World world(2);
  world.begin();
  world[0].next(4);
  REQUIRE(world.exchange());
  world[0].begin();
  world[1].begin();
  REQUIRE(world[0].statistics().epoch == 0);
  REQUIRE(world[1].statistics().epoch == 0);
  // Only rank 1 observes.
  const Slice slice = world[1].next(4);
  world[0].next(4);
  world[1].observe(losses_of(slice, [](std::int64_t) { return 2.0f; }).data(), 4);
  REQUIRE(world.exchange());
  world[0].begin();
  world[1].begin();
  REQUIRE(world[0].statistics().epoch == 1);
  REQUIRE(world[1].statistics().epoch == 1);
  const auto scores = score_of_all(world);
  REQUIRE(std::count(scores.begin(), scores.end(), float_bits(2.0f)) == 4);
}

TEST_CASE("check d: losses of an unsound rank enter nowhere, those of the others everywhere",
          "[session][ranks]") {
  World world(3, config_of(10, 0.0));
  world.begin();
  // Each loader runs one batch ahead; rank 1 loses a batch and breaks off.
  std::set<std::int64_t> sound;
  for (int rank = 0; rank < 3; ++rank) {
    Session& session = world[rank];
    Slice held = session.next(kBatch);
    for (int step = 0;; ++step) {
      const Slice ahead = session.next(kBatch);
      if (rank != 1) {
        for (std::int64_t i = 0; i < held.count; ++i) {
          if (held.weights()[i] > 0) sound.insert(held.ids()[i]);
        }
      }
      if (rank == 1 && step == 3) break;
      session.observe(losses_of(held, [](std::int64_t id) { return float(id + 1); }).data(),
                      held.count);
      if (ahead.count == 0) break;
      held = ahead;
    }
  }
  world.begin();
  score_of_all(world);
  for (std::int64_t id = 0; id < kSize; ++id) {
    const float score = world[0].scores()[id];
    REQUIRE(float_bits(score) ==
            float_bits(sound.count(id) != 0 ? float(id + 1) : never_observed()));
  }
  std::string text;
  WarningKind kind{};
  for (int rank = 0; rank < 3; ++rank) {
    REQUIRE(world[rank].statistics().dropped_total == 3 * kBatch);
    REQUIRE(world[rank].next_warning(&text, &kind));
    REQUIRE(kind == WarningKind::kUnsound);
  }
}

TEST_CASE("ranks: what differs is told by name and rank, on every rank", "[session][ranks]") {
  const auto reports_of = [](std::vector<Session*> sessions, std::vector<std::int64_t> targets) {
    std::vector<RankReport> reports;
    for (std::size_t r = 0; r < sessions.size(); ++r) {
      sessions[r]->set_ranks({static_cast<int>(r), 2, Split::kSharded, Padding::kPad});
      reports.push_back(sessions[r]->report_to_share(targets[r]));
    }
    return reports;
  };
  const auto refusal = [&](Session& a, Session& b, std::int64_t at, std::int64_t bt) {
    const auto reports = reports_of({&a, &b}, {at, bt});
    const auto first = message_of<StateError>([&] { a.agree(reports.data(), 2); });
    REQUIRE(first == message_of<StateError>([&] { b.agree(reports.data(), 2); }));
    return first;
  };
  Config other = config();
  other.seed = 6;
  Config longer = config();
  longer.epochs = 11;
  Session a(kSize, config(), 1), b(kSize, other, 1), c(kSize + 1, config(), 1), d(kSize, longer, 1),
      e(kSize, config(), 1);
  REQUIRE_THAT(refusal(a, b, -1, -1), ContainsSubstring("rank 1: seed 6, rank 0: 5"));
  REQUIRE_THAT(refusal(a, c, -1, -1), ContainsSubstring("rank 1: number of samples 204"));
  REQUIRE_THAT(refusal(a, d, -1, -1), ContainsSubstring("rank 1: digest of the options"));
  REQUIRE_THAT(refusal(a, e, 1, 2), ContainsSubstring("rank 1: epoch to begin"));
  REQUIRE(refusal(a, e, 1, 1) == "nothing was thrown");
  // Two processes that both take themselves for rank 0.
  auto reports = reports_of({&a, &e}, {-1, -1});
  reports[1].rank = 0;
  REQUIRE_THROWS_WITH(a.agree(reports.data(), 2),
                      ContainsSubstring("in place of rank 1 stands rank 0"));
}

TEST_CASE("ranks: other scores on one rank are noticed before any loss is exchanged",
          "[session][ranks]") {
  World world(2);
  world.epoch();
  world.begin();
  const std::string state = world.joined();
  World other(2);
  other.begin();
  other.steps([](std::int64_t id) { return float(id % 7); });
  other.begin();
  World mixed(2);
  mixed[0].deserialize(state);
  mixed[1].deserialize(other.joined());
  REQUIRE_THROWS_WITH(mixed.exchange(), ContainsSubstring("rank 1: digest of the scores"));
}

TEST_CASE("ranks: a state of 4 ranks goes on with 4, 3, 2 and 1, at any step", "[session][ranks]") {
  const int stop = GENERATE(0, 1, 3, 4, 100);
  const bool scores_in_parts = GENERATE(false, true);
  CAPTURE(stop, scores_in_parts);
  const auto loss = [](std::int64_t id) { return simulated_loss(id, 1); };
  World world(4);
  world.epoch();
  world.begin();
  PlanCopy before = world.steps(loss, kBatch, stop);
  const std::string state = world.joined(scores_in_parts);
  PlanCopy whole = before;
  const PlanCopy rest = world.steps(loss);
  whole.ids.insert(whole.ids.end(), rest.ids.begin(), rest.ids.end());
  world.begin();
  const auto scores = score_of_all(world);
  for (const int size : {4, 3, 2}) {
    CAPTURE(size);
    World again(size);
    again.load(state);
    again.begin();
    const bool over = rest.ids.empty();  // all of it was observed: then the next epoch has begun
    REQUIRE(again[0].statistics().epoch == (over ? 2 : 1));
    if (!over) {
      REQUIRE(again.steps(loss) == rest);
      again.begin();
    }
    REQUIRE(score_of_all(again) == scores);
  }
  Session alone(kSize, config(), 1);
  alone.hold_warnings();
  alone.deserialize(state);
  if (!rest.ids.empty()) {
    alone.begin();
    REQUIRE(alone.statistics().epoch == 1);
    REQUIRE(run_batches(alone, 4 * kBatch, loss) == rest);
  }
  alone.begin();
  REQUIRE(score_bits(alone) == scores);
  // And back: what one process saved goes on with 3 ranks, and is saved again by them.
  Session single(kSize, config(), 1);
  single.hold_warnings();
  run_epoch(single, kBatch);
  single.begin();
  run_batches(single, 5, loss, 5);  // 25 samples: no whole row of 3 ranks
  World three(3);
  three.load(single.serialize());
  three.begin();
  three.steps(loss, kBatch, 2);
  World two(2);
  two.load(three.joined());
  two.begin();
  const PlanCopy last = two.steps(loss);
  run_batches(single, 1, loss, 2 * 3 * kBatch);
  REQUIRE(last == run_batches(single, kBatch, loss));
  two.begin();
  single.begin();
  REQUIRE(score_of_all(two) == score_bits(single));
}

TEST_CASE("ranks: behind a load the epoch is over for all when one rank observed more of it",
          "[session][ranks]") {
  World world(2);
  world.begin();
  world.steps([](std::int64_t) { return 1.0f; }, kBatch, 3);
  World again(2);
  again.load(world.joined());
  again.begin();
  again[0].next(kBatch);
  const Slice slice = again[1].next(kBatch);
  REQUIRE_FALSE(again.exchange());  // nobody has: it goes on once more
  again[0].begin();
  again[1].begin();
  again[0].next(kBatch);
  again[1].next(kBatch);
  again[1].observe(losses_of(slice, [](std::int64_t) { return 2.0f; }).data(), kBatch);
  again.begin();
  REQUIRE(again[0].statistics().epoch == 1);
  REQUIRE(again[1].statistics().epoch == 1);
  const auto scores = score_of_all(again);
  // Rank 0 broke off with a batch in flight: what was proven before the load enters, not the last
  // batch.
  REQUIRE(std::count(scores.begin(), scores.end(), float_bits(1.0f)) == (2 + 3) * kBatch);
  REQUIRE(std::count(scores.begin(), scores.end(), float_bits(2.0f)) == kBatch);
}

TEST_CASE("ranks: what was not beyond doubt in a part is not in the whole state",
          "[session][ranks]") {
  // Both loaders run one batch ahead in the first epoch, so nothing is proven when it breaks off.
  World world(2);
  world.begin();
  for (int rank = 0; rank < 2; ++rank) {
    const Slice first = world[rank].next(kBatch);
    world[rank].next(kBatch);
    world[rank].observe(losses_of(first, [](std::int64_t) { return 1.0f; }).data(), kBatch);
    world[rank].next(kBatch);
  }
  World again(3);
  again.load(world.joined());
  again.exchange(1);  // it is left without being gone on with
  for (int rank = 0; rank < 3; ++rank) again[rank].set_epoch(1);
  for (const std::uint32_t bits : score_of_all(again)) REQUIRE(bits == kNeverObservedBits);
  REQUIRE(again[0].statistics().dropped_total == 2 * kBatch + 2);  // in rows of three, two padded
}

TEST_CASE("ranks: shares by ids are exchanged, saved and resumed", "[session][ranks]") {
  const int size = GENERATE(2, 3);
  World world(size);
  world.epoch();
  Session alone(kSize, config(), 1);
  alone.hold_warnings();
  run_epoch(alone, kBatch);
  alone.begin();
  world.begin();
  std::vector<float> weights(kBatch);
  // The second batch of every rank is skipped, and the first comes back to front.
  for (int rank = 0; rank < size; ++rank) {
    for (int step = 0; step < 4; ++step) {
      const Slice slice = world[rank].next(kBatch);
      if (step == 1) continue;
      std::vector<std::int64_t> ids(slice.ids(), slice.ids() + slice.count);
      std::reverse(ids.begin(), ids.end());
      std::vector<float> losses;
      for (const std::int64_t id : ids) losses.push_back(simulated_loss(id, 1));
      world[rank].observe_ids(losses.data(), ids.data(), kBatch, weights.data());
      REQUIRE(weights[0] == slice.weights()[kBatch - 1]);
    }
  }
  const std::int64_t others = world[1].plan()->ids()[0];
  const float loss = 1.0f;
  REQUIRE_THROWS_WITH(world[0].observe_ids(&loss, &others, 1, weights.data()),
                      ContainsSubstring("another rank delivers"));
  // Whoever goes on gets what is missing, dealt anew: as many rows on every rank.
  const std::string state = world.joined();
  alone.deserialize(state);
  alone.begin();
  PlanCopy due;
  for (Slice slice = alone.next(1); slice.count > 0; slice = alone.next(1)) append(due, slice);
  REQUIRE(std::int64_t(due.ids.size()) == world[0].statistics().kept - 3 * kBatch * size);
  for (const int other : {1, 2, 4}) {
    CAPTURE(other);
    World again(other);
    again.load(state);
    again.begin();
    PlanCopy seen;
    std::int64_t rows = again[0].next(1000).count;
    for (int rank = 1; rank < other; ++rank) REQUIRE(again[rank].next(1000).count == rows);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (int rank = 0; rank < other; ++rank) {
        const auto plan = again[rank].plan();
        const std::int64_t at = other == 1 ? -1 : plan->size() - rows + row;
        if (at >= 0 && plan->weights()[at] != 0.0f) append(seen, Slice{plan, at, 1});
      }
    }
    if (other > 1) REQUIRE(seen == due);
    if (other == 1) continue;
    for (int rank = 0; rank < other; ++rank) {
      const auto plan = again[rank].plan();
      std::vector<float> losses;
      std::vector<float> ignored(static_cast<std::size_t>(rows));
      const std::int64_t* const ids = plan->ids() + plan->size() - rows;
      for (std::int64_t i = 0; i < rows; ++i) losses.push_back(simulated_loss(ids[i], 1));
      again[rank].observe_ids(losses.data(), ids, rows, ignored.data());
    }
    again.begin();
    Session single(kSize, config(), 1);
    single.hold_warnings();
    run_epoch(single, kBatch);
    run_epoch(single, kBatch);
    single.begin();
    REQUIRE(score_of_all(again) == score_bits(single));
  }
}

TEST_CASE("ranks: where a framework splits, losses come by ids and the largest counts",
          "[session][ranks]") {
  World world(3, config(), {0, 1, Split::kGlobal, Padding::kPad});
  world.begin();
  for (int rank = 0; rank < 3; ++rank) {
    const Slice slice = world[rank].next(1000);
    REQUIRE(slice.count == kSize);
    const float loss = 1.0f;
    REQUIRE_THROWS_WITH(world[rank].observe(&loss, 1), ContainsSubstring("only ids say"));
    std::vector<std::int64_t> ids;
    std::vector<float> losses;
    for (std::int64_t p = rank; p < kSize; p += 3) {
      ids.push_back(slice.ids()[p]);
      losses.push_back(simulated_loss(ids.back(), 0) - 1.0f);
    }
    if (rank > 0) {  // even batches: a sample of rank 0 once more
      ids.push_back(slice.ids()[0]);
      losses.push_back(-50.0f);
    }
    std::vector<float> weights(ids.size());
    world[rank].observe_ids(losses.data(), ids.data(), std::int64_t(ids.size()), weights.data());
  }
  // A state in the midst of it is that of one process by ids.
  Session alone(kSize, config(), 1);
  alone.hold_warnings();
  alone.deserialize(world.joined());
  REQUIRE(alone.position() == kSize);
  world.begin();
  alone.begin();
  REQUIRE(world[2].statistics().epoch == 1);
  REQUIRE(score_of_all(world) == score_bits(alone));
  for (std::int64_t id = 0; id < kSize; ++id) {
    REQUIRE(world[1].scores()[id] == simulated_loss(id, 0) - 1.0f);
  }
}

TEST_CASE("ranks: parts that do not belong together are refused", "[session][ranks]") {
  World world(3);
  world.begin();
  world.steps([](std::int64_t) { return 1.0f; }, kBatch, 2);
  std::vector<std::string> parts;
  for (int rank = 0; rank < 3; ++rank) parts.push_back(world[rank].serialize_part(rank == 0));
  const auto refusal = [&](std::vector<std::string_view> given) {
    return message_of<InvalidArgument>([&] { world[0].join_parts(given); });
  };
  REQUIRE_THAT(refusal({}), ContainsSubstring("got none"));
  REQUIRE_THAT(refusal({parts[0], parts[2]}), ContainsSubstring("none of rank 1"));
  REQUIRE_THAT(refusal({parts[0], parts[1], parts[1]}), ContainsSubstring("rank 1 twice"));
  const Slice slice = world[2].next(kBatch);
  world[2].observe(losses_of(slice, [](std::int64_t) { return 1.0f; }).data(), kBatch);
  const std::string later = world[2].serialize_part(false);
  REQUIRE_THAT(refusal({parts[0], parts[1], later}), ContainsSubstring("at the same step"));
  REQUIRE_THROWS_WITH(world[0].deserialize(parts[0]), ContainsSubstring("the part of rank 0 of 3"));
  REQUIRE_THROWS_WITH(world[0].serialize(), ContainsSubstring("in parts"));
  Session fresh(kSize, config(), 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] {
                 fresh.join_parts({parts[1], parts[2]});
               }),
               ContainsSubstring("none of rank 0"));
  const std::string no_scores = world[0].serialize_part(false);
  REQUIRE_THAT(message_of<InvalidArgument>([&] {
                 fresh.join_parts({no_scores, parts[1], parts[2]});
               }),
               ContainsSubstring("parts without scores"));
  std::string damaged = parts[1];
  damaged[damaged.size() - 3] ^= 1;
  REQUIRE_THROWS_AS(world[0].join_parts({parts[0], damaged, parts[2]}), FileError);
}

TEST_CASE("rule 13: ranks that cannot be are refused", "[session][ranks]") {
  Session session(kSize, config(), 1);
  REQUIRE_THROWS_AS(session.set_ranks({0, 0}), InvalidArgument);
  REQUIRE_THROWS_AS(session.set_ranks({2, 2}), InvalidArgument);
  REQUIRE_THROWS_AS(session.set_ranks({-1, 2}), InvalidArgument);
  session.set_ranks({1, 2});
  REQUIRE(session.length() == (kSize + 1) / 2);
  session.set_ranks({0, 1});  // before it begins it may still change
  REQUIRE(session.length() == kSize);
  session.begin();
  REQUIRE_THROWS_AS(session.set_ranks({1, 2}), StateError);
  REQUIRE_THROWS_AS(session.losses_to_share(), StateError);
  Session two(kSize, config(), 1);
  two.set_ranks({1, 2});
  REQUIRE_THROWS_AS(two.losses_to_share(), StateError);  // nothing has begun
  two.begin();
  std::vector<RankReport> reports(2, two.report_to_share(-1));
  reports[0].rank = 0;
  const std::vector<std::int32_t> bits(1000);
  REQUIRE_THROWS_AS(two.take_losses(bits.data(), 5, reports.data(), 2), InvalidArgument);
  REQUIRE_THROWS_AS(two.take_losses(nullptr, two.length(), reports.data(), 2), InvalidArgument);
  reports[0].epoch = reports[1].epoch = 7;
  REQUIRE_THROWS_AS(two.take_losses(bits.data(), two.length(), reports.data(), 2), StateError);
}
