//! Which device the network runs on.
//!
//! What a device is, and how a GPU is found. It is opened by [`DeviceKind::open`], whose last step
//! is to see that the device computes what the CPU computes; that needs a network, so it is written
//! with the networks.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(feature = "gpu")]
pub use gpu::GpuDevice;

use crate::named::names;

/// A device that is open.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Device {
    /// The processor, with Kao's own kernels.
    #[default]
    Cpu,
    /// A GPU (features `cuda`, `metal` and `vulkan`).
    #[cfg(feature = "gpu")]
    Gpu(GpuDevice),
}

/// A kind of device. Which ones a build has is decided by its cargo features; the CPU is always
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU (feature `cuda`).
    Cuda,
    /// An Apple GPU (feature `metal`).
    Metal,
    /// Any GPU with Vulkan (feature `vulkan`).
    Vulkan,
}

names!(DeviceKind, "device", {
    Cpu => "cpu",
    Cuda => "cuda",
    Metal => "metal",
    Vulkan => "vulkan",
});

#[cfg(feature = "gpu")]
impl DeviceKind {
    /// Its name in a sentence.
    fn title(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "CPU",
            DeviceKind::Cuda => "CUDA",
            DeviceKind::Metal => "Metal",
            DeviceKind::Vulkan => "Vulkan",
        }
    }
}

/// Makes large buffers cheap for the whole process: see [`kao_kernels::keep_freed_memory`]. For
/// programs to call once, at their start; a library does not change its host's allocator.
pub fn keep_freed_memory() {
    kao_kernels::keep_freed_memory();
}
