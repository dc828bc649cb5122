#include <infobatch/c_api.h>
#include <infobatch/detail/peers.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// A table in ranges, a session each: rules 2 to 5 hold for the whole of it.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Where threads gather what each has; one that fails ends all.
class Meeting {
 public:
  explicit Meeting(int size) : size_(size) {}

  Gather of(int rank) {
    return [this, rank](const void* own, std::size_t bytes, void* all) {
      std::unique_lock<std::mutex> lock(mutex_);
      const std::int64_t round = round_;
      if (came_ == 0) slots_.assign(bytes * static_cast<std::size_t>(size_), 0);
      if (slots_.size() != bytes * static_cast<std::size_t>(size_)) failed_ = true;
      if (!failed_) std::memcpy(slots_.data() + bytes * static_cast<std::size_t>(rank), own, bytes);
      bytes_ += bytes;
      if (++came_ == size_) {
        came_ = 0;
        ++round_;
        full_ = slots_;
        ready_.notify_all();
      } else {
        ready_.wait(lock, [&] { return round_ != round || failed_; });
      }
      if (failed_) {
        ready_.notify_all();
        throw std::runtime_error("a rank is lost");
      }
      std::memcpy(all, full_.data(), full_.size());
    };
  }
  void fail() {
    const std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    ready_.notify_all();
  }
  std::size_t bytes() const { return bytes_; }

 private:
  const int size_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<char> slots_;
  std::vector<char> full_;
  std::int64_t round_ = 0;
  int came_ = 0;
  std::size_t bytes_ = 0;
  bool failed_ = false;
};

/// The ranges of a table of `size`, each but the last of a multiple of 2048.
std::vector<IdRange> ranges_of(std::int64_t size, int ranks) {
  std::vector<IdRange> ranges;
  const std::int64_t part = (size / ranks + 2047) / 2048 * 2048;
  for (int rank = 0; rank < ranks; ++rank) {
    ranges.push_back({std::min(rank * part, size / 2048 * 2048), size, rank, ranks});
  }
  return ranges;
}

std::int64_t size_of(const std::vector<IdRange>& ranges, int rank) {
  const auto next = static_cast<std::size_t>(rank) + 1;
  const std::int64_t end = next < ranges.size() ? ranges[next].first : ranges[0].total;
  return end - ranges[next - 1].first;
}

/// Every rank in a thread of its own; what one throws, after all have ended.
template <typename Body>
void on_ranks(int ranks, Meeting& meeting, const Body& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(rank);
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
        meeting.fail();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

Config config_for(const std::string& policy, const std::string& keep) {
  Config config = config_of(8, 0.4);
  config.policy = policy;
  config.keep = keep;
  return config;
}

/// Ids of the table, sorted, with the bits of their weights.
using Kept = std::vector<std::pair<std::int64_t, std::uint32_t>>;

void add(Kept& kept, const PlanCopy& plan, std::int64_t first) {
  for (std::size_t p = 0; p < plan.ids.size(); ++p) {
    kept.emplace_back(first + plan.ids[p], plan.weights[p]);
  }
}

/// Three epochs in ranges and in one session: the same samples with the same weights.
void compare(std::int64_t size, int ranks, const Config& config) {
  const std::vector<IdRange> ranges = ranges_of(size, ranks);
  Meeting meeting(ranks);
  constexpr int kEpochs = 3;
  std::vector<std::vector<Kept>> found(kEpochs, std::vector<Kept>(std::size_t(ranks)));
  on_ranks(ranks, meeting, [&](int rank) {
    const IdRange& range = ranges[std::size_t(rank)];
    Session session(size_of(ranges, rank), config, 1);
    session.set_range(range, meeting.of(rank));
    for (int epoch = 0; epoch < kEpochs; ++epoch) {
      const auto loss = [&](std::int64_t id) { return simulated_loss(range.first + id, epoch); };
      add(found[std::size_t(epoch)][std::size_t(rank)],
          run_epoch(session, 1000, loss),
          range.first);
    }
  });
  Session whole(size, config, 1);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    Kept expected;
    const auto loss = [&](std::int64_t id) { return simulated_loss(id, epoch); };
    add(expected, run_epoch(whole, 1000, loss), 0);
    Kept all;
    for (const Kept& part : found[std::size_t(epoch)])
      all.insert(all.end(), part.begin(), part.end());
    std::sort(all.begin(), all.end());
    std::sort(expected.begin(), expected.end());
    CAPTURE(epoch, all.size(), expected.size());
    REQUIRE((all == expected));
  }
}

}  // namespace

TEST_CASE("ranges: what is kept and what it weighs is that of one session", "[session][ranges]") {
  const std::string policy = GENERATE("infobatch", "random", "full");
  const std::string keep = GENERATE("bernoulli", "exact");
  const int ranks = GENERATE(1, 2, 3, 4);
  const std::int64_t size = GENERATE(0, 5, 2048, 10001, 70000);
  CAPTURE(policy, keep, ranks, size);
  compare(size, ranks, config_for(policy, keep));
}

TEST_CASE("ranges: four million samples on four ranks", "[session][ranges][slow]") {
  compare(4'000'000, 4, config_for("infobatch", GENERATE("bernoulli", "exact")));
}

TEST_CASE("ranges: what travels does not grow with the table", "[session][ranges]") {
  const bool exact = GENERATE(false, true);
  std::map<std::int64_t, std::size_t> bytes;
  for (const std::int64_t size : {20000, 80000}) {
    Meeting meeting(2);
    const std::vector<IdRange> ranges = ranges_of(size, 2);
    on_ranks(2, meeting, [&](int rank) {
      Session session(
          size_of(ranges, rank), config_for("infobatch", exact ? "exact" : "bernoulli"), 1);
      session.set_range(ranges[std::size_t(rank)], meeting.of(rank));
      for (int epoch = 0; epoch < 2; ++epoch) run_epoch(session, 1000);
    });
    bytes[size] = meeting.bytes();
  }
  if (exact) {
    REQUIRE(bytes[80000] <= bytes[20000] + 2 * 512);  // a round of 64 counts more
    REQUIRE(bytes[80000] < 2 * 4096);
  } else {
    REQUIRE(bytes[80000] == bytes[20000]);
    REQUIRE(bytes[80000] == 2 * (2 * 64 + 40));  // two plans, and one comparison of the ranges
  }
}

TEST_CASE("ranges: what travels does not depend on where the candidates lie", "[session][ranges]") {
  // All samples below the mean in the first of four ranges, or as many in each.
  constexpr std::int64_t kPart = 16 * 2048;
  std::size_t bytes[2] = {};
  for (const bool together : {false, true}) {
    Meeting meeting(4);
    std::vector<std::int64_t> kept(4);
    on_ranks(4, meeting, [&](int rank) {
      Session session(kPart, config_for("infobatch", "exact"), 1);
      session.set_range({rank * kPart, 4 * kPart, rank, 4}, meeting.of(rank));
      run_epoch(session, 1000, [&](std::int64_t id) {
        return (together ? rank == 0 : id % 4 == 0) ? 0.5f : 2.0f;
      });
      session.set_epoch(1);
      kept[std::size_t(rank)] = session.length();
    });
    REQUIRE(kept[0] + kept[1] + kept[2] + kept[3] == 3 * kPart + kPart * 6 / 10);  // r = 0.4
    if (together) REQUIRE(kept[1] == kPart);
    bytes[together] = meeting.bytes();
  }
  REQUIRE(bytes[0] == bytes[1]);
}

TEST_CASE("ranges: equal draws are cut by id, whoever has them", "[session][ranges]") {
  // Draws of 64 bits are hardly ever equal, so the search is asked with draws made up here.
  using detail::Draw;
  const std::uint64_t top = ~std::uint64_t{0};
  const std::vector<std::vector<Draw>> lists = {
      {{7, 3}, {7, 1}, {0, 0}, {top, 4}}, {{7, 11}, {9, 10}, {top, 12}}, {}, {{7, 31}, {8, 30}}};
  std::vector<Draw> all;
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  std::sort(all.begin(), all.end());
  for (const auto& [low, high] :
       {std::pair<std::uint64_t, std::uint64_t>{0, top}, {7, 7}, {7, 9}}) {
    std::vector<Draw> inside;
    for (const Draw& draw : all) {
      if (draw.first >= low && draw.first <= high) inside.push_back(draw);
    }
    for (std::size_t wanted = 0; wanted < inside.size(); ++wanted) {
      CAPTURE(low, high, wanted);
      Meeting meeting(4);
      std::vector<DrawCut> cuts(4);
      on_ranks(4, meeting, [&, low = low, high = high](int rank) {
        std::vector<Draw> own;
        for (const Draw& draw : lists[std::size_t(rank)]) {
          if (draw.first >= low && draw.first <= high) own.push_back(draw);
        }
        const detail::Peers peers({rank * 2048, 8192, rank, 4}, meeting.of(rank));
        cuts[std::size_t(rank)] = peers.draw_at(static_cast<std::int64_t>(wanted), low, high, own);
      });
      for (const DrawCut& cut : cuts) {
        REQUIRE(cut.draw == inside[wanted].first);
        REQUIRE(cut.id == inside[wanted].second);
      }
    }
  }
}

TEST_CASE("ranges: a state is that of its own range", "[session][ranges]") {
  const Config config = config_for("infobatch", GENERATE("bernoulli", "exact"));
  constexpr std::int64_t kPart = 2048;
  Meeting meeting(2);
  std::vector<std::string> states(2);
  std::vector<std::string> texts(2);
  on_ranks(2, meeting, [&](int rank) {
    Session session(kPart, config, 1);
    session.set_range({rank * kPart, 2 * kPart, rank, 2}, meeting.of(rank));
    run_epoch(session, 100);
    session.set_epoch(1);
    states[std::size_t(rank)] = session.serialize();
  });
  on_ranks(2, meeting, [&](int rank) {
    Session session(kPart, config, 1);
    session.set_range({rank * kPart, 2 * kPart, rank, 2}, meeting.of(rank));
    const std::string before = session.serialize();
    texts[std::size_t(rank)] =
        message_of<InvalidArgument>([&] { session.deserialize(states[std::size_t(1 - rank)]); });
    if (session.serialize() != before) throw std::logic_error("something has changed");
    session.deserialize(states[std::size_t(rank)]);
    if (session.serialize() != states[std::size_t(rank)]) throw std::logic_error("another state");
  });
  REQUIRE_THAT(texts[0],
               ContainsSubstring("range: 2048 samples from 2048 on, of 4096 -> "
                                 "2048 samples from 0 on, of 4096"));
  // Nor is it that of a session that is all of a table, in either direction, resized or not.
  Session whole(kPart, config, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { whole.deserialize(states[0]); }),
               ContainsSubstring("range: 2048 samples from 0 on, of 4096 -> all samples"));
  Session larger(2 * kPart, config, 1);
  REQUIRE_THAT(message_of<InvalidArgument>([&] { larger.deserialize(states[0], Resize{}); }),
               ContainsSubstring("-> all samples"));
  on_ranks(2, meeting, [&](int rank) {
    Session session(kPart, config, 1);
    session.set_range({rank * kPart, 2 * kPart, rank, 2}, meeting.of(rank));
    texts[std::size_t(rank)] = message_of<InvalidArgument>(
        [&] { session.deserialize(Session(kPart, config, 1).serialize()); });
  });
  REQUIRE_THAT(texts[1], ContainsSubstring("range: all samples -> 2048 samples from 2048 on"));
}

TEST_CASE("ranges: ranks at different epochs are refused, all of them", "[session][ranges]") {
  const Config config = config_for("infobatch", GENERATE("bernoulli", "exact"));
  // The last epoch has all samples, so a rank that is there exchanges less than one that prunes.
  const std::int64_t other = GENERATE(3, 7);
  Meeting meeting(2);
  std::vector<std::string> texts(2);
  on_ranks(2, meeting, [&](int rank) {
    Session session(2048, config, 1);
    session.set_range({rank * 2048, 4096, rank, 2}, meeting.of(rank));
    run_epoch(session, 100);
    const std::string before = session.serialize();
    texts[std::size_t(rank)] = message_of<StateError>([&] {
      session.set_epoch(rank == 0 ? 1 : other);
      (void)session.plan();
    });
    session.set_epoch(2);
    if (session.plan()->epoch() != 2) throw std::logic_error("another epoch");
  });
  for (const std::string& text : texts) {
    REQUIRE_THAT(text,
                 ContainsSubstring("must plan the same epoch, got rank 1: epoch " +
                                   std::to_string(other) + ", rank 0: epoch 1"));
  }
}

TEST_CASE("ranges: a gather that returns something else is refused", "[session][ranges]") {
  const std::string keep = GENERATE("bernoulli", "exact");
  const int way = GENERATE(0, 1, 2);
  int calls = 0;
  int spoiled = -1;
  Session session(2048, config_for("infobatch", keep), 1);
  session.set_range({0, 2048, 0, 1}, [&](const void* own, std::size_t bytes, void* all) {
    std::memcpy(all, own, bytes);
    if (calls++ != spoiled) return;
    auto* const out = static_cast<unsigned char*>(all);
    if (way == 0) std::memset(out, 0, bytes);
    if (way == 1) std::memset(out, 0xff, bytes);
    if (way == 2) out[bytes - 1] ^= 0x40;
  });
  run_epoch(session, 100);
  const std::string before = session.serialize();
  calls = 0;
  session.set_epoch(1);
  const int all_calls = calls;
  REQUIRE(all_calls == (keep == "exact" ? all_calls : 2));
  session.deserialize(before);
  int refused = 0;
  for (int call = 0; call < all_calls; ++call) {
    CAPTURE(call);
    calls = 0;
    spoiled = call;
    try {
      session.set_epoch(1);  // what was all zeros came back as it was
    } catch (const StateError& error) {
      REQUIRE_THAT(error.what(), ContainsSubstring("gather: must return"));
      REQUIRE(session.serialize() == before);
      ++refused;
    }
    spoiled = -1;
    session.deserialize(before);
  }
  REQUIRE(refused >= all_calls - 1);
}

TEST_CASE("ranges: each is shuffled in its own way, uniformly", "[session][ranges][statistical]") {
  // Which place the first sample of each range has, over many seeds; the samples of the second are
  // those of the first plus 2048.
  constexpr int kSeeds = 4000;
  constexpr int kBins = 16;
  std::vector<int> places(kBins);
  int equal = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    Meeting meeting(2);
    std::vector<PlanCopy> plans(2);
    on_ranks(2, meeting, [&](int rank) {
      Config config = config_of(8);
      config.seed = static_cast<std::uint64_t>(seed);
      Session session(2048, config, 1);
      session.set_range({rank * 2048, 4096, rank, 2}, meeting.of(rank));
      plans[std::size_t(rank)] = copy_of(session.plan());
    });
    const auto& ids = plans[1].ids;
    const auto place = std::find(ids.begin(), ids.end(), 0) - ids.begin();
    places[std::size_t(place * kBins / 2048)] += 1;
    equal += plans[0].ids[7] == plans[1].ids[7] ? 1 : 0;
  }
  double chi = 0.0;
  for (const int count : places) {
    const double off = count - double{kSeeds} / kBins;
    chi += off * off / (double{kSeeds} / kBins);
  }
  REQUIRE(chi < 45.0);  // 15 degrees of freedom: one in ten thousand
  REQUIRE(equal < 20);  // 2 by chance
}

TEST_CASE("ranges: saved and resumed in the midst of an epoch", "[session][ranges]") {
  const std::vector<IdRange> ranges = ranges_of(9000, 2);
  const Config config = config_for("infobatch", GENERATE("bernoulli", "exact"));
  Meeting meeting(2);
  on_ranks(2, meeting, [&](int rank) {
    const std::int64_t size = size_of(ranges, rank);
    const auto loss = [&](std::int64_t id) { return simulated_loss(id + 10000 * rank, 1); };
    Session session(size, config, 1);
    session.set_range(ranges[std::size_t(rank)], meeting.of(rank));
    run_epoch(session, 100);
    session.begin();
    run_batches(session, 100, loss, 5);
    const std::string state = session.serialize();
    Session resumed(size, config, 1);
    resumed.set_range(ranges[std::size_t(rank)], meeting.of(rank));
    resumed.deserialize(state);
    resumed.begin();
    const bool same = run_batches(resumed, 100, loss) == run_batches(session, 100, loss);
    const bool next = run_epoch(resumed, 100) == run_epoch(session, 100);
    if (!same || !next) throw std::logic_error("another rest of the epoch");
  });
}

TEST_CASE("ranges: a rank that is lost fails the call, and the session is as before",
          "[session][ranges]") {
  Session session(2048, config_of(8), 1);
  bool lost = false;
  session.set_range({0, 2048, 0, 1}, [&](const void* own, std::size_t bytes, void* all) {
    if (lost) throw std::runtime_error("rank 1 is lost");
    std::memcpy(all, own, bytes);
  });
  run_epoch(session, 100);
  const std::string before = session.serialize();
  lost = true;
  REQUIRE_THROWS_WITH(session.set_epoch(1), "rank 1 is lost");
  REQUIRE(session.serialize() == before);
  lost = false;
  REQUIRE_NOTHROW(session.set_epoch(1));
}

TEST_CASE("ranges: another rank's counts that cannot be are refused", "[session][ranges]") {
  // One session stands for two ranks: what the other gives is zeros, but for one exchange.
  const std::int64_t value = GENERATE(as<std::int64_t>{}, -1, INT64_MIN, INT64_MAX, 1, 1000000);
  int calls = 0;
  int spoiled = -1;
  std::int64_t epoch = 0;
  Session session(4096, config_for("infobatch", "exact"), 1);
  session.set_range({0, 4096, 0, 2}, [&](const void* own, std::size_t bytes, void* all) {
    auto* const out = static_cast<char*>(all);
    std::memcpy(out, own, bytes);
    std::memset(out + bytes, 0, bytes);
    if (bytes == sizeof epoch) std::memcpy(out + bytes, own, bytes);  // it comes to the same epoch
    if (bytes == 40) {  // and holds a range without samples
      const std::int64_t empty[2] = {4096, 0};
      std::memcpy(out + bytes, own, bytes);
      std::memcpy(out + bytes, empty, sizeof empty);
    }
    if (calls++ != spoiled) return;
    for (std::size_t i = 0; i < bytes / 8; ++i) std::memcpy(out + bytes + 8 * i, &value, 8);
  });
  run_epoch(session, 100);
  const std::string before = session.serialize();
  calls = 0;
  session.set_epoch(1);
  const int all_calls = calls;
  const PlanCopy expected = copy_of(session.plan());
  for (int call = 2; call < all_calls; ++call) {  // behind epoch and sum
    CAPTURE(value, call, all_calls);
    spoiled = -1;
    session.deserialize(before);
    calls = 0;
    spoiled = call;
    try {
      session.set_epoch(1);
    } catch (const StateError& error) {
      REQUIRE_THAT(error.what(), ContainsSubstring("gather: must return"));
      REQUIRE(session.serialize() == before);
      continue;
    }
    REQUIRE(value == 1);  // a count that may be, and that nobody else can know to be wrong
  }
  spoiled = -1;
  session.deserialize(before);
  session.set_epoch(1);
  REQUIRE(copy_of(session.plan()) == expected);
}

TEST_CASE("ranges: what a gather throws comes out as it is, wherever it was called",
          "[session][ranges]") {
  struct Lost {};  // no exception of the standard library
  int calls = 0;
  int last = 1 << 30;
  Session session(2048, config_for("infobatch", "exact"), 1);
  session.set_range({0, 2048, 0, 1}, [&](const void* own, std::size_t bytes, void* all) {
    if (calls++ == last) throw Lost{};
    std::memcpy(all, own, bytes);
  });
  run_epoch(session, 100);
  const std::string before = session.serialize();
  calls = 0;
  session.set_epoch(1);
  const int all_calls = calls;
  REQUIRE(all_calls > 4);
  for (int call = 0; call < all_calls; ++call) {
    last = 1 << 30;
    session.deserialize(before);
    calls = 0;
    last = call;
    REQUIRE_THROWS_AS(session.set_epoch(1), Lost);
    REQUIRE(session.serialize() == before);
  }
}

TEST_CASE("ranges: through the C interface", "[session][ranges]") {
  // Two ranks in C make the plans of two in C++.
  const std::vector<IdRange> ranges = ranges_of(9000, 2);
  const Config config = config_for("infobatch", "exact");
  Meeting meeting(2);
  std::vector<PlanCopy> expected(2);
  on_ranks(2, meeting, [&](int rank) {
    Session session(size_of(ranges, rank), config, 1);
    session.set_range(ranges[std::size_t(rank)], meeting.of(rank));
    run_epoch(session, 100);
    expected[std::size_t(rank)] = copy_of(session.plan());
  });
  on_ranks(2, meeting, [&](int rank) {
    const auto check = [](ib_status status) {
      if (status != IB_OK) throw std::runtime_error(ib_last_error());
    };
    ib_config options;
    ib_config_init(&options, sizeof options);
    const std::string params = config.to_json();
    options.params_json = params.c_str();
    ib_session* session = nullptr;
    check(ib_session_create(size_of(ranges, rank), &options, 1, &session));
    const std::unique_ptr<ib_session, void (*)(ib_session*)> owner(session, ib_session_destroy);
    const IdRange& range = ranges[std::size_t(rank)];
    const ib_id_range given = {sizeof given, range.first, range.total, range.rank, range.ranks};
    Gather gather = meeting.of(rank);
    check(ib_session_set_range(
        session,
        &given,
        [](const void* own, std::size_t bytes, void* all, void* function) {
          (*static_cast<Gather*>(function))(own, bytes, all);
          return std::int32_t{0};
        },
        &gather));
    for (;;) {
      ib_slice slice;
      check(ib_session_next(session, 100, &slice));
      if (slice.count == 0) break;
      std::vector<float> losses;
      for (std::int64_t i = 0; i < slice.count; ++i) {
        losses.push_back(simulated_loss(slice.ids[i], 0));
      }
      check(ib_session_observe(session, losses.data(), slice.count, nullptr));
    }
    ib_plan* plan = nullptr;
    check(ib_session_plan(session, &plan));
    const std::unique_ptr<ib_plan, void (*)(ib_plan*)> plan_owner(plan, ib_plan_release);
    const std::vector<std::int64_t>& ids = expected[std::size_t(rank)].ids;
    ib_slice view;
    check(ib_plan_view(plan, &view));
    if (view.count != std::int64_t(ids.size()) || !std::equal(ids.begin(), ids.end(), view.ids)) {
      throw std::logic_error("another plan");
    }
  });
}

TEST_CASE("ranges: what is none, or does not fit the others, is refused", "[session][ranges]") {
  const Gather alone = [](const void* own, std::size_t bytes, void* all) {
    std::memcpy(all, own, bytes);
  };
  const auto refusal = [&](const Config& config, const IdRange& range) {
    Session session(1000, config, 1);
    return message_of<InvalidArgument>([&] { session.set_range(range, alone); });
  };
  const Config plain = config_of(8);
  REQUIRE_THAT(refusal(plain, {100, 3000, 0, 1}), ContainsSubstring("a multiple of 2048, got 100"));
  REQUIRE_THAT(refusal(plain, {2048, 3000, 0, 1}), ContainsSubstring("first = 2048 of 3000"));
  REQUIRE_THAT(refusal(plain, {0, 1000, 1, 1}), ContainsSubstring("got 1 of 1"));
  REQUIRE_THAT(refusal(plain, {0, (std::int64_t{1} << 53) + 1, 0, 1}),
               ContainsSubstring("at most"));
  for (const Policy* policy : policies()) {
    Config config = plain;
    config.policy = policy->card.name;
    if (!policy->cuts_ranks) continue;
    REQUIRE_THAT(refusal(config, {0, 1000, 0, 1}),
                 ContainsSubstring("not known across ranges: full, random, infobatch, got"));
  }
  Config budget = plain;
  budget.target_saved = 0.2;
  REQUIRE_THAT(refusal(budget, {0, 1000, 0, 1}), ContainsSubstring("target_saved"));
  Config whole = plain;
  whole.keep = "exact";
  whole.whole_batches = 8;
  REQUIRE_THAT(refusal(whole, {0, 1000, 0, 1}), ContainsSubstring("whole_batches"));

  Session session(1000, plain, 1);
  REQUIRE_THROWS_AS(session.set_range({0, 1000, 0, 1}, nullptr), InvalidArgument);
  REQUIRE_THAT(message_of<StateError>([&] {
                 session.set_range({0, 2000, 0, 1}, alone);
               }),
               ContainsSubstring("rank 0: ends at 1000, not at 2000"));
  session.set_range({0, 1000, 0, 1}, alone);
  const std::vector<float> weights(1000, 1.0f);
  REQUIRE_THROWS_AS(session.set_column("sampling_weight", ColumnType::kFloat32, weights.data()),
                    InvalidArgument);
  session.begin();
  REQUIRE_THROWS_AS(session.set_range({0, 1000, 0, 1}, alone), StateError);

  // Two ranks that overlap, and two with other options: both are told.
  for (const bool options : {false, true}) {
    Meeting meeting(2);
    std::vector<std::string> texts(2);
    on_ranks(2, meeting, [&](int rank) {
      Config config = plain;
      if (options && rank == 1) config.prune_ratio = 0.3;
      Session own(options ? 2048 : 4096, config, 1);
      texts[std::size_t(rank)] = message_of<StateError>([&] {
        own.set_range({rank * 2048, options ? 4096 : 6144, rank, 2}, meeting.of(rank));
      });
    });
    for (const std::string& text : texts) {
      REQUIRE_THAT(text,
                   ContainsSubstring(options ? "rank 1: other options"
                                             : "rank 1: begins at 2048, not at 4096"));
    }
  }
}
