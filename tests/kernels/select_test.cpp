#include <infobatch/detail/select.hpp>
#include <tests/kernels/simd_levels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

namespace infobatch {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<std::uint8_t> by_modulus(std::int64_t n, int modulus) {
  std::vector<std::uint8_t> table(static_cast<std::size_t>(n), 0);
  for (std::size_t i = 0; i < table.size(); i += static_cast<std::size_t>(modulus)) table[i] = 1;
  return table;
}

// The observed ids in the order (score, tie draw, id).
std::vector<std::int64_t> ranked(const std::vector<float>& scores,
                                 std::uint64_t seed,
                                 std::uint32_t epoch) {
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i])) ids.push_back(static_cast<std::int64_t>(i));
  }
  const auto key = [&](std::int64_t id) {
    const auto i = static_cast<std::size_t>(id);
    return std::make_tuple(
        scores[i] == 0.0f ? 0.0f : scores[i], random_draw64(seed, epoch, kStreamRankTies, i), id);
  };
  std::sort(
      ids.begin(), ids.end(), [&](std::int64_t a, std::int64_t b) { return key(a) < key(b); });
  return ids;
}

void require_ranks(const std::vector<float>& scores, std::uint64_t seed) {
  const std::vector<std::int64_t> order = ranked(scores, seed, 3);
  const auto observed = static_cast<std::int64_t>(order.size());
  for (const std::int64_t rank :
       {std::int64_t{0}, std::int64_t{1}, observed / 7, observed / 2, observed - 1, observed}) {
    if (rank < 0 || rank > observed) continue;
    CAPTURE(rank, observed);
    for (const int threads : {1, 3}) {
      Team team(threads);
      const RankCut cut = select_rank(Key::of(scores.data()),
                                      nullptr,
                                      static_cast<std::int64_t>(scores.size()),
                                      rank,
                                      seed,
                                      3,
                                      team);
      std::vector<bool> expected(scores.size(), false);
      for (std::int64_t r = 0; r < rank; ++r) {
        expected[static_cast<std::size_t>(order[static_cast<std::size_t>(r)])] = true;
      }
      bool equal = true;
      for (std::size_t i = 0; i < scores.size(); ++i) {
        equal = equal && before(cut, scores[i], static_cast<std::int64_t>(i)) == expected[i];
      }
      REQUIRE(equal);
    }
  }
}

}  // namespace

TEST_CASE("rule 4: the cut keeps exactly the m smallest (draw, id)", "[kernels][select]") {
  for (const std::int64_t n : {1, 2, 17, 64, 65, 2047, 2048, 2049, 20001}) {
    for (const int modulus : {1, 3}) {
      std::vector<std::pair<std::uint64_t, std::int64_t>> draws;
      for (std::int64_t id = 0; id < n; id += modulus) {
        draws.emplace_back(random_draw64(5, 6, kStreamExactKeep, static_cast<std::uint64_t>(id)),
                           id);
      }
      std::sort(draws.begin(), draws.end());
      const auto members = static_cast<std::int64_t>(draws.size());
      const std::vector<std::uint8_t> table = by_modulus(n, modulus);
      for (const std::int64_t m :
           {std::int64_t{0}, std::int64_t{1}, members / 3, members / 2, members - 1, members}) {
        if (m < 0 || m > members) continue;
        CAPTURE(n, modulus, m);
        for (const int threads : {1, 2, 4}) {
          Team team(threads);
          const DrawCut cut = select_smallest_draws(
              Classifier::of_table(table.data()), 1, n, members, m, 5, 6, kStreamExactKeep, team);
          bool equal = true;
          for (std::int64_t k = 0; k < members; ++k) {
            const auto& draw = draws[static_cast<std::size_t>(k)];
            equal = equal && cut.covers(draw.first, draw.second) == (k < m);
          }
          REQUIRE(equal);
        }
      }
    }
  }
}

TEST_CASE("ranks: exactly `rank` observed samples lie before the cut", "[kernels][select]") {
  std::mt19937 random(21);
  std::vector<float> scores(5003);
  for (float& x : scores) x = std::log(static_cast<float>(random() % 1000000 + 1) * 1e-5f);
  require_ranks(scores, 1);
  SECTION("with samples never observed") {
    for (std::size_t i = 0; i < scores.size(); i += 4) scores[i] = kNaN;
    require_ranks(scores, 2);
  }
  SECTION("with many ties") {
    for (float& x : scores) x = std::floor(x);
    require_ranks(scores, 3);
  }
  SECTION("with all scores equal: buckets have their exact sizes") {
    require_ranks(std::vector<float>(4097, 0.25f), 4);
  }
  SECTION("where -0 equals +0") {
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 2 == 0 ? 0.0f : -0.0f;
    require_ranks(scores, 5);
  }
  SECTION("with nobody observed, or only one") {
    require_ranks(std::vector<float>(100, kNaN), 6);
    require_ranks({kNaN, -2.0f, kNaN}, 7);
  }
  SECTION("with the extremes of float32") {
    require_ranks({3e38f, -3e38f, 1e-45f, -1e-45f, 0.0f, -0.0f, 1.0f}, 8);
  }
}

TEST_CASE("classify_by_ranks gives 1 + the lowest cut that a sample lies before",
          "[kernels][select]") {
  std::vector<float> scores(10000, 1.0f);
  for (std::size_t i = 0; i < scores.size(); i += 2) scores[i] = static_cast<float>(i % 100);
  scores[3] = kNaN;
  Team team(2);
  const auto n = static_cast<std::int64_t>(scores.size());
  const RankCut cuts[3] = {select_rank(Key::of(scores.data()), nullptr, n, 2500, 1, 2, team),
                           select_rank(Key::of(scores.data()), nullptr, n, 5000, 1, 2, team),
                           select_rank(Key::of(scores.data()), nullptr, n, 8500, 1, 2, team)};
  std::vector<std::uint8_t> classes(scores.size());
  classify_by_ranks(scores.data(), 0, 777, cuts, 3, classes.data());
  classify_by_ranks(scores.data() + 777, 777, n, cuts, 3, classes.data() + 777);
  REQUIRE(std::count(classes.begin(), classes.end(), 1) == 2500);
  REQUIRE(std::count(classes.begin(), classes.end(), 2) == 2500);
  REQUIRE(std::count(classes.begin(), classes.end(), 3) == 3500);
  REQUIRE(std::count(classes.begin(), classes.end(), 0) == 1500);
  REQUIRE(classes[3] == 0);
}

// H0: among equal scores every sample is as likely to lie before the cut.
TEST_CASE("ties of a rank are broken evenly, anew in each epoch",
          "[kernels][select][statistical]") {
  const std::vector<float> scores(200, 1.5f);
  constexpr std::uint32_t kEpochs = 4000;
  std::vector<int> hits(scores.size());
  Team team(1);
  for (std::uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    const RankCut cut = select_rank(Key::of(scores.data()), nullptr, 200, 50, 77, epoch, team);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      hits[i] += before(cut, scores[i], static_cast<std::int64_t>(i)) ? 1 : 0;
    }
  }
  const double sigma = std::sqrt(kEpochs * 0.25 * 0.75);
  for (const int count : hits) {
    REQUIRE(std::abs(count - kEpochs * 0.25) < 6.0 * sigma);  // 1e-6 over 200 looks
  }
}

}  // namespace infobatch
