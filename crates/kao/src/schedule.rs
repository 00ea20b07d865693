//! Noise schedules: how much of the image and how much noise there is at each timestep.
//!
//! A schedule is a table of T values of β in `f64`, and what follows from it. Timesteps are
//! indices `0 .. T`; index 0 is the least noisy. The schedule knows nothing of samplers.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest number of timesteps that is accepted: far above any published model, small enough
/// that a hostile file cannot take memory with it.
pub const MAX_TIMESTEPS: usize = 1_000_000;

/// The shape of β over the timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// β grows linearly (Ho et al. 2020, section 4).
    Linear,
    /// √β grows linearly (Rombach et al. 2022).
    ScaledLinear,
    /// ᾱ follows a squared cosine, β at most 0.999 (Nichol & Dhariwal 2021, equation 17). The two
    /// ends of β are not used.
    SquaredCosine,
    /// The noise level σ = √((1 − ᾱ) / ᾱ) rises from 0.02 to 80, evenly in σ^(1/7) (Karras et al.
    /// 2022, equation 5). Evenly spaced steps then lose contrast at all scales alike, where under
    /// the squared cosine the first of few steps passes over the levels at which the colours of
    /// large areas are settled. The two ends of β are not used.
    Karras,
    /// β follows a logistic function between its two ends (Xu et al. 2022, GeoDiff).
    Sigmoid,
    /// β of every timestep is given. The two ends of β are not used.
    Given,
}

impl ScheduleKind {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            ScheduleKind::Linear => "linear",
            ScheduleKind::ScaledLinear => "scaled-linear",
            ScheduleKind::SquaredCosine => "squared-cosine",
            ScheduleKind::Karras => "karras",
            ScheduleKind::Sigmoid => "sigmoid",
            ScheduleKind::Given => "given",
        }
    }

    /// Whether the ends of β say anything.
    fn has_ends(self) -> bool {
        matches!(self, ScheduleKind::Linear | ScheduleKind::ScaledLinear | ScheduleKind::Sigmoid)
    }
}

/// What a schedule is made from; stored in model files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The shape of β.
    pub kind: ScheduleKind,
    /// T, the number of timesteps.
    pub n_timesteps: usize,
    /// β of timestep 0.
    pub beta_start: f64,
    /// β of timestep T − 1.
    pub beta_end: f64,
    /// β of every timestep, where the kind is [`ScheduleKind::Given`]; else empty, and not in files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub betas: Vec<f64>,
    /// Whether √ᾱ is shifted and scaled so that the last timestep is noise alone and the first stays
    /// (Lin et al. 2024, algorithm 1). Not in files where it is not.
    #[serde(skip_serializing_if = "is_false")]
    pub zero_terminal_snr: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// The most given values of β: a configuration in a file is a megabyte at most.
const MAX_GIVEN: usize = 1 << 14;

/// ᾱ of a last timestep that is noise alone. It is a hair more than nothing, so that what divides by
/// it stays finite; √ᾱ is then what single precision rounds away beside 1.
const NOISE_ALONE: f64 = 1.0 / (1u64 << 48) as f64;

impl Default for ScheduleConfig {
    /// The original's schedule: linear from 1e-4 to 2e-2 over 1000 timesteps.
    fn default() -> Self {
        ScheduleConfig {
            kind: ScheduleKind::Linear,
            n_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 2e-2,
            betas: Vec::new(),
            zero_terminal_snr: false,
        }
    }
}

impl ScheduleConfig {
    /// The schedule with these β.
    pub fn given(betas: Vec<f64>) -> Self {
        let (kind, n_timesteps) = (ScheduleKind::Given, betas.len());
        ScheduleConfig { kind, n_timesteps, betas, ..ScheduleConfig::default() }
    }

    /// Whether both give the same noise levels: ends of β that are not used do not count.
    pub fn agrees_with(&self, other: &ScheduleConfig) -> bool {
        let ScheduleConfig { beta_start, beta_end, .. } = *other;
        match self.kind.has_ends() {
            true => self == other,
            false => ScheduleConfig { beta_start, beta_end, ..self.clone() } == *other,
        }
    }
}

impl From<&ScheduleConfig> for ScheduleConfig {
    fn from(config: &ScheduleConfig) -> Self {
        config.clone()
    }
}

impl ScheduleConfig {
    /// Checks the given values of β.
    fn check_given(&self) -> Result<()> {
        let ScheduleConfig { kind, n_timesteps, betas, .. } = self;
        let refuse = |problem: String| Err(Error::invalid("schedule: betas", problem));
        match *kind {
            ScheduleKind::Given if betas.len() != *n_timesteps || betas.len() > MAX_GIVEN => {
                refuse(format!(
                    "{} values found; expected one for each of {n_timesteps} timesteps, and at most \
                     {MAX_GIVEN}",
                    betas.len()
                ))
            }
            ScheduleKind::Given => match betas.iter().find(|&&beta| !(beta > 0.0 && beta < 1.0)) {
                Some(beta) => refuse(format!("{beta} found; expected values between 0 and 1")),
                None => Ok(()),
            },
            _ if betas.is_empty() => Ok(()),
            kind => refuse(format!("given for the schedule {}, which has its own", kind.name())),
        }
    }
}

impl fmt::Display for ScheduleConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScheduleConfig { kind, n_timesteps, beta_start, beta_end, .. } = self;
        write!(f, "{}, {n_timesteps} timesteps", kind.name())?;
        if kind.has_ends() {
            write!(f, ", beta {beta_start} to {beta_end}")?;
        }
        match self.zero_terminal_snr {
            true => f.write_str(", ending in noise alone"),
            false => Ok(()),
        }
    }
}

/// β, and the cumulative product ᾱ of α = 1 − β, for the timesteps `0 .. T`.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    config: ScheduleConfig,
    betas: Vec<f64>,
    alpha_bars: Vec<f64>,
}

impl NoiseSchedule {
    /// Computes the tables.
    ///
    /// # Errors
    /// When T is 0 or above [`MAX_TIMESTEPS`], the ends of β are not `0 < start <= end < 1`, or given
    /// values of β are not as many or not between 0 and 1.
    pub fn new(config: impl Into<ScheduleConfig>) -> Result<Self> {
        let config = config.into();
        let ScheduleConfig { kind, n_timesteps, beta_start, beta_end, .. } = config;
        if n_timesteps == 0 || n_timesteps > MAX_TIMESTEPS {
            return Err(Error::out_of_range(
                "schedule: n_timesteps",
                n_timesteps,
                format!("between 1 and {MAX_TIMESTEPS}"),
            ));
        }
        let ends_are_ordered = 0.0 < beta_start && beta_start <= beta_end && beta_end < 1.0;
        if kind.has_ends() && !ends_are_ordered {
            return Err(Error::invalid(
                "schedule: beta_start, beta_end",
                format!(
                    "{beta_start} and {beta_end} found; expected 0 < beta_start <= beta_end < 1"
                ),
            ));
        }
        // Files cannot hold others, also where the schedule has no use for them.
        for (name, value) in [("beta_start", beta_start), ("beta_end", beta_end)] {
            if !value.is_finite() {
                let what = format!("schedule: {name}");
                return Err(Error::out_of_range(what, value, "a finite number"));
            }
        }
        config.check_given()?;
        let betas: Vec<f64> = match kind {
            ScheduleKind::Linear => linspace(beta_start, beta_end, n_timesteps).collect(),
            ScheduleKind::ScaledLinear => {
                linspace(beta_start.sqrt(), beta_end.sqrt(), n_timesteps).map(|b| b * b).collect()
            }
            ScheduleKind::SquaredCosine => squared_cosine_betas(n_timesteps),
            ScheduleKind::Karras => karras_betas(n_timesteps),
            ScheduleKind::Sigmoid => linspace(-6.0, 6.0, n_timesteps)
                .map(|x| beta_start + (beta_end - beta_start) / (1.0 + libm::exp(-x)))
                .collect(),
            ScheduleKind::Given => config.betas.clone(),
        };
        let alpha_bars = betas
            .iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect();
        let schedule = NoiseSchedule { config, betas, alpha_bars };
        Ok(if schedule.config.zero_terminal_snr { schedule.rescaled() } else { schedule })
    }

    /// The schedule with a last timestep of noise alone (Lin et al. 2024, algorithm 1).
    fn rescaled(mut self) -> Self {
        let roots: Vec<f64> = self.alpha_bars.iter().map(|alpha_bar| alpha_bar.sqrt()).collect();
        let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return self };
        // A schedule of one timestep is all noise.
        let scale = if first > last { first / (first - last) } else { 0.0 };
        let mut before = 1.0;
        for ((alpha_bar, beta), root) in self.alpha_bars.iter_mut().zip(&mut self.betas).zip(roots)
        {
            *alpha_bar = ((root - last) * scale).powi(2).max(NOISE_ALONE);
            *beta = 1.0 - *alpha_bar / before;
            before = *alpha_bar;
        }
        self
    }

    /// What the schedule was made from.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// β of all timesteps.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// T.
    pub fn n_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// β of `timestep`.
    ///
    /// # Panics
    /// When `timestep >= T`.
    pub fn beta(&self, timestep: usize) -> f64 {
        self.betas[timestep]
    }

    /// ᾱ of `timestep`: the share of the variance of x_t that is still the image's.
    ///
    /// # Panics
    /// When `timestep >= T`.
    pub fn alpha_bar(&self, timestep: usize) -> f64 {
        self.alpha_bars[timestep]
    }

    /// ᾱ of where a step arrives: of a timestep, or 1 for `None`, the clean image.
    ///
    /// # Panics
    /// When the timestep is not below T.
    pub fn alpha_bar_at(&self, timestep: Option<usize>) -> f64 {
        timestep.map_or(1.0, |t| self.alpha_bars[t])
    }

    /// A warning in words where x_T, which sampling takes to be noise alone, keeps a notable share
    /// of the image: where ᾱ of the last timestep is above 0.01.
    pub fn leftover_warning(&self) -> Option<String> {
        const NOTABLE: f64 = 0.01;
        let alpha_bar = *self.alpha_bars.last()?;
        (alpha_bar > NOTABLE).then(|| {
            format!(
                "the last timestep keeps {:.0} % of the image's amplitude (alpha_bar_T = \
                 {alpha_bar:.2}), but sampling starts from noise alone: samples will be poor. More \
                 timesteps, or larger betas, leave less",
                100.0 * alpha_bar.sqrt()
            )
        })
    }

    /// ᾱ of all timesteps.
    pub fn alpha_bars(&self) -> &[f64] {
        &self.alpha_bars
    }

    /// The least noisy timestep at which no more than the share `alpha_bar` of the variance is the
    /// image's; the last one if there is none.
    pub fn timestep_at(&self, alpha_bar: f64) -> usize {
        self.alpha_bars.partition_point(|&own| own > alpha_bar).min(self.n_timesteps() - 1)
    }

    /// Signal-to-noise ratio ᾱ / (1 − ᾱ) of `timestep`.
    ///
    /// # Panics
    /// When `timestep >= T`.
    pub fn signal_to_noise_ratio(&self, timestep: usize) -> f64 {
        let alpha_bar = self.alpha_bar(timestep);
        alpha_bar / (1.0 - alpha_bar)
    }

    /// Adds noise: x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, value by value (Ho et al. 2020, equation 4).
    /// All three slices hold one image, in any layout.
    ///
    /// # Panics
    /// When `timestep >= T`.
    pub fn add_noise(&self, x_0: &[f32], epsilon: &[f32], timestep: usize, x_t: &mut [f32]) {
        let alpha_bar = self.alpha_bar(timestep);
        let (signal, noise) = (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
        for ((x_t, &x_0), &epsilon) in x_t.iter_mut().zip(x_0).zip(epsilon) {
            *x_t = signal * x_0 + noise * epsilon;
        }
    }
}

/// `n` values from `start` to `end`, both included; `start` alone for `n` = 1.
fn linspace(start: f64, end: f64, n: usize) -> impl Iterator<Item = f64> {
    let last = n.saturating_sub(1).max(1) as f64;
    (0..n).map(move |i| start + (end - start) * i as f64 / last)
}

/// Nichol & Dhariwal 2021, equation 17, with s = 0.008 and β clipped at 0.999.
fn squared_cosine_betas(n_timesteps: usize) -> Vec<f64> {
    const S: f64 = 0.008;
    const MAX_BETA: f64 = 0.999;
    let f = |i: usize| {
        let t = i as f64 / n_timesteps as f64;
        (((t + S) / (1.0 + S)) * std::f64::consts::FRAC_PI_2).cos().powi(2)
    };
    (0..n_timesteps).map(|i| (1.0 - f(i + 1) / f(i)).min(MAX_BETA)).collect()
}

/// Karras et al. 2022, equation 5, with ρ = 7. The least σ is that of the last of some
/// hundred sampling steps: at 8 bits a value, less noise is hardly seen.
fn karras_betas(n_timesteps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    const SIGMA_MIN: f64 = 0.02;
    const SIGMA_MAX: f64 = 80.0;
    let (start, end) = (libm::pow(SIGMA_MIN, 1.0 / RHO), libm::pow(SIGMA_MAX, 1.0 / RHO));
    linspace(start, end, n_timesteps)
        .scan(1.0, |alpha_bar_prev, root| {
            let sigma = libm::pow(root, RHO);
            let alpha_bar = 1.0 / (1.0 + sigma * sigma);
            Some(1.0 - alpha_bar / std::mem::replace(alpha_bar_prev, alpha_bar))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ScheduleKind; 5] = [
        ScheduleKind::Sigmoid,
        ScheduleKind::Linear,
        ScheduleKind::ScaledLinear,
        ScheduleKind::SquaredCosine,
        ScheduleKind::Karras,
    ];

    fn schedule(kind: ScheduleKind, n_timesteps: usize) -> NoiseSchedule {
        NoiseSchedule::new(ScheduleConfig { kind, n_timesteps, ..Default::default() }).unwrap()
    }

    #[test]
    fn ends_of_beta_count_where_they_are_used() {
        for kind in KINDS {
            let one = ScheduleConfig { kind, ..Default::default() };
            let other = ScheduleConfig { beta_end: 0.03, ..one.clone() };
            assert_eq!(one.agrees_with(&other), !kind.has_ends(), "{one}");
            assert!(!one.agrees_with(&ScheduleConfig { n_timesteps: 500, ..one.clone() }));
        }
    }

    /// Values of `tests/data/schedules.py` (f64).
    #[test]
    fn matches_independent_values() {
        let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-11 * b.abs(), "{a} is not {b}");
        let linear = schedule(ScheduleKind::Linear, 1000);
        close(linear.beta(500), 0.01005995995995996);
        close(linear.alpha_bar(0), 0.9999);
        close(linear.alpha_bar(99), 0.89701814567496);
        close(linear.alpha_bar(999), 4.0358297653756754e-05);
        let scaled = schedule(ScheduleKind::ScaledLinear, 1000);
        close(scaled.alpha_bar(500), 0.33127457951725575);
        let cosine = schedule(ScheduleKind::SquaredCosine, 1000);
        close(cosine.alpha_bar(0), 0.999958715775178);
        close(cosine.alpha_bar(500), 0.49228517244880304);
        close(cosine.alpha_bar(999), 2.4287669070348567e-09);
        let karras = schedule(ScheduleKind::Karras, 1000);
        close(karras.alpha_bar(0), 0.9996001599360256);
        close(karras.alpha_bar(500), 0.05717674564410918);
        close(karras.alpha_bar(999), 0.0001562255897516013);
    }

    #[test]
    fn a_timestep_is_found_by_its_share() {
        for kind in KINDS {
            let schedule = schedule(kind, 50);
            for t in 0..50 {
                assert_eq!(schedule.timestep_at(schedule.alpha_bar(t)), t, "{kind:?}");
            }
            assert_eq!((schedule.timestep_at(1.0), schedule.timestep_at(0.0)), (0, 49));
        }
    }

    #[test]
    fn alpha_bar_falls_and_stays_within_bounds() {
        for kind in KINDS {
            for n in [1, 2, 3, 10, 1000] {
                let schedule = schedule(kind, n);
                let mut previous = 1.0;
                for t in 0..n {
                    let alpha_bar = schedule.alpha_bar(t);
                    assert!(0.0 < alpha_bar && alpha_bar < previous, "{kind:?} {n} {t}");
                    previous = alpha_bar;
                }
            }
        }
    }

    #[test]
    fn a_schedule_that_ends_before_noise_is_warned_of() {
        for kind in KINDS {
            assert_eq!(schedule(kind, 1000).leftover_warning(), None, "{kind:?}");
        }
        let warning = schedule(ScheduleKind::Linear, 50).leftover_warning().unwrap();
        assert!(warning.contains("keeps 78 % of the image's"), "{warning}");
        assert!(warning.contains("alpha_bar_T = 0.60"), "{warning}");
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for (n_timesteps, beta_start, beta_end) in
            [(0, 1e-4, 2e-2), (10, 0.0, 0.1), (10, 0.2, 0.1), (10, 0.1, 1.0), (10, f64::NAN, 0.1)]
        {
            let config = ScheduleConfig { n_timesteps, beta_start, beta_end, ..Default::default() };
            assert!(NoiseSchedule::new(&config).is_err(), "{config:?}");
        }
    }

    #[test]
    fn ends_without_a_use_must_be_numbers_too() {
        let config = ScheduleConfig { kind: ScheduleKind::Karras, ..Default::default() };
        assert!(NoiseSchedule::new(ScheduleConfig { beta_start: 7.0, ..config.clone() }).is_ok());
        for value in [f64::NAN, f64::INFINITY] {
            let error = NoiseSchedule::new(ScheduleConfig { beta_start: value, ..config.clone() });
            let error = error.unwrap_err().to_string();
            assert!(error.ends_with(&format!("beta_start {value}: must be a finite number")));
            let other = ScheduleConfig { beta_end: value, ..config.clone() };
            assert!(NoiseSchedule::new(other).is_err());
        }
    }

    #[test]
    fn given_betas_are_taken_as_they_are() {
        let linear = schedule(ScheduleKind::Linear, 50);
        let given = ScheduleConfig::given(linear.betas().to_vec());
        let schedule = NoiseSchedule::new(&given).unwrap();
        assert_eq!(schedule.alpha_bars(), linear.alpha_bars());
        let json = serde_json::to_string(&given).unwrap();
        assert_eq!(serde_json::from_str::<ScheduleConfig>(&json).unwrap(), given);
        for betas in [vec![], vec![0.1; 3], vec![0.5; 49], vec![1.0; 50], vec![f64::NAN; 50]] {
            let config = ScheduleConfig { betas, ..given.clone() };
            let error = NoiseSchedule::new(config).unwrap_err().to_string();
            assert!(error.starts_with("schedule: betas: "), "{error}");
        }
        let unused = ScheduleConfig { betas: vec![0.1; 1000], ..Default::default() };
        assert!(NoiseSchedule::new(unused).is_err());
    }

    #[test]
    fn a_last_timestep_of_noise_alone_leaves_the_first() {
        for kind in KINDS {
            let plain = schedule(kind, 100);
            let zero_terminal_snr = true;
            let config = ScheduleConfig { zero_terminal_snr, ..plain.config().clone() };
            let schedule = NoiseSchedule::new(&config).unwrap();
            assert_eq!(schedule.alpha_bar(99), NOISE_ALONE);
            assert!((schedule.alpha_bar(0) - plain.alpha_bar(0)).abs() < 1e-15, "{kind:?}");
            // The roots keep their ratios of distances.
            let roots =
                [&plain, &schedule].map(|of| [0, 30, 99].map(|t: usize| of.alpha_bar(t).sqrt()));
            let ratios = roots.map(|[a, b, c]| (b - c) / (a - c));
            assert!((ratios[0] - ratios[1]).abs() < 1e-6, "{kind:?} {ratios:?}");
            assert!(schedule.betas().iter().all(|beta| (0.0..1.0).contains(beta)));
        }
        let one = ScheduleConfig { zero_terminal_snr: true, n_timesteps: 1, ..Default::default() };
        assert_eq!(NoiseSchedule::new(one).unwrap().alpha_bars(), [NOISE_ALONE]);
    }
}
