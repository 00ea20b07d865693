//! Runs of earlier versions resume.
//!
//! `data/checkpoint_format_2.safetensors` is the checkpoint that Kao 0.1 wrote at step 2 of a run on
//! the pictures below; the expected values are those that it logged in steps 3 and 4.

use kao::control::Unattended;
use kao::dataset::Folder;
use kao::train::history::History;
use kao::train::{LOG_FILE, RunDir, TrainConfig, Training, checkpoint};
use std::path::Path;
use std::sync::Arc;

const N_PICTURES: usize = 80;
const SIDE: usize = 8;

fn pictures() -> Folder {
    let pixel = |k: usize, x: usize, y: usize| (37 * k + (11 + k) * x * y + 5 * x + 3 * y) as u8;
    let pixels = (0..N_PICTURES)
        .flat_map(|k| (0..SIDE).flat_map(move |y| (0..SIDE).map(move |x| pixel(k, x, y))));
    let names = (0..N_PICTURES).map(|k| format!("{k:02}.png")).collect();
    Folder::from_bytes([1, SIDE, SIDE], names, pixels.collect()).unwrap()
}

#[test]
fn a_checkpoint_of_version_0_1_resumes_with_the_same_losses() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkpoint =
        checkpoint::read(&path.join("tests/data/checkpoint_format_2.safetensors")).unwrap();
    assert_eq!((checkpoint.position.n_steps, checkpoint.position.n_images), (2, 8));
    assert!(checkpoint.position.validated);
    let config = TrainConfig { steps: 4, ..checkpoint.position.config.clone() };
    let folder = tempfile::tempdir().unwrap();
    let run_dir = RunDir::open(folder.path()).unwrap();
    let training = Training::new(config).folder(Arc::new(pictures())).run_dir(&run_dir);
    let trained = training.resume(checkpoint).run(&Unattended).unwrap();
    assert_eq!((trained.n_steps, trained.stopped_early), (4, false));

    let history = History::read(folder.path().join(LOG_FILE)).unwrap();
    // Other processors round differently.
    let is_near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-4;
    let expected = [(3, 0.959061433891595, 1.2380881), (4, 0.937989868638072, 1.3704974)];
    assert_eq!(history.training.len(), expected.len());
    for (found, (step, loss, gradient_norm)) in history.training.iter().zip(expected) {
        assert_eq!(found.step, step);
        assert!(is_near(found.loss, loss), "step {step}: loss {}", found.loss);
        assert!(is_near(found.gradient_norm, gradient_norm), "{}", found.gradient_norm);
    }
    let validation = history.validations.last().unwrap();
    assert_eq!(validation.step, 4);
    assert!(is_near(validation.validation_loss, 0.7350207493629185));
    assert!(is_near(validation.raw_validation_loss.unwrap(), 0.7344368602362767));
}
