//! Weights: safetensors, the archives of PyTorch, the pickles within them, and files of noise.

use crate::fuzz::{Kind, Outcome, run};
use crate::support::mutate::{self, Random};
use crate::support::torch::{Py, archive, dict, pickled, saved, state_dict, tensor};
use kao::denoiser::Prediction;
use kao::device::Device;
use kao::formats::{self, NamedTensors, StoreAs, TensorView, write_safetensors};
use kao::images::Images;
use kao::model::{self, CheckpointWeights, LoadOptions, Model, ModelConfig};
use kao::schedule::ScheduleConfig;
use kao::unet::{UNet, UNetConfig};
use std::collections::BTreeMap;
use std::path::Path;

/// The smallest network there is.
pub fn network() -> UNetConfig {
    UNetConfig {
        image_size: [1, 2, 2],
        num_steps: 4,
        ch: 4,
        ch_mult: vec![1],
        attn: vec![0],
        num_res_blocks: 1,
        norm_groups: 1,
        dropout: 0.0,
        ..UNetConfig::default()
    }
}

pub fn model_config() -> ModelConfig {
    let schedule = ScheduleConfig { n_timesteps: 4, ..ScheduleConfig::default() };
    ModelConfig::new(network(), schedule, Prediction::Epsilon)
}

/// Everything that is done with a file that is named as a model.
fn read(path: &Path) -> kao::Result<()> {
    let contents = formats::peek(path)?;
    let config = ModelConfig::from_metadata(path, contents.format, &contents.metadata)?;
    let shapes: Vec<(&str, &[usize])> =
        contents.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let (report, notes) = model::compare(&config, &shapes);
    let _ = (report.to_string(), notes);
    let raw = LoadOptions { weights: CheckpointWeights::Raw, config: None };
    let _ = Model::load_with(path, &raw, &Device::Cpu);
    Model::load_with(path, &LoadOptions::default(), &Device::Cpu).map(|_| ())
}

/// As [`read`], of a file in which a network can be found only with a configuration of one's own.
fn read_or_load(path: &Path) -> kao::Result<()> {
    let options = LoadOptions { config: Some(model_config()), ..LoadOptions::default() };
    let with_own = Model::load_with(path, &options, &Device::Cpu);
    read(path).or(with_own.map(|_| ()))
}

fn unet_tensors() -> NamedTensors {
    UNet::init(&network(), 1).unwrap().to_tensors()
}

fn written(
    tensors: &NamedTensors,
    prefixes: &[&str],
    metadata: &[(&str, String)],
    store_as: StoreAs,
) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.safetensors");
    let names: Vec<(String, TensorView<'_>)> = prefixes
        .iter()
        .flat_map(|prefix| tensors.views().map(move |(name, t)| (format!("{prefix}{name}"), t)))
        .collect();
    let named = names.iter().map(|(name, tensor)| (name.as_str(), *tensor));
    let metadata: BTreeMap<String, String> =
        metadata.iter().map(|(key, text)| ((*key).to_owned(), text.clone())).collect();
    write_safetensors(&path, named, &metadata, store_as).unwrap();
    std::fs::read(path).unwrap()
}

/// Models and checkpoints of Kao, and a safetensors file of another program.
fn safetensors() -> Vec<Vec<u8>> {
    let config = model_config();
    let own = serde_json::to_string(&config).unwrap();
    let position = serde_json::json!({ "n_steps": 7, "config": {
        "model": config.unet, "schedule": config.schedule, "prediction": config.prediction,
    }});
    let position =
        [("kao.checkpoint", position.to_string()), ("kao.checkpoint_format", "2".into())];
    let tensors = unet_tensors();
    vec![
        written(&tensors, &[""], &[("kao", own.clone())], StoreAs::F32),
        written(&tensors, &[""], &[("kao", own)], StoreAs::F16),
        written(&tensors, &["weights.", "ema."], &position, StoreAs::F32),
        written(&tensors, &["module.", "ema."], &[("config", settings_json())], StoreAs::F32),
    ]
}

/// The settings of a training program, as text.
pub fn settings_json() -> String {
    let config = model_config();
    let mut settings = serde_json::to_value(&config.unet).unwrap();
    settings["beta_schedule"] = "linear".into();
    settings["beta_end"] = 0.02.into();
    settings["prediction_type"] = "epsilon".into();
    settings.to_string()
}

/// Changes a safetensors file: mostly its header, and then mostly with a length that fits.
fn changed_header(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if random.below(6) == 0 {
        return mutate::bytes(corpus, random);
    }
    let mut file = corpus[random.below(corpus.len())].clone();
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = file[8..8 + n].to_vec();
    let header = match random.below(3) {
        0 => mutate::bytes(&[header], random),
        _ => mutate::text(&[header], random),
    };
    if random.below(8) > 0 {
        file[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    }
    file.splice(8..8 + n, header);
    file
}

#[test]
fn damaged_safetensors_are_survived() {
    run(&mut Kind {
        name: "safetensors",
        corpus: safetensors(),
        default_mutations: 2000,
        mutate: &changed_header,
        read: &mut |path, _| read(path).into(),
    });
}

fn weights(prefix: &str) -> Py {
    let tensors = network().tensors().into_iter();
    state_dict(tensors.map(|(name, shape)| (format!("{prefix}{name}"), shape, 0.01)))
}

/// What training programs save.
fn roots() -> Vec<Py> {
    let settings = || {
        dict([
            ("image_size", Py::Tuple(vec![1.into(), 2.into(), 2.0.into()])),
            ("num_steps", 4.into()),
            ("ch", 4.into()),
            ("ch_mult", vec![1].into()),
            ("attn", vec![0].into()),
            ("num_res_blocks", 1.into()),
            ("norm_groups", 1.into()),
            ("dropout", 0.5.into()),
            ("beta_end", tensor(&[], vec![0.02])),
            ("kind", Py::Call(Box::new(Py::Global("m", "Kind")), vec!["cosine".into(), Py::None])),
        ])
    };
    let members = [("_parameters", weights("")), ("_buffers", dict([])), ("_modules", dict([]))];
    let class = Py::Call(Box::new(Py::Global("m", "Net")), vec![]);
    vec![
        dict([
            ("epoch", 3.into()),
            ("state_dict", weights("unet.")),
            ("hyper_parameters", settings()),
        ]),
        dict([
            ("model", weights("module.")),
            ("ema", weights("")),
            ("config", dict([("net", settings())])),
        ]),
        weights("_orig_mod."),
        Py::Object(Box::new(class), Box::new(dict(members))),
    ]
}

#[test]
fn damaged_archives_are_survived() {
    run(&mut Kind {
        name: "archives",
        corpus: roots().iter().map(saved).collect(),
        default_mutations: 2000,
        mutate: &mutate::bytes,
        read: &mut |path, _| read_or_load(path).into(),
    });
}

#[test]
fn damaged_pickles_are_survived() {
    let storages = vec![vec![0.01f32]; 2 * network().tensors().len() + 1];
    run(&mut Kind {
        name: "pickles",
        corpus: roots().iter().map(pickled).collect(),
        default_mutations: 2000,
        mutate: &mutate::bytes,
        read: &mut |path, pickle| {
            std::fs::write(path, archive(pickle, &storages)).unwrap();
            read_or_load(path).into()
        },
    });
}

/// Reads a file of noise as images, as the program does before it samples from them.
fn read_noise(path: &Path) -> kao::Result<()> {
    let tensors = formats::read(path)?.tensors;
    for name in ["x_T", "z"] {
        let Some(tensor) = tensors.get(name) else { continue };
        if let [.., c, h, w] = *tensor.shape() {
            let n = tensor.data().len().checked_div(c.saturating_mul(h).saturating_mul(w));
            let _ = Images::from_vec([n.unwrap_or(0), c, h, w], tensor.data().to_vec());
        }
    }
    Ok(())
}

#[test]
fn damaged_noise_is_survived() {
    let view =
        |shape: &'static [usize]| TensorView { shape, data: &[0.25; 32][..shape.iter().product()] };
    let noise = |tensors: &[(&str, TensorView<'_>)]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise.safetensors");
        write_safetensors(&path, tensors.iter().copied(), &BTreeMap::new(), StoreAs::F32).unwrap();
        std::fs::read(path).unwrap()
    };
    run(&mut Kind {
        name: "noise",
        corpus: vec![
            noise(&[("x_T", view(&[2, 1, 2, 2]))]),
            noise(&[("x_T", view(&[2, 1, 2, 2])), ("z", view(&[3, 2, 1, 2, 2]))]),
        ],
        default_mutations: 2000,
        mutate: &changed_header,
        read: &mut |path, _| match read_noise(path) {
            Ok(()) => Outcome::Read,
            Err(error) => Outcome::Refused(error.to_string()),
        },
    });
}
