//! Which device the network runs on.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

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

impl DeviceKind {
    /// All kinds, whether this build has them or not.
    pub const ALL: [DeviceKind; 4] =
        [DeviceKind::Cpu, DeviceKind::Cuda, DeviceKind::Metal, DeviceKind::Vulkan];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Metal => "metal",
            DeviceKind::Vulkan => "vulkan",
        }
    }

    /// The device, the first of its kind.
    ///
    /// # Errors
    /// When this build does not have it.
    pub fn open(self) -> Result<Device> {
        match self {
            DeviceKind::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda => Ok(Device::Gpu(GpuDevice::new(self, burn::tensor::Device::cuda(0)))),
            #[cfg(feature = "metal")]
            DeviceKind::Metal => {
                let device = burn::tensor::Device::metal(burn::tensor::DeviceKind::DefaultDevice);
                Ok(Device::Gpu(GpuDevice::new(self, device)))
            }
            #[cfg(feature = "vulkan")]
            DeviceKind::Vulkan => {
                let device = burn::tensor::Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
                Ok(Device::Gpu(GpuDevice::new(self, device)))
            }
            #[allow(unreachable_patterns)]
            other => Err(Error::invalid(
                "--device",
                format!("{other} found; this build of Kao has only what it was compiled for"),
            )
            .with_hint(format!("build it with `--features {other}`, or use `--device cpu`"))),
        }
    }
}

/// Makes large buffers cheap for the whole process: see [`kao_kernels::keep_freed_memory`]. For
/// programs to call once, at their start; a library does not change its host's allocator.
pub fn keep_freed_memory() {
    kao_kernels::keep_freed_memory();
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kind = DeviceKind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            format!("expected one of {}", DeviceKind::ALL.map(Self::name).join(", "))
        })
    }
}
