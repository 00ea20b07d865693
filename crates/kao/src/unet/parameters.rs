//! The parameters of a network by name: which there are, how they begin, and how they come from
//! files and go to them.

use super::layers::{Initial, Layer, Layers};
use super::layout::Layout;
use super::{UNet, UNetConfig};
use crate::error::{Error, Result};
use crate::formats::{HostTensor, NamedTensors};
use crate::noise::{Purpose, Stream};
use rayon::prelude::*;

/// Name of the time table in files.
pub(super) const TIME_TABLE: &str = "time_embedding.time_embedding.0.weight";

/// A trained parameter: its name in files, its shape in memory, and its layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// As in the original's checkpoint, without the `unet.` before it.
    pub name: String,
    /// Shape in memory.
    pub shape: Vec<usize>,
    /// Memory order against file order.
    pub layout: Layout,
}

impl ParameterSpec {
    /// The shape in files.
    pub fn file_shape(&self) -> Vec<usize> {
        self.layout.file_shape(&self.shape)
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values, which no parameter of a possible network does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The weight and the bias of a layer.
fn specs(layer: &Layer) -> [ParameterSpec; 2] {
    [
        ParameterSpec {
            name: format!("{}.weight", layer.name),
            shape: layer.weight_shape(),
            layout: layer.weight_layout(),
        },
        ParameterSpec {
            name: format!("{}.bias", layer.name),
            shape: vec![layer.c_out],
            layout: Layout::Vector,
        },
    ]
}

impl UNetConfig {
    /// Every trained parameter, a weight and a bias for each layer. Computed without building
    /// anything.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        Layers::new(self).list.iter().flat_map(specs).collect()
    }

    /// The names and shapes of all tensors in a file of this network: the parameters, and last the
    /// time table.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = self.parameters().into_iter().map(|spec| {
            let shape = spec.file_shape();
            (spec.name, shape)
        });
        let table = (TIME_TABLE.to_owned(), vec![self.num_steps, self.first_width()]);
        parameters.chain([table]).collect()
    }
}

/// Random initial values, a weight and a bias for each layer: PyTorch's default for convolutions
/// and linear layers, uniform within ±1/√(fan in), weights and biases alike, each parameter from a
/// stream of its own; normalizations begin as the identity, and some layers at zero.
pub(super) fn initial_values(layers: &Layers, seed: u64) -> Vec<Vec<f32>> {
    // The number of a parameter among the random ones is that of its stream.
    let mut n_drawn = 0;
    let mut stream_number = || {
        n_drawn += 1;
        n_drawn - 1
    };
    let planned: Vec<_> = layers
        .list
        .iter()
        .flat_map(|layer| {
            let [weight, bias] = specs(layer).map(|spec| spec.len());
            let fan_in = layer.fan_in().unwrap_or(1);
            match layer.initial {
                Initial::Uniform => [weight, bias].map(|len| Values::Uniform {
                    len,
                    bound: 1.0 / (fan_in as f64).sqrt(),
                    stream: stream_number(),
                }),
                Initial::Identity => [Values::Constant(weight, 1.0), Values::Constant(bias, 0.0)],
                Initial::Zero => [weight, bias].map(|len| Values::Constant(len, 0.0)),
            }
        })
        .collect();
    planned
        .into_par_iter()
        .map(|initial| match initial {
            Values::Constant(len, value) => vec![value; len],
            Values::Uniform { len, bound, stream } => {
                let mut stream = Stream::new(seed, Purpose::Initialization, stream, 0);
                (0..len).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect()
            }
        })
        .collect()
}

/// What the values of a parameter begin as.
enum Values {
    Constant(usize, f32),
    Uniform { len: usize, bound: f64, stream: u64 },
}

impl UNet {
    /// The tensors as files hold them: PyTorch's layouts, the original's names, the time table
    /// included.
    pub fn to_tensors(&self) -> NamedTensors {
        let mut tensors = file_tensors(self.config(), self.values());
        let shape = vec![self.config().num_steps, self.config().first_width()];
        tensors.insert(TIME_TABLE, host_tensor(shape, self.time_table.clone()));
        tensors
    }

    /// A network with the parameters of a file; with its time table too, where the file has one.
    ///
    /// # Errors
    /// When the configuration is impossible, or a tensor is missing or of a wrong shape. Callers
    /// that hold a path compare with a [`LoadReport`](crate::formats::LoadReport) first, which says
    /// more.
    pub fn from_tensors(config: &UNetConfig, tensors: &NamedTensors) -> Result<Self> {
        config.validate()?;
        let mut network = Self::from_values(config, memory_values(config, "", tensors)?)?;
        let table_len = network.time_table.len();
        if let Some(table) = tensors.get(TIME_TABLE).filter(|t| t.data().len() == table_len) {
            network.time_table = table.data().to_vec();
        }
        Ok(network)
    }
}

/// Values in memory order, one vector per parameter, as tensors in file order.
pub fn file_tensors(config: &UNetConfig, values: &[Vec<f32>]) -> NamedTensors {
    let named = config.parameters().into_iter().zip(values).map(|(spec, values)| {
        let data = spec.layout.to_file(&spec.shape, values);
        let shape = spec.file_shape();
        (spec.name, host_tensor(shape, data))
    });
    named.collect()
}

/// Tensors in file order as values in memory order, one vector per parameter. In `tensors` the
/// names have `prefix` before them; it may be empty.
///
/// # Errors
/// When a tensor is missing or of a wrong shape.
pub fn memory_values(
    config: &UNetConfig,
    prefix: &str,
    tensors: &NamedTensors,
) -> Result<Vec<Vec<f32>>> {
    let wrong = |problem| Error::invalid("weights", problem);
    let found = config.parameters().into_iter().map(|spec| {
        let (name, expected) = (format!("{prefix}{}", spec.name), spec.file_shape());
        let tensor =
            tensors.get(&name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != expected {
            let found = tensor.shape();
            return Err(wrong(format!("tensor `{name}` is {found:?}; expected {expected:?}")));
        }
        Ok((spec, tensor.data()))
    });
    let found: Vec<_> = found.collect::<Result<_>>()?;
    Ok(found.par_iter().map(|(spec, data)| spec.layout.from_file(&spec.shape, data)).collect())
}

fn host_tensor(shape: Vec<usize>, data: Vec<f32>) -> HostTensor {
    HostTensor::new(shape, data).expect("a layout keeps the number of values")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> UNetConfig {
        UNetConfig {
            image_size: [3, 8, 8],
            num_steps: 10,
            ch: 32,
            ch_mult: vec![1, 2],
            attn: vec![1],
            num_res_blocks: 1,
            ..UNetConfig::default()
        }
    }

    #[test]
    fn tensors_survive_the_round_trip() {
        let tensors = UNet::init(&small(), 1).unwrap().to_tensors();
        let names: Vec<_> =
            tensors.iter().map(|(n, t)| (n.to_owned(), t.shape().to_vec())).collect();
        assert_eq!(names, small().tensors());
        assert_ne!(UNet::init(&small(), 2).unwrap().to_tensors(), tensors);
        assert_eq!(UNet::from_tensors(&small(), &tensors).unwrap().to_tensors(), tensors);
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let mut tensors = UNet::init(&small(), 1).unwrap().to_tensors();
        tensors.remove("head.bias");
        let error = UNet::from_tensors(&small(), &tensors).unwrap_err();
        assert!(error.to_string().contains("`head.bias` is missing"), "{error}");
    }

    #[test]
    fn initial_values_stay_within_their_bound() {
        let config = small();
        let values = UNet::init(&config, 1).unwrap();
        for (layer, values) in Layers::new(&config).list.iter().zip(values.values().chunks(2)) {
            let Some(fan_in) = layer.fan_in() else {
                assert!(values[0].iter().all(|&v| v == 1.0) && values[1].iter().all(|&v| v == 0.0));
                continue;
            };
            let bound = 1.0 / (fan_in as f32).sqrt();
            let largest = values[0].iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
            assert!((0.9 * bound..=bound).contains(&largest), "{}: {largest}", layer.name);
        }
    }
}
