//! The parameters of a network by name: which there are, and how they come from files and go to
//! them.

use super::layout::Layout;
use super::{Layer, UNet, UNetConfig};
use crate::error::{Error, Result};
use crate::weights::{HostTensor, NamedTensors};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Name of the time table in files.
const TIME_TABLE: &str = "time_embedding.time_embedding.0.weight";

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
}

impl UNetConfig {
    /// Every trained parameter, in the order in which the network's fields stand. Computed without
    /// building anything.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let plan = self.plan();
        let [c, _, _] = self.patched_size();
        let mut list = Listing { specs: Vec::new(), time_width: self.time_width() };
        let time = "time_embedding.time_embedding";
        list.matrix(&format!("{time}.1"), self.ch, self.time_width(), Layout::Linear);
        list.matrix(&format!("{time}.3"), self.time_width(), self.time_width(), Layout::Linear);
        list.conv3x3("head", c, self.ch);
        list.path("downblocks", &plan.down);
        list.path("middle_blocks", &plan.middle);
        list.path("upblocks", &plan.up);
        list.norm("tail.0", self.width(0));
        list.conv3x3("tail.2", self.width(0), c);
        list.specs
    }

    /// The names and shapes of all tensors in a file of this network: the parameters, and last the
    /// time table.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let parameters = self.parameters().into_iter().map(|spec| {
            let shape = spec.file_shape();
            (spec.name, shape)
        });
        let table = (TIME_TABLE.to_owned(), vec![self.num_steps, self.ch]);
        parameters.chain([table]).collect()
    }
}

/// Writes down names and shapes, layer by layer.
struct Listing {
    specs: Vec<ParameterSpec>,
    time_width: usize,
}

impl Listing {
    fn add(&mut self, name: String, shape: &[usize], layout: Layout) {
        self.specs.push(ParameterSpec { name, shape: shape.to_vec(), layout });
    }

    fn conv3x3(&mut self, name: &str, c_in: usize, c_out: usize) {
        self.add(format!("{name}.weight"), &[3, 3, c_in, c_out], Layout::Conv3x3);
        self.add(format!("{name}.bias"), &[c_out], Layout::Vector);
    }

    fn matrix(&mut self, name: &str, c_in: usize, c_out: usize, layout: Layout) {
        self.add(format!("{name}.weight"), &[c_in, c_out], layout);
        self.add(format!("{name}.bias"), &[c_out], Layout::Vector);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width], Layout::Vector);
        self.add(format!("{name}.bias"), &[width], Layout::Vector);
    }

    fn path(&mut self, path: &str, layers: &[Layer]) {
        for (index, &layer) in layers.iter().enumerate() {
            let name = format!("{path}.{index}");
            match layer {
                Layer::Resample { c_in, c_out } => {
                    self.conv3x3(&format!("{name}.net"), c_in, c_out);
                }
                Layer::Block { c_in, c_out, attention } => {
                    self.block(&name, [c_in, c_out], attention);
                }
            }
        }
    }

    fn block(&mut self, name: &str, [c_in, c_out]: [usize; 2], attention: bool) {
        self.norm(&format!("{name}.block1.0"), c_in);
        self.conv3x3(&format!("{name}.block1.2"), c_in, c_out);
        self.matrix(&format!("{name}.temb_proj.1"), self.time_width, c_out, Layout::Linear);
        self.norm(&format!("{name}.block2.0"), c_out);
        self.conv3x3(&format!("{name}.block2.3"), c_out, c_out);
        if c_in != c_out {
            self.matrix(&format!("{name}.shortcut"), c_in, c_out, Layout::Conv1x1);
        }
        if attention {
            self.norm(&format!("{name}.attn.norm"), c_out);
            for proj in ["proj_q", "proj_k", "proj_v", "proj"] {
                self.matrix(&format!("{name}.attn.{proj}"), c_out, c_out, Layout::Conv1x1);
            }
        }
    }
}

impl UNet {
    /// The tensors as files hold them: PyTorch's layouts, the original's names, the time table
    /// included.
    pub fn to_tensors(&self) -> NamedTensors {
        let mut tensors = file_tensors(self.config(), self.values());
        let table = self.time_embedding.table().to_vec();
        let shape = vec![self.config().num_steps, self.config().ch];
        tensors.insert(TIME_TABLE, host_tensor(shape, table));
        tensors
    }

    /// Replaces all parameters by those of a file; the time table too, where the file has one.
    ///
    /// # Errors
    /// When a tensor is missing or of a wrong shape. Callers that hold a path compare with a
    /// [`LoadReport`](crate::weights::LoadReport) first, which says more.
    pub fn with_tensors(self, tensors: &NamedTensors) -> Result<Self> {
        let values = memory_values(self.config(), "", tensors)?;
        let table_len = self.time_embedding.table().len();
        let mut network = self.with_values(values);
        if let Some(table) = tensors.get(TIME_TABLE).filter(|t| t.data().len() == table_len) {
            network.time_embedding.set_table(table.data().to_vec());
        }
        Ok(network)
    }

    /// The values of every parameter on the host, in memory order, in the order of
    /// [`UNetConfig::parameters`].
    pub fn values(&self) -> Vec<Vec<f32>> {
        let mut values = Values(Vec::new());
        self.visit(&mut values);
        values.0
    }

    /// Replaces the values of every parameter, given as [`values`](Self::values) gives them.
    pub fn with_values(self, values: Vec<Vec<f32>>) -> Self {
        self.map_parameters(&mut Replacement(values.into_iter()))
    }
}

/// Values in memory order, one vector per parameter, as tensors in file order.
pub fn file_tensors(config: &UNetConfig, values: Vec<Vec<f32>>) -> NamedTensors {
    let named = config.parameters().into_iter().zip(values).map(|(spec, values)| {
        let data = spec.layout.to_file(&spec.shape, &values);
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
    let values = config.parameters().into_iter().map(|spec| {
        let (name, expected) = (format!("{prefix}{}", spec.name), spec.file_shape());
        let tensor =
            tensors.get(&name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != expected {
            let found = tensor.shape();
            return Err(wrong(format!("tensor `{name}` is {found:?}; expected {expected:?}")));
        }
        Ok(spec.layout.from_file(&spec.shape, tensor.data()))
    });
    values.collect()
}

fn host_tensor(shape: Vec<usize>, data: Vec<f32>) -> HostTensor {
    HostTensor::new(shape, data).expect("a layout keeps the number of values")
}

/// Collects values in field order.
struct Values(Vec<Vec<f32>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        self.0.push(data.try_into_vec::<f32>().expect("parameters are f32"));
    }
}

/// Puts values in, in field order.
struct Replacement(std::vec::IntoIter<Vec<f32>>);

impl ModuleMapper for Replacement {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let values = self.0.next().expect("one vector for every parameter");
        param.map(|old| {
            let data = TensorData::new(values, old.dims());
            let new = Tensor::from_data(data, &old.device());
            new.set_require_grad(old.is_require_grad())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

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

    /// Shapes of the parameters in field order.
    struct Shapes(Vec<Vec<usize>>);

    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.lazy_shape().to_vec());
        }
    }

    #[test]
    fn the_listing_is_in_the_order_of_the_fields() {
        let configs = [
            small(),
            UNetConfig { attn: vec![0, 1], num_res_blocks: 2, ..small() },
            UNetConfig { ch_mult: vec![1], attn: vec![], ..small() },
            UNetConfig { ch_mult: vec![3, 2, 1], ..small() },
        ];
        for config in configs {
            let mut found = Shapes(Vec::new());
            UNet::init(&config, 0, &Device::flex()).unwrap().visit(&mut found);
            let expected: Vec<_> = config.parameters().into_iter().map(|p| p.shape).collect();
            assert_eq!(found.0, expected, "{config:?}");
        }
    }

    #[test]
    fn tensors_survive_the_round_trip() {
        let device = Device::flex();
        let tensors = UNet::init(&small(), 1, &device).unwrap().to_tensors();
        let names: Vec<_> =
            tensors.iter().map(|(n, t)| (n.to_owned(), t.shape().to_vec())).collect();
        assert_eq!(names, small().tensors());
        let other = UNet::init(&small(), 2, &device).unwrap();
        assert_ne!(other.to_tensors(), tensors);
        assert_eq!(other.with_tensors(&tensors).unwrap().to_tensors(), tensors);
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let device = Device::flex();
        let mut tensors = UNet::init(&small(), 1, &device).unwrap().to_tensors();
        tensors.remove("head.bias");
        let error = UNet::init(&small(), 1, &device).unwrap().with_tensors(&tensors).unwrap_err();
        assert!(error.to_string().contains("`head.bias` is missing"), "{error}");
    }
}
