#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace infobatch::testing {

/// A process group over Gloo on this machine, as torch.distributed makes it.
c10::intrusive_ptr<c10d::ProcessGroup> gloo_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                  int rank,
                                                  int size);

}  // namespace infobatch::testing
