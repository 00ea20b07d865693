//! The fixed table of the time embedding.

use super::config::UNetConfig;

/// Row t is [sin(t·f_0) …, cos(t·f_0) …] with f_k = exp(−k · ln(10000) / (half − `freq_shift`)) for
/// k < half = width / 2; the cosines first where `flip_sin_to_cos` says so.
pub(super) fn sinusoids(config: &UNetConfig) -> Vec<f32> {
    let (n_rows, width) = (config.num_steps, config.first_width());
    let half = width / 2;
    let last = half as f64 - config.freq_shift;
    let frequency = |k: usize| (-(k as f64) * 10_000f64.ln() / last).exp();
    let mut table = Vec::with_capacity(n_rows * width);
    for t in 0..n_rows {
        let phases = || (0..half).map(|k| t as f64 * frequency(k));
        let (sines, cosines) = (
            phases().map(|phase| libm::sin(phase) as f32),
            phases().map(|phase| libm::cos(phase) as f32),
        );
        match config.flip_sin_to_cos {
            false => table.extend(sines.chain(cosines)),
            true => table.extend(cosines.chain(sines)),
        }
    }
    table
}
