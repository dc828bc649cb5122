#include <samplers/detail/group_exchange.hpp>
#include <samplers/detail/store_exchange.hpp>
#include <samplers/ranks.hpp>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <type_traits>

namespace infobatch {
namespace {

/// The store that a group was made with; releases of torch that do not tell it have none.
template <typename Group>
auto store_of(const Group& group, int) -> decltype(group.getStore()) {
  return group.getStore();
}
template <typename Group>
c10::intrusive_ptr<c10d::Store> store_of(const Group&, long) {
  return {};
}

void check_timeout(const ExchangeOptions& options) {
  TORCH_CHECK_VALUE(options.timeout().count() > 0,
                    "make_exchange: timeout must be above 0 milliseconds, got ",
                    options.timeout().count());
}

}  // namespace

RankError::RankError(const std::string& text, std::vector<int> ranks)
    : c10::Error({__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)}, text),
      ranks_(std::move(ranks)) {}

Exchange::Exchange(int rank, int size) : rank_(rank), size_(size) {
  TORCH_CHECK_VALUE(size >= 1 && rank >= 0 && rank < size,
                    "Exchange: rank must be in [0, size), got rank ",
                    rank,
                    " of ",
                    size);
}

Exchange::~Exchange() = default;

ExchangeOptions::ExchangeOptions() = default;
ExchangeOptions::ExchangeOptions(const ExchangeOptions& other) = default;
ExchangeOptions& ExchangeOptions::operator=(const ExchangeOptions& other) = default;
ExchangeOptions::~ExchangeOptions() = default;

ExchangeOptions& ExchangeOptions::store(c10::intrusive_ptr<c10d::Store> value) {
  store_ = std::move(value);
  return *this;
}

std::shared_ptr<Exchange> make_exchange(const c10::intrusive_ptr<c10d::ProcessGroup>& group,
                                        const ExchangeOptions& options) {
  TORCH_CHECK_VALUE(group.defined(), "make_exchange: group must be a process group, got none");
  check_timeout(options);
  auto store = options.store().defined() ? options.store() : store_of(*group, 0);
  TORCH_CHECK_VALUE(store.defined(),
                    "make_exchange: the group must have a store in which its ranks meet, got one "
                    "without: ExchangeOptions().store(store)");
  return std::make_shared<detail::GroupExchange>(group, std::move(store), options);
}

std::shared_ptr<Exchange> make_exchange(const c10::intrusive_ptr<c10d::Store>& store,
                                        int rank,
                                        int size,
                                        const ExchangeOptions& options) {
  TORCH_CHECK_VALUE(store.defined(), "make_exchange: store must be a c10d::Store, got none");
  check_timeout(options);
  return std::make_shared<detail::StoreExchange>(store, rank, size, options);
}

}  // namespace infobatch
