//! Encoding: the noise from which DDIM makes given pictures.

use super::destinations::{check_distinct, check_no_model_of_a_run};
use super::latents::ENCODED;
use super::recover::mean_psnr;
use super::sample::check_batch;
use super::{Compute, Estimate, ModelSource, Provenance, Request, check_at_least_one};
use crate::control::{Control, Report};
use crate::dataset::{Folder, is_collection};
use crate::denoiser::{Clipping, Conditions};
use crate::error::{Error, Result};
use crate::files::prepare_path;
use crate::formats::{self, StoreAs, TensorView};
use crate::images::Images;
use crate::memory;
use crate::model::Model;
use crate::render::{self, Layout};
use crate::sampler::{
    Ddim, Generation, Inversion, InversionConfig, SamplingConfig, SamplingDefaults, Start,
};
use crate::schedule::NoiseSchedule;
use crate::timesteps::Spacing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Finds the noise x_T from which DDIM without noise of its own makes given pictures.
///
/// Pictures come to the size of the model as `kao prepare` brings them there. The noise is decoded
/// again, so that what was lost is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encode {
    /// Which model.
    pub model: ModelSource,
    /// Picture files, or one folder; or tar archives of pictures: `shards-{000..099}.tar`.
    pub pictures: Vec<PathBuf>,
    /// The .safetensors file to write: `x_T` [N, C, H, W].
    pub out: PathBuf,
    /// How many pictures, the first ones; by default all.
    pub count: Option<usize>,
    /// Steps.
    pub steps: usize,
    /// How the visited timesteps are spread.
    pub spacing: Spacing,
    /// How each step is found.
    #[serde(flatten)]
    pub inversion: InversionConfig,
    /// A picture to write (.png): each picture, its noise, and what the noise is decoded to.
    pub picture: Option<PathBuf>,
    /// Pictures at a time: memory grows with it, the noise stays the same.
    pub batch_size: usize,
    /// Where to compute.
    #[serde(flatten)]
    pub compute: Compute,
}

impl Default for Encode {
    fn default() -> Self {
        Encode {
            model: ModelSource::default(),
            pictures: Vec::new(),
            out: PathBuf::new(),
            count: None,
            steps: 50,
            spacing: Spacing::default(),
            inversion: InversionConfig::default(),
            picture: None,
            batch_size: 16,
            compute: Compute::default(),
        }
    }
}

/// What comes of [`Encode`].
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The pictures at the size of the model, `[N, C, H, W]`.
    pub originals: Images,
    /// The noise, `[N, C, H, W]`.
    pub noise: Images,
    /// What the noise was decoded to.
    pub decoded: Images,
    /// Evaluations of the network for each picture, to encode it.
    pub n_evaluations: usize,
    /// Mean squared error per dimension of the decoded pictures, pictures being in [0, 1] as in the
    /// table of Song et al. 2021 (section 5.4).
    pub error: f64,
    /// Mean PSNR of the decoded pictures, in dB.
    pub psnr: f64,
    /// Seconds that encoding took, decoding not included.
    pub seconds: f64,
    /// How the noise came to be.
    pub provenance: Provenance,
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// The request that decodes the noise.
    pub decode: super::Sample,
}

impl Request for Encode {
    const COMMAND: &'static str = "encode";
    const POSITIONAL: &'static [&'static str] = &["pictures"];
    type Outcome = Encoded;

    fn validate(&self) -> Result<()> {
        if self.pictures.is_empty() {
            return Err(Error::invalid(
                "pictures",
                "none given; expected picture files or a folder",
            ));
        }
        if self.out.as_os_str().is_empty() {
            return Err(Error::invalid("out", "none given; expected a file to write"));
        }
        if let Some(path) = &self.picture {
            render::check_png_path(path)?;
        }
        let inputs = self.pictures.iter().map(|path| ("pictures", Some(path.as_path())));
        let model = ("model.path", self.model.path.as_deref());
        check_distinct(
            &inputs.chain([model]).collect::<Vec<_>>(),
            &[("out", Some(&self.out)), ("picture", self.picture.as_deref())],
        )?;
        check_at_least_one(&[
            ("count", self.count.unwrap_or(1)),
            ("steps", self.steps),
            ("batch_size", self.batch_size),
        ])?;
        self.inversion.validate()?;
        self.compute.validate()
    }

    fn estimate(&self) -> Result<Estimate> {
        let model = self.model.config()?;
        let sampling = self.sampling(&model.sampling);
        NoiseSchedule::new(&model.schedule).and_then(|schedule| sampling.plan(&schedule))?;
        let count = self.count.unwrap_or(self.pictures.len());
        let evaluations = self.inversion.n_evaluations(self.steps).saturating_add(self.steps);
        let (batch_size, device) = (self.batch_size, self.compute.device);
        let n_evaluations = evaluations.saturating_mul(count);
        // Pictures, their noise, and what it is decoded to.
        let n_images = count.saturating_mul(3);
        Ok(Estimate::sampling(&model.unet, n_evaluations, batch_size, n_images, device))
    }

    fn run(&self, control: &dyn Control) -> Result<Encoded> {
        self.model.check(control)?;
        self.validate()?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            let (originals, names) = self.originals(&model, control)?;
            let unet = &model.config.unet;
            let n_images = originals.len().saturating_mul(2);
            memory::check("count", "so many pictures", unet.image_bytes(n_images))?;
            check_batch(unet, self.batch_size.min(originals.len()), self.compute.device)?;
            let columns = Layout { scale: 2, ..Layout::default() };
            if let Some(path) = &self.picture {
                render::check_grid(originals.len() * 3, unet.image_size, 3, &columns)?;
                prepare_path(path)?;
            }
            check_no_model_of_a_run(&self.out)?;
            prepare_path(&self.out)?;
            self.model.report_default(control)?;
            self.encode(&model, originals, &names, control)
        })
    }
}

impl Encode {
    /// How the noise is decoded, with a model whose configuration says this. What is clipped cannot be
    /// led back, so nothing is.
    fn sampling(&self, defaults: &SamplingDefaults) -> SamplingConfig {
        let sampling = SamplingConfig {
            sampler: Some(Ddim::default().into()),
            steps: Some(self.steps),
            spacing: Some(self.spacing),
            ..SamplingConfig::default()
        };
        let sampling = sampling.of_model(defaults);
        SamplingConfig { unclipped: sampling.clipping() != Clipping::None, ..sampling }
    }

    /// The pictures at the size of the model, and the names of their files.
    fn originals(&self, model: &Model, control: &dyn Control) -> Result<(Images, Vec<String>)> {
        let shape = model.config.unet.image_size;
        let pictures = match self.pictures.as_slice() {
            [folder] if is_collection(folder) => Folder::load(folder, shape, control)?,
            files => Folder::load_files(files, shape)?,
        };
        let n_skipped = pictures.skipped().len() as u64;
        if n_skipped > 0 {
            let files = crate::quantities::counted(n_skipped, "file");
            let message = format!("warning: {files} of the folder could not be read");
            control.check(&Report::message("reading", &message))?;
        }
        let count = match self.count {
            Some(count) if count > pictures.len() => {
                let allowed = format!("at most {}, the pictures that there are", pictures.len());
                return Err(Error::out_of_range("count", count, allowed));
            }
            count => count.unwrap_or(pictures.len()),
        };
        let name = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned();
        let names = pictures.pictures().iter().take(count).map(|picture| name(&picture.name));
        Ok((pictures.images(&Vec::from_iter(0..count))?, names.collect()))
    }

    fn encode(
        &self,
        model: &Model,
        originals: Images,
        names: &[String],
        control: &dyn Control,
    ) -> Result<Encoded> {
        let sampling = self.sampling(&model.config.sampling);
        let plan = sampling.plan(&model.schedule)?;
        let inversion = Inversion::new(&model.schedule, &plan, self.inversion)?;
        let started = Instant::now();
        let noise = inversion.encode(&model.network, &originals, self.batch_size, control)?;
        let seconds = started.elapsed().as_secs_f64();
        let decoding =
            |report: &Report<'_>| control.report(&Report { stage: "decoding", ..*report });
        let generation = Generation {
            denoiser: &model.network,
            plan: &plan,
            start: &Start::Given { x_t: noise.clone(), z: Vec::new() },
            conditions: &Conditions::none(),
            batch_size: self.batch_size,
        };
        let decoded = generation.run(&mut |_, _| {}, &decoding)?;
        let (error, psnr) =
            (mean_squared_error(&originals, &decoded), mean_psnr(&originals, &decoded));
        let n_timesteps = model.schedule.n_timesteps();
        let command = Encode {
            picture: None,
            batch_size: Encode::default().batch_size,
            compute: Compute { threads: None, ..self.compute.clone() },
            ..self.clone()
        };
        let provenance = Provenance::new()
            .with_command(&command)
            .with("model", self.model.name())
            .with("model_fingerprint", model.fingerprint())
            .with(ENCODED, serde_json::json!(names))
            .with_all(sampling.describe(n_timesteps))
            .with("order", self.inversion.order)
            .with("iterations", self.inversion.iterations)
            .with("error", format!("{error:.6}"))
            .with("psnr", format!("{psnr:.2}"));
        let decode = super::Sample {
            model: self.model.clone(),
            sampling,
            noise: Some(self.out.clone()),
            ..super::Sample::default()
        };
        let n_evaluations = inversion.n_evaluations();
        let mut encoded = Encoded {
            originals,
            noise,
            decoded,
            n_evaluations,
            error,
            psnr,
            seconds,
            provenance,
            files: Vec::new(),
            decode,
        };
        self.write(&mut encoded)?;
        Ok(encoded)
    }

    fn write(&self, encoded: &mut Encoded) -> Result<()> {
        let Encoded { originals, noise, decoded, provenance, .. } = &*encoded;
        let shape = noise.shape();
        let view = TensorView { shape: &shape, data: noise.data() };
        let metadata: BTreeMap<String, String> = provenance.texts.iter().cloned().collect();
        formats::write_safetensors(&self.out, [("x_T", view)], &metadata, StoreAs::F32)?;
        let mut files = vec![self.out.clone()];
        if let Some(path) = &self.picture {
            let columns = [("picture", originals), ("noise", noise), ("decoded", decoded)];
            let layout = Layout { scale: 2, ..Layout::default() };
            let picture = render::labelled_columns(&columns, &layout)?;
            render::write_png(path, &picture, &provenance.texts)?;
            files.push(path.clone());
        }
        encoded.files = files;
        Ok(())
    }
}

/// Mean squared error of a value, of pictures in [0, 1]; both are clamped to that.
fn mean_squared_error(originals: &Images, others: &Images) -> f64 {
    let unit = |value: f32| (f64::from(value).clamp(-1.0, 1.0) + 1.0) / 2.0;
    let pairs = originals.data().iter().zip(others.data());
    let sum: f64 = pairs.map(|(&a, &b)| (unit(a) - unit(b)).powi(2)).sum();
    sum / originals.data().len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_of_pictures_in_zero_to_one() {
        let a = Images::from_vec([1, 1, 1, 2], vec![0.0, 1.0]).unwrap();
        let b = Images::from_vec([1, 1, 1, 2], vec![0.2, 3.0]).unwrap();
        assert!((mean_squared_error(&a, &b) - 0.005).abs() < 1e-9);
    }
}
