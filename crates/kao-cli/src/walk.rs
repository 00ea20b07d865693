//! The arguments of every command that samples: which method, along which steps.

use crate::output::note;
use clap::{Args, ValueEnum};
use kao::experiments::{SampleConfig, SamplerKind};
use kao::{Error, Result, sampler, timesteps};

/// How to go from noise to images.
#[derive(Args)]
pub struct WalkArguments {
    /// Sampler [default: dpm++; ddim where --eta or one of the original's spacings is given]
    #[arg(long, value_enum)]
    sampler: Option<Sampler>,
    /// Steps; by default all with DDPM, 20 with the others
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Noise of DDIM and DPM-Solver++: 0 is deterministic, 1 as noisy as DDPM [default: 0]. Where it
    /// is given and no --sampler, the sampler is DDIM
    #[arg(long)]
    eta: Option<f64>,
    /// Which timesteps are visited; linear and quadratic are the original's
    #[arg(long, value_enum, default_value = "trailing")]
    spacing: Spacing,
    /// Where the walk ends: the clean image, or the first timestep as the original [default: first
    /// for linear and quadratic, clean otherwise]
    #[arg(long, value_enum)]
    end: Option<End>,
    /// Variance of DDPM [default: posterior]
    #[arg(long, value_enum)]
    variance: Option<Variance>,
    /// Let DDPM draw noise in its last step too, as the original does
    #[arg(long)]
    final_noise: bool,
    /// Hold the predicted image within [-1, 1] at every step
    #[arg(long)]
    clip: bool,
}

/// See [`SamplerKind`].
#[derive(Clone, Copy, ValueEnum)]
pub enum Sampler {
    /// Song et al. 2021, as published
    Ddim,
    /// DPM-Solver++(2M), Lu et al. 2022: better pictures in few steps
    #[value(name = "dpm++", alias = "dpmpp")]
    DpmPlusPlus,
    /// Ho et al. 2020
    Ddpm,
}

/// See [`timesteps::Spacing`].
#[derive(Clone, Copy, ValueEnum)]
pub enum Spacing {
    Linear,
    Quadratic,
    Trailing,
    Leading,
}

impl From<Sampler> for SamplerKind {
    fn from(sampler: Sampler) -> Self {
        match sampler {
            Sampler::Ddim => SamplerKind::Ddim,
            Sampler::DpmPlusPlus => SamplerKind::DpmPlusPlus,
            Sampler::Ddpm => SamplerKind::Ddpm,
        }
    }
}

impl From<Spacing> for timesteps::Spacing {
    fn from(spacing: Spacing) -> Self {
        match spacing {
            Spacing::Linear => timesteps::Spacing::Linear,
            Spacing::Quadratic => timesteps::Spacing::Quadratic,
            Spacing::Trailing => timesteps::Spacing::Trailing,
            Spacing::Leading => timesteps::Spacing::Leading,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum End {
    First,
    Clean,
}

#[derive(Clone, Copy, ValueEnum)]
enum Variance {
    Beta,
    Posterior,
}

/// Looks at η before anything is sampled with it.
pub fn check_eta(eta: Option<f64>) -> Result<()> {
    match eta {
        Some(eta) if !(0.0..=1.0).contains(&eta) => {
            Err(Error::out_of_range("--eta", eta, "between 0 and 1"))
        }
        _ => Ok(()),
    }
}

impl WalkArguments {
    /// Says which sampler is used where another flag than --sampler decides it.
    pub fn say_sampler(&self) {
        let spacing = timesteps::Spacing::from(self.spacing);
        let reason = match (self.sampler, self.eta) {
            (None, Some(_)) => "--eta is",
            (None, None) if spacing.is_the_originals() => "one of the original's spacings is",
            _ => return,
        };
        note(format!("{reason} given, so the sampler is DDIM; --sampler dpm++ is the other"));
    }

    /// What the user typed, as the library wants it; all else by default.
    pub fn config(&self) -> Result<SampleConfig> {
        let only = |flag: &str, sampler: &str| {
            Err(Error::invalid(flag, format!("given, but it belongs to `--sampler {sampler}`")))
        };
        check_eta(self.eta)?;
        let spacing = timesteps::Spacing::from(self.spacing);
        let as_published = self.eta.is_some() || spacing.is_the_originals();
        let sampler = match self.sampler {
            Some(sampler) => sampler.into(),
            None if as_published => SamplerKind::Ddim,
            None => SamplerKind::DpmPlusPlus,
        };
        match sampler {
            SamplerKind::Ddpm if self.eta.is_some() => return only("--eta", "ddim"),
            SamplerKind::Ddpm => {}
            _ if self.variance.is_some() => return only("--variance", "ddpm"),
            _ if self.final_noise => return only("--final-noise", "ddpm"),
            _ => {}
        }
        let defaults = SampleConfig::default();
        Ok(SampleConfig {
            sampler,
            n_steps: self.steps,
            eta: self.eta.unwrap_or(defaults.eta),
            spacing,
            end: self.end.map(|end| match end {
                End::First => timesteps::End::FirstTimestep,
                End::Clean => timesteps::End::Clean,
            }),
            variance: match self.variance {
                Some(Variance::Beta) => sampler::Variance::Beta,
                Some(Variance::Posterior) => sampler::Variance::Posterior,
                None => defaults.variance,
            },
            final_noise: self.final_noise,
            clip: self.clip,
            ..defaults
        })
    }
}
