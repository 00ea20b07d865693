//! What the names and shapes of tensors tell about the network that they are of.
//!
//! A state dictionary has no configuration. Its shapes do not tell everything: not the size of the
//! images, the non-linearity, the groups of the normalization, nor anything about noise. So a
//! network is never built from them alone; they only help a user to write the configuration.

use crate::unet::UNetConfig;
use std::collections::HashMap;

/// A tensor that every network has, of the shape `[4·ch, ch]`.
const ANCHOR: &str = "time_embedding.time_embedding.1.weight";
const TIME_TABLE: &str = "time_embedding.time_embedding.0.weight";

/// More blocks than any network has.
const MAX_BLOCKS: usize = 10_000;

/// The entries of a configuration that all of `tensors` (names and shapes) agree with, as TOML in
/// one line: widths, levels, attention.
pub fn configuration_in_words(tensors: &[(&str, &[usize])]) -> Option<String> {
    let prefix = tensors.iter().find_map(|(name, _)| name.strip_suffix(ANCHOR))?;
    let shapes: HashMap<&str, &[usize]> = tensors
        .iter()
        .filter_map(|&(name, shape)| Some((name.strip_prefix(prefix)?, shape)))
        .collect();
    let config = architecture(&shapes)?;
    // Only where it explains every tensor that such a network has. The table may be computed.
    config.validate().ok()?;
    let fits = |(name, shape): &(String, Vec<usize>)| match shapes.get(name.as_str()) {
        Some(found) => found == shape,
        None => name == TIME_TABLE,
    };
    if !config.tensors().iter().all(fits) {
        return None;
    }
    let UNetConfig { ch, ch_mult, attn, num_res_blocks, num_steps, patch_size, .. } = config;
    let mut words = format!(
        "ch = {ch}, ch_mult = {ch_mult:?}, attn = {attn:?}, num_res_blocks = {num_res_blocks}"
    );
    if shapes.contains_key(TIME_TABLE) {
        words += &format!(", num_steps = {num_steps}");
    }
    if patch_size != 1 {
        words += &format!(", patch_size = {patch_size}");
    }
    Some(words)
}

fn architecture(shapes: &HashMap<&str, &[usize]>) -> Option<UNetConfig> {
    let &[_, ch] = *shapes.get(ANCHOR)? else { return None };
    let &[_, patched_channels, 3, 3] = *shapes.get("head.weight")? else { return None };
    let mut config = UNetConfig { ch, ch_mult: Vec::new(), attn: Vec::new(), ..Default::default() };
    if let Some(&[num_steps, _]) = shapes.get(TIME_TABLE).copied() {
        config.num_steps = num_steps;
    }
    let (channels, patch_size) = [1, 3]
        .iter()
        .flat_map(|channels| (1..=16).map(move |patch| (*channels, patch)))
        .find(|(channels, patch)| channels * patch * patch == patched_channels)?;
    let mut n_blocks = 0;
    for index in 0..MAX_BLOCKS {
        let level = config.ch_mult.len();
        let tensor = |name: &str| shapes.get(format!("downblocks.{index}.{name}").as_str());
        if let Some(&&[c_out, ..]) = tensor("block1.2.weight") {
            n_blocks += 1;
            if n_blocks == 1 {
                config.ch_mult.push(c_out.checked_div(ch)?);
                if tensor("attn.norm.weight").is_some() {
                    config.attn.push(level);
                }
            }
            config.num_res_blocks = n_blocks;
        } else if tensor("net.weight").is_some() {
            n_blocks = 0;
        } else {
            break;
        }
    }
    // The size of the images is not in the shapes: the smallest that can be.
    let side = patch_size << config.ch_mult.len().clamp(1, 16);
    Some(UNetConfig { image_size: [channels, side, side], patch_size, norm_groups: 1, ..config })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(config: &UNetConfig, prefix: &str, with_table: bool) -> Option<String> {
        let mut tensors = config.tensors();
        if !with_table {
            tensors.pop();
        }
        for (name, _) in &mut tensors {
            *name = format!("{prefix}{name}");
        }
        let list: Vec<_> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        configuration_in_words(&list)
    }

    #[test]
    fn the_originals_and_other_networks_are_recognised() {
        let original = UNetConfig::default();
        for prefix in ["", "module.unet."] {
            assert_eq!(
                words(&original, prefix, true).unwrap(),
                "ch = 64, ch_mult = [1, 2, 4, 4], attn = [2], num_res_blocks = 2, num_steps = 1000"
            );
        }
        let small = UNetConfig {
            patch_size: 2,
            ch: 24,
            ch_mult: vec![2, 1, 3],
            attn: vec![0, 2],
            num_res_blocks: 1,
            norm_groups: 8,
            ..original
        };
        assert_eq!(
            words(&small, "", false).unwrap(),
            "ch = 24, ch_mult = [2, 1, 3], attn = [0, 2], num_res_blocks = 1, patch_size = 2"
        );
    }

    #[test]
    fn other_tensors_are_not() {
        assert_eq!(configuration_in_words(&[]), None);
        assert_eq!(configuration_in_words(&[(ANCHOR, &[0, 0]), ("head.weight", &[0; 4])]), None);
        let mut tensors = UNetConfig::default().tensors();
        for index in 0..tensors.len() - 1 {
            let (name, shape) = tensors[index].clone();
            if name == "tail.2.weight" {
                tensors[index].1 = vec![7];
                let list: Vec<_> =
                    tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
                assert_eq!(configuration_in_words(&list), None);
                tensors[index].1 = shape;
            }
        }
    }
}
