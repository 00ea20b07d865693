//! The forward pass as a graph of ONNX operators: an engine that computes nothing and writes down what
//! is to be computed.
//!
//! Feature maps are `[N, C, H, W]` here, since ONNX's convolutions want them so. Group normalization
//! is written as its parts, which every runtime has.

use super::UNet;
use super::config::Activation;
use super::layers::{Attention, LayerId, LayerKind, ResidualBlock, Resolution};
use super::operations::{BlockInput, Inputs, Operations, forward};
use super::parameters::TIME_TABLE;
use crate::formats::onnx::{Attribute, Element, Graph, Size};
use kao_kernels::{Dropout, Padding};
use std::ops::Range;

impl UNet {
    /// The network as a graph: of `sample` `[batch, C, H, W]` and `timestep` `[batch]`, whole numbers,
    /// it makes `prediction` of the shape of `sample`. A network that knows tags takes `tags`
    /// `[batch, n_tags]` too, 1 for each tag that an image is to have and 0 for the others.
    pub fn to_graph(&self) -> Graph {
        let config = self.config();
        let mut builder = Builder { network: self, graph: Graph::default(), n_values: 0 };
        let [c, h, w] = config.image_size;
        let sizes = [Size::Named(BATCH), Size::Fixed(c), Size::Fixed(h), Size::Fixed(w)];
        builder.graph.input("sample", Element::Float, &sizes);
        builder.graph.input("timestep", Element::Integer, &[Size::Named(BATCH)]);
        builder.constants();
        let time = builder.node("Gather", &[TIME_TABLE, "timestep"], &[]);
        let tags = (config.n_tags > 0).then(|| {
            let sizes = [Size::Named(BATCH), Size::Fixed(config.n_tags)];
            builder.graph.input("tags", Element::Float, &sizes);
            "tags".to_owned()
        });
        let x = builder.input();
        let masks = &mut self.dropout_masks(None);
        let y = forward(&mut builder, self.layers(), Inputs { x, time, tags }, masks);
        let patch_size = config.output_patch_size();
        let y = if patch_size > 1 { builder.split_patches(y, patch_size) } else { y };
        builder.graph.node("Identity", &[&y.name], "prediction", &[]);
        builder.graph.output("prediction", Element::Float, &sizes);
        builder.graph
    }
}

/// The name of the number of images.
const BATCH: &str = "batch";

/// A feature map `[N, C, H, W]`.
#[derive(Clone, Debug)]
struct Map {
    name: String,
    channels: usize,
    sides: [usize; 2],
}

struct Builder<'a> {
    network: &'a UNet,
    graph: Graph,
    n_values: usize,
}

impl Builder<'_> {
    /// Adds all parameters and the time table, under the names that files have for them.
    fn constants(&mut self) {
        let layers = &self.network.layers().list;
        let is_norm = |name: &str| {
            let of_layer = |layer: &&super::layers::Layer| {
                let rest = name.strip_prefix(layer.name.as_str());
                layer.kind == LayerKind::GroupNorm && matches!(rest, Some(".weight" | ".bias"))
            };
            layers.iter().any(|layer| of_layer(&layer))
        };
        for (name, tensor) in self.network.to_tensors() {
            let shape = match is_norm(&name) {
                // Of one value for a channel.
                true => vec![tensor.shape()[0], 1, 1],
                false => tensor.shape().to_vec(),
            };
            self.graph.floats(&name, &shape, tensor.into_data());
        }
    }

    /// A name for the next value.
    fn name(&mut self) -> String {
        self.n_values += 1;
        format!("v{}", self.n_values)
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        let output = self.name();
        self.graph.node(operator, inputs, &output, attributes);
        output
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = self.name();
        self.graph.integers(&name, values);
        name
    }

    /// Some of the channels of `name`, which are its second axis.
    fn channels(&mut self, name: &str, range: Range<i64>) -> String {
        let [starts, ends, axes] = [range.start, range.end, 1].map(|value| self.integers(&[value]));
        self.node("Slice", &[name, &starts, &ends, &axes], &[])
    }

    fn number(&mut self, value: f32) -> String {
        let name = self.name();
        self.graph.floats(&name, &[1], vec![value]);
        name
    }

    fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.integers(shape);
        self.node("Reshape", &[x, &shape], &[])
    }

    fn parameter_names(&self, id: LayerId) -> [String; 2] {
        let name = &self.network.layers().get(id).name;
        [format!("{name}.weight"), format!("{name}.bias")]
    }

    /// The images as the network sees them.
    fn input(&mut self) -> Map {
        let config = self.network.config();
        let ([c, h, w], p) = (config.image_size, config.patch_size);
        let mut name = "sample".to_owned();
        if config.center_input_sample {
            let (two, one) = (self.number(2.0), self.number(1.0));
            let doubled = self.node("Mul", &[&name, &two], &[]);
            name = self.node("Sub", &[&doubled, &one], &[]);
        }
        let [channels, height, width] = config.patched_size();
        if p > 1 {
            let [c, h, w, p] = [c, h / p, w / p, p].map(|size| size as i64);
            let split = self.reshape(&name, &[0, c, h, p, w, p]);
            let order = [Attribute::Integers("perm", &[0, 1, 3, 5, 2, 4])];
            let turned = self.node("Transpose", &[&split], &order);
            name = self.reshape(&turned, &[0, c * p * p, h, w]);
        }
        Map { name, channels, sides: [height, width] }
    }

    /// p² channels of a patch as its pixels.
    fn split_patches(&mut self, x: Map, patch_size: usize) -> Map {
        let side = patch_size as i64;
        let attributes = [Attribute::Integer("blocksize", side), Attribute::Text("mode", "CRD")];
        let name = self.node("DepthToSpace", &[&x.name], &attributes);
        let channels = x.channels / (patch_size * patch_size);
        Map { name, channels, sides: x.sides.map(|side| side * patch_size) }
    }

    fn activate(&mut self, x: &str) -> String {
        match self.network.config().activation {
            Activation::Hardswish => self.node("HardSwish", &[x], &[]),
            Activation::Silu => {
                let gate = self.node("Sigmoid", &[x], &[]);
                self.node("Mul", &[x, &gate], &[])
            }
        }
    }

    fn norm(&mut self, x: &Map, id: LayerId) -> Map {
        let config = self.network.config();
        let (groups, epsilon) = (config.norm_groups, config.norm_eps as f32);
        let [weight, bias] = self.parameter_names(id);
        let grouped = self.reshape(&x.name, &[0, groups as i64, -1]);
        let (ones, zeros) = (self.name(), self.name());
        self.graph.floats(&ones, &[groups], vec![1.0; groups]);
        self.graph.floats(&zeros, &[groups], vec![0.0; groups]);
        let epsilon = [Attribute::Float("epsilon", epsilon)];
        let normal = self.node("InstanceNormalization", &[&grouped, &ones, &zeros], &epsilon);
        let [h, w] = x.sides.map(|side| side as i64);
        let normal = self.reshape(&normal, &[0, x.channels as i64, h, w]);
        let scaled = self.node("Mul", &[&normal, &weight], &[]);
        Map { name: self.node("Add", &[&scaled, &bias], &[]), ..x.clone() }
    }

    fn conv1x1(&mut self, x: &Map, id: LayerId) -> Map {
        let [weight, bias] = self.parameter_names(id);
        let name = self.node("Conv", &[&x.name, &weight, &bias], &[]);
        Map { name, channels: self.network.layers().get(id).c_out, sides: x.sides }
    }

    fn convolution(&mut self, x: Map, id: LayerId) -> Map {
        let layer = self.network.layers().get(id);
        let LayerKind::Conv3x3(resolution) = layer.kind else {
            unreachable!("the forward pass names a 3×3 convolution")
        };
        let (x, stride, pads) = match resolution {
            Resolution::SameSize => (x, 1, [1; 4]),
            Resolution::Stride2(Padding::Around) => (x, 2, [1; 4]),
            Resolution::Stride2(Padding::Behind) => (x, 2, [0, 0, 1, 1]),
            Resolution::Upsampled => (self.upsample(x), 1, [1; 4]),
        };
        let [weight, bias] = self.parameter_names(id);
        let attributes = [
            Attribute::Integers("kernel_shape", &[3, 3]),
            Attribute::Integers("strides", &[stride; 2]),
            Attribute::Integers("pads", &pads),
        ];
        let name = self.node("Conv", &[&x.name, &weight, &bias], &attributes);
        let sides = match resolution {
            Resolution::Stride2(padding) => {
                let [h, w] = x.sides;
                let output = padding.output(kao_kernels::Pixels::new(1, h, w));
                [output.h, output.w]
            }
            Resolution::SameSize | Resolution::Upsampled => x.sides,
        };
        Map { name, channels: layer.c_out, sides }
    }

    fn upsample(&mut self, x: Map) -> Map {
        let scales = self.name();
        self.graph.floats(&scales, &[4], vec![1.0, 1.0, 2.0, 2.0]);
        let attributes = [
            Attribute::Text("mode", "nearest"),
            Attribute::Text("coordinate_transformation_mode", "asymmetric"),
            Attribute::Text("nearest_mode", "floor"),
        ];
        let name = self.node("Resize", &[&x.name, "", &scales], &attributes);
        Map { name, channels: x.channels, sides: x.sides.map(|side| 2 * side) }
    }

    fn concatenation(&mut self, a: &Map, b: &Map) -> Map {
        let axis = [Attribute::Integer("axis", 1)];
        let name = self.node("Concat", &[&a.name, &b.name], &axis);
        Map { name, channels: a.channels + b.channels, sides: a.sides }
    }
}

impl Operations for Builder<'_> {
    type Map = Map;
    type Rows = String;

    fn linear(&mut self, x: &String, layer: LayerId) -> String {
        let [weight, bias] = self.parameter_names(layer);
        self.node("Gemm", &[x, &weight, &bias], &[Attribute::Integer("transB", 1)])
    }

    fn add_rows(&mut self, a: String, b: String) -> String {
        self.node("Add", &[&a, &b], &[])
    }

    fn activation(&mut self, x: String) -> String {
        self.activate(&x)
    }

    fn conv3x3(&mut self, x: Map, norm: Option<LayerId>, conv: LayerId) -> Map {
        let x = match norm {
            Some(norm) => {
                let x = self.norm(&x, norm);
                Map { name: self.activate(&x.name), ..x }
            }
            None => x,
        };
        self.convolution(x, conv)
    }

    fn residual_block(
        &mut self,
        input: BlockInput<Map>,
        time: String,
        block: &ResidualBlock,
        _dropout: Option<Dropout>,
    ) -> Map {
        let x = match &input.skip {
            Some(skip) => self.concatenation(&input.x, skip),
            None => input.x,
        };
        let h = self.conv3x3(x.clone(), Some(block.norm1), block.conv1);
        let channels = h.channels as i64;
        let h = if block.scale_shift {
            let h = self.norm(&h, block.norm2);
            let [scale, shift] = [0, 1].map(|half| {
                let half = self.channels(&time, half * channels..(half + 1) * channels);
                self.reshape(&half, &[0, channels, 1, 1])
            });
            let one = self.number(1.0);
            let factor = self.node("Add", &[&scale, &one], &[]);
            let scaled = self.node("Mul", &[&h.name, &factor], &[]);
            let shifted = self.node("Add", &[&scaled, &shift], &[]);
            let h = Map { name: self.activate(&shifted), ..h };
            self.convolution(h, block.conv2)
        } else {
            let row = self.reshape(&time, &[0, channels, 1, 1]);
            let h = Map { name: self.node("Add", &[&h.name, &row], &[]), ..h };
            self.conv3x3(h, Some(block.norm2), block.conv2)
        };
        let around = match block.shortcut {
            Some(shortcut) => self.conv1x1(&x, shortcut),
            None => x,
        };
        Map { name: self.node("Add", &[&h.name, &around.name], &[]), ..h }
    }

    fn attention(&mut self, x: Map, layers: &Attention) -> Map {
        let [h, w] = x.sides.map(|side| side as i64);
        let (heads, channels) = (layers.heads as i64, x.channels as i64);
        let width = channels / heads;
        let normal = self.norm(&x, layers.norm);
        // [N, heads, width, H·W]
        let [q, k, v] = [layers.q, layers.k, layers.v].map(|id| {
            let y = self.conv1x1(&normal, id);
            self.reshape(&y.name, &[0, heads, width, h * w])
        });
        let k = self.node("Transpose", &[&k], &[Attribute::Integers("perm", &[0, 1, 3, 2])]);
        let scores = self.node("MatMul", &[&k, &q], &[]);
        let scale = self.number((width as f32).sqrt().recip());
        let scores = self.node("Mul", &[&scores, &scale], &[]);
        // Over the keys, which are the rows.
        let weights = self.node("Softmax", &[&scores], &[Attribute::Integer("axis", 2)]);
        let attended = self.node("MatMul", &[&v, &weights], &[]);
        let attended = self.reshape(&attended, &[0, channels, h, w]);
        let projected = self.conv1x1(&Map { name: attended, ..x.clone() }, layers.proj);
        Map { name: self.node("Add", &[&projected.name, &x.name], &[]), ..x }
    }

    fn to_pixels(&mut self, first: Map, second: Map) -> Map {
        let both = self.concatenation(&first, &second);
        match self.network.config().patch_size {
            1 => both,
            patch_size => self.split_patches(both, patch_size),
        }
    }

    fn add_first_channels(&mut self, y: Map, x: Map) -> Map {
        let first = self.channels(&x.name, 0..y.channels as i64);
        Map { name: self.node("Add", &[&y.name, &first], &[]), ..y }
    }
}
