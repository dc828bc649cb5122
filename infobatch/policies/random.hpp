#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// Every sample is left out with probability r, whatever its loss. Scale: r.
///
/// With rescaling and annealing this is the "random" arm of the InfoBatch paper, Table 5; without
/// either it is a fresh uniform subset each epoch.
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), Table 5.
extern const Policy kRandomPolicy;

}  // namespace infobatch
