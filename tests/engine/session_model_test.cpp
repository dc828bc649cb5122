#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/reference_session.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

// Random sequences of calls, each made to a session and to a naive reference of it; whatever can be
// seen of the two must be equal after every call.

using namespace infobatch;
using namespace infobatch::testing;

namespace {

class Pair {
 public:
  Pair(std::int64_t size, const Config& config, std::uint64_t seed)
      : size_(size), config_(config), random_(seed), naive_(size, config) {
    renew();
  }

  void step() {
    switch (draw(14)) {
      case 0:
        begin();
        break;
      case 1:
        set_epoch();
        break;
      case 2:
        peek();
        break;
      case 3:
        reload();
        break;
      case 4:
        if (draw(6) == 0) both([&] { session_->discard_epoch(); }, [&] { naive_.discard(); });
        break;
      case 5:
      case 6:
        observe_ids();
        break;
      case 7:
      case 8:
      case 9:
        next();
        break;
      default:
        observe();
        break;
    }
    compare();
  }

  std::int64_t epochs_seen() const { return epochs_seen_; }
  std::int64_t refused() const { return refused_; }

 private:
  std::int64_t draw(std::int64_t bound) {
    return std::uniform_int_distribution<std::int64_t>(0, bound - 1)(random_);
  }

  float loss() {
    if (draw(200) == 0) return std::numeric_limits<float>::quiet_NaN();
    return std::exponential_distribution<float>(1.0f)(random_);
  }

  /// Batches are alike while a loop runs, with an odd one now and then.
  std::int64_t batch_size() { return draw(8) == 0 ? 1 + draw(2 * size_ + 2) : 1 + size_ / 5; }

  void renew() {
    session_ = std::make_unique<Session>(size_, config_, 1);
    session_->set_warning_handler([](const std::string&) {});
  }

  /// Both calls are made; either both are refused or none.
  template <typename Real, typename Naive>
  void both(const Real& real, const Naive& naive) {
    bool real_refused = false;
    bool naive_refused = false;
    try {
      real();
    } catch (const std::runtime_error&) {
      real_refused = true;
    } catch (const std::out_of_range&) {
      real_refused = true;
    }
    try {
      naive();
    } catch (const std::logic_error&) {
      naive_refused = true;
    }
    REQUIRE(real_refused == naive_refused);
    refused_ += real_refused ? 1 : 0;
    if (real_refused && draw(2) == 0) {  // or it would be refused for ever
      session_->discard_epoch();
      naive_.discard();
    }
  }

  void begin() {
    both([&] { session_->begin(); }, [&] { naive_.begin(); });
    if (session_->epoch() != naive_.epoch() || session_->position() > 0) return;
    for (std::int64_t id = 0; id < size_; ++id) {
      REQUIRE(float_bits(session_->scores()[id]) == float_bits(naive_.table()[std::size_t(id)]));
    }
  }

  void set_epoch() {
    const std::int64_t epoch = naive_.epoch() + (draw(4) == 0 ? draw(3) - 1 : draw(2));
    if (epoch < 0) return;
    both([&] { session_->set_epoch(epoch); }, [&] { naive_.set_epoch(epoch); });
  }

  void peek() { REQUIRE(copy_of(session_->plan()) == naive_.plan()); }

  void reload() {
    if (draw(3) != 0) return;
    const std::string state = session_->serialize();
    renew();
    session_->deserialize(state);
    REQUIRE(session_->serialize() == state);
    naive_.reload();
  }

  void next() {
    const std::int64_t count = batch_size();
    std::vector<std::int64_t> positions;
    Slice slice;
    both([&] { slice = session_->next(count); }, [&] { positions = naive_.next(count); });
    REQUIRE(slice.count == static_cast<std::int64_t>(positions.size()));
    for (std::int64_t i = 0; i < slice.count; ++i) {
      REQUIRE(slice.begin + i == positions[std::size_t(i)]);
    }
  }

  void observe() {
    std::vector<float> losses(static_cast<std::size_t>(batch_size()));
    for (float& value : losses) value = loss();
    both([&] { session_->observe(losses.data(), std::int64_t(losses.size())); },
         [&] { naive_.observe(losses); });
  }

  void observe_ids() {
    if (draw(2) == 0 || size_ == 0) return;
    const std::vector<std::int64_t> known = naive_.running_ids();
    if (known.empty()) return;
    std::vector<std::int64_t> ids(static_cast<std::size_t>(1 + draw(size_ / 4 + 2)));
    for (std::int64_t& id : ids) id = known[std::size_t(draw(std::int64_t(known.size())))];
    if (draw(10) == 0)
      ids.back() = draw(size_ + 2) - 1;  // perhaps outside the plan, or the data set
    std::vector<float> losses(ids.size());
    for (float& value : losses) value = loss();
    std::vector<float> weights(ids.size(), 0.0f);
    std::vector<std::uint32_t> expected;
    bool taken = false;
    both(
        [&] {
          session_->observe_ids(
              losses.data(), ids.data(), std::int64_t(ids.size()), weights.data());
          taken = true;
        },
        [&] { expected = naive_.observe_ids(losses, ids); });
    for (std::size_t i = 0; taken && i < ids.size(); ++i) {
      REQUIRE(float_bits(weights[i]) == expected[i]);
    }
  }

  void compare() {
    REQUIRE(session_->epoch() == naive_.epoch());
    REQUIRE(session_->position() == naive_.position());
    REQUIRE(session_->statistics().non_finite_total == naive_.non_finite());
    if (naive_.epoch() == last_epoch_) return;
    last_epoch_ = naive_.epoch();
    ++epochs_seen_;
  }

  std::int64_t size_;
  Config config_;
  std::mt19937_64 random_;
  std::unique_ptr<Session> session_;
  ReferenceSession naive_;
  std::int64_t last_epoch_ = 0;
  std::int64_t epochs_seen_ = 0;
  std::int64_t refused_ = 0;
};

}  // namespace

TEST_CASE("a session equals its naive reference after any sequence of calls", "[engine][model]") {
  const std::int64_t size = GENERATE(0, 1, 2, 3, 63, 64, 65, 127, 128, 129);
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Config config = config_of(40);
    config.seed = seed;
    config.keep = seed % 2 == 0 ? "exact" : "bernoulli";
    CAPTURE(size, seed);
    Pair pair(size, config, seed);
    for (int step = 0; step < 1500; ++step) pair.step();
    REQUIRE(pair.epochs_seen() > 20);           // the sequences lead somewhere,
    if (size > 1) REQUIRE(pair.refused() > 5);  // and into every corner
  }
}

TEST_CASE("a session of a thousand samples equals its naive reference", "[engine][model]") {
  for (std::uint64_t seed = 11; seed <= 13; ++seed) {
    CAPTURE(seed);
    Pair pair(1000, config_of(40), seed);
    for (int step = 0; step < 1000; ++step) pair.step();
    REQUIRE(pair.epochs_seen() > 10);
  }
}
