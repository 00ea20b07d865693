//! The configuration of a `UNet2DModel`.

use super::entries::Entries;
use crate::error::{Error, Result, shortened};
use crate::unet::{Activation, Middle, TimeScaleShift, UNetConfig};
use serde_json::json;

/// Every argument of the constructor.
const KNOWN: [&str; 28] = [
    "sample_size",
    "in_channels",
    "out_channels",
    "center_input_sample",
    "time_embedding_type",
    "time_embedding_dim",
    "freq_shift",
    "flip_sin_to_cos",
    "down_block_types",
    "mid_block_type",
    "up_block_types",
    "block_out_channels",
    "layers_per_block",
    "mid_block_scale_factor",
    "downsample_padding",
    "downsample_type",
    "upsample_type",
    "dropout",
    "act_fn",
    "attention_head_dim",
    "norm_num_groups",
    "attn_norm_num_groups",
    "norm_eps",
    "resnet_time_scale_shift",
    "add_attention",
    "class_embed_type",
    "num_class_embeds",
    "num_train_timesteps",
];

/// The architecture that the entries describe, for a schedule of `n_timesteps`.
pub fn read(entries: &Entries<'_>, n_timesteps: usize) -> Result<UNetConfig> {
    entries.only("_class_name", &[json!("UNet2DModel")], "Kao reads UNet2DModel")?;
    entries.refuse_unknown(&KNOWN)?;
    refuse_what_is_not_built(entries)?;

    let widths = entries.wholes("block_out_channels")?.unwrap_or(vec![224, 448, 672, 896]);
    let (ch, ch_mult, first_width) = levels(entries, &widths)?;
    let [attn, attn_up] = attention(entries, widths.len())?;
    let config = UNetConfig {
        image_size: image_size(entries)?,
        num_steps: n_timesteps,
        ch,
        ch_mult,
        first_width,
        attn_up: (attn_up != attn).then_some(attn_up),
        attn,
        middle: middle(entries)?,
        attention_head_dim: match entries.is_null("attention_head_dim") {
            true => 0,
            false => entries.whole("attention_head_dim")?.unwrap_or(8),
        },
        num_res_blocks: entries.whole("layers_per_block")?.unwrap_or(2),
        dropout: entries.number("dropout")?.unwrap_or(0.0),
        activation: Activation::Silu,
        downsample_padding: entries.whole("downsample_padding")?.unwrap_or(1),
        resnet_time_scale_shift: time_scale_shift(entries),
        norm_eps: entries.number("norm_eps")?.unwrap_or(1e-5),
        norm_groups: entries.whole("norm_num_groups")?.unwrap_or(32),
        flip_sin_to_cos: entries.flag("flip_sin_to_cos")?.unwrap_or(true),
        freq_shift: entries.number("freq_shift")?.unwrap_or(0.0),
        time_embedding_dim: entries.whole("time_embedding_dim")?.unwrap_or(0),
        center_input_sample: entries.flag("center_input_sample")?.unwrap_or(false),
        n_tags: entries.whole("num_class_embeds")?.unwrap_or(0),
        ..UNetConfig::default()
    };
    if entries.get("attention_head_dim") == Some(&json!(0)) {
        return Err(entries.refused("attention_head_dim", "expected a number of channels"));
    }
    Ok(UNetConfig { attention_head_dim: one_head_is_none(&config), ..config })
}

/// A head as wide as every level with attention is the only one.
fn one_head_is_none(config: &UNetConfig) -> usize {
    let last = config.ch_mult.len().saturating_sub(1);
    let has_several = (0..=last).any(|level| {
        let width = config.ch.saturating_mul(config.ch_mult[level]);
        let in_middle = level == last && config.middle == Middle::Attention;
        let has_attention =
            in_middle || config.has_attention(level) || config.has_attention_up(level);
        has_attention && width != config.attention_head_dim
    });
    if has_several { config.attention_head_dim } else { 0 }
}

fn time_scale_shift(entries: &Entries<'_>) -> TimeScaleShift {
    match entries.get("resnet_time_scale_shift") {
        Some(value) if value == "scale_shift" => TimeScaleShift::ScaleShift,
        _ => TimeScaleShift::Default,
    }
}

fn refuse_what_is_not_built(entries: &Entries<'_>) -> Result<()> {
    let conv = "Kao resamples by a convolution";
    for (name, allowed, why) in [
        ("act_fn", &[json!("silu"), json!("swish")][..], "Kao has silu"),
        ("time_embedding_type", &[json!("positional")], "Kao has positional time embeddings"),
        (
            "resnet_time_scale_shift",
            &[json!("default"), json!("scale_shift")],
            "Kao adds the time embedding, or scales and shifts by it",
        ),
        ("mid_block_scale_factor", &[json!(1)], "Kao has the factor 1"),
        ("downsample_type", &[json!("conv")], conv),
        ("upsample_type", &[json!("conv")], conv),
        ("class_embed_type", &[], "Kao has one learned vector a class, which is null here"),
    ] {
        entries.only(name, allowed, why)?;
    }
    let groups = entries.whole("norm_num_groups")?.unwrap_or(32);
    let scales = time_scale_shift(entries) == TimeScaleShift::ScaleShift;
    let no_groups = entries.whole("attn_norm_num_groups")?.is_none();
    if scales && no_groups && middle(entries)? == Middle::Attention {
        let why = "with scale_shift, attention in the middle then has no normalization, which is not \
                   built";
        return Err(entries.refused("attn_norm_num_groups", why));
    }
    entries.only(
        "attn_norm_num_groups",
        &[json!(groups)],
        "Kao has one number of groups, that of norm_num_groups",
    )?;
    let n_in = entries.whole("in_channels")?.unwrap_or(3);
    let n_out = entries.whole("out_channels")?.unwrap_or(3);
    if n_in != 1 && n_in != 3 {
        return Err(entries.refused("in_channels", "Kao's images have 1 or 3 channels"));
    }
    if n_out != n_in {
        let why = format!(
            "expected {n_in}, as many as the input has; learned variances, which take twice as many, are not built"
        );
        return Err(entries.refused("out_channels", &why));
    }
    for name in ["downsample_type", "upsample_type", "norm_num_groups", "resnet_time_scale_shift"] {
        if entries.is_null(name) {
            return Err(entries.refused(name, "expected a value"));
        }
    }
    Ok(())
}

/// `[C, H, W]`.
fn image_size(entries: &Entries<'_>) -> Result<[usize; 3]> {
    let channels = entries.whole("in_channels")?.unwrap_or(3);
    let why = "expected the side of the images, or their height and width";
    let value = entries.get("sample_size").ok_or_else(|| entries.refused("sample_size", why))?;
    let sides = match value.is_array() {
        true => entries.wholes("sample_size")?.unwrap_or_default(),
        false => entries.whole("sample_size")?.into_iter().collect(),
    };
    match sides[..] {
        [side] if !value.is_array() => Ok([channels, side, side]),
        [h, w] => Ok([channels, h, w]),
        _ => Err(entries.refused("sample_size", why)),
    }
}

/// `ch`, `ch_mult` and `first_width` of levels of these widths.
fn levels(entries: &Entries<'_>, widths: &[usize]) -> Result<(usize, Vec<usize>, usize)> {
    let refused = |why: &str| Err(entries.refused("block_out_channels", why));
    if widths.is_empty() || widths.len() > 10 {
        return refused("expected 1 to 10 levels");
    }
    if widths.iter().any(|&width| width == 0 || width > 1 << 16) {
        return refused("expected widths between 1 and 65536");
    }
    let first = widths[0];
    if widths.iter().all(|width| width.is_multiple_of(first)) {
        return Ok((first, widths.iter().map(|width| width / first).collect(), 0));
    }
    let unit = widths.iter().copied().fold(0, common_divisor);
    Ok((unit, widths.iter().map(|width| width / unit).collect(), first))
}

fn common_divisor(a: usize, b: usize) -> usize {
    if a == 0 { b } else { common_divisor(b % a, a) }
}

/// The levels with attention on the way down and up.
fn attention(entries: &Entries<'_>, n_levels: usize) -> Result<[Vec<usize>; 2]> {
    let down = entries.texts("down_block_types")?;
    let down = down.unwrap_or(vec![
        "DownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
    ]);
    let up = entries.texts("up_block_types")?;
    let mut up = up.unwrap_or(vec!["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"]);
    // The first on the way up is that of the last level.
    up.reverse();
    let of =
        |name: &str, types: &[&str], [plain, with_attention]: [&str; 2]| -> Result<Vec<usize>> {
            if types.len() != n_levels {
                let why = format!("expected {n_levels} blocks, one for each of block_out_channels");
                return Err(entries.refused(name, &why));
            }
            let other = types.iter().find(|kind| **kind != plain && **kind != with_attention);
            if let Some(other) = other {
                return Err(unbuilt_block(entries, name, other, [plain, with_attention]));
            }
            let levels = types.iter().enumerate().filter(|(_, kind)| **kind == with_attention);
            Ok(levels.map(|(level, _)| level).collect())
        };
    Ok([
        of("down_block_types", &down, ["DownBlock2D", "AttnDownBlock2D"])?,
        of("up_block_types", &up, ["UpBlock2D", "AttnUpBlock2D"])?,
    ])
}

fn unbuilt_block(entries: &Entries<'_>, name: &str, kind: &str, built: [&str; 2]) -> Error {
    let why = format!("Kao has {}, not {}", built.join(" and "), shortened(kind, 40));
    entries.refused(name, &why)
}

fn middle(entries: &Entries<'_>) -> Result<Middle> {
    entries.only("mid_block_type", &[json!("UNetMidBlock2D")], "Kao has UNetMidBlock2D")?;
    if entries.is_null("mid_block_type") {
        return Ok(Middle::None);
    }
    Ok(match entries.flag("add_attention")? {
        Some(false) => Middle::Plain,
        Some(true) | None => Middle::Attention,
    })
}
