//! Timestep sequences: the explicit list of steps `t → t_prev` that a sampler takes.
//!
//! A sequence is data. Whoever wants to start in the middle (recovery, image-to-image) truncates
//! one or writes one; a sampler takes the steps that it is given.

use crate::error::{Error, Result};
use crate::named::names;

/// One step of a timestep sequence: from timestep `t` to `t_prev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The timestep the network sees.
    pub t: usize,
    /// The timestep arrived at; `None` is the clean image, where ᾱ = 1.
    pub t_prev: Option<usize>,
}

/// How the visited timesteps are spread over `0 .. T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spacing {
    /// The original's: evenly from 1 to T − 1, ending at ᾱ_0 by default. S = T repeats t = 1.
    Linear,
    /// The original's: denser at low noise, ending at ᾱ_0 by default. Never reaches T − 1.
    Quadratic,
    /// Evenly down from T − 1, ending at ᾱ = 1 by default (Lin et al. 2024, table 2).
    #[default]
    Trailing,
    /// Multiples of ⌊T/S⌋ from 0, ending at ᾱ = 1 by default (Lin et al. 2024, table 2).
    Leading,
    /// Evenly from 0 to T − 1, rounded, ending at ᾱ = 1 by default (Lin et al. 2024, table 2).
    Linspace,
    /// The timesteps whose noise levels σ = √((1 − ᾱ) / ᾱ) are nearest to those of Karras et al.
    /// 2022 (equation 5, ρ = 7) from the highest to the lowest of the schedule, no timestep twice.
    /// Ends at ᾱ = 1 by default.
    Karras,
}

names!(Spacing, "spacing", {
    Linear => "linear",
    Quadratic => "quadratic",
    Trailing => "trailing",
    Leading => "leading",
    Linspace => "linspace",
    Karras => "karras",
});

impl Spacing {
    /// Where a sequence of this spacing ends unless told otherwise.
    pub fn default_end(self) -> End {
        if self.is_the_originals() { End::FirstTimestep } else { End::Clean }
    }

    /// Whether the original has it: sampling with such a spacing follows the original in all else
    /// too, unless told otherwise.
    pub fn is_the_originals(self) -> bool {
        matches!(self, Spacing::Linear | Spacing::Quadratic)
    }
}

/// Where the last step of a sequence arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At timestep 0, with the noise level ᾱ_0, as the original.
    FirstTimestep,
    /// At the clean image, ᾱ = 1.
    Clean,
}

names!(End, "end", { FirstTimestep => "first-timestep" or "first", Clean => "clean" });

/// The timesteps visited by `n_steps` steps over a schedule with these ᾱ, one for each timestep,
/// highest first. All but `Karras` depend on their number alone.
///
/// # Errors
/// When `n_steps` is 0 or above `n_timesteps`, or the schedule is too short for the spacing
/// (`Linear` and `Quadratic` need T ≥ 2).
pub fn visited(spacing: Spacing, n_steps: usize, alpha_bars: &[f64]) -> Result<Vec<usize>> {
    let n_timesteps = alpha_bars.len();
    if n_steps == 0 || n_steps > n_timesteps {
        return Err(Error::out_of_range(
            "steps",
            n_steps,
            format!("between 1 and {n_timesteps}, the number of timesteps"),
        ));
    }
    // Those start at timestep 1.
    if spacing.is_the_originals() && n_timesteps < 2 {
        return Err(Error::invalid(
            "spacing",
            format!("{spacing} needs at least 2 timesteps; the model has {n_timesteps}"),
        ));
    }
    // linspace(0, last, n_steps)[i], as an exact fraction.
    let intervals = (n_steps - 1).max(1);
    let mut timesteps: Vec<usize> = match spacing {
        Spacing::Linear => (0..n_steps).map(|i| i * (n_timesteps - 2) / intervals + 1).collect(),
        // In single precision and from both ends towards the middle, as the original's linspace:
        // 14 − 21 · (14 / 49) is a hair below 8 there, and the square is truncated.
        Spacing::Quadratic => {
            let last = (n_timesteps - 2).isqrt() as f32;
            let interval = last / intervals as f32;
            let root = |i: usize| {
                if i < n_steps / 2 || n_steps == 1 {
                    i as f32 * interval
                } else {
                    last - (n_steps - 1 - i) as f32 * interval
                }
            };
            (0..n_steps).map(|i| root(i).powi(2) as usize + 1).collect()
        }
        Spacing::Trailing => (1..=n_steps)
            // round(i · T / S) − 1, halves up
            .map(|i| (2 * i * n_timesteps + n_steps) / (2 * n_steps) - 1)
            .collect(),
        Spacing::Leading => (0..n_steps).map(|i| i * (n_timesteps / n_steps)).collect(),
        // Halves to the even neighbour.
        Spacing::Linspace => (0..n_steps)
            .map(|i| {
                let (whole, rest) =
                    (i * (n_timesteps - 1) / intervals, i * (n_timesteps - 1) % intervals);
                let goes_up = 2 * rest + whole % 2 > intervals;
                whole + usize::from(goes_up)
            })
            .collect(),
        Spacing::Karras => karras(n_steps, alpha_bars),
    };
    timesteps.reverse();
    Ok(timesteps)
}

/// The trailing timesteps as diffusers has them, highest first: halves go to the even neighbour, and as
/// there the numbers are floating-point ones. At most 1 from those of [`visited`], for few numbers of
/// steps: 16, 32, 48, 64 and 80 of 1000 are the first.
///
/// # Errors
/// As [`visited`].
pub fn trailing_as_diffusers(n_steps: usize, alpha_bars: &[f64]) -> Result<Vec<usize>> {
    let own = visited(Spacing::Trailing, n_steps, alpha_bars)?;
    let start = alpha_bars.len() as f64;
    let step = (start - start / n_steps as f64) - start;
    let at = |i: usize| (start + i as f64 * step).round_ties_even() as usize;
    Ok((0..own.len()).map(|i| at(i).max(1) - 1).collect())
}

/// Timesteps next to the levels of Karras et al. 2022, lowest first.
fn karras(n_steps: usize, alpha_bars: &[f64]) -> Vec<usize> {
    const RHO: f64 = 7.0;
    let ln_sigmas: Vec<f64> =
        alpha_bars.iter().map(|alpha_bar| 0.5 * ((1.0 - alpha_bar) / alpha_bar).ln()).collect();
    let last = ln_sigmas.len() - 1;
    let [low, high] = [0, last].map(|t| (ln_sigmas[t] / RHO).exp());
    let mut timesteps = Vec::with_capacity(n_steps);
    for i in 0..n_steps {
        // One step alone begins at the highest level.
        let share = (n_steps - 1 - i) as f64 / (n_steps - 1).max(1) as f64;
        let ln_sigma = RHO * (high + share * (low - high)).ln();
        let above = ln_sigmas.partition_point(|&own| own < ln_sigma).min(last);
        let below = above.saturating_sub(1);
        let is_nearer = (ln_sigmas[above] - ln_sigma).abs() <= (ln_sigmas[below] - ln_sigma).abs();
        let nearest = if is_nearer { above } else { below };
        // Where levels are denser than timesteps, the next one that is free, as long as enough are
        // left above it.
        let lowest = timesteps.last().map_or(0, |t| t + 1);
        timesteps.push(nearest.clamp(lowest, last - (n_steps - 1 - i)));
    }
    timesteps
}

/// The sequence of `n_steps` steps from the noisiest visited timestep down to `end`, over a schedule
/// with these ᾱ.
///
/// # Errors
/// As [`visited`].
pub fn sequence(
    spacing: Spacing,
    n_steps: usize,
    alpha_bars: &[f64],
    end: End,
) -> Result<Vec<Step>> {
    Ok(through(&visited(spacing, n_steps, alpha_bars)?, end))
}

/// The sequence through `timesteps`, which are given highest first, to `end`.
pub fn through(timesteps: &[usize], end: End) -> Vec<Step> {
    let last = match end {
        End::FirstTimestep => Some(0),
        End::Clean => None,
    };
    let arrivals = timesteps.iter().skip(1).map(|&t| Some(t)).chain([last]);
    timesteps.iter().zip(arrivals).map(|(&t, t_prev)| Step { t, t_prev }).collect()
}

/// The part of a sequence for an image that has the noise of timestep `start`: the steps below it,
/// with a first step from `start` itself.
pub fn starting_at(sequence: &[Step], start: usize) -> Vec<Step> {
    let below: Vec<Step> = sequence.iter().copied().filter(|step| step.t < start).collect();
    let t_prev = match (below.first(), sequence.last()) {
        (Some(first), _) => Some(first.t),
        (None, Some(last)) => last.t_prev,
        (None, None) => None,
    };
    std::iter::once(Step { t: start, t_prev }).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ᾱ of a schedule of `n_timesteps`: σ rises evenly.
    fn alpha_bars(n_timesteps: usize) -> Vec<f64> {
        (1..=n_timesteps).map(|t| 1.0 / (1.0 + (t as f64 / 50.0).powi(2))).collect()
    }

    fn visited(spacing: Spacing, n_steps: usize, n_timesteps: usize) -> Result<Vec<usize>> {
        super::visited(spacing, n_steps, &alpha_bars(n_timesteps))
    }

    fn sequence(spacing: Spacing, n_steps: usize, n: usize, end: End) -> Result<Vec<Step>> {
        super::sequence(spacing, n_steps, &alpha_bars(n), end)
    }

    #[test]
    fn halves_of_trailing_timesteps_go_where_diffusers_has_them() {
        let alpha_bars = vec![0.5; 1000];
        let theirs = |n| trailing_as_diffusers(n, &alpha_bars).unwrap();
        // numpy: round(arange(1000, 0, -1000 / 16)) - 1
        let expected =
            [999, 937, 874, 811, 749, 687, 624, 561, 499, 437, 374, 311, 249, 187, 124, 61];
        assert_eq!(theirs(16), expected);
        let own = |n| super::visited(Spacing::Trailing, n, &alpha_bars).unwrap();
        let others: Vec<usize> = (1..=100).filter(|&n| theirs(n) != own(n)).collect();
        assert_eq!(others, [16, 32, 48, 64, 80]);
        assert_eq!(theirs(1000), own(1000));
    }

    #[test]
    fn the_originals_sequences() {
        // Excerpts of what the original program printed.
        let ascending = |spacing, s, t| {
            let mut v = visited(spacing, s, t).unwrap();
            v.reverse();
            v
        };
        assert_eq!(ascending(Spacing::Linear, 1, 200), [1]);
        assert_eq!(ascending(Spacing::Linear, 2, 200), [1, 199]);
        assert_eq!(ascending(Spacing::Quadratic, 7, 200), [1, 6, 22, 50, 88, 137, 197]);
        assert_eq!(
            ascending(Spacing::Linear, 13, 200),
            [1, 17, 34, 50, 67, 83, 100, 116, 133, 149, 166, 182, 199]
        );
    }

    #[test]
    fn trailing_starts_at_the_top_and_covers_all_when_dense() {
        assert_eq!(visited(Spacing::Trailing, 4, 1000).unwrap(), [999, 749, 499, 249]);
        let dense: Vec<usize> = (0..10).rev().collect();
        assert_eq!(visited(Spacing::Trailing, 10, 10).unwrap(), dense);
        assert_eq!(visited(Spacing::Leading, 10, 10).unwrap(), dense);
        assert_eq!(visited(Spacing::Leading, 4, 1000).unwrap(), [750, 500, 250, 0]);
        assert_eq!(visited(Spacing::Linspace, 4, 1000).unwrap(), [999, 666, 333, 0]);
        // 499.5 is rounded to 500, 249.75 to 250, 749.25 to 749, 1.5 to 2 and 0.5 to 0.
        assert_eq!(visited(Spacing::Linspace, 5, 1000).unwrap(), [999, 749, 500, 250, 0]);
        assert_eq!(visited(Spacing::Linspace, 3, 4).unwrap(), [3, 2, 0]);
        assert_eq!(visited(Spacing::Linspace, 3, 2 + 4).unwrap(), [5, 2, 0]);
        assert_eq!(visited(Spacing::Linspace, 1, 10).unwrap(), [0]);
        assert_eq!(visited(Spacing::Linspace, 10, 10).unwrap(), dense);
    }

    #[test]
    fn karras_levels_are_dense_where_there_is_little_noise() {
        let levels = alpha_bars(1000);
        let timesteps = visited(Spacing::Karras, 8, 1000).unwrap();
        assert_eq!((timesteps[0], timesteps[7]), (999, 0));
        let sigma = |t: usize| ((1.0 - levels[t]) / levels[t]).sqrt();
        let root = |sigma: f64| sigma.powf(1.0 / 7.0);
        for (i, &t) in timesteps.iter().enumerate() {
            let root = root(20.0) + i as f64 / 7.0 * (root(0.02) - root(20.0));
            let level = root.powi(7);
            // Neighbours are 0.02 apart here.
            assert!((sigma(t) - level).abs() <= 0.011, "{t}: {level}");
        }
        assert_eq!(visited(Spacing::Karras, 1, 1000).unwrap(), [999]);
        let dense: Vec<usize> = (0..10).rev().collect();
        assert_eq!(visited(Spacing::Karras, 10, 10).unwrap(), dense);
    }

    #[test]
    fn a_sequence_chains_and_ends_where_it_is_told() {
        let steps = sequence(Spacing::Linear, 3, 200, End::FirstTimestep).unwrap();
        let pair = |t, t_prev| Step { t, t_prev };
        assert_eq!(steps, [pair(199, Some(100)), pair(100, Some(1)), pair(1, Some(0))]);
        let steps = sequence(Spacing::Trailing, 2, 200, End::Clean).unwrap();
        assert_eq!(steps, [pair(199, Some(99)), pair(99, None)]);
    }

    #[test]
    fn starting_in_the_middle_begins_there() {
        let pair = |t, t_prev| Step { t, t_prev };
        let steps = sequence(Spacing::Linear, 3, 200, End::FirstTimestep).unwrap();
        assert_eq!(starting_at(&steps, 150), [pair(150, Some(100)), steps[1], steps[2]]);
        assert_eq!(starting_at(&steps, 100), [pair(100, Some(1)), steps[2]]);
        assert_eq!(starting_at(&steps, 1), [pair(1, Some(0))]);
    }

    #[test]
    fn impossible_counts_are_refused() {
        assert!(visited(Spacing::Trailing, 0, 10).is_err());
        assert!(visited(Spacing::Trailing, 11, 10).is_err());
        assert!(visited(Spacing::Linear, 1, 1).is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_spacing_descends_within_the_schedule(s in 1usize..300, extra in 0usize..300) {
            let n_timesteps = (s + extra).max(2);
            for &spacing in Spacing::ALL {
                let timesteps = visited(spacing, s, n_timesteps).unwrap();
                assert_eq!(timesteps.len(), s);
                assert!(timesteps.iter().all(|&t| t < n_timesteps));
                assert!(timesteps.windows(2).all(|pair| pair[0] >= pair[1]));
                if matches!(spacing, Spacing::Trailing | Spacing::Karras) {
                    assert_eq!(timesteps[0], n_timesteps - 1);
                    assert!(timesteps.windows(2).all(|pair| pair[0] > pair[1]));
                }
            }
        }
    }
}
