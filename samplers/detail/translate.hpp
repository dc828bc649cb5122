#pragma once

#include <infobatch/error.hpp>

#include <c10/util/Exception.h>

#include <utility>

namespace infobatch::detail {

/// Runs `body` and turns the engine's exceptions into torch's, with the same text.
template <typename Body>
decltype(auto) translated(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const InvalidArgument& error) {
    TORCH_CHECK_VALUE(false, error.what());
  } catch (const IndexError& error) {
    TORCH_CHECK_INDEX(false, error.what());
  } catch (const StateError& error) {
    TORCH_CHECK(false, error.what());
  } catch (const FileError& error) {
    TORCH_CHECK(false, error.what());
  }
}

}  // namespace infobatch::detail
