//! Values that are not finite: they are an error, and never take the place of a good model.

use crate::fixture::{kao, model, with_model, workplace};
use crate::training::TRAIN;
use kao::device::Device;
use kao::formats::StoreAs;
use kao::model::Model;
use kao::unet::UNet;
use std::path::Path;

/// The trained model with weights that are finite, but whose products are not.
fn write_overflowing(path: &Path) {
    let model = Model::load(model(), &Device::Cpu).unwrap();
    let mut values = model.network.unet().values().to_vec();
    values.iter_mut().flatten().for_each(|value| *value = 1e30);
    let unet = UNet::from_values(&model.config.unet, values).unwrap();
    let model = Model::new(model.config, unet, &Device::Cpu).unwrap();
    model.save(path, StoreAs::F32).unwrap();
}

#[test]
fn images_that_are_not_finite_are_an_error() {
    let (folder, commands) = with_model(
        "sample --model big.safetensors --count 2 --steps 2 --out out.png --save-tensors out.safetensors\n\
         recover --model big.safetensors --data FACES --count 1 --t 3 --out out.png\n\
         eval --model big.safetensors --data FACES --count 4 --steps 2\n\
         sweep --model big.safetensors --count 1 --max-steps 10 --out sweep",
    );
    let folder = folder.path();
    write_overflowing(&folder.join("big.safetensors"));
    for arguments in commands.lines() {
        let ran = kao(folder, arguments);
        assert_eq!(ran.code, Some(1), "{arguments}: {ran:?}");
        assert!(ran.error().starts_with("error: sampling failed: an image holds "), "{ran:?}");
    }
    for name in ["out.png", "out.safetensors", "sweep/index.html"] {
        assert!(!folder.join(name).exists(), "{name}");
    }
}

#[test]
fn a_diverged_run_leaves_the_good_model_and_calls_nothing_best() {
    let folder = workplace();
    let folder = folder.path();
    for (run, options) in [
        ("validated", ""),
        ("unvalidated", "--validation-images 0"),
        ("unseen", "--validation-images 0 --sample-count 0"),
    ] {
        kao(folder, &format!("{TRAIN} {run} --steps 4 {options}")).ok();
        let model = folder.join(run).join("model.safetensors");
        let good = std::fs::read(&model).unwrap();
        let ran = kao(
            folder,
            &format!("train --resume --out {run} --steps 5 --learning-rate 1e30 {options}"),
        );
        assert!(ran.error().starts_with("error: training diverged: after step 5, "), "{ran:?}");
        assert!(ran.err.contains("the last good state is `"), "{ran:?}");
        assert!(ran.err.contains("step-00000004.safetensors"), "{ran:?}");
        assert!(!ran.err.contains("best so far"), "{ran:?}");
        assert!(std::fs::read(&model).unwrap() == good, "{run}: the good model is another");
    }

    // From the first step on: there is no good state, and no look is logged.
    let ran = kao(folder, &format!("{TRAIN} first --save-every 1 --learning-rate 1e30"));
    assert!(ran.error().starts_with("error: training diverged: after step 1, "), "{ran:?}");
    let log = std::fs::read_to_string(folder.join("first/logs/log.jsonl")).unwrap();
    assert!(!log.contains("null") && !log.contains("NaN"), "{log}");
    assert!(!folder.join("first/checkpoints/step-00000001.safetensors").exists());
}
