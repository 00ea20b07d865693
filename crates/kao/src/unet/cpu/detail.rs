//! The small operations around the layers at full resolution: from patches to pixels, and sums.

use super::gradients::{self, Gradients};
use super::{CpuEngine, Value};
use crate::unet::patches::{self, PatchMap};
use kao_kernels::Pixels;
use rayon::prelude::*;

pub(super) fn sum(engine: &mut CpuEngine<'_>, a: &Value, b: &Value) -> Value {
    let mut values = a.values.to_vec();
    gradients::add(&mut values, &b.values);
    engine.value(values, a.pixels, a.channels)
}

pub(super) struct RecordedSum {
    pub(super) a: Value,
    pub(super) b: Value,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedSum {
    pub(super) fn backward(self, gradients: &mut Gradients<'_>) {
        let dy = gradients.take(self.y);
        gradients.add(&self.a, dy.clone());
        gradients.add(&self.b, dy);
    }
}

pub(super) fn to_pixels(engine: &mut CpuEngine<'_>, first: &Value, second: &Value) -> Value {
    let patch_size = engine.network.config().patch_size;
    let maps = [first, second].map(|map| PatchMap { values: &map.values, channels: map.channels });
    let pixels = patches::to_pixels(maps, first.pixels, patch_size);
    let Pixels { n, h, w } = first.pixels;
    let channels = (first.channels + second.channels) / (patch_size * patch_size);
    engine.value(pixels, Pixels::new(n, h * patch_size, w * patch_size), channels)
}

/// The second map is the noisy image, of which no gradient is wanted.
pub(super) struct RecordedPixels {
    pub(super) first: Value,
    /// The slot of the output.
    pub(super) y: Option<usize>,
    /// The channels of the output.
    pub(super) width: usize,
}

impl RecordedPixels {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedPixels { first, y, width } = self;
        let dy = gradients.take(y);
        let patch_size = engine.network.config().patch_size;
        let channels = first.channels / (patch_size * patch_size);
        let dx = patches::from_pixels(&dy, width, channels, first.pixels, patch_size);
        gradients.add(&first, dx);
    }
}

pub(super) fn add_first_channels(engine: &mut CpuEngine<'_>, y: &Value, x: &Value) -> Value {
    let mut values = y.values.to_vec();
    let pixels = values.par_chunks_exact_mut(y.channels).zip(x.values.par_chunks_exact(x.channels));
    pixels.with_min_len(PIXELS_AT_ONCE).for_each(|(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
    engine.value(values, y.pixels, y.channels)
}

/// The fewest pixels that are worth a task.
const PIXELS_AT_ONCE: usize = 4096;

pub(super) struct RecordedFirstChannels {
    pub(super) y: Value,
    pub(super) x: Value,
    /// The slot of the output.
    pub(super) sum: Option<usize>,
}

impl RecordedFirstChannels {
    pub(super) fn backward(self, gradients: &mut Gradients<'_>) {
        let RecordedFirstChannels { y, x, sum } = self;
        let dsum = gradients.take(sum);
        let mut dx = gradients.taken(&x).unwrap_or_else(|| vec![0.0; x.values.len()]);
        let pixels = dx.par_chunks_exact_mut(x.channels).zip(dsum.par_chunks_exact(y.channels));
        pixels.with_min_len(PIXELS_AT_ONCE).for_each(|(dx, dsum)| {
            dx.iter_mut().zip(dsum).for_each(|(dx, dsum)| *dx += dsum);
        });
        gradients.add(&x, dx);
        gradients.add(&y, dsum);
    }
}
