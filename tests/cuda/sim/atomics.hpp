#pragma once

// Atomics, relaxed as CUDA's are. By the schedule's choice another thread goes first.
// Only the types that CUDA has them for: unsigned long is not among them.
#include <type_traits>

namespace sim::detail {

/// Lets other threads run, as the schedule says.
void before_atomic();

template <typename T, typename... Types>
constexpr bool one_of = (std::is_same_v<T, Types> || ...);

/// Keeps the second argument out of the deduction: it is converted, as in a call of CUDA's.
template <typename T>
struct Same {
  using type = T;
};
template <typename T>
using Value = typename Same<T>::type;

template <typename T, typename Rule>
T update(T* address, Rule rule) {
  before_atomic();
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  T next = rule(old);
  while (
      !__atomic_compare_exchange(address, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    next = rule(old);
  }
  return old;
}

}  // namespace sim::detail

template <typename T>
T atomicAdd(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, unsigned long long, float, double>);
  if constexpr (std::is_integral_v<T>) {
    sim::detail::before_atomic();
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
  } else {
    return sim::detail::update(address, [value](T old) { return old + value; });
  }
}
template <typename T>
T atomicSub(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned>);
  sim::detail::before_atomic();
  return __atomic_fetch_sub(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicMax(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, long long, unsigned long long>);
  return sim::detail::update(address, [value](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, long long, unsigned long long>);
  return sim::detail::update(address, [value](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicExch(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, unsigned long long, float>);
  sim::detail::before_atomic();
  T old;
  __atomic_exchange(address, &value, &old, __ATOMIC_RELAXED);
  return old;
}
template <typename T>
T atomicOr(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, unsigned long long>);
  sim::detail::before_atomic();
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicAnd(T* address, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, int, unsigned, unsigned long long>);
  sim::detail::before_atomic();
  return __atomic_fetch_and(address, value, __ATOMIC_RELAXED);
}
template <typename T>
T atomicCAS(T* address, sim::detail::Value<T> expected, sim::detail::Value<T> value) {
  static_assert(sim::detail::one_of<T, unsigned short, int, unsigned, unsigned long long>);
  sim::detail::before_atomic();
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
