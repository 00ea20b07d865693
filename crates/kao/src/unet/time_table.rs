//! The fixed table of the time embedding.

/// Row t is [sin(t·f_0) …, cos(t·f_0) …] with f_k = exp(−k · ln(10000) / (half − 1)) for
/// k < half = width / 2.
pub(super) fn sinusoids(n_rows: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |k: usize| (-(k as f64) * 10_000f64.ln() / (half as f64 - 1.0)).exp();
    let mut table = Vec::with_capacity(n_rows * width);
    for t in 0..n_rows {
        let phases = || (0..half).map(|k| t as f64 * frequency(k));
        table.extend(phases().map(|phase| libm::sin(phase) as f32));
        table.extend(phases().map(|phase| libm::cos(phase) as f32));
    }
    table
}
