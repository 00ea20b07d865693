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
}

names!(Spacing, "spacing", {
    Linear => "linear",
    Quadratic => "quadratic",
    Trailing => "trailing",
    Leading => "leading",
    Linspace => "linspace",
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

/// The timesteps visited by `n_steps` steps over a schedule of `n_timesteps`, highest first.
///
/// # Errors
/// When `n_steps` is 0 or above `n_timesteps`, or the schedule is too short for the spacing
/// (`Linear` and `Quadratic` need T ≥ 2).
pub fn visited(spacing: Spacing, n_steps: usize, n_timesteps: usize) -> Result<Vec<usize>> {
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
                let up = (2 * rest).cmp(&intervals).then((whole % 2).cmp(&0));
                whole + usize::from(2 * rest > intervals || (2 * rest == intervals && up.is_gt()))
            })
            .collect(),
    };
    timesteps.reverse();
    Ok(timesteps)
}

/// The sequence of `n_steps` steps from the noisiest visited timestep down to `end`.
///
/// # Errors
/// As [`visited`].
pub fn sequence(
    spacing: Spacing,
    n_steps: usize,
    n_timesteps: usize,
    end: End,
) -> Result<Vec<Step>> {
    Ok(through(&visited(spacing, n_steps, n_timesteps)?, end))
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
                if spacing == Spacing::Trailing {
                    assert_eq!(timesteps[0], n_timesteps - 1);
                    assert!(timesteps.windows(2).all(|pair| pair[0] > pair[1]));
                }
            }
        }
    }
}
