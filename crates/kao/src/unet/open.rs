//! Opening a device. A GPU is trusted only after it has computed a small network as the CPU does,
//! which is why this is not written where devices are.

use crate::device::{Device, DeviceKind};
#[cfg(not(all(feature = "cuda", feature = "metal", feature = "vulkan")))]
use crate::error::Error;
use crate::error::Result;

impl DeviceKind {
    /// The device, the first of its kind.
    ///
    /// A GPU computes a small network first, forward pass and gradients, and is refused where they
    /// are not those of the CPU: there are drivers that answer with noise. That is done once in a
    /// process.
    ///
    /// # Errors
    /// When this build does not have it, the machine does not, or it computes wrongly.
    pub fn open(self) -> Result<Device> {
        match self {
            DeviceKind::Cpu => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda => super::self_test::open(self).map(Device::Gpu),
            #[cfg(feature = "metal")]
            DeviceKind::Metal => super::self_test::open(self).map(Device::Gpu),
            #[cfg(feature = "vulkan")]
            DeviceKind::Vulkan => super::self_test::open(self).map(Device::Gpu),
            #[cfg(not(all(feature = "cuda", feature = "metal", feature = "vulkan")))]
            other => Err(Error::invalid(
                "device",
                format!("{other} found; this build of Kao was compiled without it"),
            )
            .with_hint(format!(
                "build it with `cargo build --release --features {other}`, or use the CPU"
            ))),
        }
    }
}
