//! `kao sample`

use crate::compute::{Compute, ModelArgument};
use crate::destination;
use crate::memory;
use crate::output::{note, one_line, result};
use crate::progress::Terminal;
use crate::sampling::SamplingArguments;
use clap::Args;
use kao::experiments::{SampleConfig, sample_images};
use kao::formats::{self, NamedTensors, StoreAs, TensorView};
use kao::model::Model;
use kao::quantities::{counted, duration};
use kao::render::{self, Layout};
use kao::sampler::{SnapshotsConfig, Start};
use kao::{Error, Images, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao sample --model run
  kao sample --model run --steps 10 --count 256 --columns 16 --out grid.png
  kao sample --model run --steps 100 --eta 1                           DDIM with noise
  kao sample --model last.ckpt --spacing linear --strip strip.png      DDIM as the original
  kao sample --model run --sampler ddpm --variance posterior           1000 steps: slow

Image k of a seed is the same whatever --count, --batch-size and --threads are.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// How many images; with --noise the first so many [default: 64, or all of --noise]
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<usize>,
    /// Seed of the noise
    #[arg(long, default_value_t = 999)]
    seed: u64,
    /// Columns of the grid
    #[arg(long, value_name = "N", default_value_t = 8)]
    columns: usize,
    /// Grid to write (.png)
    #[arg(long, short, value_name = "FILE", default_value = "grid.png")]
    out: PathBuf,
    /// Strip to write (.png): 6 images at 15 moments of the process
    #[arg(long, value_name = "FILE")]
    strip: Option<PathBuf>,
    /// Images in the strip
    #[arg(long, value_name = "N", default_value_t = 6, requires = "strip")]
    strip_images: usize,
    /// Moments in the strip
    #[arg(
        long,
        value_name = "N",
        default_value_t = 15,
        requires = "strip",
        alias = "strip-snapshots"
    )]
    strip_moments: usize,
    /// Take noise from a .safetensors file: `x_T` [N,C,H,W], and `z` [S,N,C,H,W] for the steps
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Write `x_0` [N,C,H,W], unclipped, to a .safetensors file
    #[arg(long, value_name = "FILE")]
    save_tensors: Option<PathBuf>,
    /// Images at a time: memory grows with it, the images stay the same
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    #[command(flatten)]
    compute: Compute,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    fn config(&self) -> Result<SampleConfig> {
        let snapshots = self.strip.as_ref().map(|_| SnapshotsConfig {
            n_images: self.strip_images,
            n_snapshots: self.strip_moments,
        });
        let sampling = self.sampling.config()?;
        Ok(SampleConfig { sampling, batch_size: self.batch_size, snapshots })
    }

    fn start(&self, model: &Model) -> Result<Start> {
        match &self.noise {
            Some(path) => self.given_noise(path, model),
            None => Ok(Start::Seed {
                seed: self.seed,
                count: self.count.unwrap_or(64),
                image_shape: model.config.unet.image_size,
            }),
        }
    }

    /// What can be wrong is looked at before the work, not after it.
    fn check(&self, model: &Model, config: &SampleConfig, start: &Start) -> Result<()> {
        let unet = &model.config.unet;
        let count = start.count();
        config.sampling.plan(&model.schedule)?;
        memory::check("--count", "so many images", memory::images(count, unet))?;
        render::check_grid(count, unet.image_size, self.columns, &Layout::default())?;
        let together = memory::forward(self.batch_size.min(count), unet);
        memory::check("--batch-size", "so many images at a time", together)?;
        let files = [Some(&self.out), self.strip.as_ref(), self.save_tensors.as_ref()];
        files.into_iter().flatten().try_for_each(|path| destination::file(path))
    }

    /// `x_T` and, where it is there, `z` of a file, which fit the model and the walk.
    fn given_noise(&self, path: &Path, model: &Model) -> Result<Start> {
        let tensors = formats::read(path)?.tensors;
        let x_t = images(path, &tensors, "x_T")?;
        if x_t.image_shape() != model.config.unet.image_size {
            let [c, h, w] = model.config.unet.image_size;
            let problem = format!(
                "`x_T` is {:?}; expected [N, {c}, {h}, {w}], the images of the model",
                x_t.shape()
            );
            return Err(Error::malformed(path, problem));
        }
        if x_t.is_empty() {
            return Err(Error::malformed(path, "`x_T` holds no image; expected at least one"));
        }
        let z = step_noise(path, &tensors, &x_t)?;
        let (x_t, z) = match self.count {
            None => (x_t, z),
            Some(count) if count <= x_t.len() => {
                let z = z.iter().map(|step| step.slice(0..count)).collect();
                (x_t.slice(0..count), z)
            }
            Some(count) => {
                let n = counted(x_t.len() as u64, "image");
                let allowed = format!("at most the {n} whose noise `{}` holds", path.display());
                return Err(Error::out_of_range("--count", count, allowed));
            }
        };
        let config = self.config()?;
        let plan = config.sampling.plan(&model.schedule)?;
        let n_steps = plan.steps().len();
        if plan.draws_noise() && z.len() < n_steps {
            let found = if tensors.get("z").is_none() {
                "no tensor `z`".to_owned()
            } else {
                format!("`z` holds the noise of {}", counted(z.len() as u64, "step"))
            };
            let problem = format!("{found}; the sampler draws noise in each of {n_steps}");
            let hint = "give fewer --steps, or --eta 0, which draws none";
            return Err(Error::malformed(path, problem).with_hint(hint));
        }
        Ok(Start::Given { x_t, z })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    // What can be wrong is looked at before the work, not after it.
    render::check_png_path(&arguments.out)?;
    if let Some(strip) = &arguments.strip {
        render::check_png_path(strip)?;
    }
    arguments.model.check()?;
    destination::distinct(
        &[("--model", arguments.model.model.as_deref()), ("--noise", arguments.noise.as_deref())],
        &[
            ("--out", Some(&arguments.out)),
            ("--strip", arguments.strip.as_deref()),
            ("--save-tensors", arguments.save_tensors.as_deref()),
        ],
    )?;
    let config = arguments.config()?;
    let device = arguments.compute.open()?;
    let (model, model_name) = arguments.model.load(&device)?;
    let start = arguments.start(&model)?;
    arguments.check(&model, &config, &start)?;
    if let Some(warning) = model.schedule.leftover_warning() {
        note(format!("warning: {warning}"));
    }
    arguments.sampling.say_sampler();

    let started = Instant::now();
    let n_timesteps = model.schedule.n_timesteps();
    let terminal = Terminal::default();
    let sampled = sample_images(&model, &config, &start, &terminal)?;
    terminal.clear();

    let mut summary = vec![
        match arguments.model.model {
            None => counted(start.count() as u64, "face"),
            Some(_) => counted(start.count() as u64, "image"),
        },
        model_name.clone(),
        config.sampling.summary(n_timesteps),
        match &arguments.noise {
            Some(path) => format!("noise {}", path.display()),
            None => format!("seed {}", arguments.seed),
        },
    ];
    let mut texts = vec![
        ("Software".to_owned(), concat!("kao ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("model".to_owned(), model_name),
    ];
    texts.extend(config.sampling.describe(n_timesteps));
    match &arguments.noise {
        Some(path) => texts.push(("noise".to_owned(), path.display().to_string())),
        None => texts.push(("seed".to_owned(), arguments.seed.to_string())),
    }
    let layout = Layout::default();
    let grid = render::grid(&sampled.images, arguments.columns, &layout)?;
    render::write_png(&arguments.out, &grid, &texts)?;
    summary.push(match started.elapsed().as_secs_f64() {
        seconds if seconds < 59.95 => format!("{seconds:.1} s"),
        seconds => duration(seconds),
    });
    let summary = summary.join(" · ");
    note(one_line(&format!("{summary} → {}", arguments.out.display())));
    result(arguments.out.display())?;
    if let Some(path) = &arguments.strip {
        render::write_png(path, &render::strip(&sampled.snapshots, &layout)?, &texts)?;
        result(path.display())?;
    }
    if let Some(path) = &arguments.save_tensors {
        let shape = sampled.images.shape();
        let view = TensorView { shape: &shape, data: sampled.images.data() };
        let metadata: BTreeMap<String, String> = texts.into_iter().collect();
        formats::write_safetensors(path, [("x_0", view)], &metadata, StoreAs::F32)?;
        result(path.display())?;
    }
    Ok(())
}

/// The noise of the steps, where it is there.
fn step_noise(path: &Path, tensors: &NamedTensors, x_t: &Images) -> Result<Vec<Images>> {
    let Some(z) = tensors.get("z") else { return Ok(Vec::new()) };
    if z.shape().get(1..) != Some(&x_t.shape()) {
        let problem = format!(
            "`z` is {:?}; expected [S, N, C, H, W] to go with `x_T` of {:?}",
            z.shape(),
            x_t.shape()
        );
        return Err(Error::malformed(path, problem));
    }
    check_finite(path, "z", z.data())?;
    let steps = z.data().chunks_exact(x_t.data().len().max(1));
    steps.map(|step| Images::from_vec(x_t.shape(), step.to_vec())).collect()
}

fn images(path: &Path, tensors: &NamedTensors, name: &str) -> Result<Images> {
    let Some(tensor) = tensors.get(name) else {
        let found: Vec<&str> = tensors.names().take(5).collect();
        let problem = format!("no tensor `{name}`; it holds {}", found.join(", "));
        return Err(Error::malformed(path, problem)
            .with_hint("`x_T` [N, C, H, W] is the noise to start from, `z` that of the steps"));
    };
    let shape: [usize; 4] = tensor.shape().try_into().map_err(|_| {
        let problem = format!("`{name}` is {:?}; expected [N, C, H, W]", tensor.shape());
        Error::malformed(path, problem)
    })?;
    check_finite(path, name, tensor.data())?;
    Images::from_vec(shape, tensor.data().to_vec())
}

fn check_finite(path: &Path, name: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => {
            Err(Error::malformed(path, format!("`{name}` holds {value}; expected finite numbers")))
        }
        None => Ok(()),
    }
}
