#pragma once

#include <infobatch/detail/policy.hpp>

namespace infobatch {

/// Samples whose last loss is strictly below the mean are left out with probability r. Scale: r.
///
/// @source Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947), section 2.2.
extern const Policy kInfoBatchPolicy;

}  // namespace infobatch
