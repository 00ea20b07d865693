//! Which combinations there are.

use super::{Compare, STEPS};
use crate::error::{Error, Result};
use crate::sampler::{Sampler, SamplingConfig, SamplingDefaults, check_eta};
use crate::timesteps::{End, Spacing};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// More would fit no page.
const MAX_COMBINATIONS: usize = 400;

/// One combination, before its images are made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedComparison {
    /// The stem of its files.
    pub name: String,
    /// The sampler, by name.
    pub sampler: &'static str,
    /// η of the sampler; none where it has none.
    pub eta: Option<f64>,
    /// Steps.
    pub steps: usize,
    /// Evaluations of the network for each image.
    pub evaluations: usize,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Combination {
    /// The method with its settings.
    pub sampler: Sampler,
    /// How many steps.
    pub n_steps: usize,
}

impl Combination {
    /// η of the method; none where it has none.
    pub fn eta(&self) -> Option<f64> {
        self.sampler.settings().get("eta").and_then(Value::as_f64)
    }

    /// `dpm++-s0010-eta0`: the stem of its files.
    pub fn name(&self) -> String {
        let name = format!("{}-s{:04}", self.sampler.name(), self.n_steps);
        self.eta().map_or(name.clone(), |eta| format!("{name}-eta{eta}"))
    }

    /// How the images are made, as a request says it.
    pub fn sampling(&self, spacing: Spacing) -> SamplingConfig {
        let (sampler, steps) = (Some(self.sampler), Some(self.n_steps));
        SamplingConfig { sampler, steps, spacing: Some(spacing), ..SamplingConfig::default() }
    }

    /// How the images are made with a model whose configuration says this.
    pub fn sampling_of(&self, spacing: Spacing, defaults: &SamplingDefaults) -> SamplingConfig {
        self.sampling(spacing).of_model(defaults)
    }

    /// Evaluations of the network for each image, with such a model.
    pub fn n_evaluations(&self, spacing: Spacing, defaults: &SamplingDefaults) -> usize {
        self.sampling_of(spacing, defaults).n_evaluations(self.n_steps)
    }
}

impl Compare {
    /// Every combination, in the order in which their images are made.
    ///
    /// # Errors
    /// When the model cannot be read, or a field that says which ones there are has no good value.
    pub fn planned(&self) -> Result<Vec<PlannedComparison>> {
        let defaults = self.model.config()?.sampling;
        let planned = |of: Combination| PlannedComparison {
            name: of.name(),
            sampler: of.sampler.name(),
            eta: of.eta(),
            steps: of.n_steps,
            evaluations: of.n_evaluations(self.spacing, &defaults),
        };
        Ok(self.combinations(&defaults)?.into_iter().map(planned).collect())
    }

    /// Every combination once, samplers first, of a model whose configuration says this.
    pub(super) fn combinations(&self, defaults: &SamplingDefaults) -> Result<Vec<Combination>> {
        if self.samplers.is_empty() {
            return Err(Error::invalid("samplers", "none given; expected at least one"));
        }
        if !self.steps.is_empty() && !self.evaluations.is_empty() {
            let problem = "steps are given too; expected one of the two";
            return Err(Error::invalid("evaluations", problem));
        }
        for (field, numbers) in [("steps", &self.steps), ("evaluations", &self.evaluations)] {
            if numbers.contains(&0) {
                return Err(Error::out_of_range(field, 0, "at least 1"));
            }
        }
        let eta = |eta: &f64| {
            check_eta(*eta).map_err(|_| Error::out_of_range("etas", eta, "between 0 and 1"))
        };
        self.etas.iter().try_for_each(eta)?;
        let mut all = Vec::new();
        for name in &self.samplers {
            let sampler = Sampler::named(name).map_err(|_| {
                let names = Sampler::names().join(", ");
                Error::out_of_range("samplers", name, format!("of {names}"))
            })?;
            for sampler in self.with_etas(sampler)? {
                for n_steps in self.steps_of(&sampler, defaults) {
                    let combination = Combination { sampler, n_steps };
                    if !all.contains(&combination) {
                        all.push(combination);
                    }
                    if all.len() > MAX_COMBINATIONS {
                        let problem = format!(
                            "more than {MAX_COMBINATIONS} combinations found; expected fewer"
                        );
                        return Err(Error::invalid("samplers", problem));
                    }
                }
            }
        }
        Ok(all)
    }

    /// The method with each η that is asked for; as it is where it has none.
    fn with_etas(&self, sampler: Sampler) -> Result<Vec<Sampler>> {
        let has_eta = Sampler::with_setting("eta").contains(&sampler.name());
        if !has_eta || self.etas.is_empty() {
            return Ok(vec![sampler]);
        }
        let with = |eta: &f64| {
            let settings = Map::from_iter([("eta".to_owned(), json!(eta))]);
            Sampler::with_settings(sampler.name(), settings)
        };
        self.etas.iter().map(with).collect()
    }

    /// Numbers of steps that are asked for, or that so many evaluations of the network allow.
    fn steps_of(&self, sampler: &Sampler, defaults: &SamplingDefaults) -> Vec<usize> {
        let of = Combination { sampler: *sampler, n_steps: 1 };
        let end = of.sampling_of(self.spacing, defaults).end();
        match self.evaluations.as_slice() {
            [] if self.steps.is_empty() => STEPS.to_vec(),
            [] => self.steps.clone(),
            evaluations => evaluations.iter().map(|&n| most_steps(sampler, n, end)).collect(),
        }
    }
}

/// The most steps that cost no more than `n` evaluations of the network, and at least one.
fn most_steps(sampler: &Sampler, n: usize, end: End) -> usize {
    // Costs rise with steps, at least by one for each.
    let (mut fits, mut above) = (1, n.saturating_add(1));
    while above - fits > 1 {
        let middle = fits + (above - fits) / 2;
        match sampler.n_evaluations(middle, end) <= n {
            true => fits = middle,
            false => above = middle,
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(compare: &Compare) -> Vec<String> {
        let defaults = SamplingDefaults::default();
        compare.combinations(&defaults).unwrap().iter().map(Combination::name).collect()
    }

    #[test]
    fn every_combination_is_there_once() {
        let samplers = ["ddim", "heun"].map(str::to_owned).to_vec();
        let compare =
            Compare { samplers, steps: vec![5, 10], etas: vec![0.0, 1.0], ..Compare::default() };
        assert_eq!(
            names(&compare),
            [
                "ddim-s0005-eta0",
                "ddim-s0010-eta0",
                "ddim-s0005-eta1",
                "ddim-s0010-eta1",
                "heun-s0005",
                "heun-s0010"
            ]
        );
        let twice = Compare { steps: vec![5, 5, 10, 5], ..compare.clone() };
        assert_eq!(names(&twice), names(&compare));
        // η as each has it, and as many steps as evaluations allow.
        let samplers = ["dpm++", "dpm++-sde", "heun"].map(str::to_owned).to_vec();
        let compare = Compare { samplers, evaluations: vec![7, 8], ..Compare::default() };
        assert_eq!(
            names(&compare),
            [
                "dpm++-s0007-eta0",
                "dpm++-s0008-eta0",
                "dpm++-sde-s0007-eta1",
                "dpm++-sde-s0008-eta1",
                "heun-s0004"
            ]
        );
    }

    #[test]
    fn what_makes_no_combination_is_refused() {
        let refused = |compare: Compare| {
            compare.combinations(&SamplingDefaults::default()).unwrap_err().to_string()
        };
        let default = Compare::default;
        assert!(refused(Compare { samplers: vec![], ..default() }).starts_with("samplers: none"));
        let unknown = Compare { samplers: vec!["dpm".into()], ..default() };
        assert!(refused(unknown).starts_with("samplers dpm: must be of ddim, dpm++"));
        let none = Compare { steps: vec![5, 0], ..default() };
        assert_eq!(refused(none), "steps 0: must be at least 1");
        let both = Compare { steps: vec![5], evaluations: vec![5], ..default() };
        assert_eq!(refused(both), "evaluations: steps are given too; expected one of the two");
        let eta = Compare { etas: vec![0.0, 1.5], ..default() };
        assert_eq!(refused(eta), "etas 1.5: must be between 0 and 1");
        let many = Compare { steps: (1..500).collect(), ..default() };
        assert!(refused(many).contains("more than 400 combinations"));
    }

    proptest! {
        #[test]
        fn steps_fill_the_evaluations_and_never_exceed_them(
            n in 1usize..100_000, method in 0..Sampler::all().len(), first: bool,
        ) {
            let sampler = Sampler::all()[method];
            let end = if first { End::FirstTimestep } else { End::Clean };
            let n_steps = most_steps(&sampler, n, end);
            prop_assert!(n_steps == 1 || sampler.n_evaluations(n_steps, end) <= n);
            prop_assert!(sampler.n_evaluations(n_steps + 1, end) > n);
        }
    }
}
