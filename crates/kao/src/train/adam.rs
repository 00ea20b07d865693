//! Adam (Kingma & Ba 2015) and the moving average of the weights, on the host.
//!
//! Moments and averages are plain vectors, one per parameter, in memory order like the parameters of
//! the network: a checkpoint stores these vectors, and the update is one pass over memory.

use crate::unet::UNet;
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
        let ema = unet.values().to_vec();
        let zeros: Vec<Vec<f32>> = ema.iter().map(|values| vec![0.0; values.len()]).collect();
        OptimizerState { n_steps: 0, first: zeros.clone(), second: zeros, ema }
    }

    /// One step: updates the weights of `unet` by `gradients`, one vector per parameter in memory
    /// order, then the average with `ema_decay`.
    ///
    /// `settings` gives rates and decays; its step number is set here.
    pub fn step(
        &mut self,
        unet: &mut UNet,
        gradients: &[Vec<f32>],
        settings: AdamStep,
        ema_decay: f32,
    ) {
        self.n_steps += 1;
        let settings = AdamStep { step: self.n_steps, ..settings };
        // Called from outside the pool, every parameter would put this thread to sleep and wake
        // another.
        rayon::scope(|_| {
            for (index, values) in unet.values_mut().iter_mut().enumerate() {
                let gradients = &gradients[index];
                let (m, v) = (&mut self.first[index], &mut self.second[index]);
                let average = &mut self.ema[index];
                match ema_decay {
                    // Exactly the weights, where a blend would add a rounded difference.
                    0.0 => {
                        adam_step(&settings, values, gradients, m, v);
                        average.copy_from_slice(values);
                    }
                    decay => adam_ema_step(&settings, values, gradients, m, v, decay, average),
                }
            }
        });
    }
}
