//! Configurations: `config.toml` and the file of `kao convert --config`, which is one, and the JSON
//! that models and training programs keep in their files.

use crate::fuzz::{Kind, run};
use crate::support::mutate;
use crate::support::torch::{saved, state_dict};
use crate::weights::{model_config, network, settings_json};
use kao::device::Device;
use kao::formats::Format;
use kao::model::{LoadOptions, Model, ModelConfig};
use kao::train::{Preset, TrainConfig};
use std::path::Path;

const SHORT: &str = "\
# As a user writes it.
prediction = \"v\"
steps = 100
batch_size = 4
sample_steps = 2

[model]
image_size = [1, 2, 2]
num_steps = 4
ch = 4
ch_mult = [1]
attn = [0]
num_res_blocks = 1
norm_groups = 1

[schedule]
n_timesteps = 4
";

/// Everything that is computed from a configuration before a run begins.
fn use_config(path: &Path, weights: &Path) -> kao::Result<()> {
    let config = TrainConfig::read(path)?;
    // What is written is read as the same.
    let copy = path.with_extension("copy");
    std::fs::write(&copy, config.to_toml()).unwrap();
    assert_eq!(TrainConfig::read(&copy).unwrap(), config);
    for n in [0, 1, config.steps, u64::MAX] {
        let _ = (config.learning_rate_at(n), config.ema_decay_at(n));
    }
    let _ = config.estimated_bytes(1000);
    let _ = config.differences(&Preset::Tiny.config());
    let unet = &config.model;
    let _ = (unet.parameter_count(), unet.forward_flop(), unet.cpu_forward_flop());
    let options = LoadOptions { config: Some(config.model_config()), ..LoadOptions::default() };
    let _ = Model::load_with(weights, &options, &Device::Cpu);
    Ok(())
}

#[test]
fn damaged_configurations_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.pth");
    let tensors = network().tensors().into_iter();
    let root = state_dict(tensors.map(|(name, shape)| (name, shape, 0.01)));
    std::fs::write(&weights, saved(&root)).unwrap();
    let mut corpus: Vec<Vec<u8>> =
        Preset::ALL.iter().map(|preset| preset.config().to_toml().into_bytes()).collect();
    corpus.extend(std::iter::repeat_n(SHORT.as_bytes().to_vec(), 3));
    run(&mut Kind {
        name: "config.toml",
        corpus,
        default_mutations: 2000,
        mutate: &mutate::text,
        read: &mut |path, _| use_config(path, &weights).into(),
    });
}

#[test]
fn damaged_settings_are_survived() {
    let own = serde_json::to_string(&model_config()).unwrap();
    let settings = settings_json();
    let nested = format!("{{\"cfg\":{{\"model\":{settings},\"lr\":1e-4}},\"num_steps\":4}}");
    run(&mut Kind {
        name: "settings",
        corpus: [own, settings, nested].map(String::into_bytes).into(),
        default_mutations: 2000,
        mutate: &mutate::text,
        read: &mut |path, text| {
            let text = String::from_utf8_lossy(text);
            // Where the text may be: Kao's own, another program's, and settings from a pickle.
            let value = serde_json::from_str(&text).unwrap_or_default();
            let outcomes = [
                ("kao", text.clone().into()),
                ("config", text.clone().into()),
                ("hyper_parameters", value),
            ]
            .map(|(key, value): (&str, serde_json::Value)| {
                let metadata = [(key.to_owned(), value)].into_iter().collect();
                let config = ModelConfig::from_metadata(path, Format::Safetensors, &metadata);
                config.map(|config| {
                    let unet = &config.unet;
                    (unet.parameter_count(), unet.forward_flop(), unet.tensors().len())
                })
            });
            let [own, other, pickled] = outcomes;
            own.or(other).or(pickled).into()
        },
    });
}
