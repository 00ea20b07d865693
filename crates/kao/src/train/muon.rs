//! Which parameters [Muon](kao_kernels::muon_step) updates.
//!
//! Those of the layers within the network. The first and the last layers, embeddings, biases and
//! normalizations stay with Adam, whose moments suit values that are not the entries of a map from
//! features to features.

use crate::unet::ParameterSpec;

/// The shape of the matrix that a parameter is, fan-in first, if Muon updates it.
pub fn matrix_of(spec: &ParameterSpec) -> Option<[usize; 2]> {
    const OTHERS: [&str; 5] =
        ["head.", "tail.", "detail.", "tag_embedding.", "time_embedding.time_embedding.0."];
    let (columns, fan_in) = spec.shape.split_last()?;
    let is_hidden = !OTHERS.iter().any(|other| spec.name.starts_with(other));
    (!fan_in.is_empty() && is_hidden).then(|| [fan_in.iter().product(), *columns])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unet::UNetConfig;

    #[test]
    fn matrices_within_the_network_are_the_ones() {
        let config =
            UNetConfig { patch_size: 2, detail_channels: 8, n_tags: 3, ..Default::default() };
        let parameters = config.parameters();
        let of = |name: &str| {
            matrix_of(parameters.iter().find(|spec| spec.name == name).unwrap_or_else(|| {
                panic!("{name}: {:?}", parameters.iter().map(|s| &s.name).collect::<Vec<_>>())
            }))
        };
        assert_eq!(of("downblocks.0.block1.2.weight"), Some([9 * 64, 64]));
        assert_eq!(of("time_embedding.time_embedding.1.weight"), Some([64, 256]));
        assert_eq!(of("downblocks.0.temb_proj.1.weight"), Some([256, 64]));
        for other in ["head.weight", "tail.2.weight", "detail.0.weight", "tag_embedding.weight"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(of("downblocks.0.block1.2.bias"), None);
        assert_eq!(of("downblocks.0.block1.0.weight"), None);
    }
}
