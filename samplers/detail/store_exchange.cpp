#include <infobatch/error.hpp>
#include <samplers/detail/store_exchange.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace infobatch::detail {

void StoreExchange::meet(const std::string& what) {
  sent_ = 0;
  meeting_.meet(what);
}

void StoreExchange::fail(const std::string& what, const std::string& why) {
  meeting_.fail(what, why);
}

/// Sends `own` and calls take(rank, begin, piece) for the pieces of all other ranks.
template <typename Take>
void StoreExchange::pass_on(const void* own,
                            std::int64_t bytes,
                            const std::string& what,
                            const Take& take) {
  const auto* const data = static_cast<const std::uint8_t*>(own);
  for (std::int64_t begin = 0; begin < bytes; begin += kPiece) {
    const std::int64_t end = std::min(begin + kPiece, bytes);
    const std::string piece = meeting_.key(message("piece/", sent_++, '/'));
    try {
      const std::string key = piece + message(rank());
      meeting_.store().set(key, std::vector<std::uint8_t>(data + begin, data + end));
      meeting_.forget_later(key);
      for (int other = 0; other < size(); ++other) {
        if (other == rank()) continue;
        const std::vector<std::uint8_t> theirs = receive(piece, other, what);
        if (static_cast<std::int64_t>(theirs.size()) != end - begin) {
          throw RankError(message(what,
                                  ": all ranks must bring as many bytes, got ",
                                  theirs.size(),
                                  " of rank ",
                                  other,
                                  " for ",
                                  end - begin),
                          {other});
        }
        take(other, begin, theirs);
      }
    } catch (const RankError&) {
      throw;
    } catch (const std::exception& error) {
      throw meeting_.no_store(what, error);
    }
  }
}

std::vector<std::uint8_t> StoreExchange::receive(const std::string& piece,
                                                 int other,
                                                 const std::string& what) {
  const Clock::time_point deadline = Clock::now() + meeting_.timeout();
  const std::string key = piece + message(other);
  Pause pause(std::chrono::milliseconds(10));
  while (!meeting_.store().check({key})) {
    if (Clock::now() > deadline) throw lost(piece, what);
    pause.wait();
  }
  return meeting_.store().get(key);
}

RankError StoreExchange::lost(const std::string& piece, const std::string& what) {
  std::vector<int> ranks;
  for (int other = 0; other < size(); ++other) {
    if (!meeting_.store().check({piece + message(other)})) ranks.push_back(other);
  }
  const std::string who = ranks.empty() ? "the last one" : rank_numbers(ranks);
  const std::string text =
      message(what,
              ": all ranks must exchange their bytes within the timeout of ",
              static_cast<double>(meeting_.timeout().count()) / 1000.0,
              " seconds, got none of ",
              who,
              ranks.size() > 1 ? ", which went away in the midst of it or are slower than that"
                               : ", which went away in the midst of it or is slower than that");
  return RankError(text, std::move(ranks));
}

void StoreExchange::gather(const void* own,
                           std::int64_t bytes,
                           void* all,
                           const std::string& what) {
  auto* const out = static_cast<std::uint8_t*>(all);
  if (bytes > 0) std::memcpy(out + rank() * bytes, own, static_cast<std::size_t>(bytes));
  const auto take = [&](int other, std::int64_t begin, const std::vector<std::uint8_t>& theirs) {
    std::memcpy(out + other * bytes + begin, theirs.data(), theirs.size());
  };
  pass_on(own, bytes, what, take);
}

void StoreExchange::largest(std::int32_t* values, std::int64_t count, const std::string& what) {
  constexpr std::int64_t kBytes = sizeof(std::int32_t);
  const auto take = [&](int, std::int64_t begin, const std::vector<std::uint8_t>& theirs) {
    for (std::size_t i = 0; i < theirs.size() / kBytes; ++i) {
      std::int32_t value = 0;
      std::memcpy(&value, theirs.data() + i * kBytes, kBytes);
      std::int32_t& own = values[begin / kBytes + static_cast<std::int64_t>(i)];
      own = std::max(own, value);
    }
  };
  pass_on(values, count * kBytes, what, take);
}

}  // namespace infobatch::detail
