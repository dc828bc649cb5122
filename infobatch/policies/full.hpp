#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// Every sample, every epoch, weight 1: what training without the library does.
extern const Policy kFullPolicy;

}  // namespace infobatch
