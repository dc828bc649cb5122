#include <infobatch/error.hpp>
#include <samplers/detail/store_meeting.hpp>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <utility>

namespace infobatch::detail {

std::string rank_numbers(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    text += message(i == 0 ? "" : ", ", ranks[i]);
  }
  return text;
}

std::string words_of(const std::exception& error) {
  const auto* const of_torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
  text.resize(std::min(text.find('\n'), text.size()));
  return text;
}

void Pause::wait() {
  std::this_thread::sleep_for(next_);
  next_ = std::min(2 * next_, longest_);
}

StoreMeeting::StoreMeeting(c10::intrusive_ptr<c10d::Store> store,
                           int rank,
                           int size,
                           const ExchangeOptions& options)
    : store_(std::move(store)), rank_(rank), size_(size), timeout_(options.timeout()) {
  // Each rank counts what it makes on this store, so that the keys of one run are not those of the
  // next, also where the processes are others by then.
  try {
    const std::int64_t made = store_->add(message(options.prefix(), "/made/", rank_), 1);
    prefix_ = message(options.prefix(), '/', made, '/');
  } catch (const std::exception& error) {
    throw no_store("make_exchange", error);
  }
}

std::string StoreMeeting::key_of(std::int64_t meeting, const std::string& name) const {
  return message(prefix_, meeting, '/', name);
}

void StoreMeeting::meet(const std::string& what) {
  const std::int64_t number = meetings_++;
  try {
    announce(number, what);
    wait_for_all(number, what);
    for (const std::string& key : std::exchange(old_, {})) store_->deleteKey(key);
    if (number > 1) forget(number - 2);
  } catch (const RankError&) {
    throw;
  } catch (const std::exception& error) {
    throw no_store(what, error);
  }
}

/// This rank has come; not so where the others are elsewhere, or have given up waiting for it.
void StoreMeeting::announce(std::int64_t number, const std::string& what) {
  store_->set(key_of(number, message(rank_)), what);
  const std::string first = store_->compareSet(key_of(number, "what"), std::string(), what);
  if (first != what) {
    store_->set(key_of(number, "failed"), message(rank_, " it came to ", what, " instead"));
    throw RankError(message(what, ": all ranks must come to it, got others at ", first), {});
  }
  if (store_->check({key_of(number, "gave up")})) {
    throw RankError(message(what,
                            ": all ",
                            size_,
                            " ranks must come to it within the timeout, got this one, rank ",
                            rank_,
                            ", when rank ",
                            store_->get_to_str(key_of(number, "gave up")),
                            " had given up waiting"),
                    {rank_});
  }
  if (store_->add(key_of(number, "count"), 1) == size_) {
    store_->set(key_of(number, "all"), std::string("1"));
  }
}

void StoreMeeting::wait_for_all(std::int64_t number, const std::string& what) {
  const Clock::time_point deadline = Clock::now() + timeout_;
  const std::string all = key_of(number, "all");
  const std::string failed_key = key_of(number, "failed");
  Pause pause;
  while (!store_->check({all})) {
    if (store_->check({failed_key})) throw failed(number, what);
    if (Clock::now() > deadline) throw missing(number, what);
    pause.wait();
  }
}

void StoreMeeting::fail(const std::string& what, const std::string& why) {
  const std::int64_t number = meetings_++;
  try {
    store_->set(key_of(number, "failed"), message(rank_, ' ', why));
  } catch (const std::exception& error) {
    throw no_store(what, error);
  }
}

RankError StoreMeeting::failed(std::int64_t number, const std::string& what) {
  const std::string text = store_->get_to_str(key_of(number, "failed"));
  const int rank = std::atoi(text.c_str());
  const std::string why = text.substr(std::min(text.find(' ') + 1, text.size()));
  return RankError(message(what, ": rank ", rank, " failed before the exchange: ", why), {rank});
}

RankError StoreMeeting::missing(std::int64_t number, const std::string& what) {
  std::vector<int> ranks;
  for (int rank = 0; rank < size_; ++rank) {
    if (!store_->check({key_of(number, message(rank))})) ranks.push_back(rank);
  }
  store_->set(key_of(number, "gave up"), message(rank_));
  const std::string who = ranks.empty() ? "the last one" : rank_numbers(ranks);
  const std::string text = message(what,
                                   ": all ",
                                   size_,
                                   " ranks must come to it, ",
                                   who,
                                   ranks.size() > 1 ? " have" : " has",
                                   " not within the timeout of ",
                                   static_cast<double>(timeout_.count()) / 1000.0,
                                   " seconds: it was killed, it is slower than that "
                                   "(ExchangeOptions::timeout), or its loop takes another way");
  return RankError(text, std::move(ranks));
}

RankError StoreMeeting::no_store(const std::string& what, const std::exception& error) const {
  return RankError(message(what,
                           ": the store in which the ranks meet cannot be reached (",
                           words_of(error),
                           "): the process that serves it is gone, or its disk is full"),
                   {});
}

void StoreMeeting::forget(std::int64_t number) {
  store_->deleteKey(key_of(number, message(rank_)));
  if (rank_ != 0) return;
  for (const char* name : {"count", "what", "all"}) store_->deleteKey(key_of(number, name));
}

}  // namespace infobatch::detail
