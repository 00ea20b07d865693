//! The arguments of every command that samples: which method, along which timesteps.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use kao::sampler::{Sampler, SamplingConfig, Variance, check_eta};
use kao::timesteps::{End, Spacing};
use kao::{Error, Result};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// How to go from noise to images.
#[derive(Args)]
pub struct SamplingArguments {
    /// Sampler [default: dpm++; ddim where --eta or one of the original's spacings is given]
    #[arg(long, value_parser = sampler_names())]
    sampler: Option<String>,
    /// Steps; by default all with DDPM, with the others as the model says or 20. Each is one
    /// evaluation of the network, with heun two, but the last
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise of ddim, dpm++, dpm++-sde and euler-a: 0 is deterministic, 1 as noisy as DDPM [default:
    /// 0; 1 with dpm++-sde and euler-a]. Where it is given and no --sampler, the sampler is DDIM
    #[arg(long)]
    eta: Option<f64>,
    /// Which timesteps are visited; linear and quadratic are the original's, karras those next to the
    /// noise levels of Karras et al. 2022 [default: as the model's configuration says, or trailing]
    #[arg(long, value_parser = spacing())]
    spacing: Option<Spacing>,
    /// Where the timestep sequence ends: the clean image, or the first timestep as the original
    /// [default: as the model's configuration says; else first for linear and quadratic, clean
    /// otherwise]
    #[arg(long, value_parser = end())]
    end: Option<End>,
    /// Variance of DDPM [default: as the model's configuration says, or posterior]
    #[arg(long, value_parser = variance())]
    variance: Option<Variance>,
    /// Let DDPM draw noise in its last step too, as the original does
    #[arg(long)]
    final_noise: bool,
    /// Clamp predicted x₀ to [-1, 1] at every step
    #[arg(long)]
    clip: bool,
    /// Leave predicted x₀ as it is, also where the model's configuration says to clip it
    #[arg(long, conflicts_with = "clip")]
    unclipped: bool,
}

/// Accepts the names of all samplers.
pub fn sampler_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Sampler::all().iter().map(|sampler| {
        let description = sampler.description();
        PossibleValue::new(description.name)
            .help(description.about)
            .aliases(description.aliases.iter().copied())
    }))
}

/// Accepts the names of all spacings.
pub fn spacing() -> impl TypedValueParser<Value = Spacing> {
    named(&names(Spacing::ALL, Spacing::name))
}

fn variance() -> impl TypedValueParser<Value = Variance> {
    named(&names(Variance::ALL, Variance::name))
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|&value| name(value)).collect()
}

fn named<T>(names: &[&'static str]) -> impl TypedValueParser<Value = T> + use<T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// The short name is the one that is shown.
fn end() -> impl TypedValueParser<Value = End> {
    let first = PossibleValue::new("first").alias(End::FirstTimestep.name());
    PossibleValuesParser::new([first, PossibleValue::new(End::Clean.name())])
        .try_map(|name| name.parse::<End>())
}

/// The sampler that `name` and the settings given stand for, where any is given.
pub fn sampler(
    name: Option<&str>,
    eta: Option<f64>,
    settings: [(&str, Option<Value>); 2],
    default: &str,
) -> Result<Sampler> {
    // JSON has no word for what is no number.
    eta.map_or(Ok(()), check_eta)?;
    let settings = [("eta", eta.map(|eta| json!(eta)))].into_iter().chain(settings);
    let given = settings.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Sampler::with_settings(name.unwrap_or(default), Map::from_iter(given))
}

impl SamplingArguments {
    /// Which sampler is used, where another flag than --sampler decides it.
    pub fn note(&self) -> Option<String> {
        let reason = match (&self.sampler, self.eta) {
            (None, Some(_)) => "--eta is",
            (None, None) if self.spacing.is_some_and(Spacing::is_the_originals) => {
                "one of the original's spacings is"
            }
            _ => return None,
        };
        Some(format!("{reason} given, so the sampler is DDIM; --sampler dpm++ is the other"))
    }

    /// What the user typed, as the library wants it; all else by default.
    pub fn request(&self) -> Result<SamplingConfig> {
        let config = SamplingConfig {
            sampler: None,
            steps: self.steps,
            spacing: self.spacing,
            end: self.end,
            clip: self.clip,
            unclipped: self.unclipped,
            ..SamplingConfig::default()
        };
        let default = if self.eta.is_some() { "ddim" } else { config.sampler().name() };
        let settings = [
            ("variance", self.variance.map(|variance| json!(variance))),
            ("final_noise", self.final_noise.then_some(json!(true))),
        ];
        let is_given = self.sampler.is_some() || self.eta.is_some();
        let sampler = sampler(self.sampler.as_deref(), self.eta, settings, default)?;
        Ok(SamplingConfig { sampler: is_given.then_some(sampler), ..config })
    }
}
