//! Which method samples, along which timesteps.

use super::{Ddim, Ddpm, Plan, Sampler, SamplingDefaults, Thresholding, Variance};
use crate::denoiser::Clipping;
use crate::error::{Error, Result};
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Spacing, Step, through, trailing_as_diffusers, visited};
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
    /// Steps; by default all T with DDPM, and with the others as the model's configuration says, or
    /// 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How the visited timesteps are spread; by default as the model's configuration says, or
    /// trailing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Where the sequence ends; by default as the model's configuration or the spacing has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Whether x̂_0 is clamped to `[-1, 1]` at every step, and ε̂ derived anew from it.
    pub clip: bool,
    /// Whether x̂_0 is left as it is, also where the model's configuration says otherwise.
    #[serde(skip_serializing_if = "is_false")]
    pub unclipped: bool,
    /// What the model's configuration says, of what is not said here; see
    /// [`of_model`](Self::of_model).
    #[serde(skip)]
    pub defaults: SamplingDefaults,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl SamplingConfig {
    /// The same for a model whose configuration says this.
    #[must_use]
    pub fn of_model(self, defaults: &SamplingDefaults) -> Self {
        SamplingConfig { defaults: *defaults, ..self }
    }

    /// How the visited timesteps are spread.
    pub fn spacing(&self) -> Spacing {
        self.spacing.or(self.defaults.spacing).unwrap_or_default()
    }

    /// The method.
    pub fn sampler(&self) -> Sampler {
        let by_default = match self.spacing().is_the_originals() {
            true => Ddim::default().into(),
            false => Sampler::default(),
        };
        match self.sampler.unwrap_or(by_default) {
            Sampler::Ddpm(Ddpm { variance, final_noise }) => {
                let variance = variance.or(self.defaults.variance).or(Some(Variance::default()));
                Ddpm { variance, final_noise }.into()
            }
            sampler => sampler,
        }
    }

    /// What is done to x̂_0 at every step.
    pub fn clipping(&self) -> Clipping {
        let SamplingDefaults { clip, thresholding, .. } = self.defaults;
        if self.unclipped {
            return Clipping::None;
        }
        if self.clip {
            let range = clip.unwrap_or(1.0);
            return Clipping::Clamped { range, keeps_epsilon: false };
        }
        let sampler = self.sampler();
        let keeps_epsilon = matches!(sampler, Sampler::Ddim(_));
        let clips = keeps_epsilon || matches!(sampler, Sampler::Ddpm(_));
        match (thresholding, clip) {
            (Some(Thresholding { ratio, largest }), _)
                if clips || matches!(sampler, Sampler::DpmPlusPlus(_)) =>
            {
                Clipping::Thresholded { ratio, largest, keeps_epsilon }
            }
            (None, Some(range)) if clips => Clipping::Clamped { range, keeps_epsilon },
            _ => Clipping::None,
        }
    }

    /// Steps over a schedule of `n_timesteps`.
    pub fn n_steps(&self, n_timesteps: usize) -> usize {
        let sampler = self.sampler();
        let of_model = self.defaults.steps.filter(|_| !matches!(sampler, Sampler::Ddpm(_)));
        let of_model = of_model.map(|steps| steps.min(n_timesteps));
        let by_default = || sampler.default_steps(n_timesteps);
        self.steps.or(of_model).unwrap_or_else(by_default)
    }

    /// Where the sequence ends.
    pub fn end(&self) -> End {
        self.end.or(self.defaults.end).unwrap_or(self.spacing().default_end())
    }

    /// Checks what can be told without a schedule.
    ///
    /// # Errors
    /// When a setting of the sampler is impossible.
    pub fn validate(&self) -> Result<()> {
        if self.clip && self.unclipped {
            return Err(Error::invalid("unclipped", "does not go with clip"));
        }
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
        let n_timesteps = schedule.n_timesteps();
        let n_steps = self.n_steps(n_timesteps);
        let mut visited = match (self.spacing(), self.defaults.spacing) {
            // A model of diffusers, which says so.
            (Spacing::Trailing, Some(Spacing::Trailing)) => {
                trailing_as_diffusers(n_steps, schedule.alpha_bars())?
            }
            (spacing, _) => visited(spacing, n_steps, schedule.alpha_bars())?,
        };
        let offset = self.defaults.steps_offset;
        if self.spacing() == Spacing::Leading && offset > 0 {
            visited.iter_mut().for_each(|t| *t = t.saturating_add(offset));
            if visited.first().is_some_and(|&t| t >= n_timesteps) {
                let problem = format!(
                    "{n_steps} steps that begin {offset} later do not fit {n_timesteps} timesteps"
                );
                return Err(Error::invalid("steps", problem));
            }
        }
        Ok(through(&visited, self.end()))
    }

    /// The method planned for its timestep sequence over `schedule`.
    ///
    /// # Errors
    /// As [`sequence`](Self::sequence), and when a setting does not fit the sequence.
    pub fn plan(&self, schedule: &NoiseSchedule) -> Result<Plan> {
        self.validate()?;
        self.sampler().plan(schedule, self.sequence(schedule)?, self.clipping())
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
            ("spacing".to_owned(), self.spacing().name().to_owned()),
            ("end".to_owned(), self.end().name().to_owned()),
            ("clip".to_owned(), clipping_in_words(self.clipping())),
        ]);
        texts
    }
}

fn clipping_in_words(clipping: Clipping) -> String {
    let kept = |keeps_epsilon| if keeps_epsilon { ", predicted noise kept" } else { "" };
    match clipping {
        Clipping::None => "false".to_owned(),
        Clipping::Clamped { range: 1.0, keeps_epsilon: false } => "true".to_owned(),
        Clipping::Clamped { range, keeps_epsilon } => format!("{range}{}", kept(keeps_epsilon)),
        Clipping::Thresholded { ratio, largest, keeps_epsilon } => {
            format!("quantile {ratio} up to {largest}{}", kept(keeps_epsilon))
        }
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
    use crate::sampler::{Euler, Heun};

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
        let linear = SamplingConfig { spacing: Some(Spacing::Linear), clip: true, ..default };
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

    #[test]
    fn a_model_may_say_how_it_is_sampled() {
        let thresholding = Some(Thresholding { ratio: 0.9, largest: 2.0 });
        let defaults = SamplingDefaults {
            spacing: Some(Spacing::Leading),
            steps_offset: 1,
            end: Some(End::FirstTimestep),
            clip: Some(1.5),
            thresholding: None,
            variance: Some(Variance::Beta),
            steps: Some(12),
            guide: None,
        };
        let of = |sampler: Sampler| {
            let sampler = Some(sampler);
            SamplingConfig { sampler, ..SamplingConfig::default() }.of_model(&defaults)
        };
        let schedule = NoiseSchedule::new(crate::schedule::ScheduleConfig::default()).unwrap();
        let (ddim, ddpm) = (of(Ddim::default().into()), of(Ddpm::default().into()));
        let steps = SamplingConfig { steps: Some(4), ..ddim }.sequence(&schedule).unwrap();
        assert_eq!((steps[0].t, steps[3].t, steps[3].t_prev), (751, 1, Some(0)));
        let all = SamplingConfig { steps: Some(1000), ..ddim };
        assert!(all.sequence(&schedule).unwrap_err().to_string().contains("do not fit 1000"));
        let clamped = |keeps_epsilon| Clipping::Clamped { range: 1.5, keeps_epsilon };
        assert_eq!((ddim.clipping(), ddpm.clipping()), (clamped(true), clamped(false)));
        assert!(ddpm.describe(1000).contains(&("variance".to_owned(), "beta".to_owned())));
        assert_eq!(of(Sampler::default()).clipping(), Clipping::None);
        assert_eq!((ddim.n_steps(1000), ddim.n_steps(8), ddpm.n_steps(1000)), (12, 8, 1000));
        assert_eq!(SamplingConfig { steps: Some(4), ..ddim }.n_steps(1000), 4);
        // What is asked for goes before it.
        let asked = SamplingConfig {
            spacing: Some(Spacing::Trailing),
            end: Some(End::Clean),
            unclipped: true,
            ..ddim
        };
        let steps = SamplingConfig { steps: Some(4), ..asked }.sequence(&schedule).unwrap();
        assert_eq!((steps[0].t, steps[3].t_prev), (999, None));
        assert_eq!(asked.clipping(), Clipping::None);
        assert_eq!(SamplingConfig { clip: true, ..ddim }.clipping(), clamped(false));
        assert!(SamplingConfig { clip: true, ..asked }.validate().is_err());
        let thresholded = SamplingConfig::default()
            .of_model(&SamplingDefaults { thresholding, ..SamplingDefaults::default() });
        let expected = Clipping::Thresholded { ratio: 0.9, largest: 2.0, keeps_epsilon: false };
        assert_eq!(thresholded.clipping(), expected);
    }
}
