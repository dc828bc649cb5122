// The one place where Catch2 v2 gets its main(); v3 links its own.
#define INFOBATCH_CATCH_MAIN
#include <tests/support/catch2_shim.hpp>
