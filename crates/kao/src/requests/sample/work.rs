//! Sampling for a request that is checked, with everything read that it names.

use super::{Sample, Sampled};
use crate::control::Control;
use crate::denoiser::{Conditions, Denoiser};
use crate::error::Result;
use crate::formats::{self, StoreAs, TensorView};
use crate::images::Images;
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::quantities::counted;
use crate::render::{self, Layout};
use crate::requests::noise_file::GivenNoise;
use crate::requests::other_noise::OtherNoise;
use crate::requests::pictures::{Destination, Inputs, Single, remaining};
use crate::requests::wishes::{label, wish};
use crate::requests::{Compute, Provenance};
use crate::sampler::{Generation, Observation, Plan, Snapshots, SnapshotsConfig, Start};
use crate::shard::range_of;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything that is ready before the first image is made.
pub(super) struct Work<'a> {
    pub request: &'a Sample,
    /// What the model is called.
    pub name: &'a str,
    pub n_timesteps: usize,
    pub image_shape: [usize; 3],
    pub plan: &'a Plan,
    pub denoiser: &'a dyn Denoiser,
    pub numbers: ImageNumbers,
    pub conditions: Conditions,
    pub given: Option<GivenNoise>,
    /// The fingerprints of the models, where images are told apart by them.
    pub models: Option<Vec<String>>,
}

impl Work<'_> {
    /// Where the images at these positions start from.
    fn start(&self, positions: &[usize]) -> Start {
        let numbers: Vec<u64> = positions.iter().map(|&at| self.numbers.get(at)).collect();
        match &self.given {
            Some(given) => {
                // Below the number of images in the file.
                let indices: Vec<usize> = numbers.iter().map(|&number| number as usize).collect();
                let GivenNoise { x_t, z } = given.chosen(&indices);
                Start::Given { x_t, z }
            }
            None => {
                let numbers = ImageNumbers::These(numbers);
                let noise =
                    NumberedNoise { seed: self.request.seed, purpose: Purpose::Sampling, numbers };
                Start::Numbered { noise, image_shape: self.image_shape }
            }
        }
    }

    /// All images into one file, or none.
    pub fn together(
        self,
        destination: Option<Destination>,
        snapshots: Option<SnapshotsConfig>,
        control: &dyn Control,
    ) -> Result<Sampled> {
        let request = self.request;
        let start = self.start(&Vec::from_iter(0..self.numbers.len()));
        let n_steps = self.plan.steps().len();
        let of = |config| Snapshots::of(request.strip_of, config, n_steps, &start);
        let mut snapshots = snapshots.map(of);
        let animated = matches!(destination, Some(Destination::Animation(..)));
        let config = SnapshotsConfig { n_images: self.numbers.len(), n_snapshots: request.frames };
        let mut frames = animated.then(|| of(config));
        let mut observer = |first: usize, observation: Observation<'_>| {
            for snapshots in [&mut snapshots, &mut frames].into_iter().flatten() {
                snapshots.record(first, &observation);
            }
        };
        let generation = self.generation(&start, &self.conditions);
        let images = generation.run(&mut observer, control)?;
        let frames = frames.map(Snapshots::into_frames).unwrap_or_default();
        let provenance = match self.numbers.len() {
            1 => self.single_provenance(0, &request.wishes.labels(request.labels)?),
            _ => self.provenance(&self.command()),
        };
        let mut sampled = Sampled {
            words: self.words(images.len()),
            count: images.len(),
            n_kept: 0,
            images,
            snapshots: snapshots.map(Snapshots::into_frames).unwrap_or_default(),
            n_evaluations: self.plan.n_evaluations() * request.wishes.evaluations(),
            seconds: 0.0,
            provenance,
            files: Vec::new(),
        };
        self.write(&mut sampled, destination, &frames)?;
        Ok(sampled)
    }

    /// Each image into a file of its own, but those that are there already.
    pub fn into_folder(self, folder: &Path, control: &dyn Control) -> Result<Sampled> {
        let request = self.request;
        let of_shard = range_of(request.shard, self.numbers.len());
        let count = of_shard.len();
        let wishes = request.wishes.labels(request.labels)?;
        let single = |at: usize| self.single(folder, at, &wishes);
        let to_do = remaining(of_shard, &single, control)?;
        if !to_do.is_empty() {
            let start = self.start(&to_do);
            let conditions = match self.conditions.is_none() {
                true => Conditions::none(),
                false => self.conditions.chosen(to_do.iter().copied()),
            };
            let mut write = |first: usize, images: Images| {
                (0..images.len()).try_for_each(|k| {
                    single(to_do[first + k]).write(&images, k, &request.drawing())
                })
            };
            let generation = self.generation(&start, &conditions);
            generation.run_batches(&mut |_, _| {}, &mut write, control)?;
        }
        let [c, h, w] = self.image_shape;
        Ok(Sampled {
            words: self.words(count),
            images: Images::zeros([0, c, h, w]),
            count,
            n_kept: count - to_do.len(),
            snapshots: Vec::new(),
            n_evaluations: self.plan.n_evaluations() * request.wishes.evaluations(),
            seconds: 0.0,
            provenance: self.provenance(&self.command()),
            files: vec![folder.to_path_buf()],
        })
    }

    /// Whose noise, where it is another program's.
    fn other_noise(&self) -> Option<OtherNoise> {
        self.request.noise.as_deref().and_then(OtherNoise::of)
    }

    fn is_of_torch(&self) -> bool {
        self.other_noise() == Some(OtherNoise::Torch)
    }

    fn generation<'a>(&'a self, start: &'a Start, conditions: &'a Conditions) -> Generation<'a> {
        let (denoiser, plan, batch_size) = (self.denoiser, self.plan, self.request.batch_size);
        Generation { denoiser, plan, start, conditions, batch_size }
    }

    /// The file of the image at position `at`.
    fn single(&self, folder: &Path, at: usize, wishes: &[String]) -> Single {
        let number = self.numbers.get(at);
        let seed = self.request.seed;
        let source = match (self.other_noise(), self.request.noise.as_deref()) {
            (Some(noise), _) => format!("{}-seed-{seed}", noise.name()),
            (None, Some(path)) => path.file_stem().unwrap_or_default().to_string_lossy().into(),
            (None, None) => format!("seed-{seed}"),
        };
        Single {
            path: folder.join(format!("{source}-image-{number:05}.png")),
            provenance: self.single_provenance(at, wishes),
            label: label(number, wishes),
        }
    }

    /// The same request with nothing that leaves the images as they are.
    fn command(&self) -> Sample {
        let default = Sample::default();
        Sample {
            shard: None,
            out: None,
            strip: None,
            strip_images: default.strip_images,
            strip_snapshots: default.strip_snapshots,
            strip_of: default.strip_of,
            frames: default.frames,
            fps: default.fps,
            save_tensors: None,
            batch_size: default.batch_size,
            compute: Compute { threads: None, ..self.request.compute.clone() },
            ..self.request.clone()
        }
    }

    /// How the image at position `at` came to be, by itself.
    fn single_provenance(&self, at: usize, wishes: &[String]) -> Provenance {
        let number = self.numbers.get(at);
        let count = self.is_of_torch().then_some(self.numbers.len());
        let command = Sample {
            count,
            first: 0,
            // With the noise of diffusers an image is one of so many, and none by itself.
            pick: if self.is_of_torch() { Vec::new() } else { vec![number] },
            columns: Sample::default().columns,
            ..self.command()
        };
        let mut inputs = Inputs::default();
        for model in self.models.iter().flatten() {
            inputs = inputs.text(model);
        }
        inputs = inputs.numbers(self.conditions.of(at)).numbers(self.conditions.avoided_of(at));
        // Tags in another order are the same tags, and another label.
        if let Some(label) = wish(number, wishes) {
            inputs = inputs.text(label);
        }
        if let Some(GivenNoise { x_t, z }) = &self.given {
            // Below the number of images in the file.
            let index = number as usize;
            inputs = inputs.values(x_t.image(index));
            for step in z {
                inputs = inputs.values(step.image(index));
            }
        }
        self.provenance(&command).with("image", number).with("inputs", inputs.digits())
    }

    fn provenance(&self, command: &Sample) -> Provenance {
        // A model that a program has loaded has no name on a command line.
        self.settings(match self.name == self.request.model.name() {
            true => Provenance::new().with_command(command),
            false => Provenance::new(),
        })
    }

    fn settings(&self, provenance: Provenance) -> Provenance {
        let Sample { sampling, wishes, noise, seed, .. } = self.request;
        let provenance = provenance.with("model", self.name);
        let provenance = wishes.describe(provenance.with_all(sampling.describe(self.n_timesteps)));
        match (self.other_noise(), noise) {
            (Some(noise), _) => provenance.with("noise", noise.name()).with("seed", seed),
            (None, Some(path)) => provenance.with_path("noise", path),
            (None, None) => provenance.with("seed", seed),
        }
    }

    /// Model, sampler and noise in a few words.
    fn words(&self, count: usize) -> Vec<String> {
        let request = self.request;
        let what = if request.model.path.is_none() { "face" } else { "image" };
        let n_evaluations = self.plan.n_evaluations() * request.wishes.evaluations();
        let mut sampling = request.sampling.summary(self.n_timesteps);
        if n_evaluations != self.plan.steps().len() {
            sampling += &format!(", {n_evaluations} evaluations of the network");
        }
        let noise = match (self.other_noise(), &request.noise) {
            (Some(noise), _) => format!("noise {}, seed {}", noise.name(), request.seed),
            (None, Some(path)) => format!("noise {}", path.display()),
            (None, None) => format!("seed {}", request.seed),
        };
        [counted(count as u64, what), self.name.to_owned()]
            .into_iter()
            .chain(request.wishes.summary())
            .chain([sampling, noise])
            .collect()
    }

    fn write(
        &self,
        sampled: &mut Sampled,
        destination: Option<Destination>,
        frames: &[Images],
    ) -> Result<()> {
        let request = self.request;
        let file_name = |path: &Path| path.file_name().map(PathBuf::from);
        match destination {
            Some(Destination::Picture(path)) => {
                let sheet = request.sheet(&self.numbers, &request.wishes.labels(request.labels)?);
                let grid = sheet.draw(&sampled.images)?;
                render::write_png(&path, &grid, &sampled.provenance.texts)?;
                sampled.files.push(path);
            }
            Some(Destination::Animation(path, format)) => {
                let Sample { strip_of, frames: n, fps, .. } = *request;
                let out = file_name(&path);
                let command = Sample { out, strip_of, frames: n, fps, ..self.command() };
                let texts = self.provenance(&command).texts;
                let sheet = request.sheet(&self.numbers, &request.wishes.labels(request.labels)?);
                let animation = request.animation(format, frames.len(), &texts);
                animation.write(&path, |index| sheet.draw(&frames[index]))?;
                sampled.files.push(path);
            }
            Some(Destination::Folder(_)) | None => {}
        }
        if let Some(path) = &request.strip {
            let Sample { strip_images, strip_snapshots, strip_of, .. } = *request;
            let strip = file_name(path);
            let command =
                Sample { strip, strip_images, strip_snapshots, strip_of, ..self.command() };
            let texts = self.provenance(&command).texts;
            let layout = Layout { scale: request.scale, ..Layout::default() };
            render::write_png(path, &render::strip(&sampled.snapshots, &layout)?, &texts)?;
            sampled.files.push(path.clone());
        }
        if let Some(path) = &request.save_tensors {
            let shape = sampled.images.shape();
            let view = TensorView { shape: &shape, data: sampled.images.data() };
            let metadata: BTreeMap<String, String> =
                self.settings(Provenance::new()).texts.into_iter().collect();
            formats::write_safetensors(path, [("x_0", view)], &metadata, StoreAs::F32)?;
            sampled.files.push(path.clone());
        }
        Ok(())
    }
}
