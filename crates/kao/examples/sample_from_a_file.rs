//! Samples images from a model file, or from the built-in model where none is named, and writes them
//! as a grid:
//!
//! ```text
//! cargo run --release -p kao --example sample_from_a_file -- grid.png [MODEL]
//! ```

use kao::control::Report;
use kao::device::DeviceKind;
use kao::model::Model;
use kao::requests::Sample;
use kao::sampler::Ddim;
use std::ops::ControlFlow;

fn main() -> kao::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let out = arguments.next().unwrap_or_else(|| "grid.png".into());
    let device = DeviceKind::Cpu.open()?;
    let model = match arguments.next() {
        Some(path) => Model::load(path, &device)?,
        None => Model::built_in(&device)?,
    };

    // A closure is the simplest control: it gets every report, and may stop the work.
    let progress = |report: &Report<'_>| {
        if let Some(total) = report.total {
            eprint!("\r{} {} of {total} {}", report.stage, report.done, report.unit);
        }
        ControlFlow::Continue(())
    };
    let request =
        Sample::from(&model).count(8).steps(10).sampler(Ddim { eta: 0.5 }).seed(7).out(out);
    let sampled = request.run_with(&progress)?;
    eprintln!();
    println!("{}", sampled.summary());
    println!("{:?} with values in about [-1, 1]", sampled.images.shape());
    Ok(())
}
