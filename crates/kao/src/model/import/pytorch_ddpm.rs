//! Checkpoints of pytorch-ddpm (w86763777), from which the original's network comes: the same layers,
//! some under other names, with SiLU in place of hardswish.
//!
//! Its table of the time embedding has a sine and its cosine side by side, where Kao's has all sines
//! first, and frequencies of `freq_shift` 0. The layer that reads the table is turned over with it, so
//! that the network can be gone on from. A checkpoint has no settings: `--config` says them.

use crate::error::{Error, Result};
use crate::formats::{HostTensor, NamedTensors};
use crate::unet::UNetConfig;
use std::path::Path;

/// A tensor that every such network has, and none of the original's.
const TELLING: &str = "time_embedding.timembedding.1.weight";

/// The table, and the weight `[4·ch, ch]` of the layer that reads it.
const TABLE: &str = "time_embedding.time_embedding.0.weight";
const READER: &str = "time_embedding.time_embedding.1.weight";

/// Whether tensors of these names are of such a network, under whatever prefix.
pub fn is_one<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| {
        let prefix = name.strip_suffix(TELLING);
        prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
    })
}

/// What the original calls a tensor.
pub fn original_name(name: &str) -> String {
    let mut name = name.to_owned();
    for (there, here) in [
        ("time_embedding.timembedding.", "time_embedding.time_embedding."),
        ("middleblocks.", "middle_blocks."),
        (".main.", ".net."),
        (".attn.group_norm.", ".attn.norm."),
    ] {
        name = name.replace(there, here);
    }
    name
}

/// The tensors, which have the original's names, with all sines before the cosines.
///
/// # Errors
/// When the configuration has other frequencies than such a network.
pub fn to_kao(path: &Path, config: &UNetConfig, mut tensors: NamedTensors) -> Result<NamedTensors> {
    if config.freq_shift != 0.0 || config.flip_sin_to_cos {
        let problem = "a checkpoint of pytorch-ddpm, whose time embedding has freq_shift 0";
        return Err(Error::malformed(path, problem)
            .with_hint("write freq_shift = 0.0 and activation = \"silu\" into its [model]"));
    }
    for name in [TABLE, READER] {
        let Some(tensor) = tensors.get(name) else { continue };
        let shape = tensor.shape().to_vec();
        let Some(&width) = shape.last().filter(|&&width| width > 0 && shape.len() == 2) else {
            continue;
        };
        let rows = tensor.data().chunks_exact(width);
        let turned = rows.flat_map(|row| {
            let [sines, cosines] = [0, 1].map(|first| row.iter().skip(first).step_by(2));
            sines.chain(cosines).copied()
        });
        let turned = HostTensor::new(shape, turned.collect())?;
        tensors.insert(name, turned);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unet::{Activation, UNet};

    /// The tensors of `unet` as such a checkpoint has them.
    fn there(unet: &UNet) -> NamedTensors {
        let name = |name: &str| {
            let name =
                name.replace("time_embedding.time_embedding.", "time_embedding.timembedding.");
            let name = name.replace("middle_blocks.", "middleblocks.").replace(".net.", ".main.");
            name.replace(".attn.norm.", ".attn.group_norm.")
        };
        let tensors = unet.to_tensors().into_iter().map(|(own, tensor)| {
            let tensor = match own == TABLE || own == READER {
                false => tensor,
                true => {
                    let width = tensor.shape()[1];
                    let rows = tensor.data().chunks(width);
                    let mixed = rows.flat_map(|row| {
                        let (sines, cosines) = row.split_at(width / 2);
                        sines.iter().zip(cosines).flat_map(|(s, c)| [*s, *c])
                    });
                    HostTensor::new(tensor.shape().to_vec(), mixed.collect()).unwrap()
                }
            };
            (name(&own), tensor)
        });
        tensors.collect()
    }

    #[test]
    fn the_same_network_comes_back() {
        let config = UNetConfig {
            image_size: [3, 8, 8],
            num_steps: 10,
            ch: 32,
            ch_mult: vec![1, 2],
            attn: vec![1],
            num_res_blocks: 1,
            activation: Activation::Silu,
            freq_shift: 0.0,
            ..UNetConfig::default()
        };
        let unet = UNet::init(&config, 1).unwrap();
        let tensors = there(&unet);
        assert!(is_one(tensors.names()) && !is_one(unet.to_tensors().names()));
        let renamed = tensors.renamed(|name| Some(original_name(name)));
        let path = Path::new("ckpt.pt");
        let found = to_kao(path, &config, renamed.clone()).unwrap();
        assert_eq!(found, unet.to_tensors());
        let error = to_kao(path, &UNetConfig::default(), renamed).unwrap_err();
        assert!(error.hint().unwrap().contains("freq_shift = 0.0"), "{error:?}");
    }
}
