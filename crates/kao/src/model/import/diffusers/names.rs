//! The tensors of a `UNet2DModel`: the same layers, under other names.
//!
//! Attention's projections are matrices there and 1×1 convolutions here, which is the same values
//! under another shape. Classes have one table of vectors, where tags here have a matrix the other
//! way round and a bias besides.

use crate::error::Result;
use crate::formats::{HostTensor, NamedTensors};
use crate::unet::UNetConfig;
use crate::unet::layers::TAG_EMBEDDING;

/// The table of a vector for each class.
pub const CLASSES: &str = "class_embedding.weight";

/// The table of sines and cosines, which is computed there.
const TIME_TABLE: &str = "time_embedding.time_embedding.0.weight";

/// Tensors that every such network has, and none of the original's kind.
const TELLING: [&str; 4] =
    ["conv_in.weight", "conv_in.bias", "conv_norm_out.weight", "time_embedding.linear_1.weight"];

/// Whether tensors of these names are those of a `UNet2DModel`, under whatever prefix.
pub fn is_of_diffusers<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| {
        let prefix = TELLING.iter().find_map(|telling| name.strip_suffix(telling));
        prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    })
}

/// The names and shapes of the tensors of such a network.
pub fn tensors(config: &UNetConfig) -> Vec<(String, Vec<usize>)> {
    let named = |(name, shape): (String, Vec<usize>)| {
        let name = name_there(config, &name)?;
        let shape = match (is_projection(&name), shape.as_slice()) {
            (_, &[width, n_classes]) if name == CLASSES => vec![n_classes, width],
            (true, &[c_out, c_in, 1, 1]) => vec![c_out, c_in],
            _ => shape,
        };
        Some((name, shape))
    };
    config.tensors().into_iter().filter_map(named).collect()
}

/// `tensors` of such a network under Kao's names, in the shapes that they have here. Others keep
/// their names.
///
/// # Errors
/// None in practice: values are as many in every shape.
pub fn to_kao(config: &UNetConfig, tensors: NamedTensors) -> Result<NamedTensors> {
    let mut names = std::collections::HashMap::new();
    for (name, shape) in config.tensors() {
        if let Some(there) = name_there(config, &name) {
            names.insert(there, (name, shape));
        }
    }
    let mut renamed = NamedTensors::new();
    for (name, tensor) in tensors {
        let Some((own, shape)) = names.remove(&name) else {
            renamed.insert(name, tensor);
            continue;
        };
        if name == CLASSES {
            let [width, n_classes] = [shape[0], shape[1]];
            let table = tensor.data();
            let values =
                (0..width).flat_map(|at| (0..n_classes).map(move |k| table[k * width + at]));
            renamed.insert(own, HostTensor::new(shape, values.collect())?);
            let bias = HostTensor::new(vec![width], vec![0.0; width])?;
            renamed.insert(format!("{TAG_EMBEDDING}.bias"), bias);
        } else {
            renamed.insert(own, HostTensor::new(shape, tensor.into_data())?);
        }
    }
    let shape = vec![config.num_steps, config.first_width()];
    renamed.insert(TIME_TABLE.to_owned(), HostTensor::new(shape, time_table(config))?);
    Ok(renamed)
}

/// The table of sines and cosines as diffusers computes it, in single precision: at high timesteps
/// the phases are rounded to some 10⁻⁵.
fn time_table(config: &UNetConfig) -> Vec<f32> {
    let half = config.first_width() / 2;
    let last = (half as f64 - config.freq_shift) as f32;
    let logarithm = -(10_000f64.ln()) as f32;
    let exponents = (0..half).map(|k| logarithm * k as f32 / last);
    let frequencies: Vec<f32> =
        exponents.map(|exponent| libm::exp(f64::from(exponent)) as f32).collect();
    let mut table = Vec::with_capacity(config.num_steps * 2 * half);
    for t in 0..config.num_steps {
        let phases = || frequencies.iter().map(|&frequency| f64::from(t as f32 * frequency));
        let sines = phases().map(|phase| libm::sin(phase) as f32);
        let cosines = phases().map(|phase| libm::cos(phase) as f32);
        match config.flip_sin_to_cos {
            false => table.extend(sines.chain(cosines)),
            true => table.extend(cosines.chain(sines)),
        }
    }
    table
}

/// Earlier versions called the projections of attention so.
pub fn current_name(name: &str) -> String {
    let mut name = name.to_owned();
    for (old, new) in [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ] {
        if name.contains(".attentions.") && name.contains(old) {
            name = name.replace(old, new);
        }
    }
    name
}

fn is_projection(name: &str) -> bool {
    [".to_q.", ".to_k.", ".to_v.", ".to_out.0."].iter().any(|part| name.contains(part))
}

/// What diffusers calls a tensor of Kao's; nothing where it has none.
pub fn name_there(config: &UNetConfig, name: &str) -> Option<String> {
    if name == TIME_TABLE {
        return None;
    }
    if let Some(part) = name.strip_prefix(TAG_EMBEDDING) {
        return (part == ".weight").then(|| CLASSES.to_owned());
    }
    for (own, there) in [
        ("time_embedding.time_embedding.1.", "time_embedding.linear_1."),
        ("time_embedding.time_embedding.3.", "time_embedding.linear_2."),
        ("head.", "conv_in."),
        ("tail.0.", "conv_norm_out."),
        ("tail.2.", "conv_out."),
    ] {
        if let Some(rest) = name.strip_prefix(own) {
            return Some(format!("{there}{rest}"));
        }
    }
    let n_blocks = config.num_res_blocks;
    for (own, there, n_blocks, resampling) in [
        ("downblocks.", "down_blocks", n_blocks, "downsamplers.0.conv"),
        ("upblocks.", "up_blocks", n_blocks + 1, "upsamplers.0.conv"),
    ] {
        let Some(rest) = name.strip_prefix(own) else { continue };
        let (number, rest) = rest.split_once('.')?;
        let number: usize = number.parse().ok()?;
        let (level, block) = (number / (n_blocks + 1), number % (n_blocks + 1));
        let level = format!("{there}.{level}");
        return match rest.strip_prefix("net.") {
            Some(rest) => Some(format!("{level}.{resampling}.{rest}")),
            None => within_block(&level, block, rest),
        };
    }
    let (block, rest) = name.strip_prefix("middle_blocks.")?.split_once('.')?;
    within_block("mid_block", block.parse().ok()?, rest)
}

fn within_block(level: &str, block: usize, rest: &str) -> Option<String> {
    const LAYERS: [(&str, &str); 6] = [
        ("block1.0.", "norm1."),
        ("block1.2.", "conv1."),
        ("temb_proj.1.", "time_emb_proj."),
        ("block2.0.", "norm2."),
        ("block2.3.", "conv2."),
        ("shortcut.", "conv_shortcut."),
    ];
    const ATTENTION: [(&str, &str); 5] = [
        ("attn.norm.", "group_norm."),
        ("attn.proj_q.", "to_q."),
        ("attn.proj_k.", "to_k."),
        ("attn.proj_v.", "to_v."),
        ("attn.proj.", "to_out.0."),
    ];
    for (parts, list) in [("resnets", &LAYERS[..]), ("attentions", &ATTENTION[..])] {
        for (own, there) in list {
            if let Some(rest) = rest.strip_prefix(own) {
                return Some(format!("{level}.{parts}.{block}.{there}{rest}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_tensor_has_one_name() {
        let config = UNetConfig { n_tags: 3, attn: vec![0, 2], ..UNetConfig::default() };
        let names: HashSet<String> = tensors(&config).into_iter().map(|(name, _)| name).collect();
        // All but the time table and the bias of the tags.
        assert_eq!(names.len(), config.tensors().len() - 2);
        for name in [
            "conv_in.weight",
            "time_embedding.linear_2.bias",
            "class_embedding.weight",
            "down_blocks.0.resnets.1.conv1.weight",
            "down_blocks.0.attentions.1.to_q.weight",
            "down_blocks.1.downsamplers.0.conv.bias",
            "mid_block.resnets.1.norm2.weight",
            "mid_block.attentions.0.to_out.0.bias",
            "up_blocks.0.resnets.2.conv_shortcut.weight",
            "up_blocks.1.attentions.0.group_norm.weight",
            "up_blocks.2.upsamplers.0.conv.weight",
            "conv_norm_out.bias",
            "conv_out.weight",
        ] {
            assert!(names.contains(name), "{name}");
        }
        assert_eq!(
            current_name("mid_block.attentions.0.proj_attn.bias"),
            "mid_block.attentions.0.to_out.0.bias"
        );
    }

    #[test]
    fn values_come_over() {
        let config = UNetConfig {
            image_size: [3, 8, 8],
            num_steps: 4,
            ch: 32,
            ch_mult: vec![1],
            n_tags: 2,
            ..UNetConfig::default()
        };
        let mut there = NamedTensors::new();
        for (name, shape) in tensors(&config) {
            let values = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
            there.insert(name, HostTensor::new(shape, values).unwrap());
        }
        there.insert("other", HostTensor::new(vec![1], vec![7.0]).unwrap());
        let here = to_kao(&config, there).unwrap();
        for (name, shape) in config.tensors() {
            assert_eq!(here.get(&name).unwrap().shape(), shape, "{name}");
        }
        assert!(here.get("other").is_some());
        let tags = here.get("tag_embedding.weight").unwrap().data();
        assert_eq!(tags[..4], [0.0, 128.0, 1.0, 129.0]);
        assert!(here.get("tag_embedding.bias").unwrap().data().iter().all(|&v| v == 0.0));
    }
}
