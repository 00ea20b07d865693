//! Which method samples, along which timesteps.

use super::{Ddim, Plan, Sampler};
use crate::error::Result;
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Spacing, Step, sequence};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How to go from noise to images. Whatever is left out is chosen as the documentation of the field
/// says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingConfig {
    /// The method; by default DPM-Solver++, or DDIM with a spacing of the original. Both are without
    /// noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Steps; by default all T with DDPM and 20 with the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// Where the sequence ends; by default as the spacing has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Whether x̂_0 is clamped to `[-1, 1]` at every step.
    pub clip: bool,
}

impl SamplingConfig {
    /// The method.
    pub fn sampler(&self) -> Sampler {
        let by_default = match self.spacing.is_the_originals() {
            true => Ddim::default().into(),
            false => Sampler::default(),
        };
        self.sampler.unwrap_or(by_default)
    }

    /// Steps over a schedule of `n_timesteps`.
    pub fn n_steps(&self, n_timesteps: usize) -> usize {
        self.steps.unwrap_or_else(|| self.sampler().default_steps(n_timesteps))
    }

    fn end(&self) -> End {
        self.end.unwrap_or(self.spacing.default_end())
    }

    /// Checks what can be told without a schedule.
    ///
    /// # Errors
    /// When a setting of the sampler is impossible.
    pub fn validate(&self) -> Result<()> {
        self.sampler().validate()
    }

    /// How often the network is evaluated for each image: what an image costs.
    pub fn n_evaluations(&self, n_timesteps: usize) -> usize {
        self.sampler().n_evaluations(self.n_steps(n_timesteps), self.end())
    }

    /// The timestep sequence over `schedule`.
    ///
    /// # Errors
    /// When there are more steps than timesteps, or none.
    pub fn sequence(&self, schedule: &NoiseSchedule) -> Result<Vec<Step>> {
        let n_steps = self.n_steps(schedule.n_timesteps());
        sequence(self.spacing, n_steps, schedule.alpha_bars(), self.end())
    }

    /// The method planned for its timestep sequence over `schedule`.
    ///
    /// # Errors
    /// As [`sequence`](Self::sequence), and when a setting does not fit the sequence.
    pub fn plan(&self, schedule: &NoiseSchedule) -> Result<Plan> {
        self.validate()?;
        self.sampler().plan(schedule, self.sequence(schedule)?, self.clip)
    }

    /// In a few words: `DPM-Solver++ 20 steps`, `DDIM 10 steps η 1`.
    pub fn summary(&self, n_timesteps: usize) -> String {
        let sampler = self.sampler();
        let n_steps = self.n_steps(n_timesteps);
        let steps = if n_steps == 1 { "step" } else { "steps" };
        let mut summary = format!("{} {n_steps} {steps}", sampler.description().title);
        if let Some(eta) = sampler.settings().get("eta").and_then(Value::as_f64)
            && eta != 0.0
        {
            summary += &format!(" η {eta}");
        }
        summary
    }

    /// As keys and values for the texts of a picture.
    pub fn describe(&self, n_timesteps: usize) -> Vec<(String, String)> {
        let mut texts = vec![
            ("sampler".to_owned(), self.sampler().name().to_owned()),
            ("steps".to_owned(), self.n_steps(n_timesteps).to_string()),
        ];
        // What a step costs is said where it is not one evaluation.
        let n_evaluations = self.n_evaluations(n_timesteps);
        if n_evaluations != self.n_steps(n_timesteps) {
            texts.push(("evaluations".to_owned(), n_evaluations.to_string()));
        }
        let settings = self.sampler().settings().into_iter();
        // What a flag switches on is said only where it is on.
        let settings = settings.filter(|(_, value)| *value != Value::Bool(false));
        texts.extend(settings.map(|(name, value)| (name, in_words(&value))));
        texts.extend([
            ("spacing".to_owned(), self.spacing.name().to_owned()),
            ("end".to_owned(), self.end().name().to_owned()),
            ("clip".to_owned(), self.clip.to_string()),
        ]);
        texts
    }
}

/// A setting as a text: `0.5`, `1`, `posterior`.
pub(super) fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) => number.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::{Ddpm, Euler, Heun};

    #[test]
    fn the_texts_of_pictures_are_those_of_all_versions() {
        let texts = |config: SamplingConfig| {
            let texts = config.describe(1000).into_iter();
            texts.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
        };
        let default = SamplingConfig::default();
        let rest = "spacing trailing, end clean, clip false";
        assert_eq!(texts(default), format!("sampler dpm++, steps 20, eta 0, {rest}"));
        let of = |sampler: Sampler| SamplingConfig { sampler: Some(sampler), ..default };
        let ddpm = Ddpm::default();
        let words = "sampler ddpm, steps 1000, variance posterior";
        assert_eq!(texts(of(ddpm.into())), format!("{words}, {rest}"));
        let final_noise = Ddpm { final_noise: true, ..ddpm };
        assert!(texts(of(final_noise.into())).contains("final_noise true, variance posterior"));
        assert_eq!(texts(of(Euler {}.into())), format!("sampler euler, steps 20, {rest}"));
        let heun = "sampler heun, steps 20, evaluations 39";
        assert_eq!(texts(of(Heun {}.into())), format!("{heun}, {rest}"));
        let linear = SamplingConfig { spacing: Spacing::Linear, clip: true, ..default };
        assert_eq!(
            texts(linear),
            "sampler ddim, steps 20, eta 0, spacing linear, end first-timestep, clip true"
        );
    }

    #[test]
    fn a_run_in_a_few_words() {
        let summary = |sampler: Sampler, steps| {
            let sampler = Some(sampler);
            SamplingConfig { sampler, steps, ..SamplingConfig::default() }.summary(1000)
        };
        assert_eq!(SamplingConfig::default().summary(10), "DPM-Solver++ 10 steps");
        assert_eq!(summary(Ddim { eta: 0.5 }.into(), Some(1)), "DDIM 1 step η 0.5");
        assert_eq!(summary(Ddpm::default().into(), None), "DDPM 1000 steps");
        assert_eq!(summary(Euler {}.into(), Some(8)), "Euler 8 steps");
    }
}
