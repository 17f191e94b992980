// A CUDA device without CUDA, for a torch that was built without it: tensors on it have shapes and dtypes, and no
// numbers. Loaded before torch is imported, it answers what the front ends of torch ask of a device (guards, streams,
// hooks, pinned memory, the kernel of attention) and computes nothing. Bound to the ABI of the torch that it is compiled
// against, so it is compiled where it is used.

#include <cstdlib>
#include <map>
#include <mutex>

#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

struct Guard final : public c10::impl::NoOpDeviceGuardImpl<CUDA> {
  static c10::Stream stream() {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(CUDA, 0));
  }
  c10::Device getDevice() const override { return c10::Device(CUDA, 0); }
  c10::Device exchangeDevice(c10::Device) const override { return c10::Device(CUDA, 0); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
  // An event is anything but null.
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    *event = reinterpret_cast<void*>(1);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};

// Memory of the host that knows itself as pinned.
class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t num_bytes) override {
    void* data = std::malloc(num_bytes ? num_bytes : 1);
    const std::lock_guard<std::mutex> lock(mutex());
    sizes()[static_cast<char*>(data)] = num_bytes;
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t num_bytes) const override {
    default_copy_data(to, from, num_bytes);
  }
  static bool holds(const void* data) {
    const std::lock_guard<std::mutex> lock(mutex());
    auto after = sizes().upper_bound(static_cast<char*>(const_cast<void*>(data)));
    if (after == sizes().begin()) {
      return false;
    }
    const auto& [start, num_bytes] = *--after;
    return data < start + num_bytes;
  }

 private:
  static void release(void* data) {
    {
      const std::lock_guard<std::mutex> lock(mutex());
      sizes().erase(static_cast<char*>(data));
    }
    std::free(data);
  }
  static std::map<char*, size_t>& sizes() {
    static auto* sizes = new std::map<char*, size_t>();
    return *sizes;
  }
  static std::mutex& mutex() {
    static auto* mutex = new std::mutex();
    return *mutex;
  }
};

// Flash attention takes no mask and 16 bits; what it does not take, the memory-efficient kernel does.
int64_t attention_kernel(
    const at::Tensor& query,
    const at::Tensor&,
    const at::Tensor&,
    const std::optional<at::Tensor>& mask,
    double,
    bool,
    std::optional<double>,
    bool) {
  const bool is_half = query.scalar_type() == at::kHalf || query.scalar_type() == at::kBFloat16;
  if (query.scalar_type() == at::kDouble) {
    return static_cast<int64_t>(sdp::SDPBackend::math);
  }
  return static_cast<int64_t>(
      is_half && !mask.has_value() ? sdp::SDPBackend::flash_attention : sdp::SDPBackend::efficient_attention);
}

} // namespace

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

namespace at::native {
REGISTER_CUDA_DISPATCH(_fused_sdp_choice_stub, &attention_kernel)
} // namespace at::native

namespace at {
namespace {

// Found by this name in torch's registry.
struct CUDAHooks : public CUDAHooksInterface {
  CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  bool isPinnedPtr(const void* data) const override { return PinnedAllocator::holds(data); }
  Allocator* getPinnedMemoryAllocator() const override {
    static auto* allocator = new PinnedAllocator();
    return allocator;
  }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  long versionCuDNN() const override { return 91900; }
  long versionRuntimeCuDNN() const override { return 91900; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  double batchnormMinEpsilonCuDNN() const override { return 1e-5; }
};

REGISTER_CUDA_HOOKS(CUDAHooks);

} // namespace
} // namespace at
