#include <infobatch/detail/kernels.hpp>

namespace infobatch {
namespace detail {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace detail
}  // namespace infobatch
