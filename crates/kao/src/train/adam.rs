//! Adam (Kingma & Ba 2015) and the moving average of the weights, on the host.
//!
//! Moments and averages are plain vectors, one per parameter, in field order and memory order: a
//! checkpoint is those vectors, and the update is one pass over memory. On the CPU the parameters
//! are moved out of the network and back, not copied.

use crate::unet::UNet;
use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use kao_kernels::{AdamStep, adam_ema_step, adam_step};

/// The state of the optimizer, and the averaged weights.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// Steps done.
    pub n_steps: u64,
    /// First moments.
    pub first: Vec<Vec<f32>>,
    /// Second moments.
    pub second: Vec<Vec<f32>>,
    /// The exponential moving average of the weights.
    pub ema: Vec<Vec<f32>>,
}

impl OptimizerState {
    /// Before the first step: no moments, and the average is the weights.
    pub fn new(unet: &UNet) -> Self {
        let ema = unet.values();
        let zeros: Vec<Vec<f32>> = ema.iter().map(|values| vec![0.0; values.len()]).collect();
        OptimizerState { n_steps: 0, first: zeros.clone(), second: zeros, ema }
    }

    /// One step: updates the weights of `unet` by `gradients` (as
    /// [`host_gradients`](super::objective::host_gradients) gives them), then the average with
    /// `ema_decay`.
    ///
    /// `settings` gives rates and decays; its step number is set here.
    pub fn step(
        &mut self,
        unet: UNet,
        gradients: &[Vec<f32>],
        settings: AdamStep,
        ema_decay: f32,
    ) -> UNet {
        self.n_steps += 1;
        let settings = AdamStep { step: self.n_steps, ..settings };
        let mut update = Update { state: self, gradients, settings, ema_decay, index: 0 };
        // From outside the pool, every parameter would put this thread to sleep and wake another.
        rayon::scope(|_| unet.map_parameters(&mut update))
    }
}

struct Update<'a> {
    state: &'a mut OptimizerState,
    gradients: &'a [Vec<f32>],
    settings: AdamStep,
    ema_decay: f32,
    index: usize,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let index = self.index;
        self.index += 1;
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.dims(), tensor.device());
        let data = tensor.inner().into_data();
        let mut values = data.try_into_vec::<f32>().expect("parameters are f32");
        let OptimizerState { first, second, ema, .. } = &mut *self.state;
        let (settings, gradients) = (&self.settings, &self.gradients[index]);
        let (m, v, average) = (&mut first[index], &mut second[index], &mut ema[index]);
        match self.ema_decay {
            // The update moves the average by a rounded difference.
            0.0 => {
                adam_step(settings, &mut values, gradients, m, v);
                average.copy_from_slice(&values);
            }
            decay => adam_ema_step(settings, &mut values, gradients, m, v, decay, average),
        }
        let tensor = Tensor::from_data(TensorData::new(values, shape), &device).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
