#include <infobatch/backends.hpp>
#include <tests/support/stand_in_device.hpp>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/enum_tag.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

// Every operation is the CPU's, on the same memory.

namespace infobatch::testing {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex kDevices = 2;

std::mutex figures_mutex;
DeviceFigures figures;
std::atomic<int> refusing{0};
thread_local bool inside = false;  // an operation: its copies are not the program's
thread_local c10::DeviceIndex current = 0;

template <typename Change>
void note(const Change& change) {
  if (inside) return;
  const std::lock_guard<std::mutex> lock(figures_mutex);
  change(figures);
}

void wait_for(const char* what) {
  if (inside) return;
  TORCH_CHECK(refusing == 0, "stand_in: the host must not wait for the device, got ", what);
  note([](DeviceFigures& all) { all.waits += 1; });
}

void launch(const std::string& name) {
  note([&](DeviceFigures& all) {
    all.launches += 1;
    all.names.push_back(name);
  });
}

void give_back(void* memory) { c10::free_cpu(memory); }

class HostMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = bytes > 0 ? c10::alloc_cpu(bytes) : nullptr;
    // What nobody has written is NaN, or a number that nobody expects.
    if (memory != nullptr) std::memset(memory, 0xFF, bytes);
    return {memory, memory, &give_back, c10::Device(kType, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

HostMemory memory;
REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &memory);

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kType, current}; }
  void setDevice(c10::Device device) const override { uncheckedSetDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device.has_index() ? device : getDevice());
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  void* getStreamNativeHandle(c10::Stream) const override { return nullptr; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
  void synchronizeDevice(c10::DeviceIndex) const override { wait_for("synchronize"); }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator generator = at::detail::createCPUGenerator();
    return generator;  // torch::manual_seed asks for it
  }
};

// --- memory and views

using Sizes = c10::SymIntArrayRef;

c10::DeviceIndex index_of(std::optional<c10::Device> device) {
  return device && device->has_index() ? device->index() : current;
}

at::Tensor empty(Sizes size,
                 std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>,
                 std::optional<at::Device> device,
                 std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(c10::Device(kType, index_of(device)));
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size),
                                   &memory,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype),
                                   format);
}

at::Tensor empty_strided(Sizes size,
                         Sizes stride,
                         std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>,
                         std::optional<at::Device> device,
                         std::optional<bool>) {
  const c10::DeviceGuard guard(c10::Device(kType, index_of(device)));
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size),
                                           C10_AS_INTARRAYREF_SLOW(stride),
                                           &memory,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor as_strided(const at::Tensor& self,
                      Sizes size,
                      Sizes stride,
                      std::optional<c10::SymInt> offset) {
  std::optional<std::int64_t> begin;
  if (offset) begin = offset->expect_int();
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), begin);
}

at::Tensor view(const at::Tensor& self, Sizes size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

const at::Tensor& resize_(const at::Tensor& self, Sizes size, std::optional<at::MemoryFormat>) {
  const at::IntArrayRef sizes = C10_AS_INTARRAYREF_SLOW(size);
  const auto bytes =
      static_cast<std::size_t>(c10::multiply_integers(sizes)) * self.dtype().itemsize();
  c10::StorageImpl* const storage = self.storage().unsafeGetStorageImpl();
  if (storage->nbytes() < bytes) {
    const c10::DeviceGuard guard(self.device());
    storage->set_data_ptr_noswap(memory.allocate(bytes));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return self;
}

// --- copies, operations

/// The same memory as a tensor of the CPU.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(),
                       tensor.sizes(),
                       tensor.strides(),
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  if (to.is_cpu()) {
    wait_for("a copy to the host");
    note([](DeviceFigures& all) { all.copies_to_host += 1; });
  } else if (self.is_cpu()) {
    if (!non_blocking) wait_for("a blocking copy from the host");
    note([](DeviceFigures& all) { all.copies_from_host += 1; });
  } else {
    launch("aten::copy_");
  }
  const at::Tensor target = on_host(to);
  target.copy_(on_host(self));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, false);
}

at::Scalar item(const at::Tensor& self) {
  wait_for("item()");
  return at::_local_scalar_dense(on_host(self));
}

void on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const std::string& name = operation.schema().name();
  if (operation.hasTag(at::Tag::data_dependent_output) ||
      operation.hasTag(at::Tag::dynamic_output_shape)) {
    wait_for(name.c_str());
  }
  launch(name);
  struct Inside {
    bool before = inside;
    Inside() { inside = true; }
    ~Inside() { inside = before; }
  } const marked;
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("resize_", &resize_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

}  // namespace

c10::Device stand_in_device(int index) {
  static const bool registered = [] {
    c10::register_privateuse1_backend("stand_in");
    static Hooks hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
    // Kernels of its own, where the program is told whose.
    if (const char* const library = std::getenv("INFOBATCH_TEST_BACKEND")) load_backend(library);
    return true;
  }();
  TORCH_CHECK(registered && index < kDevices, "stand_in: there is no device ", index);
  return {kType, static_cast<c10::DeviceIndex>(index)};
}

bool has_kernels() {
  stand_in_device();
  return steps_on("stand_in") != nullptr;
}

DeviceFigures device_figures() {
  const std::lock_guard<std::mutex> lock(figures_mutex);
  return figures;
}

void reset_device_figures() {
  const std::lock_guard<std::mutex> lock(figures_mutex);
  figures = DeviceFigures();
}

RefuseWaits::RefuseWaits() { ++refusing; }
RefuseWaits::~RefuseWaits() { --refusing; }

}  // namespace infobatch::testing
