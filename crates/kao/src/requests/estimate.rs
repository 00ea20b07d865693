//! What a request takes, as far as it is known beforehand.

use crate::device::DeviceKind;
use crate::unet::UNetConfig;
use serde::Serialize;

/// What a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Bytes of memory at the peak, besides the program itself; 0 where it is little.
    pub memory_bytes: u64,
    /// Evaluations of the network, each for one image.
    pub n_evaluations: u64,
    /// Multiplications and additions of all of them.
    pub operations: f64,
}

impl Estimate {
    /// For so many evaluations of a network, `batch_size` images at a time, while `n_images` are held
    /// in memory.
    pub(super) fn sampling(
        unet: &UNetConfig,
        n_evaluations: usize,
        batch_size: usize,
        n_images: usize,
        device: DeviceKind,
    ) -> Self {
        let images = unet.image_bytes(n_images);
        // The memory of a GPU is its own.
        let pass = match device {
            DeviceKind::Cpu => unet.sampling_bytes(batch_size.min(n_images)),
            _ => unet.weight_bytes(),
        };
        Estimate {
            memory_bytes: images.saturating_add(pass),
            n_evaluations: n_evaluations as u64,
            operations: n_evaluations as f64 * unet.cpu_forward_flop() as f64,
        }
    }

    /// Seconds on the CPU of this machine, right within a factor of about two. The first call
    /// measures how fast the machine multiplies, which takes a moment.
    pub fn seconds(&self) -> f64 {
        // Networks reach between a third and three quarters of the peak.
        const SHARE_OF_PEAK: f64 = 0.5;
        if self.operations == 0.0 {
            return 0.0;
        }
        self.operations / (1e9 * SHARE_OF_PEAK * peak_gflops())
    }
}

fn peak_gflops() -> f64 {
    static PEAK: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *PEAK.get_or_init(kao_kernels::peak_gflops)
}
