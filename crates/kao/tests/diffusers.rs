//! Folders of diffusers against what diffusers itself computes.
//!
//! `bench/golden_diffusers.py` made the values, and says how weights and inputs follow from names.

use kao::denoiser::{Conditions, Denoiser, Prediction};
use kao::device::Device;
use kao::formats::{HostTensor, NamedTensors, StoreAs, write_safetensors};
use kao::images::Images;
use kao::model::import::diffusers;
use kao::model::{Model, ModelConfig};
use kao::noise::torch::TorchGenerator;
use kao::requests::Sample;
use kao::sampler::{Ddim, Ddpm, DpmPlusPlus, Sampler};
use kao::schedule::{NoiseSchedule, ScheduleConfig};
use kao::train::objective::{NoisyBatch, loss_gradients};
use kao::unet::GradientConfig;
use kao::unet::parameters::file_tensors;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use uniform::{parameter, uniform};

#[path = "support/uniform.rs"]
mod uniform;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The stored values, and the JSON under a key of their metadata.
fn golden(key: &str) -> (NamedTensors, Value) {
    let file = kao::formats::read(data("diffusers_golden.safetensors")).unwrap();
    let json = serde_json::from_str(file.metadata[key].as_str().unwrap()).unwrap();
    (file.tensors, json)
}

fn write_json(path: &Path, json: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, json.to_string()).unwrap();
}

/// Writes the weights of a network of `unet` that follow from names with `prefix`.
fn write_weights(folder: &Path, unet: &kao::unet::UNetConfig, prefix: &str) -> String {
    let named = diffusers::tensors(unet);
    let mut lines: Vec<String> =
        named.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    lines.sort();
    let tensors: NamedTensors = named
        .into_iter()
        .map(|(name, shape)| {
            let values = parameter(&format!("{prefix}{name}"), &shape);
            (name, HostTensor::new(shape, values).unwrap())
        })
        .collect();
    let path = folder.join("diffusion_pytorch_model.safetensors");
    write_safetensors(path, tensors.views(), &BTreeMap::new(), StoreAs::F32).unwrap();
    let digest = Sha256::digest(lines.join("\n"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The configuration of a folder before it has weights.
fn config(folder: &Path) -> ModelConfig {
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    if !weights.exists() {
        let none = NamedTensors::new();
        write_safetensors(&weights, none.views(), &BTreeMap::new(), StoreAs::F32).unwrap();
    }
    ModelConfig::of(folder).unwrap()
}

fn images(shape: [usize; 4], name: &str, factor: f64) -> Images {
    let values = uniform(name, shape.iter().product());
    let values = values.into_iter().map(|u| (factor * u) as f32).collect();
    Images::from_vec(shape, values).unwrap()
}

/// Largest difference relative to the largest magnitude.
fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / scale
}

#[test]
fn random_networks_predict_and_learn_as_there() {
    let (tensors, cases) = golden("cases");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 24);
    let mut n_gradients = 0;
    for (k, case) in cases.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_json(&path.join("config.json"), &case["config"]);
        let config = config(path);
        let prefix = format!("case.{k}.");
        let digest = write_weights(path, &config.unet, &prefix);
        assert_eq!(case["digest"], digest, "names and shapes of case {k}: {}", case["config"]);
        let model = Model::load(path, &Device::Cpu).unwrap();
        assert!(model.notes[0].contains("no scheduler_config.json"), "{:?}", model.notes);
        let [c, h, w] = config.unet.image_size;
        let shape = [2, c, h, w];
        let timesteps: Vec<usize> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        let labels: Option<Vec<usize>> = serde_json::from_value(case["labels"].clone()).unwrap();
        let conditions = labels.map_or(Conditions::none(), |labels| {
            Conditions::new(labels.into_iter().map(|label| vec![label]).collect())
        });
        let x = images(shape, &format!("{prefix}x"), 1.7);
        let found = model.network.predict(&x, &timesteps, &conditions).unwrap();
        let expected = tensors.get(&format!("{prefix}y")).unwrap();
        assert_eq!(expected.shape(), shape);
        let error = relative_error(found.data(), expected.data());
        assert!(error < 1e-5, "case {k}: {error}, {}", case["config"]);
        if case.get("loss").is_some() {
            check_gradients(&model, &tensors, &prefix, case, timesteps);
            n_gradients += 1;
        }
    }
    assert!(n_gradients >= 3);
}

fn check_gradients(
    model: &Model,
    tensors: &NamedTensors,
    prefix: &str,
    case: &Value,
    timesteps: Vec<usize>,
) {
    let [c, h, w] = model.config.unet.image_size;
    let [x_0, noise] = [("x_0", 0.9), ("noise", 1.7)]
        .map(|(name, factor)| images([2, c, h, w], &format!("{prefix}{name}"), factor));
    let schedule = NoiseSchedule::new(ScheduleConfig::default()).unwrap();
    let batch = NoisyBatch::new(&schedule, Prediction::Epsilon, &x_0, timesteps, &noise).unwrap();
    let unet = model.network.unet();
    let found = loss_gradients(unet, &batch, 1.0, GradientConfig::default(), &Device::Cpu).unwrap();
    let loss = case["loss"].as_f64().unwrap();
    assert!((found.loss - loss).abs() < 1e-5 * loss, "{} not {loss}", found.loss);
    let gradients = file_tensors(&model.config.unet, &found.gradients);
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |worst, g| worst.max(g.abs()));
    // Some gradients are zero but for rounding (a bias before a normalization).
    let floor = 1e-4 * gradients.iter().map(|(_, g)| largest(g.data())).fold(0.0, f32::max);
    for (name, gradient) in gradients.iter() {
        let there = diffusers::name_there(&model.config.unet, name).unwrap();
        let expected = tensors.get(&format!("{prefix}grad.{there}")).unwrap().data();
        let bound = 1e-3 * largest(expected) + floor;
        for (found, expected) in gradient.data().iter().zip(expected) {
            assert!((found - expected).abs() < bound, "{there}: {found} {expected}");
        }
    }
}

#[test]
fn a_folder_that_diffusers_saved_is_a_model() {
    let folder = data("diffusers_tiny");
    let model = Model::load(&folder, &Device::Cpu).unwrap();
    assert_eq!(model.notes, [""; 0]);
    let expected = kao::formats::read(folder.join("expected.safetensors")).unwrap();
    let x = images([2, 3, 8, 8], "tiny.x", 1.7);
    let found = model.network.predict(&x, &[5, 700], &Conditions::none()).unwrap();
    let error = relative_error(found.data(), expected.tensors.get("y").unwrap().data());
    assert!(error < 1e-5, "{error}");
    // As a Kao model it is the same.
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    model.save(file.path(), StoreAs::F32).unwrap();
    let again = Model::load(file.path(), &Device::Cpu).unwrap();
    assert_eq!(again.config, model.config);
    assert_eq!(again.network.predict(&x, &[5, 700], &Conditions::none()).unwrap(), found);
}

#[test]
fn whole_pipelines_give_the_same_images() {
    let (tensors, pipelines) = golden("pipelines");
    let (_, unet) = golden("pipeline_unet");
    for (k, asked) in pipelines.as_array().unwrap().iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_json(&path.join("config.json"), &unet);
        write_json(&path.join("scheduler_config.json"), &asked["scheduler"]);
        write_weights(path, &config(path).unet, "pipeline.");
        let model = Model::load(path, &Device::Cpu).unwrap();
        let sampler: Sampler = match asked["sampler"].as_str().unwrap() {
            "ddim" => Ddim { eta: asked["eta"].as_f64().unwrap() }.into(),
            "ddpm" => Ddpm::default().into(),
            "dpm++" => DpmPlusPlus::default().into(),
            other => panic!("{other}"),
        };
        let steps = asked["steps"].as_u64().unwrap() as usize;
        let request = Sample::from(&model).sampler(sampler).steps(steps).count(2).noise("torch");
        let found = request.seed(asked["seed"].as_u64().unwrap()).run().unwrap().images;
        let expected = tensors.get(&format!("pipeline.{k}.images")).unwrap().data();
        for (found, expected) in found.data().iter().zip(expected) {
            let found = (found / 2.0 + 0.5).clamp(0.0, 1.0);
            assert!((found - expected).abs() < 1e-3, "{k}: {found} {expected} {asked}");
        }
    }
}

#[test]
fn random_numbers_are_those_of_torch() {
    let (tensors, _) = golden("cases");
    let check = |generator: &mut TorchGenerator, name: &str| {
        let expected = tensors.get(name).unwrap().data();
        let mut found = vec![0.0; expected.len()];
        generator.fill_normal(&mut found);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    };
    let mut generator = TorchGenerator::new(999);
    ["randn.0", "randn.1", "randn.2"].into_iter().for_each(|name| check(&mut generator, name));
    check(&mut TorchGenerator::new((1 << 32) + 5), "randn.wrapped");
    let mut generator = TorchGenerator::new(7);
    generator.skip(1000);
    check(&mut generator, "randn.skipped");
}

#[test]
fn the_originals_noise_is_found_behind_what_its_program_draws_before() {
    let text = std::fs::read_to_string(data("original_noise.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let number = |name: &str| expected[name].as_u64().unwrap();
    let mut generator = TorchGenerator::new(number("seed"));
    generator.skip(number("draws_of_initialization") + number("draws_of_test_noise"));
    let found = generator.images(256, [3, 64, 64]);
    let values =
        |name: &str| -> Vec<f64> { serde_json::from_value(expected[name].clone()).unwrap() };
    let (first, last) = (values("x_T.first"), values("x_T.last"));
    let ends = found.data()[..16].iter().zip(&first);
    for (found, expected) in ends.chain(found.data()[found.data().len() - 16..].iter().zip(&last)) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
    }
    let sum = |power: i32| found.data().iter().map(|&v| f64::from(v).powi(power)).sum::<f64>();
    assert!((sum(1) - expected["x_T.sum"].as_f64().unwrap()).abs() < 0.1);
    assert!((sum(2) - expected["x_T.sum_of_squares"].as_f64().unwrap()).abs() < 0.5);
}

/// What is said of a folder with these configurations.
fn refusal(unet: Value, scheduler: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_json(&path.join("unet/config.json"), &unet);
    write_json(&path.join("scheduler/scheduler_config.json"), &scheduler);
    // No weights file: what cannot be is refused before any is read.
    let nothing = path.join("unet/diffusion_pytorch_model.bin");
    std::fs::write(nothing, b"PK\x03\x04").unwrap();
    let error = Model::load(path, &Device::Cpu).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n') && text.chars().count() < 500, "{text}");
    text
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_value() {
    let (_, unet) = golden("pipeline_unet");
    let with = |entries: Value| {
        let mut unet = unet.clone();
        unet.as_object_mut().unwrap().extend(entries.as_object().unwrap().clone());
        unet
    };
    for (entries, expected) in [
        (json!({ "act_fn": "gelu" }), r#"`act_fn` is "gelu": Kao has silu"#),
        (json!({ "time_embedding_type": "fourier" }), r#"`time_embedding_type` is "fourier""#),
        (json!({ "resnet_time_scale_shift": null }), "`resnet_time_scale_shift` is null"),
        (json!({ "resnet_time_scale_shift": "spatial" }), "`resnet_time_scale_shift` is"),
        (json!({ "mid_block_scale_factor": 2 }), "`mid_block_scale_factor` is 2"),
        (json!({ "downsample_type": "resnet" }), "`downsample_type` is"),
        (json!({ "upsample_type": "resnet" }), "`upsample_type` is"),
        (json!({ "class_embed_type": "timestep" }), "`class_embed_type` is"),
        (
            json!({ "resnet_time_scale_shift": "scale_shift" }),
            "`attn_norm_num_groups` is not given: with scale_shift",
        ),
        (json!({ "attn_norm_num_groups": 2 }), "`attn_norm_num_groups` is 2"),
        (json!({ "out_channels": 6 }), "`out_channels` is 6"),
        (json!({ "in_channels": 4, "out_channels": 4 }), "`in_channels` is 4"),
        (json!({ "sample_size": null }), "`sample_size` is null"),
        (json!({ "sample_size": "big" }), "`sample_size` is \"big\": expected a whole number"),
        (json!({ "sample_size": 9 }), "multiple of 2"),
        (json!({ "down_block_types": ["SkipDownBlock2D", "DownBlock2D"] }), "not SkipDownBlock2D"),
        (json!({ "up_block_types": ["UpBlock2D"] }), "expected 2 blocks"),
        (json!({ "mid_block_type": "UNetMidBlock2DCrossAttn" }), "`mid_block_type` is"),
        (json!({ "block_out_channels": [] }), "`block_out_channels` is []"),
        (json!({ "block_out_channels": [8, 1u64 << 60] }), "`block_out_channels` is"),
        (json!({ "attention_head_dim": 5 }), "attention_head_dim 5: must be"),
        (json!({ "attention_head_dim": 0 }), "`attention_head_dim` is 0"),
        (json!({ "num_class_embeds": 1u64 << 50 }), "n_tags 1125899906842624"),
        (json!({ "layers_per_block": 1u64 << 50 }), "num_res_blocks"),
        (json!({ "norm_num_groups": 3 }), "multiple of 3"),
        (json!({ "_class_name": "UNet2DConditionModel" }), "`_class_name` is"),
        (json!({ "encoder_hid_dim": 7 }), "`encoder_hid_dim` is 7: Kao does not know this entry"),
    ] {
        let text = refusal(with(entries.clone()), json!({}));
        assert!(text.contains(expected), "{entries}: {text}");
    }
    for (entries, expected) in [
        (json!({ "_class_name": "ScoreSdeVeScheduler" }), "`_class_name` is"),
        (
            json!({ "_class_name": "HeunDiscreteScheduler", "clip_sample": true }),
            "`clip_sample` is true: not with HeunDiscreteScheduler",
        ),
        (json!({ "beta_schedule": "laplace" }), "`beta_schedule` is \"laplace\""),
        (json!({ "variance_type": "learned_range" }), "`variance_type` is \"learned_range\""),
        (json!({ "prediction_type": "flow_prediction" }), "`prediction_type` is"),
        (json!({ "timestep_spacing": "odd" }), "`timestep_spacing` is \"odd\""),
        (json!({ "rescale_betas_zero_snr": true }), "`rescale_betas_zero_snr` is true"),
        (json!({ "trained_betas": [0.1] }), "`trained_betas` is [0.1]: expected 1000 values"),
        (json!({ "thresholding": true, "sample_max_value": 0.5 }), "`sample_max_value` is 0.5"),
        (json!({ "beta_end": 7 }), "beta_start, beta_end"),
        (json!({ "clip_sample_range": -1 }), "sampling.clip -1"),
        (json!({ "num_train_timesteps": 0 }), "num_steps 0"),
        (json!({ "use_flow_sigmas": true }), "`use_flow_sigmas` is true"),
    ] {
        let text = refusal(unet.clone(), entries.clone());
        assert!(text.contains(expected), "{entries}: {text}");
    }
}

#[test]
fn latent_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let index = json!({ "_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"] });
    write_json(&folder.path().join("model_index.json"), &index);
    let (_, unet) = golden("pipeline_unet");
    write_json(&folder.path().join("unet/config.json"), &unet);
    std::fs::write(folder.path().join("unet/diffusion_pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let error = Model::load(folder.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("`vqvae` is VQModel"), "{error}");
}

#[test]
fn weights_may_be_in_several_files_but_not_elsewhere() {
    let tiny = data("diffusers_tiny");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::copy(tiny.join("unet/config.json"), path.join("config.json")).unwrap();
    let file = kao::formats::read(tiny.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    let n = file.tensors.len();
    for (part, name) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let range = part * n / 2..(part + 1) * n / 2;
        let tensors: NamedTensors =
            file.tensors.clone().into_iter().skip(range.start).take(range.len()).collect();
        write_safetensors(path.join(name), tensors.views(), &BTreeMap::new(), StoreAs::F32)
            .unwrap();
        map.extend(tensors.names().map(|tensor| (tensor.to_owned(), json!(name))));
    }
    let list = path.join("diffusion_pytorch_model.safetensors.index.json");
    write_json(&list, &json!({ "weight_map": map }));
    let model = Model::load(path, &Device::Cpu).unwrap();
    let whole = Model::load(tiny, &Device::Cpu).unwrap();
    assert_eq!(model.network.unet().values(), whole.network.unet().values());

    let refused = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut map = map.clone();
        change(&mut map);
        write_json(&list, &json!({ "weight_map": map }));
        let error = Model::load(path, &Device::Cpu).unwrap_err();
        assert!(ModelConfig::of(path).is_err() || error.to_string().contains("missing"));
        error.to_string()
    };
    for name in ["../a.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "c:a"] {
        let text = refused(&|map| _ = map.insert("conv_in.weight".to_owned(), json!(name)));
        assert!(text.contains("expected a file beside it"), "{name}: {text}");
    }
    let text =
        refused(&|map| _ = map.insert("conv_in.weight".to_owned(), json!("none.safetensors")));
    assert!(text.contains("none.safetensors") && text.contains("cannot read"), "{text}");
    let text = refused(&|map| _ = map.insert("more".to_owned(), json!("a.safetensors")));
    assert!(text.contains("tensor `more` is missing, which the list says is in it"), "{text}");
    let text = refused(&|map| _ = map.remove("conv_in.weight"));
    assert!(text.contains("`conv_in.weight` [4, 3, 3, 3] is missing"), "{text}");
    write_json(&list, &json!({ "weight_map": 7 }));
    let text = Model::load(path, &Device::Cpu).unwrap_err().to_string();
    assert!(text.contains("no `weight_map`"), "{text}");
}

#[test]
fn damaged_folders_end_in_one_clear_line() {
    let tiny = data("diffusers_tiny");
    let files = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let restore = || {
        for name in files {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::copy(tiny.join(name), path.join(name)).unwrap();
        }
    };
    restore();
    assert!(Model::load(path, &Device::Cpu).is_ok());
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(tiny.join(files[1])).unwrap()).unwrap();
    let mut texts = Vec::new();
    let mut check = |what: &str| {
        if let Err(error) = Model::load(path, &Device::Cpu) {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.chars().count() < 500, "{what}: {text}");
            texts.push(text);
        }
    };
    for name in files {
        let whole = std::fs::read(tiny.join(name)).unwrap();
        // Cut anywhere, every byte another, or another thing altogether.
        for len in [0, 1, whole.len() / 3, whole.len() - 1] {
            restore();
            std::fs::write(path.join(name), &whole[..len]).unwrap();
            check(&format!("{name} cut to {len}"));
        }
        for at in (0..whole.len().min(1200)).step_by(7) {
            restore();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x15;
            std::fs::write(path.join(name), bytes).unwrap();
            check(&format!("{name} changed at {at}"));
        }
        restore();
        std::fs::remove_file(path.join(name)).unwrap();
        check(&format!("no {name}"));
        std::fs::create_dir(path.join(name)).unwrap();
        check(&format!("{name} a folder"));
        std::fs::remove_dir(path.join(name)).unwrap();
    }
    for key in config.as_object().unwrap().keys() {
        for value in
            [json!(null), json!(-1), json!([]), json!({ "a": 1 }), json!(1e300), json!("x")]
        {
            restore();
            let mut config = config.clone();
            config[key] = value.clone();
            write_json(&path.join(files[1]), &config);
            check(&format!("{key} {value}"));
        }
    }
    assert!(texts.len() > 100, "{}", texts.len());
}
