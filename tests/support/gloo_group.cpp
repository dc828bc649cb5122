// torch's packages have Gloo in their libraries and the header of its process group, but no header
// of Gloo itself. That one only names what it points to, so the names alone will do: gloo_names/.
#define USE_C10D_GLOO
#include <tests/support/gloo_group.hpp>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace infobatch::testing {

c10::intrusive_ptr<c10d::ProcessGroup> gloo_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                  int rank,
                                                  int size) {
  using Gloo = c10d::ProcessGroupGloo;
  auto options = Gloo::Options::create(std::chrono::seconds(60));
  options->devices.push_back(Gloo::createDeviceForHostname("127.0.0.1"));
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
  const auto type = c10d::ProcessGroup::BackendType::GLOO;
  group->setBackend(c10::kCPU, type, c10::make_intrusive<Gloo>(store, rank, size, options));
  group->setDefaultBackend(type);
  return group;
}

}  // namespace infobatch::testing
