//! Checkpoints as other programs save them: whatever stands before the names, however often the
//! weights are there, wherever the settings are, they are the same model.

use kao::device::DeviceKind;
use kao::model::{CheckpointWeights, LoadOptions, Model, ModelConfig};
use kao::schedule::{ScheduleConfig, ScheduleKind};
use kao::unet::{Activation, UNetConfig};
use kao::{Result, denoiser::Prediction};
use support::checkpoints::{both, settings, small, weights};
use support::torch::{Py, dict, saved, state_dict};

mod support;

fn checkpoint(state: Py) -> Py {
    dict([("epoch", 3.into()), ("state_dict", state), ("hyper_parameters", settings(vec![]))])
}

fn load(root: &Py, options: &LoadOptions) -> Result<Model> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), saved(root)).unwrap();
    Model::load_with(file.path(), options, &DeviceKind::Cpu.open().unwrap())
}

fn fingerprint(root: &Py, which: CheckpointWeights) -> String {
    load(root, &LoadOptions { weights: which, config: None }).unwrap().fingerprint()
}

/// The error and hint of a file that is refused.
fn refusal(root: &Py, options: &LoadOptions) -> (String, String) {
    let error = load(root, options).unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default().to_owned())
}

#[test]
fn any_prefix_comes_off() {
    let plain = load(&checkpoint(weights("", 0.1)), &LoadOptions::default()).unwrap();
    assert_eq!((&plain.config.unet, &plain.notes), (&small(), &Vec::new()));
    for prefix in [
        "unet.",
        "module.",
        "_orig_mod.",
        "unet._orig_mod.",
        "_forward_module.unet.",
        "unet.module.",
        "model.",
        "some.other.name.",
    ] {
        let model = load(&checkpoint(weights(prefix, 0.1)), &LoadOptions::default()).unwrap();
        assert_eq!(model.fingerprint(), plain.fingerprint(), "{prefix}");
        assert_eq!(model.notes, [""; 0], "{prefix}");
    }
    // What else is under the prefix is left out, and named.
    let classes = state_dict([("unet.classes.weight".to_owned(), vec![10, 32], 0.5)]);
    let root = checkpoint(both(weights("unet.", 0.1), classes));
    let model = load(&root, &LoadOptions::default()).unwrap();
    assert_eq!(model.fingerprint(), plain.fingerprint());
    assert_eq!(
        model.notes,
        ["1 tensors are not of this network and are left out: `classes.weight` …"]
    );
}

#[test]
fn averaged_weights_are_taken_unless_the_others_are_asked_for() {
    let raw = fingerprint(&checkpoint(weights("", 0.1)), CheckpointWeights::Average);
    let average = fingerprint(&checkpoint(weights("", 0.2)), CheckpointWeights::Average);
    assert_ne!(raw, average);
    let mut roots = Vec::new();
    for name in ["ema_unet.", "unet_ema.", "ema.", "ema.module."] {
        roots.push(checkpoint(both(weights("unet.", 0.1), weights(name, 0.2))));
        roots.push(checkpoint(both(weights(name, 0.2), weights("", 0.1))));
    }
    for (one, other) in [("model", "ema"), ("state_dict", "model_ema"), ("net", "ema_net")] {
        roots.push(dict([
            (one, weights("", 0.1)),
            ("config", settings(vec![])),
            (other, weights("module.", 0.2)),
        ]));
    }
    // Lightning's averaging callback puts the average in the place of the weights.
    roots.push(dict([
        ("state_dict", weights("unet.", 0.2)),
        ("current_model_state", weights("unet.", 0.1)),
        ("hyper_parameters", settings(vec![])),
    ]));
    for (index, root) in roots.into_iter().enumerate() {
        assert_eq!(fingerprint(&root, CheckpointWeights::Average), average, "root {index}");
        assert_eq!(fingerprint(&root, CheckpointWeights::Raw), raw, "root {index}");
        let model = load(&root, &LoadOptions::default()).unwrap();
        let [choice] = &model.notes[..] else { panic!("{:?}", model.notes) };
        assert!(choice.starts_with("the averaged weights (`"), "{choice}");
        assert!(choice.contains("`raw_weights`"), "{choice}");
    }
    let raw = LoadOptions { weights: CheckpointWeights::Raw, config: None };
    let (error, _) = refusal(&checkpoint(weights("", 0.1)), &raw);
    assert!(error.contains("holds one set of weights"), "{error}");
}

#[test]
fn a_state_dictionary_becomes_a_model_with_a_configuration() {
    let bare = weights("module.", 0.1);
    let (error, hint) = refusal(&bare, &LoadOptions::default());
    assert!(
        error.ends_with("a PyTorch state dictionary without the configuration of a model in it")
    );
    assert!(hint.contains("kao convert --config FILE IN OUT.safetensors"), "{hint}");
    let words = "ch = 32, ch_mult = [1], attn = [], num_res_blocks = 1, num_steps = 20";
    assert!(hint.ends_with(&format!("the shapes fit {words}")), "{hint}");
    assert!(hint.chars().count() < 480, "{hint}");

    let schedule = ScheduleConfig { n_timesteps: 20, ..ScheduleConfig::default() };
    let unet = UNetConfig { activation: Activation::Silu, ..small() };
    let config = ModelConfig::new(unet, schedule, Prediction::V);
    let options = LoadOptions { config: Some(config.clone()), ..LoadOptions::default() };
    let model = load(&bare, &options).unwrap();
    assert_eq!(model.config, config);
    // It goes before what a file says.
    assert_eq!(load(&checkpoint(weights("unet.", 0.1)), &options).unwrap().config, config);
    // And has to fit.
    let wider = ModelConfig { unet: UNetConfig { ch: 64, ..small() }, ..config };
    let options = LoadOptions { config: Some(wider), ..LoadOptions::default() };
    let (error, hint) = refusal(&bare, &options);
    assert!(error.contains("has shape [128, 32], expected [256, 64]"), "{error}");
    assert!(hint.contains("another configuration"), "{hint}");
}

#[test]
fn what_settings_say_of_the_schedule_is_honoured() {
    let with = |entries: Vec<(&str, Py)>| {
        let root = dict([
            ("state_dict", weights("unet.", 0.1)),
            ("hyper_parameters", dict([("cfg", settings(entries))])),
        ]);
        load(&root, &LoadOptions::default())
    };
    let model = with(vec![
        ("beta_schedule", "cosine".into()),
        ("beta_end", 0.012.into()),
        ("prediction_type", "v_prediction".into()),
    ])
    .unwrap();
    assert_eq!(model.config.schedule.kind, ScheduleKind::SquaredCosine);
    assert_eq!(model.config.prediction, Prediction::V);
    let error = with(vec![("beta_schedule", "sigmoid".into())]).unwrap_err();
    assert!(error.to_string().contains("`hyper_parameters.cfg.beta_schedule` is \"sigmoid\""));
}

#[test]
fn a_table_of_timesteps_is_not_computed_at_any_size() {
    let mut config = UNetConfig { num_steps: 1_000_000, ch: 96, ..small() };
    config.norm_groups = 32;
    let mut tensors = config.tensors();
    tensors.pop();
    let state = state_dict(tensors.into_iter().map(|(name, shape)| (name, shape, 0.1)));
    let schedule = ScheduleConfig { n_timesteps: 1_000_000, ..ScheduleConfig::default() };
    let config = ModelConfig::new(config, schedule, Prediction::Epsilon);
    let options = LoadOptions { config: Some(config), ..LoadOptions::default() };
    let (error, _) = refusal(&state, &options);
    assert!(error.contains("no table of its 1000000 timesteps"), "{error}");
}
