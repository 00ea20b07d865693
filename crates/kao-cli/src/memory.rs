//! Whether what is asked for can fit the machine's memory, as far as that is known beforehand.

use kao::quantities::size;
use kao::unet::UNetConfig;
use kao::{Error, Result};

/// Bytes of a value.
const F32: u64 = 4;

/// Refuses work that takes at least `needed` bytes where fewer are free. `what` is `the images of
/// --count 1000`, say.
pub fn check(flag: &str, what: &str, needed: u64) -> Result<()> {
    let Some(free) = free_bytes() else { return Ok(()) };
    if needed <= free {
        return Ok(());
    }
    let problem =
        format!("{what} would take at least {} of memory; {} is free", size(needed), size(free));
    Err(Error::invalid(flag, problem))
}

/// Bytes of `n` images on the host.
pub fn images(n: usize, unet: &UNetConfig) -> u64 {
    let [c, h, w] = unet.image_size.map(|side| side as u64);
    bytes(&[n as u64, c, h, w])
}

/// A lower bound for `n` images on their way through the network.
pub fn forward(n: usize, unet: &UNetConfig) -> u64 {
    let [_, h, w] = unet.patched_size().map(|side| side as u64);
    // The skips of the first level, and what goes into and out of a convolution.
    let n_maps = (unet.num_res_blocks as u64).saturating_add(4);
    bytes(&[n as u64, n_maps, unet.ch as u64, h, w])
}

/// A lower bound for a training step of `n` images, of which `n_together` pass at a time.
pub fn training(n: usize, n_together: usize, unet: &UNetConfig) -> u64 {
    let [_, h, w] = unet.patched_size().map(|side| side as u64);
    // Of every block of the first level, what its convolutions and normalizations keep.
    let n_maps = (unet.num_res_blocks as u64).saturating_mul(8).saturating_add(4);
    let kept = bytes(&[n_together as u64, n_maps, unet.ch as u64, h, w]);
    kept.saturating_add(images(n, unet)).saturating_add(weights(unet).saturating_mul(5))
}

/// Bytes of an array of these lengths.
fn bytes(lengths: &[u64]) -> u64 {
    lengths.iter().fold(F32, |bytes, &length| bytes.saturating_mul(length))
}

/// Bytes of the weights.
pub fn weights(unet: &UNetConfig) -> u64 {
    (unet.parameter_count() as u64).saturating_mul(F32)
}

/// Memory that could be had, where the system tells.
fn free_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_fit_is_refused() {
        assert!(check("--count", "nothing", 0).is_ok());
        if cfg!(target_os = "linux") {
            let error = check("--count", "so much", u64::MAX).unwrap_err().to_string();
            assert!(error.starts_with("--count: so much would take at least"), "{error}");
        }
        let unet = UNetConfig::default();
        assert_eq!(images(2, &unet), 2 * 3 * 64 * 64 * 4);
        assert_eq!(forward(usize::MAX, &unet), u64::MAX);
    }
}
