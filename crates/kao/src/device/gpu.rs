//! Finding a GPU, by way of Burn.

use super::DeviceKind;
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A GPU that was found. Whether it computes rightly is for [`DeviceKind::open`] to see.
#[derive(Clone, Debug)]
pub struct GpuDevice {
    kind: DeviceKind,
    name: String,
    device: burn_tensor::Device,
}

impl GpuDevice {
    /// The first device of its kind. A process may ask for it once: Burn connects to a device no
    /// second time.
    ///
    /// # Errors
    /// When the machine has none, or it does not answer.
    pub(crate) fn find(kind: DeviceKind) -> Result<Self> {
        // Some of Burn's drivers panic where they find nothing.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let device = connect(kind)?;
            let name = device.identity().map_or_else(|| "without a name".to_owned(), |it| it.name);
            Ok((name, device))
        }));
        match found.unwrap_or_else(|payload| Err(panic_message(&*payload))) {
            Ok((name, device)) => Ok(GpuDevice { kind, name, device }),
            Err(problem) => {
                let problem =
                    format!("no {} device can be opened: {}", kind.title(), brief(&problem));
                Err(Error::invalid("device", problem)
                    .with_hint("see that the device's driver is installed, or use the CPU"))
            }
        }
    }

    /// Its kind.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where tensors are made.
    pub(crate) fn burn(&self) -> &burn_tensor::Device {
        &self.device
    }

    /// What went wrong on it, as an error that names it.
    pub(crate) fn error(&self, problem: &str) -> Error {
        let GpuDevice { kind, name, .. } = self;
        Error::invalid("device", format!("the {} device {name} {}", kind.title(), brief(problem)))
            .with_hint("use the CPU, or another driver for this device")
    }
}

/// Connects to the first device of this kind, or says why it cannot.
fn connect(kind: DeviceKind) -> Result<burn_tensor::Device, String> {
    match kind {
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => first(burn_tensor::DeviceType::Cuda),
        #[cfg(feature = "metal")]
        DeviceKind::Metal => graphics(burn_tensor::wgpu::WgpuBackend::Metal),
        #[cfg(feature = "vulkan")]
        DeviceKind::Vulkan => graphics(burn_tensor::wgpu::WgpuBackend::Vulkan),
        #[allow(unreachable_patterns)]
        _ => Err("it is not in this build".to_owned()),
    }
}

#[cfg(feature = "cuda")]
fn first(kind: burn_tensor::DeviceType) -> Result<burn_tensor::Device, String> {
    let found = burn_tensor::Device::enumerate(kind);
    found.into_iter().next().ok_or_else(|| "the driver shows none".to_owned())
}

#[cfg(any(feature = "metal", feature = "vulkan"))]
fn graphics(api: burn_tensor::wgpu::WgpuBackend) -> Result<burn_tensor::Device, String> {
    let options = burn_tensor::Device::wgpu_options().graphics_api(api);
    options.init().map_err(|error| error.to_string())
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// The first words of a driver's message, which may go on for pages.
fn brief(message: &str) -> String {
    const MOST: usize = 300;
    let line: Vec<&str> = message.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
