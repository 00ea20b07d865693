//! Interpolation for a request that is checked.

use super::ends::{EndNoise, Ends};
use super::path::{InterpolatedNoise, Place, Way, between, distances};
use super::{Interpolate, Interpolated, label};
use crate::control::Control;
use crate::denoiser::{Conditions, Denoiser};
use crate::error::Result;
use crate::images::Images;
use crate::model::Model;
use crate::noise::ImageNumbers;
use crate::render::{self, Sheet};
use crate::requests::Provenance;
use crate::requests::latents::warn_of_differences;
use crate::requests::noise_file::GivenNoise;
use crate::requests::pictures::{Destination, Inputs, Single, remaining};
use crate::sampler::{Generation, Plan, Start};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Does what `request` asks for with `model`.
pub(super) fn interpolate(
    request: &Interpolate,
    model: &Model,
    control: &dyn Control,
) -> Result<Interpolated> {
    let image_shape = model.config.unet.image_size;
    let plan = request.sampling.plan(&model.schedule)?;
    let read = |path: &Path| GivenNoise::read(path, image_shape);
    let given = request.latents.as_deref().map(read).transpose()?;
    if let (Some(given), Some(path)) = (&given, &request.latents) {
        given.check(path, &plan)?;
    }
    let n_ends = request.n_ends(given.as_ref().map(|given| given.x_t.len()));
    if request.plane && n_ends != 4 {
        return Err(super::of_four(n_ends));
    }
    let way = request.way(n_ends);
    let numbers = request.numbers(n_ends)?;
    let Ends { names, x_t, noise } = Ends::of(request, given.as_ref(), image_shape)?;
    let sheet = request.sheet(&way, &numbers, &names);
    let of = |at: usize| label(&way, numbers.get(at) as usize, &names);
    request.check(model, &sheet, &of, numbers.len())?;
    let condition = request.wishes.conditions(&model.config.tags, 1)?;
    let guide = request.wishes.load_guide(&model.config, &model.network.device())?;
    let denoiser = request.wishes.guided(model, guide.as_ref())?;
    if let Some(path) = &request.latents {
        warn_of_differences(path, model, &request.sampling, control)?;
    }
    request.model.report_default(control)?;
    let started = Instant::now();
    let models = [Some(model), guide.as_ref()].into_iter().flatten();
    let work = Work {
        request,
        model,
        models: models.map(Model::fingerprint).collect(),
        plan: &plan,
        denoiser: &*denoiser,
        way,
        numbers,
        names,
        ends: x_t,
        noise: Arc::new(noise),
        condition,
    };
    let mut outcome = work.run(&sheet, control)?;
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Everything that is ready before the first image is made.
struct Work<'a> {
    request: &'a Interpolate,
    model: &'a Model,
    /// The fingerprints of the models.
    models: Vec<String>,
    plan: &'a Plan,
    denoiser: &'a dyn Denoiser,
    way: Way,
    /// The images on the way that are asked for.
    numbers: ImageNumbers,
    /// What the ends are called.
    names: Vec<String>,
    /// x_T of the ends.
    ends: Images,
    /// The noise of the steps of the ends.
    noise: Arc<EndNoise>,
    /// What all images are asked to show.
    condition: Conditions,
}

impl Work<'_> {
    /// The number of the image at position `at` among those that are asked for; it is below the
    /// length of the way.
    fn number(&self, at: usize) -> usize {
        self.numbers.get(at) as usize
    }

    fn run(self, sheet: &Sheet, control: &dyn Control) -> Result<Interpolated> {
        let (request, count) = (self.request, self.numbers.len());
        let [_, c, h, w] = self.ends.shape();
        let mut outcome = Interpolated {
            images: Images::zeros([0, c, h, w]),
            count,
            n_kept: 0,
            steps: Vec::new(),
            seconds: 0.0,
            provenance: match count {
                1 => self.single(Path::new(""), 0).provenance,
                _ => self.provenance(&request.command()),
            },
            files: Vec::new(),
        };
        match request.destination()? {
            Some(Destination::Folder(folder)) => {
                let single = |at: usize| self.single(&folder, at);
                let to_do = remaining(0..count, &single, control)?;
                let mut write = |first: usize, images: Images| {
                    (0..images.len()).try_for_each(|k| {
                        single(to_do[first + k]).write(&images, k, &request.drawing())
                    })
                };
                self.generate(&to_do, &mut write, control)?;
                outcome.n_kept = count - to_do.len();
                outcome.files.push(folder);
            }
            destination => {
                let mut images = outcome.images.with_room_for(count)?;
                let mut collect = |_: usize, batch: Images| images.append(&batch);
                self.generate(&Vec::from_iter(0..count), &mut collect, control)?;
                outcome.images = images;
                outcome.steps = distances(&outcome.images);
                self.write(&mut outcome, destination, sheet)?;
            }
        }
        Ok(outcome)
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
        let places: Vec<Place> =
            positions.iter().map(|&at| self.way.place(self.number(at))).collect();
        let x_t = between(&self.ends, &places);
        let noise = Arc::new(InterpolatedNoise { noise: self.noise.clone(), places });
        let start = Start::Images { x_t, noise };
        let conditions = match self.condition.is_none() {
            true => Conditions::none(),
            false => self.condition.chosen(positions.iter().map(|_| 0)),
        };
        let generation = Generation {
            denoiser: self.denoiser,
            plan: self.plan,
            start: &start,
            conditions: &conditions,
            batch_size: self.request.batch_size,
        };
        generation.run_batches(&mut |_, _| {}, done, control)
    }

    /// The file of the image at position `at`.
    fn single(&self, folder: &Path, at: usize) -> Single {
        let number = self.number(at);
        let place = self.way.place(number);
        let mut inputs =
            self.models.iter().fold(Inputs::default(), |inputs, model| inputs.text(model));
        inputs = inputs.numbers(self.condition.of(0)).numbers(self.condition.avoided_of(0));
        for end in place.ends() {
            inputs = inputs.values(self.ends.image(end));
            if let EndNoise::Given(steps) = &*self.noise {
                inputs = steps.iter().fold(inputs, |inputs, z| inputs.values(z.image(end)));
            }
        }
        let command = Interpolate {
            first: 0,
            pick: vec![number as u64],
            columns: None,
            ..self.request.command()
        };
        let provenance = self.provenance(&command);
        Single {
            path: folder.join(format!("frame-{number:05}.png")),
            provenance: provenance.with("frame", number).with("inputs", inputs.digits()),
            label: label(&self.way, number, &self.names),
        }
    }

    fn write(
        &self,
        outcome: &mut Interpolated,
        destination: Option<Destination>,
        sheet: &Sheet,
    ) -> Result<()> {
        let request = self.request;
        match destination {
            Some(Destination::Picture(path)) => {
                let picture = sheet.draw(&outcome.images)?;
                render::write_png(&path, &picture, &outcome.provenance.texts)?;
                outcome.files.push(path);
            }
            Some(Destination::Animation(path, format)) => {
                let out = path.file_name().map(PathBuf::from);
                let command = Interpolate { out, fps: request.fps, ..request.command() };
                let texts = self.provenance(&command).texts;
                let count = outcome.count;
                // A way that ends where it began shows that image once, as it loops.
                let n_frames = count - usize::from(request.is_loop() && count > 2);
                let drawing = request.drawing();
                let labels: Vec<String> = match drawing.labels {
                    true => (0..count)
                        .map(|at| label(&self.way, self.number(at), &self.names))
                        .collect(),
                    false => Vec::new(),
                };
                let alone = |at: usize| Sheet {
                    places: vec![Some(at)],
                    other_labels: labels.clone(),
                    ..drawing.grid(1, 1, |_| labels[at].clone())
                };
                request
                    .animation(format, n_frames, &texts)
                    .write(&path, |at| alone(at).draw(&outcome.images))?;
                outcome.files.push(path);
            }
            Some(Destination::Folder(_)) | None => {}
        }
        Ok(())
    }

    fn provenance(&self, command: &Interpolate) -> Provenance {
        let listed =
            |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let request = self.request;
        let provenance =
            Provenance::new().with_command(command).with("model", request.model.name());
        let provenance =
            provenance.with_all(request.sampling.describe(self.model.schedule.n_timesteps()));
        let provenance = request.wishes.describe(provenance);
        let provenance = match (&request.latents, request.between.is_empty()) {
            (Some(path), _) => provenance.with_path("latents", path),
            (None, true) => provenance.with("seed", request.seed),
            (None, false) => provenance.with("between", listed(&request.between)),
        };
        let provenance = match request.images.is_empty() {
            true => provenance,
            false => provenance.with("images", listed(&request.images)),
        };
        let provenance = provenance.with("frames", request.frames);
        if request.plane { provenance.with("plane", true) } else { provenance }
    }
}
