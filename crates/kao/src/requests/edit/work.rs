//! Editing for a request that is checked.

use super::prepared::Prepared;
use super::{Edit, Edited, Way, names, shown};
use crate::control::{Control, Report};
use crate::denoiser::{Conditions, Denoiser};
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::noise::{ImageNumbers, NumberedNoise, Purpose};
use crate::quantities::{counted, estimate};
use crate::render;
use crate::requests::Provenance;
use crate::requests::pictures::{Destination, Inputs, Single, remaining};
use crate::requests::wishes::{label, wish};
use crate::sampler::{Inpainting, Known, Start};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Work that takes longer says so before it begins.
const LONG_WORK_SECONDS: f64 = 20.0;

/// Does what `edit` asks for with `model`.
pub(super) fn edit(edit: &Edit, model: &Model, control: &dyn Control) -> Result<Edited> {
    let image_shape = model.config.unet.image_size;
    let way = edit.way(&model.schedule)?;
    let numbers = edit.numbers()?;
    edit.check(model, &numbers)?;
    let conditions = edit.wishes.conditions_of(&model.config.tags, &numbers)?;
    let guide = edit.wishes.load_guide(&model.config, &model.network.device())?;
    let denoiser = edit.wishes.guided(model, guide.as_ref())?;
    let prepared = Prepared::read(edit, image_shape, control)?;
    edit.model.report_default(control)?;
    let started = Instant::now();
    let models = [Some(model), guide.as_ref()].into_iter().flatten();
    let work = Work {
        edit,
        model,
        names: names(&edit.pictures),
        models: models.map(Model::fingerprint).collect(),
        denoiser: &*denoiser,
        way,
        numbers,
        conditions,
        prepared,
    };
    let mut edited = work.run(control)?;
    edited.seconds = started.elapsed().as_secs_f64();
    Ok(edited)
}

/// Everything that is ready before the first image is made. Images are counted over all pictures:
/// all variations of the first, then all of the next.
struct Work<'a> {
    edit: &'a Edit,
    model: &'a Model,
    /// What the pictures are called.
    names: Vec<String>,
    /// The fingerprints of the models.
    models: Vec<String>,
    denoiser: &'a dyn Denoiser,
    way: Way,
    numbers: ImageNumbers,
    /// Of each variation.
    conditions: Conditions,
    prepared: Prepared,
}

impl Work<'_> {
    fn count(&self) -> usize {
        self.numbers.len() * self.names.len()
    }

    /// The picture that an image belongs to, and which of its variations it is.
    fn place(&self, at: usize) -> (usize, usize) {
        (at / self.numbers.len(), at % self.numbers.len())
    }

    fn run(self, control: &dyn Control) -> Result<Edited> {
        let (edit, count) = (self.edit, self.count());
        let [c, h, w] = self.prepared.pictures.image_shape();
        let destination = edit.destination()?;
        let wishes = edit.wishes.labels(edit.labels)?;
        let mut edited = Edited {
            originals: self.prepared.pictures.clone(),
            images: Images::zeros([0, c, h, w]),
            count,
            n_kept: 0,
            n_evaluations: self.way.n_evaluations() * edit.wishes.evaluations(),
            seconds: 0.0,
            provenance: match count {
                1 => self.single(Path::new(""), 0, &wishes).provenance,
                _ => self.provenance(&edit.command()),
            },
            files: Vec::new(),
            words: self.words(),
        };
        match destination {
            Some(Destination::Folder(folder)) => {
                let single = |at: usize| self.single(&folder, at, &wishes);
                let to_do = remaining(0..count, &single, control)?;
                let mut write = |first: usize, images: Images| {
                    (0..images.len()).try_for_each(|k| {
                        single(to_do[first + k]).write(&images, k, &edit.drawing())
                    })
                };
                self.generate(&to_do, &mut write, control)?;
                edited.n_kept = count - to_do.len();
                edited.files.push(folder.clone());
            }
            destination => {
                let mut images = edited.images.with_room_for(count)?;
                let mut collect = |_: usize, batch: Images| images.append(&batch);
                self.generate(&Vec::from_iter(0..count), &mut collect, control)?;
                edited.images = images;
                if let Some(Destination::Picture(path)) = destination {
                    let mut all = edited.originals.clone();
                    all.append(&edited.images)?;
                    let sheet = edit.sheet(&self.names, &self.numbers, &wishes);
                    render::write_png(&path, &sheet.draw(&all)?, &edited.provenance.texts)?;
                    edited.files.push(path);
                }
            }
        }
        Ok(edited)
    }

    /// Makes the images at these positions.
    fn generate(
        &self,
        positions: &[usize],
        done: &mut dyn FnMut(usize, Images) -> Result<()>,
        control: &dyn Control,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let picture_of: Vec<usize> = positions.iter().map(|&at| self.place(at).0).collect();
        let Some(route) = &self.way.route else {
            control
                .check(&Report::message("sampling", "strength 0: the pictures stay as they are"))?;
            return done(0, self.prepared.pictures.chosen(&picture_of));
        };
        self.report_time(positions.len(), control)?;
        let start = self.start(positions, &picture_of)?;
        let conditions = match self.conditions.is_none() {
            true => Conditions::none(),
            false => self.conditions.chosen(positions.iter().map(|&at| self.place(at).1)),
        };
        let known = self.prepared.masks.as_ref().map(|masks| Known {
            pictures: &self.prepared.pictures,
            masks,
            picture_of: &picture_of,
        });
        Inpainting {
            denoiser: self.denoiser,
            schedule: &self.model.schedule,
            route,
            start: &start,
            conditions: &conditions,
            known,
            batch_size: self.edit.batch_size,
        }
        .run_batches(done, control)
    }

    /// The pictures with the noise of the first step. Where the way begins with noise alone, that is
    /// what unknown pixels are.
    fn start(&self, positions: &[usize], picture_of: &[usize]) -> Result<Start> {
        let numbers = positions.iter().map(|&at| self.numbers.get(self.place(at).1)).collect();
        let numbers = ImageNumbers::These(numbers);
        let noise = NumberedNoise { seed: self.edit.seed, purpose: Purpose::Noising, numbers };
        let Prepared { pictures, masks } = &self.prepared;
        let is_whole = self.way.is_whole;
        let alpha_bar = self.model.schedule.alpha_bar(self.way.steps[0].t);
        let mut x = noise.initial(0, positions.len(), pictures.image_shape());
        let size = x.image_len().max(1);
        x.data_mut().par_chunks_exact_mut(size).zip(picture_of).for_each(|(x, &picture)| {
            let is_unknown = |i: usize| match masks {
                Some(masks) => masks.image(picture)[i % masks.image_len()] == 1.0,
                None => true,
            };
            for (i, (x, &x_0)) in x.iter_mut().zip(pictures.image(picture)).enumerate() {
                let kept = if is_whole && is_unknown(i) { 0.0 } else { 1.0 };
                let signal = alpha_bar.sqrt() * kept;
                let noise = (1.0 - signal * signal).sqrt();
                *x = (signal * f64::from(x_0) + noise * f64::from(*x)) as f32;
            }
        });
        Ok(Start::Images { x_t: x, noise: Arc::new(noise) })
    }

    /// How long it takes, where that is long.
    fn report_time(&self, count: usize, control: &dyn Control) -> Result<()> {
        let estimated = self.edit.estimated(&self.model.config, &self.way, count);
        let seconds = estimated.seconds();
        if seconds < LONG_WORK_SECONDS {
            return Ok(());
        }
        let message = format!(
            "about {} for {} of {} each",
            estimate(seconds),
            counted(count as u64, "image"),
            counted(estimated.n_evaluations / count.max(1) as u64, "evaluation")
        );
        control.check(&Report::message("sampling", &message))
    }

    /// The file of an image.
    fn single(&self, folder: &Path, at: usize, wishes: &[String]) -> Single {
        let (picture, variation) = self.place(at);
        let (number, name, seed) =
            (self.numbers.get(variation), &self.names[picture], self.edit.seed);
        let path = &self.edit.pictures[picture];
        let default = Edit::default();
        let command = Edit {
            pictures: vec![path.clone()],
            count: None,
            first: 0,
            pick: vec![number],
            columns: default.columns,
            ..self.edit.command()
        };
        let mut inputs = Inputs::default();
        for model in &self.models {
            inputs = inputs.text(model);
        }
        let inputs = inputs
            .numbers(self.conditions.of(variation))
            .numbers(self.conditions.avoided_of(variation))
            .values(self.prepared.pictures.image(picture));
        let inputs = match &self.prepared.masks {
            Some(masks) => inputs.values(masks.image(picture)),
            None => inputs,
        };
        let inputs = match wish(number, wishes) {
            Some(label) => inputs.text(label),
            None => inputs,
        };
        let provenance = self.provenance(&command).with_path("picture", path);
        Single {
            path: folder.join(format!("{name}-seed-{seed}-image-{number:05}.png")),
            provenance: provenance.with("image", number).with("inputs", inputs.digits()),
            label: label(number, wishes),
        }
    }

    fn provenance(&self, command: &Edit) -> Provenance {
        let (edit, n_timesteps) = (self.edit, self.model.schedule.n_timesteps());
        let provenance = Provenance::new().with_command(command).with("model", edit.model.name());
        let provenance = provenance.with_all(edit.sampling.describe(n_timesteps));
        let provenance = edit
            .wishes
            .describe(provenance)
            .with("strength", edit.strength())
            .with("fit", edit.fit);
        let provenance = match &edit.mask {
            Some(mask) => provenance
                .with("mask", shown(mask))
                .with("jumps", self.way.jumps.times)
                .with("jump_length", self.way.jumps.length),
            None => provenance,
        };
        provenance.with("seed", edit.seed)
    }

    /// What is made of what, in a few words.
    fn words(&self) -> Vec<String> {
        let edit = self.edit;
        let (n, n_pictures) = (self.numbers.len() as u64, self.names.len() as u64);
        let what = match n_pictures {
            1 => counted(n, "variation"),
            _ => format!("{} of each of {n_pictures} pictures", counted(n, "variation")),
        };
        let masked = edit.mask.as_ref().map(|_| match self.way.jumps.times {
            1 => "where the mask is white".to_owned(),
            times => format!("where the mask is white, each part {times} times"),
        });
        let n_timesteps = self.model.schedule.n_timesteps();
        let n_evaluations = self.way.n_evaluations() * edit.wishes.evaluations();
        let mut sampling = edit.sampling.summary(n_timesteps);
        if n_evaluations != edit.sampling.n_steps(n_timesteps) {
            let evaluations = counted(n_evaluations as u64, "evaluation");
            sampling += &format!(", {evaluations} of the network");
        }
        [what, edit.model.name()]
            .into_iter()
            .chain(edit.wishes.summary())
            .chain([sampling, format!("strength {}", edit.strength())])
            .chain(masked)
            .chain([format!("seed {}", edit.seed)])
            .collect()
    }
}
