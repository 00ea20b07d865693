//! Whether what is asked for can fit the machine's memory, as far as that is known beforehand.

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

/// Bytes from words such as `4GiB`, `1500 MB`, `2.5g`.
pub fn parse_size(words: &str) -> std::result::Result<u64, String> {
    let words = words.trim();
    let end = words.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(words.len());
    let expected = || "expected a size such as 4GiB or 1500MB".to_owned();
    let number: f64 = words[..end].parse().map_err(|_| expected())?;
    let unit: f64 = match words[end..].trim().to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(expected()),
    };
    Ok((number * unit) as u64)
}

/// Memory that could be had, where the system tells.
fn free_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Bytes in words: `9.2 MiB`, `1.4 GiB`.
pub fn size(bytes: u64) -> String {
    let gibibytes = bytes as f64 / (1u64 << 30) as f64;
    let (number, unit) =
        if gibibytes < 1.0 { (1024.0 * gibibytes, "MiB") } else { (gibibytes, "GiB") };
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [("4GiB", 4 << 30), ("1.5g", 3 << 29), ("1500 MB", 1_500_000_000), ("7b", 7)];
        for (words, bytes) in cases {
            assert_eq!(parse_size(words), Ok(bytes), "{words}");
        }
        for words in ["", "4", "GiB", "-1GiB", "4 apples", "1.2.3g", "４GiB"] {
            assert!(parse_size(words).is_err(), "{words}");
        }
    }

    #[test]
    fn bytes_are_told_in_one_way() {
        let cases = [(9_600_000, "9.2 MiB"), (300 << 20, "300 MiB"), (3 << 29, "1.5 GiB")];
        for (bytes, words) in cases {
            assert_eq!(size(bytes), words);
        }
    }

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
