#pragma once

#include <infobatch/error.hpp>

#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

namespace infobatch::detail {

/// The engine's text; `function`, where given, stands for the engine's function at its beginning.
inline std::string told_as(const char* function, const std::exception& error) {
  std::string text = error.what();
  if (function != nullptr) text.replace(0, std::min(text.find(':'), text.size()), function);
  return text;
}

/// Runs `body` and turns the engine's exceptions into torch's, with the same text.
/// @param function  what the caller called, where it is not the engine's function of that name.
template <typename Body>
decltype(auto) translated(Body&& body, const char* function = nullptr) {
  try {
    return std::forward<Body>(body)();
  } catch (const InvalidArgument& error) {
    TORCH_CHECK_VALUE(false, told_as(function, error));
  } catch (const IndexError& error) {
    TORCH_CHECK_INDEX(false, told_as(function, error));
  } catch (const StateError& error) {
    TORCH_CHECK(false, told_as(function, error));
  } catch (const FileError& error) {
    TORCH_CHECK(false, told_as(function, error));
  }
}

}  // namespace infobatch::detail
