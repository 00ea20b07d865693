//! Trains a small model on images in memory, without a folder of pictures and without a run
//! directory. It takes some seconds, and writes the model and its last sample grid:
//!
//! ```text
//! cargo run --release -p kao --example train_in_memory [FOLDER]
//! kao sample --model FOLDER/faces16.safetensors
//! ```

use kao::Images;
use kao::control::Report;
use kao::draw::face;
use kao::formats::StoreAs;
use kao::render::{Layout, grid, write_png};
use kao::train::reports::{TRAINING, VALIDATION};
use kao::train::{Preset, SAMPLE_COLUMNS, TrainConfig, Training};
use kao::unet::UNetConfig;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const N_PICTURES: u64 = 300;
const SIDE: u32 = 16;

fn main() -> kao::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    run(&folder)
}

/// Trains, and writes the model and its last sample grid to `folder`.
pub fn run(folder: &Path) -> kao::Result<()> {
    // Any images will do: `[N, C, H, W]` in [-1, 1].
    let mut bytes = Vec::new();
    for k in 0..N_PICTURES {
        bytes.extend_from_slice(face(1, k, SIDE)?.bytes());
    }
    let side = SIDE as usize;
    let images = Images::from_bytes_nhwc([N_PICTURES as usize, 3, side, side], &bytes)?;

    // A preset, and what is to be different.
    let preset = Preset::Tiny.config();
    let config = TrainConfig {
        steps: 100,
        batch_size: 16,
        micro_batch_size: 16,
        save_every: 50,
        sample_count: 16,
        ema_halflife_images: 1000.0,
        model: UNetConfig {
            image_size: [3, side, side],
            ch_mult: vec![1, 2],
            attn: vec![1],
            ..preset.model
        },
        ..preset
    };

    // Receives all reports, and could stop the run with `ControlFlow::Break`.
    let last_grid = Mutex::new(None);
    let control = |report: &Report<'_>| {
        let value = |wanted| report.values.iter().find(|(name, _)| *name == wanted).map(|v| v.1);
        match report.stage {
            TRAINING if report.done.is_multiple_of(25) => {
                if let (Some(loss), Some(total)) = (value("loss"), report.total) {
                    println!("step {} of {total}: loss {loss:.4}", report.done);
                }
            }
            VALIDATION => {
                if let Some(loss) = value("validation_loss") {
                    println!("step {}: validation loss {loss:.5}", report.done);
                }
            }
            _ => {}
        }
        if let (Some(images), Ok(mut last)) = (report.preview, last_grid.lock()) {
            *last = Some(images.clone());
        }
        ControlFlow::Continue(())
    };

    let trained = Training::new(config).images(images).run(&control)?;

    let path = folder.join("faces16.safetensors");
    trained.model.save(&path, StoreAs::F32)?;
    println!("{}", path.display());
    if let Some(images) = last_grid.into_inner().ok().flatten() {
        let path = folder.join("faces16.png");
        let texts = [("Software", "kao, example train_in_memory")];
        write_png(&path, &grid(&images, SAMPLE_COLUMNS, &Layout::default())?, &texts)?;
        println!("{}", path.display());
    }
    Ok(())
}
