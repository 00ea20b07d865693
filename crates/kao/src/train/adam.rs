//! The optimizer's step, by Adam (Kingma & Ba 2015) or [Muon](kao_kernels::muon_step), and the moving
//! average of the weights, on the host.
//!
//! Moments and averages are plain vectors, one per parameter, in memory order like the parameters of
//! the network: a checkpoint stores these vectors, and the update is one pass over memory.

use super::muon::matrix_of;
use crate::unet::UNet;
use kao_kernels::{AdamStep, MuonStep, adam_ema_step, adam_step, ema_update, muon_step};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The update rule: how weights follow from gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam (Kingma & Ba 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
    Adamw,
    /// Muon (Jordan et al. 2024) for the weights of the layers within the network, with decoupled
    /// weight decay; Adam for the first and last layers, embeddings, biases and normalizations.
    Muon,
}

/// The state of the optimizer, and the averaged weights.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// Steps done.
    pub n_steps: u64,
    /// First moments; the momentum of what Muon updates.
    pub first: Vec<Vec<f32>>,
    /// Second moments; left alone by Muon.
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
        optimizer: Optimizer,
        settings: AdamStep,
        ema_decay: f32,
    ) {
        self.n_steps += 1;
        let settings = AdamStep { step: self.n_steps, ..settings };
        let matrices = match optimizer {
            Optimizer::Muon => unet.config().parameters().iter().map(matrix_of).collect(),
            Optimizer::Adam | Optimizer::Adamw => vec![None; gradients.len()],
        };
        let muon = MuonStep {
            lr: settings.lr,
            weight_decay: settings.weight_decay,
            gradient_scale: settings.gradient_scale,
        };
        let of_matrices = unet.values_mut().par_iter_mut().zip(gradients);
        let of_matrices = of_matrices.zip(&mut self.first).zip(&mut self.ema).zip(&matrices);
        of_matrices.for_each(|((((values, gradients), momentum), average), matrix)| {
            if let Some(shape) = *matrix {
                muon_step(&muon, shape, values, gradients, momentum);
                match ema_decay {
                    0.0 => average.copy_from_slice(values),
                    decay => ema_update(decay, average, values),
                }
            }
        });
        // Called from outside the pool, every parameter would put this thread to sleep and wake
        // another.
        rayon::scope(|_| {
            let others = unet.values_mut().iter_mut().enumerate();
            for (index, values) in others.filter(|(index, _)| matrices[*index].is_none()) {
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
