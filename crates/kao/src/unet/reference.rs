//! The engine of the reference kernels: plain loops, one operation at a time, nothing fused. The
//! tests hold the other engines against it; it is far too slow for anything else.
//!
//! Each operation leaves a closure that carries its gradient back, so that the backward pass is the
//! list of them from the end to the start.

use super::layers::{Attention, LayerId, LayerKind, ResidualBlock, Resolution};
use super::operations::{BlockInput, Inputs, Operations, forward};
use super::patches::{from_map, to_map};
use super::{NoisyImages, UNet};
use crate::images::Images;
use kao_kernels::{AttentionShape, Dropout, Epilogue, GroupNorm, Pixels, Sink, Source, reference};
use std::rc::Rc;

/// The prediction for a batch, `[N, C, H, W]`.
pub(super) fn predict(network: &UNet, images: NoisyImages<'_>) -> Images {
    let (_, y) = Reference::run(network, images, None);
    from_map(&y.values, network.config().output_patch_size(), images.x_t.shape())
}

/// The gradient of every parameter, where that of the prediction is what `loss_gradient` answers.
pub(super) fn gradients(
    network: &UNet,
    images: NoisyImages<'_>,
    dropout_seed: Option<u64>,
    loss_gradient: impl FnOnce(&Images) -> Images,
) -> Vec<Vec<f32>> {
    let patch_size = network.config().output_patch_size();
    let (engine, y) = Reference::run(network, images, dropout_seed);
    let dy = loss_gradient(&from_map(&y.values, patch_size, images.x_t.shape()));
    let mut gradients = Gradients {
        of_values: vec![None; engine.n_values],
        of_parameters: network.values().iter().map(|values| vec![0.0; values.len()]).collect(),
    };
    gradients.add(&y, to_map(&dy, patch_size));
    for back in engine.tape.into_iter().rev() {
        back(&mut gradients);
    }
    gradients.of_parameters
}

#[derive(Clone)]
struct Value {
    values: Rc<Vec<f32>>,
    pixels: Pixels,
    channels: usize,
    id: usize,
}

struct Gradients {
    of_values: Vec<Option<Vec<f32>>>,
    of_parameters: Vec<Vec<f32>>,
}

impl Gradients {
    fn add(&mut self, value: &Value, gradient: Vec<f32>) {
        match &mut self.of_values[value.id] {
            Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, more)| *sum += more),
            none => *none = Some(gradient),
        }
    }

    fn take(&mut self, value: &Value) -> Vec<f32> {
        self.of_values[value.id].take().unwrap()
    }
}

type Back<'a> = Box<dyn FnOnce(&mut Gradients) + 'a>;

struct Reference<'a> {
    network: &'a UNet,
    tape: Vec<Back<'a>>,
    n_values: usize,
}

impl<'a> Reference<'a> {
    fn run(network: &'a UNet, images: NoisyImages<'_>, dropout_seed: Option<u64>) -> (Self, Value) {
        let NoisyImages { x_t, timesteps, .. } = images;
        let config = network.config();
        let [channels, h, w] = config.patched_size();
        let mut engine = Reference { network, tape: Vec::new(), n_values: 0 };
        let x = network.input_map(x_t);
        let x = engine.value(x, Pixels::new(x_t.len(), h, w), channels);
        let rows = Pixels::rows(timesteps.len());
        let time = engine.value(network.time_rows(timesteps), rows, config.first_width());
        let tags = network.tag_rows(images);
        let tags = tags.map(|tags| engine.value(tags, rows, config.n_tags));
        let masks = &mut network.dropout_masks(dropout_seed);
        let y = forward(&mut engine, network.layers(), Inputs { x, time, tags }, masks);
        (engine, y)
    }

    fn value(&mut self, values: Vec<f32>, pixels: Pixels, channels: usize) -> Value {
        self.n_values += 1;
        Value { values: Rc::new(values), pixels, channels, id: self.n_values - 1 }
    }

    fn weight(&self, id: LayerId) -> &'a [f32] {
        &self.network.values()[id.weight()]
    }

    fn bias(&self, id: LayerId) -> &'a [f32] {
        &self.network.values()[id.bias()]
    }

    fn activation_kind(&self) -> kao_kernels::Activation {
        self.network.config().activation.into()
    }

    fn matrix(&mut self, x: &Value, id: LayerId) -> Value {
        let (c_in, c_out) = (x.channels, self.bias(id).len());
        let (pixels, weight) = (x.pixels, self.weight(id));
        let mut y = vec![0.0; pixels.total() * c_out];
        let epilogue = Epilogue::bias(self.bias(id));
        reference::conv1x1(pixels, &Source::new(&x.values, c_in), weight, c_out, &epilogue, &mut y);
        let y = self.value(y, pixels, c_out);
        let (x, out) = (x.clone(), y.clone());
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut dx = vec![0.0; x.values.len()];
            reference::conv1x1_data_grad(pixels, &dy, c_out, weight, Sink::new(&mut dx, c_in));
            let dw = &mut gradients.of_parameters[id.weight()];
            reference::conv1x1_weight_grad(pixels, &Source::new(&x.values, c_in), &dy, c_out, dw);
            let rows = Pixels::new(1, pixels.total(), 1);
            reference::sum_pixels(rows, &dy, c_out, &mut gradients.of_parameters[id.bias()]);
            gradients.add(&x, dx);
        }));
        y
    }

    fn convolution(&mut self, x: Value, id: LayerId) -> Value {
        let LayerKind::Conv3x3(resolution) = self.network.layers().get(id).kind else { panic!() };
        let (c_in, c_out) = (x.channels, self.bias(id).len());
        let (weight, epilogue) = (self.weight(id), Epilogue::bias(self.bias(id)));
        let x = match resolution {
            Resolution::Upsampled => self.upsample(x),
            Resolution::SameSize | Resolution::Stride2(_) => x,
        };
        let stride2 = match resolution {
            Resolution::Stride2(padding) => Some(padding),
            Resolution::SameSize | Resolution::Upsampled => None,
        };
        let pixels = x.pixels;
        let output = stride2.map_or(pixels, |padding| padding.output(pixels));
        let mut y = vec![0.0; output.total() * c_out];
        let source = Source::new(&x.values, c_in);
        match stride2 {
            Some(padding) => {
                let to = &mut y;
                reference::conv3x3_stride2(pixels, padding, &source, weight, c_out, &epilogue, to);
            }
            None => reference::conv3x3(pixels, &source, weight, c_out, &epilogue, &mut y),
        }
        let y = self.value(y, output, c_out);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut dx = vec![0.0; x.values.len()];
            let (source, sink) = (Source::new(&x.values, c_in), Sink::new(&mut dx, c_in));
            let dw = &mut gradients.of_parameters[id.weight()];
            if let Some(padding) = stride2 {
                reference::conv3x3_stride2_data_grad(pixels, padding, &dy, c_out, weight, sink);
                reference::conv3x3_stride2_weight_grad(pixels, padding, &source, &dy, c_out, dw);
            } else {
                reference::conv3x3_data_grad(pixels, &dy, c_out, weight, sink);
                reference::conv3x3_weight_grad(pixels, &source, &dy, c_out, dw);
            }
            let rows = Pixels::new(1, output.total(), 1);
            reference::sum_pixels(rows, &dy, c_out, &mut gradients.of_parameters[id.bias()]);
            gradients.add(&x, dx);
        }));
        y
    }

    fn upsample(&mut self, x: Value) -> Value {
        let Pixels { n, h, w } = x.pixels;
        let mut y = vec![0.0; 4 * x.values.len()];
        reference::upsample_nearest(x.pixels, x.channels, &x.values, &mut y);
        let y = self.value(y, Pixels::new(n, 2 * h, 2 * w), x.channels);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut dx = vec![0.0; x.values.len()];
            reference::upsample_nearest_backward(x.pixels, x.channels, &dy, &mut dx);
            gradients.add(&x, dx);
        }));
        y
    }

    fn norm(
        &mut self,
        x: &Value,
        id: LayerId,
        activation: kao_kernels::Activation,
        dropout: Option<Dropout>,
    ) -> Value {
        let (pixels, c) = (x.pixels, x.channels);
        let groups = self.network.config().norm_groups;
        let epsilon = self.network.config().norm_eps as f32;
        let (gamma, beta) = (self.weight(id), self.bias(id));
        let source = Source::new(&x.values, c);
        let stats = reference::group_norm_stats(pixels, &source, groups, epsilon);
        let per_image = false;
        let norm = GroupNorm { groups, gamma, beta, per_image, stats: &stats, activation, dropout };
        let mut y = vec![0.0; x.values.len()];
        reference::group_norm(pixels, &source, &norm, &mut y);
        let y = self.value(y, pixels, c);
        let (x, out) = (x.clone(), y.clone());
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let norm =
                GroupNorm { groups, gamma, beta, per_image, stats: &stats, activation, dropout };
            let mut dx = vec![0.0; x.values.len()];
            let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
            let (source, sink) = (Source::new(&x.values, c), Sink::new(&mut dx, c));
            reference::group_norm_backward(
                pixels,
                &source,
                &norm,
                &dy,
                sink,
                &mut dgamma,
                &mut dbeta,
            );
            gradients.of_parameters[id.weight()] = dgamma;
            gradients.of_parameters[id.bias()] = dbeta;
            gradients.add(&x, dx);
        }));
        y
    }

    fn sum(&mut self, a: Value, b: Value) -> Value {
        let values = a.values.iter().zip(b.values.iter()).map(|(a, b)| a + b).collect();
        let y = self.value(values, a.pixels, a.channels);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            gradients.add(&a, dy.clone());
            gradients.add(&b, dy);
        }));
        y
    }

    /// x plus one row for all pixels of an image.
    fn sum_rows(&mut self, x: Value, rows: Value) -> Value {
        let (pixels, c) = (x.pixels, x.channels);
        let images = x.values.chunks(pixels.per_image() * c).zip(rows.values.chunks(c));
        let values = images
            .flat_map(|(image, row)| image.iter().enumerate().map(|(i, value)| value + row[i % c]));
        let values = values.collect();
        let y = self.value(values, pixels, c);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut drows = vec![0.0; rows.values.len()];
            reference::sum_pixels(pixels, &dy, c, &mut drows);
            gradients.add(&rows, drows);
            gradients.add(&x, dy);
        }));
        y
    }

    /// x · (1 + scale) + shift, with scale and shift side by side in the row of each image.
    fn scale_and_shift(&mut self, x: Value, rows: Value) -> Value {
        let (pixels, c) = (x.pixels, x.channels);
        // Where the scale and the shift of element i are.
        let places = move |i: usize| {
            let scale = i / (pixels.per_image() * c) * 2 * c + i % c;
            [scale, scale + c]
        };
        let values = x.values.iter().enumerate().map(|(i, x)| {
            let [scale, shift] = places(i).map(|place| rows.values[place]);
            x * (1.0 + scale) + shift
        });
        let values = values.collect();
        let y = self.value(values, pixels, c);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let mut dx = gradients.take(&out);
            let mut drows = vec![0.0; rows.values.len()];
            for (i, d) in dx.iter_mut().enumerate() {
                let [scale, shift] = places(i);
                drows[scale] += *d * x.values[i];
                drows[shift] += *d;
                *d *= 1.0 + rows.values[scale];
            }
            gradients.add(&rows, drows);
            gradients.add(&x, dx);
        }));
        y
    }

    fn dropout(&mut self, x: Value, dropout: Option<Dropout>) -> Value {
        let Some(dropout) = dropout else { return x };
        let factor = move |i| reference::dropout_factor(dropout, i) as f32;
        let values = x.values.iter().enumerate().map(|(i, x)| x * factor(i)).collect();
        let y = self.value(values, x.pixels, x.channels);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let mut dx = gradients.take(&out);
            dx.iter_mut().enumerate().for_each(|(i, d)| *d *= factor(i));
            gradients.add(&x, dx);
        }));
        y
    }

    fn concatenation(&mut self, a: Value, b: Value) -> Value {
        let pixels = a.pixels.total();
        let (c_a, c_b) = (a.channels, b.channels);
        let rows = a.values.chunks(c_a).zip(b.values.chunks(c_b));
        let values = rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect();
        let y = self.value(values, a.pixels, c_a + c_b);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let rows = || (0..pixels).map(|row| dy[row * (c_a + c_b)..].split_at(c_a));
            gradients.add(&a, rows().flat_map(|(a, _)| a.to_vec()).collect());
            gradients.add(&b, rows().flat_map(|(_, b)| b[..c_b].to_vec()).collect());
        }));
        y
    }
}

impl Operations for Reference<'_> {
    type Map = Value;
    type Rows = Value;

    fn linear(&mut self, x: &Value, layer: LayerId) -> Value {
        self.matrix(x, layer)
    }

    fn activation(&mut self, x: Value) -> Value {
        let kind = self.activation_kind();
        let mut y = vec![0.0; x.values.len()];
        reference::activation(kind, &x.values, &mut y);
        let y = self.value(y, x.pixels, x.channels);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut dx = vec![0.0; x.values.len()];
            reference::activation_backward(kind, &x.values, &dy, &mut dx);
            gradients.add(&x, dx);
        }));
        y
    }

    fn conv3x3(&mut self, x: Value, norm: Option<LayerId>, conv: LayerId) -> Value {
        let x = match norm {
            Some(norm) => self.norm(&x, norm, self.activation_kind(), None),
            None => x,
        };
        self.convolution(x, conv)
    }

    fn residual_block(
        &mut self,
        input: BlockInput<Value>,
        time: Value,
        block: &ResidualBlock,
        dropout: Option<Dropout>,
    ) -> Value {
        let x = match input.skip {
            Some(skip) => self.concatenation(input.x, skip),
            None => input.x,
        };
        let activation = self.activation_kind();
        let h = self.norm(&x, block.norm1, activation, None);
        let h = self.convolution(h, block.conv1);
        let h = if block.scale_shift {
            let h = self.norm(&h, block.norm2, kao_kernels::Activation::Identity, None);
            let h = self.scale_and_shift(h, time);
            let h = self.activation(h);
            self.dropout(h, dropout)
        } else {
            let h = self.sum_rows(h, time);
            self.norm(&h, block.norm2, activation, dropout)
        };
        let h = self.convolution(h, block.conv2);
        let around = match block.shortcut {
            Some(shortcut) => self.matrix(&x, shortcut),
            None => x,
        };
        self.sum(h, around)
    }

    fn add_rows(&mut self, a: Value, b: Value) -> Value {
        self.sum(a, b)
    }

    fn to_pixels(&mut self, first: Value, second: Value) -> Value {
        let p = self.network.config().patch_size;
        let x = self.concatenation(first, second);
        let Pixels { n, h, w } = x.pixels;
        let (c_in, c) = (x.channels, x.channels / (p * p));
        // As PyTorch's pixel_shuffle: channel c·p² + a·p + b is the pixel (a, b) of channel c.
        let from = move |i: usize| {
            let (channel, x) = (i % c, i / c % (w * p));
            let (y, image) = (i / c / (w * p) % (h * p), i / c / (w * p) / (h * p));
            let within = channel * p * p + y % p * p + x % p;
            ((image * h + y / p) * w + x / p) * c_in + within
        };
        let values = (0..x.values.len()).map(|i| x.values[from(i)]).collect();
        let y = self.value(values, Pixels::new(n, h * p, w * p), c);
        let out = y.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let mut dx = vec![0.0; dy.len()];
            dy.iter().enumerate().for_each(|(i, &dy)| dx[from(i)] = dy);
            gradients.add(&x, dx);
        }));
        y
    }

    fn add_first_channels(&mut self, y: Value, x: Value) -> Value {
        let (c, width) = (y.channels, x.channels);
        let values = y.values.iter().enumerate();
        let values = values.map(|(i, y)| y + x.values[i / c * width + i % c]).collect();
        let sum = self.value(values, y.pixels, c);
        let out = sum.clone();
        self.tape.push(Box::new(move |gradients| {
            let dsum = gradients.take(&out);
            let mut dx = vec![0.0; x.values.len()];
            dsum.iter().enumerate().for_each(|(i, &d)| dx[i / c * width + i % c] = d);
            gradients.add(&x, dx);
            gradients.add(&y, dsum);
        }));
        sum
    }

    fn attention(&mut self, x: Value, layers: &Attention) -> Value {
        let normalized = self.norm(&x, layers.norm, kao_kernels::Activation::Identity, None);
        let q = self.matrix(&normalized, layers.q);
        let k = self.matrix(&normalized, layers.k);
        let v = self.matrix(&normalized, layers.v);
        let (pixels, c) = (x.pixels, x.channels);
        let shape = AttentionShape::with_heads(pixels.n, pixels.per_image(), c, layers.heads);
        let mut attended = vec![0.0; x.values.len()];
        reference::attention(shape, &q.values, &k.values, &v.values, &mut attended);
        let attended = self.value(attended, pixels, c);
        let out = attended.clone();
        self.tape.push(Box::new(move |gradients| {
            let dy = gradients.take(&out);
            let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0.0; dy.len()]);
            reference::attention_backward(
                shape, &q.values, &k.values, &v.values, &dy, &mut dq, &mut dk, &mut dv,
            );
            gradients.add(&q, dq);
            gradients.add(&k, dk);
            gradients.add(&v, dv);
        }));
        let projected = self.matrix(&attended, layers.proj);
        self.sum(projected, x)
    }
}
