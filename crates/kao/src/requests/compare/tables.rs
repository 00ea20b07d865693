//! The numbers of a comparison, as CSV and JSON.

use super::combinations::Combination;
use super::{Compare, Measured};
use crate::error::{Error, Result};
use crate::sampler::SamplingDefaults;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// The numbers of one combination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The stem of its files.
    pub name: String,
    /// The sampler, by name.
    pub sampler: &'static str,
    /// What the sampler is called in prose.
    #[serde(skip)]
    pub title: &'static str,
    /// η of the sampler; none where it has none.
    pub eta: Option<f64>,
    /// Steps.
    pub steps: usize,
    /// Evaluations of the network for each image.
    pub evaluations: usize,
    /// Seconds for each image.
    pub seconds_per_image: f64,
    /// The sliced Wasserstein distance from real pictures, times 1000; none without them.
    pub distance: Option<f64>,
    /// The distance of two equally large sets of real pictures from each other.
    pub floor: Option<f64>,
}

impl Comparison {
    /// Of images that took so many seconds, all together.
    pub(super) fn new(
        compare: &Compare,
        combination: &Combination,
        defaults: &SamplingDefaults,
        seconds: f64,
        measured: Measured,
    ) -> Self {
        let Measured { distance, floor } = measured;
        let description = combination.sampler.description();
        Comparison {
            name: combination.name(),
            sampler: description.name,
            title: description.title,
            eta: combination.eta(),
            steps: combination.n_steps,
            evaluations: combination.n_evaluations(compare.spacing, defaults),
            seconds_per_image: seconds / compare.count.max(1) as f64,
            distance,
            floor,
        }
    }

    /// The sampler and its η where that is not 0: `DDIM`, `DDIM η 1`.
    pub fn method(&self) -> String {
        match self.eta {
            Some(eta) if eta != 0.0 => format!("{} η {eta}", self.title),
            _ => self.title.to_owned(),
        }
    }

    /// How many times the floor the images are away from real pictures.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.distance? / self.floor?)
    }
}

/// A value, or nothing where there is none.
fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// One row for each combination.
pub(super) fn csv(comparisons: &[Comparison]) -> String {
    let mut csv =
        "sampler,eta,steps,evaluations,seconds_per_image,distance,floor,ratio\n".to_owned();
    for of in comparisons {
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{},{},{},{},{:.6},{},{},{}",
            of.sampler,
            cell(of.eta),
            of.steps,
            of.evaluations,
            of.seconds_per_image,
            cell(of.distance),
            cell(of.floor),
            cell(of.ratio())
        );
    }
    csv
}

/// The same, with what was asked for.
pub(super) fn json(
    compare: &Compare,
    command: Option<&str>,
    comparisons: &[Comparison],
) -> Result<String> {
    let object = json!({
        "software": concat!("kao ", env!("CARGO_PKG_VERSION")),
        "command": command,
        "model": compare.model.name(),
        "images": compare.count,
        "comparisons": comparisons,
    });
    serde_json::to_string_pretty(&object).map_err(|error| Error::invalid("request", error))
}
