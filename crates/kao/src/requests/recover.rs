//! Recovery: noise is added to real images up to some timestep, and then they are denoised.

use super::destinations::check_distinct;
use super::pictures::{Animations, Destination, Drawing, Single};
use super::sample::check_batch;
use super::{Compute, Estimate, ModelSource, Provenance, Request, check_at_least_one};
use crate::control::{Control, Report};
use crate::dataset::{Folder, SplitConfig, is_collection};
use crate::denoiser::Conditions;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::model::Model;
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::quantities::{counted, estimate};
use crate::render::{self, Layout};
use crate::sampler::{Ddim, Generation, Sampler, Start};
use crate::schedule::NoiseSchedule;
use crate::timesteps::{End, Spacing, Step, sequence, starting_at, through, visited};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Adds noise to real images up to step `t`, then denoises them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recover {
    /// Which model.
    pub model: ModelSource,
    /// A folder, whose test pictures are taken, or picture files.
    pub data: Vec<PathBuf>,
    /// Steps of noise, 1 to T: the images are taken to timestep `t` − 1. By default
    /// [`visible_noise`].
    pub t: Option<usize>,
    /// The sampler of the steps back down.
    pub sampler: Sampler,
    /// Steps back down; by default every timestep below `t`.
    pub steps: Option<usize>,
    /// How many pictures of a folder.
    pub count: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// A picture to write (.png): originals, noisy and recovered pictures side by side; or a folder
    /// for a file of each recovered picture.
    pub out: Option<PathBuf>,
    /// Do as the original does: run the sampler over its whole range 999 … 1, as if the slightly
    /// noisy images were pure noise. It fails, and is here to be shown.
    pub origin_bug: bool,
    /// Images at a time.
    pub batch_size: usize,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Recover {
    fn default() -> Self {
        Recover {
            model: ModelSource::default(),
            data: Vec::new(),
            t: None,
            sampler: Ddim::default().into(),
            steps: None,
            count: 10,
            seed: 999,
            out: None,
            origin_bug: false,
            batch_size: 16,
            compute: Compute::default(),
        }
    }
}

/// Steps of noise with which there is something to see, and something left to recover: as many
/// tenths of the schedule as it takes until noise is a tenth of the variance. That is 100 of 1000
/// with the original's linear schedule, 300 with the `karras` one.
pub fn visible_noise(schedule: &NoiseSchedule) -> usize {
    const SHARE_OF_NOISE: f64 = 0.1;
    let n_timesteps = schedule.n_timesteps();
    let mut tenths = (1..=10).map(|n| (n * n_timesteps / 10).max(1));
    let noisy = |t: &usize| 1.0 - schedule.alpha_bar(t - 1) >= SHARE_OF_NOISE;
    tenths.find(noisy).unwrap_or(n_timesteps)
}

/// What comes of [`Recover`].
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The pictures, `[N, C, H, W]`.
    pub originals: Images,
    /// The pictures with noise.
    pub noisy: Images,
    /// The pictures recovered from them.
    pub recovered: Images,
    /// Steps of noise that were added.
    pub t: usize,
    /// Mean PSNR of the noisy images against the originals, in dB, both clamped to `[-1, 1]`.
    pub noisy_psnr: f64,
    /// Mean PSNR of the recovered images against the originals.
    pub recovered_psnr: f64,
    /// How the images came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

impl Request for Recover {
    const COMMAND: &'static str = "recover";
    type Outcome = Recovered;

    fn validate(&self) -> Result<()> {
        self.destination()?;
        if self.data.is_empty() {
            return Err(Error::invalid("data", "none given; expected a folder or pictures"));
        }
        let inputs = self.data.iter().map(|path| ("data", Some(path.as_path())));
        let model = ("model.path", self.model.path.as_deref());
        check_distinct(
            &inputs.chain([model]).collect::<Vec<_>>(),
            &[("out", self.out.as_deref())],
        )?;
        self.sampler.validate()?;
        check_at_least_one(&[("count", self.count), ("batch_size", self.batch_size)])?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let schedule = NoiseSchedule::new(&model.schedule)?;
        let sequence = self.sequence(self.t(&schedule), &schedule)?;
        let n_evaluations = self.sampler.plan(&schedule, sequence, false)?.n_evaluations();
        let count = if self.data.len() > 1 { self.data.len() } else { self.count };
        let n_evaluations = n_evaluations.saturating_mul(count);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        // Originals, noisy and recovered ones.
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, 3 * count, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Recovered> {
        self.validate()?;
        self.destination()?.map_or(Ok(()), |destination| destination.prepare())?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            let originals = self.pictures(model.config.unet.image_size, control)?;
            let together = self.batch_size.min(originals.len());
            check_batch(&model.config.unet, together, self.compute.device)?;
            self.sequence(self.t(&model.schedule), &model.schedule)?;
            self.model.report_default(control)?;
            self.recover(&model, originals, control)
        })
    }
}

impl Recover {
    fn destination(&self) -> Result<Option<Destination>> {
        self.out.as_ref().map(|path| Destination::of(path, Animations::No)).transpose()
    }

    fn t(&self, schedule: &NoiseSchedule) -> usize {
        self.t.unwrap_or_else(|| visible_noise(schedule))
    }

    /// The steps back down from step `t` of `schedule`.
    fn sequence(&self, t: usize, schedule: &NoiseSchedule) -> Result<Vec<Step>> {
        let (n_timesteps, alpha_bars) = (schedule.n_timesteps(), schedule.alpha_bars());
        if t == 0 || t > n_timesteps {
            return Err(Error::out_of_range("t", t, format!("between 1 and {n_timesteps}")));
        }
        if self.origin_bug {
            let n_steps = self.steps.unwrap_or(n_timesteps);
            return sequence(Spacing::Linear, n_steps, alpha_bars, End::FirstTimestep);
        }
        if let Some(n) = self.steps.filter(|n| !(1..=t).contains(n)) {
            let allowed = format!("between 1 and {t}, the steps of noise that are added");
            return Err(Error::out_of_range("steps", n, allowed));
        }
        let below = visited(Spacing::Trailing, self.steps.unwrap_or(t), &alpha_bars[..t])?;
        Ok(starting_at(&through(&below, End::Clean), t - 1))
    }

    /// The pictures that are named: files, or pictures that training on the folder leaves out.
    fn pictures(&self, shape: [usize; 3], control: &dyn Control) -> Result<Images> {
        let warn = |words: &str| control.check(&Report::message("reading", words));
        let warn_of_enlarged = |folder: &Folder| match folder.n_enlarged() {
            0 => Ok(()),
            n => warn(&format!(
                "warning: {} enlarged to {}x{} pixels, so what is recovered is blurred too",
                counted(n as u64, "picture"),
                shape[2],
                shape[1]
            )),
        };
        let dir = match self.data.as_slice() {
            [dir] if is_collection(dir) => dir,
            files => {
                let folder = Folder::load_files(files, shape)?;
                warn_of_enlarged(&folder)?;
                return folder.images(&Vec::from_iter(0..folder.len()));
            }
        };
        let folder = Folder::load(dir, shape, control)?;
        warn_of_enlarged(&folder)?;
        let split = folder.split(&SplitConfig::default())?;
        let all: Vec<usize> = (0..folder.len()).collect();
        let of = if split.test.is_empty() {
            warn("warning: no picture of the folder falls into the test set, so any are taken")?;
            &all
        } else {
            &split.test
        };
        if of.len() < self.count {
            warn(&format!(
                "warning: {} in the test set of the folder, where {} were asked for",
                counted(of.len() as u64, "picture"),
                self.count
            ))?;
        }
        folder.images(&of[..self.count.min(of.len())])
    }

    /// Adds noise to `originals` (`[N, C, H, W]`) and recovers them with `model`.
    fn recover(
        &self,
        model: &Model,
        originals: Images,
        control: &dyn Control,
    ) -> Result<Recovered> {
        let (t, n_timesteps) = (self.t(&model.schedule), model.schedule.n_timesteps());
        let plan = self.sampler.plan(&model.schedule, self.sequence(t, &model.schedule)?, false)?;
        let message = format!("noise of {t} of {n_timesteps} steps");
        control.check(&Report::message("sampling", &message))?;

        let numbers = ImageNumbers::From { first: 0, count: originals.len() };
        let noise = NumberedNoise { seed: self.seed, purpose: Purpose::Noising, numbers };
        let epsilon = noise.initial(0, originals.len(), originals.image_shape());
        let mut noisy = Images::zeros(originals.shape());
        for k in 0..originals.len() {
            let (original, epsilon) = (originals.image(k), epsilon.image(k));
            model.schedule.add_noise(original, epsilon, t - 1, noisy.image_mut(k));
        }

        // The original's way may take hours, so how long is said as soon as it is known.
        let (started, says_time) = (Instant::now(), AtomicBool::new(self.origin_bug));
        let timed = |report: &Report<'_>| {
            if says_time.swap(false, Ordering::Relaxed) {
                let total = report.total.unwrap_or(0) as f64;
                let seconds = started.elapsed().as_secs_f64() * total / report.done.max(1) as f64;
                let message = format!(
                    "the original's error takes {} with each of {}: about {} here",
                    counted(plan.steps().len() as u64, "step"),
                    counted(originals.len() as u64, "image"),
                    estimate(seconds)
                );
                if control.report(&Report::message("sampling", &message)).is_break() {
                    return std::ops::ControlFlow::Break(());
                }
            }
            control.report(report)
        };
        let generation = Generation {
            denoiser: &model.network,
            plan: &plan,
            start: &Start::Images { x_t: noisy.clone(), noise: Arc::new(noise) },
            conditions: &Conditions::none(),
            batch_size: self.batch_size,
        };
        let recovered = generation.run(&mut |_, _| {}, &timed)?;
        let [noisy_psnr, recovered_psnr] =
            [&noisy, &recovered].map(|images| mean_psnr(&originals, images));
        let provenance = self.provenance(t, [noisy_psnr, recovered_psnr]);
        let files = Vec::new();
        let mut outcome = Recovered {
            originals,
            noisy,
            recovered,
            t,
            noisy_psnr,
            recovered_psnr,
            provenance,
            files,
        };
        self.write(&mut outcome)?;
        Ok(outcome)
    }

    fn provenance(&self, t: usize, [noisy, recovered]: [f64; 2]) -> Provenance {
        let eta = self.sampler.settings().get("eta").and_then(Value::as_f64).unwrap_or(0.0);
        let compute = Compute { threads: None, ..self.compute.clone() };
        let batch_size = Recover::default().batch_size;
        let command = Recover { out: None, batch_size, compute, ..self.clone() };
        Provenance::new()
            .with_command(&command)
            .with("model", self.model.name())
            .with("t", t)
            .with("sampler", self.sampler.name())
            .with("eta", eta)
            .with("seed", self.seed)
            .with("origin_bug", self.origin_bug)
            .with("psnr_noisy", format!("{noisy:.2}"))
            .with("psnr_recovered", format!("{recovered:.2}"))
    }

    fn write(&self, outcome: &mut Recovered) -> Result<()> {
        let Some(destination) = self.destination()? else { return Ok(()) };
        let Recovered { originals, noisy, recovered, provenance, .. } = &*outcome;
        match &destination {
            Destination::Folder(folder) => {
                let drawing = Drawing { scale: 1, labels: false };
                for k in 0..recovered.len() {
                    let single = Single {
                        path: folder.join(format!("recovered-seed-{}-image-{k:05}.png", self.seed)),
                        provenance: provenance.clone().with("image", k),
                        label: String::new(),
                    };
                    single.write(recovered, k, &drawing)?;
                }
                outcome.files.push(folder.clone());
            }
            Destination::Picture(path) | Destination::Animation(path, _) => {
                let columns = [("original", originals), ("noisy", noisy), ("recovered", recovered)];
                let layout = Layout { scale: 2, ..Layout::default() };
                let picture = render::labelled_columns(&columns, &layout)?;
                render::write_png(path, &picture, &provenance.texts)?;
                outcome.files.push(path.clone());
            }
        }
        Ok(())
    }
}

/// Peak signal-to-noise ratio in dB, the mean over the images; the peak is the whole range of 2.
pub(super) fn mean_psnr(originals: &Images, others: &Images) -> f64 {
    let psnr = |k: usize| {
        let pairs = originals.image(k).iter().zip(others.image(k));
        let clamped = |v: f32| f64::from(v).clamp(-1.0, 1.0);
        let sum: f64 = pairs.map(|(&a, &b)| (clamped(a) - clamped(b)).powi(2)).sum();
        10.0 * (4.0 * originals.image_len() as f64 / sum).log10()
    };
    (0..originals.len()).map(psnr).sum::<f64>() / originals.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ScheduleConfig, ScheduleKind};

    #[test]
    fn the_default_noise_can_be_seen_under_any_schedule() {
        let t = |kind, n_timesteps| {
            let config = ScheduleConfig { kind, n_timesteps, ..ScheduleConfig::default() };
            visible_noise(&NoiseSchedule::new(config).unwrap())
        };
        assert_eq!(t(ScheduleKind::Linear, 1000), 100);
        assert_eq!(t(ScheduleKind::Karras, 1000), 300);
        // Shorter than ten timesteps, and so short that there never is so much noise.
        assert!((1..=4).contains(&t(ScheduleKind::Karras, 4)));
        assert_eq!(t(ScheduleKind::Linear, 2), 2);
    }

    #[test]
    fn psnr_of_a_known_difference() {
        // An error of 0.2 of a range of 2 everywhere: 20 dB.
        let a = Images::from_vec([1, 1, 1, 4], vec![0.0, 0.1, -0.3, 0.5]).unwrap();
        let b = Images::from_vec([1, 1, 1, 4], vec![0.2, 0.3, -0.1, 0.7]).unwrap();
        assert!((mean_psnr(&a, &b) - 20.0).abs() < 1e-4);
    }
}
