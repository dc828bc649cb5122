// The one place where Catch2 v2 gets its main(); v3 links its own.
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 with sanitizers takes std::regex, which Catch2 uses, for uninitialised (gcc bug 105562).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define INFOBATCH_CATCH_MAIN
#include <tests/support/catch2_shim.hpp>
