#pragma once

// Catch2 v2 and v3 under one spelling, beside torch or without it. Tests include this and nothing
// else of Catch2; those that use torch say so first, with #define INFOBATCH_TEST_WITH_TORCH.
#if defined(INFOBATCH_TEST_WITH_TORCH)
#include <torch/torch.h>  // before Catch2: it leaks a CHECK macro of its own
#endif
#undef CHECK

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>  // v3
#else
#ifdef INFOBATCH_CATCH_MAIN  // tests/main.cpp only
#define CATCH_CONFIG_MAIN
#endif
#include <catch2/catch.hpp>  // v2

#include <string>

namespace Catch {
using Detail::Approx;  // v3 spelling: Catch::Approx
namespace Matchers {
/// v3's name of the matcher that v2 calls Contains.
inline auto ContainsSubstring(const std::string& text) { return Contains(text); }
}  // namespace Matchers
}  // namespace Catch
#endif

#ifndef SKIP  // v3.3 and newer have it; v2 reports such a test as passed
#define SKIP(reason)             \
  do {                           \
    WARN("skipped: " << reason); \
    return;                      \
  } while (false)
#endif
