//! What a UNet is made of, and which configurations are possible.

use crate::error::{Error, Result};
use crate::schedule::MAX_TIMESTEPS;
use kao_kernels::Padding;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Groups of every group normalization of the original, and what is added to the variance.
const ORIGINAL_NORM_GROUPS: usize = 32;
const ORIGINAL_NORM_EPS: f64 = 1e-5;
/// What the frequencies of the original's time embedding leave out of half its width.
const ORIGINAL_FREQ_SHIFT: f64 = 1.0;

/// More parameters than this are refused: a configuration from a file must not take the memory of
/// the machine.
const MAX_PARAMETERS: usize = 4_000_000_000;

/// The most levels, blocks per level, and pixels of a side that are accepted.
const MAX_LEVELS: usize = 10;
const MAX_BLOCKS: usize = 64;
const MAX_SIDE: usize = 4096;
const MAX_PATCH_SIDE: usize = 16;
const MAX_TAGS: usize = 1 << 16;

/// The non-linearity after each normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x · min(max(x + 3, 0), 6) / 6, the original's.
    #[default]
    Hardswish,
    /// x · sigmoid(x).
    Silu,
}

impl From<Activation> for kao_kernels::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Silu => kao_kernels::Activation::Silu,
            Activation::Hardswish => kao_kernels::Activation::Hardswish,
        }
    }
}

/// What lies between the way down and the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Middle {
    /// A residual block, attention, a residual block: the original's.
    #[default]
    Attention,
    /// Two residual blocks.
    Plain,
    /// Nothing.
    None,
}

/// What the time embedding, with the tags in it, does to a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// It is added before the second normalization: the original's.
    #[default]
    Default,
    /// Behind the second normalization every channel is multiplied by one number more than it says,
    /// and another is added (Dhariwal & Nichol 2021, "adaptive group normalization"). What
    /// concerns a part of the image alone, such as the colour of eyes, is learned faster so, for
    /// twice as many parameters in this place.
    ScaleShift,
}

/// The architecture. Names are those of the original's `hyper_parameters`, and of the configuration
/// of diffusers' `UNet2DModel` where the original has no name. Entries that say what the original
/// has are not in files, except for the original's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNetConfig {
    /// `[C, H, W]` of the images.
    pub image_size: [usize; 3],
    /// T, the number of timesteps that the time embedding knows.
    pub num_steps: usize,
    /// Side of the square patches that the network sees as one pixel with as many more channels.
    /// 1, the original's, is every pixel by itself; 2 makes a network of the same widths four times
    /// as fast. Not in files where it is 1.
    #[serde(skip_serializing_if = "is_one")]
    pub patch_size: usize,
    /// What the widths of the levels are multiples of; the width of the first convolution too.
    pub ch: usize,
    /// Width of each level, as a multiple of `ch`.
    pub ch_mult: Vec<usize>,
    /// Width of the first convolution's output, and of the sines and cosines of the time embedding,
    /// where it is not `ch`; 0 where it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub first_width: usize,
    /// The levels whose residual blocks carry attention.
    pub attn: Vec<usize>,
    /// Those on the way up, where they are other levels than on the way down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_up: Option<Vec<usize>>,
    /// What lies between the way down and the way up.
    #[serde(skip_serializing_if = "is_default")]
    pub middle: Middle,
    /// Channels of a head of attention, which divide the width of every level with attention; 0
    /// where there is one head as wide as the level.
    #[serde(skip_serializing_if = "is_zero")]
    pub attention_head_dim: usize,
    /// Residual blocks per level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// Probability of dropout in training, before the second convolution of a block.
    pub dropout: f64,
    /// The non-linearity.
    pub activation: Activation,
    /// Zeros around the input of a convolution with stride 2: 1 on every side, or with 0 one row at
    /// the bottom and one column at the right.
    #[serde(skip_serializing_if = "is_one")]
    pub downsample_padding: usize,
    /// What the time embedding does to a residual block.
    #[serde(skip_serializing_if = "is_default")]
    pub resnet_time_scale_shift: TimeScaleShift,
    /// What group normalization adds to the variance.
    #[serde(skip_serializing_if = "is_original_norm_eps")]
    pub norm_eps: f64,
    /// Whether the cosines of the time embedding come before the sines.
    #[serde(skip_serializing_if = "is_default")]
    pub flip_sin_to_cos: bool,
    /// The k-th of n frequencies of the time embedding is 10000^(−k / (n − `freq_shift`)).
    #[serde(skip_serializing_if = "is_original_freq_shift")]
    pub freq_shift: f64,
    /// Width of the time embedding; 0 for four times that of its sines and cosines.
    #[serde(skip_serializing_if = "is_zero")]
    pub time_embedding_dim: usize,
    /// Whether the network sees 2x − 1 of its input x.
    #[serde(skip_serializing_if = "is_default")]
    pub center_input_sample: bool,
    /// Groups of every group normalization; widths are multiples of it. With one or two channels a
    /// group, as the original's 32 make of narrow levels, a network tends to grow a spot of huge
    /// values at one place, by which it tells the next layers what the normalization takes from
    /// them, and which shows in its images (as in Karras et al. 2020, section 2). Not in files
    /// where it is 32, the original's.
    #[serde(skip_serializing_if = "is_original_norm_groups")]
    pub norm_groups: usize,
    /// Channels of the layers at full resolution that follow the last patches; 0 where there are
    /// none, and then not in files. They see the noisy image and what was predicted of it pixel by
    /// pixel, and take away the grid that separate predictions for the pixels of a patch leave.
    #[serde(skip_serializing_if = "is_zero")]
    pub detail_channels: usize,
    /// The number of tags that an image can be asked to have. Each has a learned vector; those of
    /// an image's tags are added to its time embedding. Not in files where it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub n_tags: usize,
}

impl Default for UNetConfig {
    /// The original's: 64×64, 25.4 million parameters.
    fn default() -> Self {
        UNetConfig {
            image_size: [3, 64, 64],
            num_steps: 1000,
            patch_size: 1,
            ch: 64,
            ch_mult: vec![1, 2, 4, 4],
            first_width: 0,
            attn: vec![2],
            attn_up: None,
            middle: Middle::Attention,
            attention_head_dim: 0,
            num_res_blocks: 2,
            dropout: 0.1,
            activation: Activation::Hardswish,
            downsample_padding: 1,
            resnet_time_scale_shift: TimeScaleShift::Default,
            norm_eps: ORIGINAL_NORM_EPS,
            flip_sin_to_cos: false,
            freq_shift: ORIGINAL_FREQ_SHIFT,
            time_embedding_dim: 0,
            center_input_sample: false,
            norm_groups: ORIGINAL_NORM_GROUPS,
            detail_channels: 0,
            n_tags: 0,
        }
    }
}

fn is_original_norm_groups(value: &usize) -> bool {
    *value == ORIGINAL_NORM_GROUPS
}

fn is_original_norm_eps(value: &f64) -> bool {
    *value == ORIGINAL_NORM_EPS
}

fn is_original_freq_shift(value: &f64) -> bool {
    *value == ORIGINAL_FREQ_SHIFT
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

impl UNetConfig {
    /// `[C, H, W]` of what goes through the network: the images, a patch as one pixel.
    pub fn patched_size(&self) -> [usize; 3] {
        let ([c, h, w], p) = (self.image_size, self.patch_size);
        [c * p * p, h / p, w / p]
    }

    /// The side of the patches in which the network predicts: single pixels behind layers at full
    /// resolution.
    pub(super) fn output_patch_size(&self) -> usize {
        if self.detail_channels == 0 { self.patch_size } else { 1 }
    }

    /// Width of level `level`.
    pub fn width(&self, level: usize) -> usize {
        self.ch * self.ch_mult[level]
    }

    /// Width of the first convolution's output, and of the sines and cosines of the time embedding.
    pub fn first_width(&self) -> usize {
        if self.first_width == 0 { self.ch } else { self.first_width }
    }

    /// Width of the time embedding.
    pub fn time_width(&self) -> usize {
        match self.time_embedding_dim {
            0 => self.first_width().saturating_mul(4),
            width => width,
        }
    }

    /// Whether the residual blocks of `level` carry attention on the way down.
    pub fn has_attention(&self, level: usize) -> bool {
        self.attn.contains(&level)
    }

    /// Whether they do on the way up.
    pub fn has_attention_up(&self, level: usize) -> bool {
        self.attn_up.as_ref().unwrap_or(&self.attn).contains(&level)
    }

    /// Heads of an attention over `width` channels.
    pub fn heads(&self, width: usize) -> usize {
        width.checked_div(self.attention_head_dim).unwrap_or(1).max(1)
    }

    /// Where the zeros around the input of a convolution with stride 2 lie.
    pub(super) fn padding(&self) -> Padding {
        if self.downsample_padding == 0 { Padding::Behind } else { Padding::Around }
    }

    /// Checks that such a network can be built.
    ///
    /// # Errors
    /// Names the entry, what was found and what was expected.
    pub fn validate(&self) -> Result<()> {
        let refuse =
            |entry: &str, problem: String| Err(Error::invalid(format!("model: {entry}"), problem));
        let out_of_range = |entry: &str, value: &dyn Display, allowed: String| {
            Err(Error::out_of_range(format!("model: {entry}"), value, allowed))
        };
        let [c, h, w] = self.image_size;
        if c != 1 && c != 3 {
            return refuse("image_size", format!("{c} channels found; expected 1 or 3"));
        }
        let n_levels = self.ch_mult.len();
        if n_levels == 0 || n_levels > MAX_LEVELS {
            return refuse(
                "ch_mult",
                format!("{n_levels} levels found; expected 1 to {MAX_LEVELS}"),
            );
        }
        if self.patch_size == 0 || self.patch_size > MAX_PATCH_SIDE {
            let allowed = format!("between 1 and {MAX_PATCH_SIDE}");
            return out_of_range("patch_size", &self.patch_size, allowed);
        }
        let factor = self.patch_size << (n_levels - 1);
        for (name, side) in [("height", h), ("width", w)] {
            if side == 0 || side > MAX_SIDE || side % factor != 0 {
                return refuse(
                    "image_size",
                    format!(
                        "{name} {side} found; expected a multiple of {factor} up to {MAX_SIDE}, \
                         since {n_levels} levels halve it {} times{}",
                        n_levels - 1,
                        if self.patch_size == 1 { "" } else { " after it was cut into patches" }
                    ),
                );
            }
        }
        if self.num_steps == 0 || self.num_steps > MAX_TIMESTEPS {
            let allowed = format!("between 1 and {MAX_TIMESTEPS}");
            return out_of_range("num_steps", &self.num_steps, allowed);
        }
        let groups = self.norm_groups;
        if groups == 0 || groups > 1 << 16 {
            let allowed = format!("between 1 and {}", 1 << 16);
            return out_of_range("norm_groups", &groups, allowed);
        }
        for (level, &mult) in self.ch_mult.iter().enumerate() {
            let width = self.ch.saturating_mul(mult);
            if width == 0 || width % groups != 0 || width > 1 << 16 {
                return refuse(
                    "ch, ch_mult",
                    format!(
                        "level {level} is {} x {mult} = {width} wide; expected a multiple of \
                         {groups}, the groups of the normalization",
                        self.ch
                    ),
                );
            }
        }
        // The sines and cosines of the time embedding are as many values, four at the least.
        let entry = if self.first_width == 0 { "ch" } else { "first_width" };
        for factor in [groups, 4] {
            if !self.first_width().is_multiple_of(factor) || self.first_width() > 1 << 16 {
                let allowed = format!("a multiple of {factor} up to {}", 1 << 16);
                return out_of_range(entry, &self.first_width(), allowed);
            }
        }
        self.validate_heads()?;
        if self.downsample_padding > 1 {
            return out_of_range(
                "downsample_padding",
                &self.downsample_padding,
                "0 or 1".to_owned(),
            );
        }
        if !(self.norm_eps > 0.0 && self.norm_eps <= 1.0) {
            let allowed = "above 0 and at most 1".to_owned();
            return out_of_range("norm_eps", &self.norm_eps, allowed);
        }
        // At half the width the last frequency would be endless.
        if !(0.0..=1.0).contains(&self.freq_shift) {
            return out_of_range("freq_shift", &self.freq_shift, "between 0 and 1".to_owned());
        }
        if self.time_embedding_dim > 1 << 18 {
            let allowed = format!("at most {}", 1 << 18);
            return out_of_range("time_embedding_dim", &self.time_embedding_dim, allowed);
        }
        let detail = self.detail_channels;
        if !detail.is_multiple_of(groups) || detail > 1 << 12 {
            let allowed = format!("0 or a multiple of {groups}, norm_groups, up to {}", 1 << 12);
            return out_of_range("detail_channels", &detail, allowed);
        }
        if self.n_tags > MAX_TAGS {
            return out_of_range("n_tags", &self.n_tags, format!("at most {MAX_TAGS}"));
        }
        for (entry, levels) in [("attn", Some(&self.attn)), ("attn_up", self.attn_up.as_ref())] {
            if let Some(level) = levels.into_iter().flatten().find(|&&level| level >= n_levels) {
                let problem =
                    format!("level {level} found; there are {n_levels} levels, counted from 0");
                return refuse(entry, problem);
            }
        }
        if self.num_res_blocks == 0 || self.num_res_blocks > MAX_BLOCKS {
            let allowed = format!("between 1 and {MAX_BLOCKS}");
            return out_of_range("num_res_blocks", &self.num_res_blocks, allowed);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return out_of_range("dropout", &self.dropout, "at least 0 and below 1".to_owned());
        }
        let n_parameters = self.parameter_count();
        if n_parameters > MAX_PARAMETERS {
            return refuse(
                "ch, ch_mult, num_res_blocks",
                format!("{n_parameters} parameters; at most {MAX_PARAMETERS} are accepted"),
            );
        }
        Ok(())
    }

    /// Checks that every attention has whole heads.
    fn validate_heads(&self) -> Result<()> {
        let head = self.attention_head_dim;
        let last = self.ch_mult.len() - 1;
        let has_attention = |level: usize| {
            let in_middle = level == last && self.middle == Middle::Attention;
            in_middle || self.has_attention(level) || self.has_attention_up(level)
        };
        let widths =
            (0..=last).filter(|&level| has_attention(level)).map(|level| self.width(level));
        match widths.into_iter().find(|width| head > 0 && !width.is_multiple_of(head)) {
            Some(width) => {
                let allowed =
                    format!("0 or a divisor of {width}, the width of a level with attention");
                Err(Error::out_of_range("model: attention_head_dim", head, allowed))
            }
            None => Ok(()),
        }
    }

    /// The number of parameters as PyTorch counts them: the trained ones and the time table.
    /// Computed without building anything.
    pub fn parameter_count(&self) -> usize {
        let sizes = self.parameters().into_iter().map(|spec| spec.shape.iter().product());
        sizes.fold(self.num_steps.saturating_mul(self.first_width()), usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_has_its_parameters() {
        assert_eq!(UNetConfig::default().parameter_count(), 25_368_963);
    }

    #[test]
    fn the_original_takes_17_8_gflop() {
        let gflop = UNetConfig::default().forward_flop() as f64 / 1e9;
        assert!((17.7..17.9).contains(&gflop), "{gflop}");
        // A quarter of the convolutions' 15.8, a little less behind upsamplings, and the rest whole.
        let computed = UNetConfig::default().cpu_forward_flop() as f64 / 1e9;
        assert!((5.2..5.7).contains(&computed), "{computed}");
    }

    #[test]
    fn impossible_configurations_say_why() {
        let base = UNetConfig::default;
        let cases = [
            (UNetConfig { image_size: [4, 64, 64], ..base() }, "channels"),
            (UNetConfig { image_size: [3, 60, 64], ..base() }, "multiple of 8"),
            (UNetConfig { image_size: [3, 0, 64], ..base() }, "multiple of 8"),
            (UNetConfig { patch_size: 0, ..base() }, "must be between 1 and "),
            (UNetConfig { patch_size: usize::MAX, ..base() }, "must be between 1 and "),
            (UNetConfig { patch_size: 3, ..base() }, "multiple of 24"),
            (UNetConfig { ch: 48, ..base() }, "multiple of 32"),
            (UNetConfig { ch: 0, ..base() }, "multiple of 32"),
            (UNetConfig { norm_groups: 0, ..base() }, "between 1 and "),
            (UNetConfig { norm_groups: 24, ..base() }, "multiple of 24"),
            (UNetConfig { ch: 6, norm_groups: 2, ..base() }, "multiple of 4"),
            (UNetConfig { first_width: 40, ..base() }, "first_width 40: must be a multiple of 32"),
            (UNetConfig { first_width: usize::MAX, ..base() }, "a multiple of 32"),
            (UNetConfig { attention_head_dim: 48, ..base() }, "0 or a divisor of 256"),
            (UNetConfig { attention_head_dim: usize::MAX, ..base() }, "0 or a divisor of 256"),
            (UNetConfig { downsample_padding: 2, ..base() }, "must be 0 or 1"),
            (UNetConfig { norm_eps: 0.0, ..base() }, "above 0"),
            (UNetConfig { norm_eps: f64::NAN, ..base() }, "above 0"),
            (UNetConfig { freq_shift: 32.0, ..base() }, "between 0 and 1"),
            (UNetConfig { time_embedding_dim: usize::MAX, ..base() }, "at most 262144"),
            (UNetConfig { attn_up: Some(vec![9]), ..base() }, "level 9"),
            (UNetConfig { ch_mult: vec![], ..base() }, "levels"),
            (UNetConfig { ch_mult: vec![1; 70], ..base() }, "levels"),
            (UNetConfig { ch_mult: vec![1, usize::MAX], ..base() }, "multiple of 32"),
            (UNetConfig { attn: vec![4], ..base() }, "level 4"),
            (UNetConfig { num_res_blocks: 0, ..base() }, "must be between 1 and "),
            (UNetConfig { num_res_blocks: usize::MAX, ..base() }, "must be between 1 and "),
            (UNetConfig { detail_channels: 40, ..base() }, "0 or a multiple of 32"),
            (UNetConfig { detail_channels: usize::MAX, ..base() }, "0 or a multiple of 32"),
            (UNetConfig { n_tags: usize::MAX, ..base() }, "at most 65536"),
            (UNetConfig { dropout: 1.0, ..base() }, "below 1"),
            (UNetConfig { num_steps: 0, ..base() }, "must be between 1 and "),
            (UNetConfig { ch: 1 << 15, ch_mult: vec![2; 4], ..base() }, "parameters"),
        ];
        for (config, expected) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message} lacks {expected}");
        }
        assert!(base().validate().is_ok());
    }

    #[test]
    fn what_the_original_has_is_not_in_files() {
        let json = serde_json::to_value(UNetConfig::default()).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let expected =
            "activation attn ch ch_mult dropout image_size num_res_blocks num_steps".split(' ');
        assert_eq!(names, expected.collect::<Vec<_>>());
        let other = UNetConfig {
            attn_up: Some(vec![]),
            middle: Middle::Plain,
            downsample_padding: 0,
            resnet_time_scale_shift: TimeScaleShift::ScaleShift,
            norm_eps: 1e-6,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            center_input_sample: true,
            ..UNetConfig::default()
        };
        let json = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<UNetConfig>(&json).unwrap(), other);
    }
}
