//! A small network as other programs would have saved it.

use super::torch::{Py, dict, state_dict};
use kao::unet::UNetConfig;

/// The network: 8×8 pixels, one level, 20 timesteps.
pub fn small() -> UNetConfig {
    UNetConfig {
        image_size: [3, 8, 8],
        num_steps: 20,
        ch: 32,
        ch_mult: vec![1],
        attn: vec![],
        num_res_blocks: 1,
        dropout: 0.0,
        ..UNetConfig::default()
    }
}

/// A file with its configuration.
pub const CONFIG: &str = "\
prediction = \"v\"

[model]
image_size = [3, 8, 8]
num_steps = 20
ch = 32
ch_mult = [1]
attn = []
num_res_blocks = 1

[schedule]
n_timesteps = 20
";

/// Its state dictionary, `prefix` before the names; the values of its tensors begin at `value`.
pub fn weights(prefix: &str, value: f32) -> Py {
    let tensors = small().tensors().into_iter().enumerate();
    state_dict(tensors.map(|(index, (name, shape))| {
        (format!("{prefix}{name}"), shape, value + index as f32 * 1e-3)
    }))
}

/// The settings that a training program would have saved with it, and `others`.
pub fn settings(others: Vec<(&str, Py)>) -> Py {
    let own = [
        ("image_size", Py::Tuple(vec![3.into(), 8.into(), 8.into()])),
        ("num_steps", 20.into()),
        ("ch", 32.into()),
        ("ch_mult", vec![1].into()),
        ("attn", vec![].into()),
        ("num_res_blocks", 1.into()),
        ("lr", 1e-4.into()),
    ];
    dict(own.into_iter().chain(others))
}

/// Two dictionaries in one.
pub fn both(one: Py, other: Py) -> Py {
    let (Py::Dict(mut entries), Py::Dict(others)) = (one, other) else { unreachable!() };
    entries.extend(others);
    Py::Dict(entries)
}
