// Stands in for a CUDA device in a torch built without CUDA: enough of one for fake tensors, which have no memory.
//
// torch's FakeTensorMode computes the shapes, types and devices of results without computing the results, on any
// device. But autograd, autocast and factory functions ask C++ for the device itself, which a torch built without CUDA
// does not have. This library gives them one device on which nothing happens. It must be preloaded (LD_PRELOAD), so
// that torch calls the `getAccelerator` below. No kernel can run: a real tensor on this device is an error.
//
// It leans on three internals of torch, which have changed before and may change again:
//   c10/core/impl/DeviceGuardImplInterface.h   which device and stream are current, and events on streams
//   ATen/detail/CUDAHooksInterface.h           whether there is CUDA, and how many devices it has
//   at::accelerator::getAccelerator            the one accelerator of this build, which autograd asks for

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceType.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <optional>

namespace c10::impl {
namespace {

// torch's guard without operation says that its current device has number -1, and that it has no events.
// Autograd keeps a queue a device, by its number, and records an event at every change of streams.
class FakeGuard final : public NoOpDeviceGuardImpl<DeviceType::CUDA> {
 public:
  Device getDevice() const override { return device(); }
  Device exchangeDevice(Device) const override { return device(); }
  Stream getStream(Device) const noexcept override { return stream(); }
  Stream getDefaultStream(Device) const override { return stream(); }
  Stream exchangeStream(Stream) const noexcept override { return stream(); }

  // Whatever is waited for has always happened.
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }

 private:
  static Device device() noexcept { return Device(DeviceType::CUDA, 0); }
  static Stream stream() noexcept { return Stream(Stream::DEFAULT, device()); }
};

// The registry keeps a plain pointer: the guard lives as long as the process.
const DeviceGuardImplRegistrar registered_guard(DeviceType::CUDA, new FakeGuard());

}  // namespace
}  // namespace c10::impl

namespace at {

// FakeTensorMode and autograd ask these before they use a device of CUDA. In this namespace for the registry's macro.
struct FakeHooks final : public CUDAHooksInterface {
  explicit FakeHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
};

// torch looks for the hooks of CUDA under this name.
using CUDAHooks = FakeHooks;
REGISTER_CUDA_HOOKS(CUDAHooks)

namespace accelerator {

// In place of torch's own, as this library comes first in the search for symbols. Autograd starts a thread for each
// device of the accelerator and runs its backward passes there.
C10_EXPORT std::optional<c10::DeviceType> getAccelerator(bool /*checked*/) {
  return c10::DeviceType::CUDA;
}

}  // namespace accelerator
}  // namespace at
