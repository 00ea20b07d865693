//! Training a classifier: the binary cross-entropy of every tag, [Muon](kao_kernels::muon_step) for the
//! convolutions behind the first, Adam for the rest.

use super::{Classifier, Computed, sigmoid, source};
use crate::error::{Error, Result};
use crate::images::Images;
use kao_kernels::{
    AdamStep, AffineGradients, MuonStep, Padding, Pixels, Sink, Source, Unwritten, adam_step,
    conv3x3_data_grad, conv3x3_stride2_data_grad, conv3x3_stride2_weight_grad, conv3x3_weight_grad,
    group_norm_backward, linear_data_grad, linear_weight_grad, muon_step, sum_pixels,
};

/// A classifier in training, with the moments of its gradients.
#[derive(Clone, Debug)]
pub struct ClassifierTraining {
    classifier: Classifier,
    m: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    n_steps: u64,
}

impl ClassifierTraining {
    /// Begins with `classifier`.
    pub fn new(classifier: Classifier) -> Self {
        let zeros = |values: &Vec<f32>| vec![0.0; values.len()];
        let moments: Vec<Vec<f32>> = classifier.values.iter().map(zeros).collect();
        ClassifierTraining { classifier, m: moments.clone(), v: moments, n_steps: 0 }
    }

    /// As trained so far.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// One step on `images` (`[N, C, H, W]` in [-1, 1]), which show the tags of these numbers. Gives
    /// the loss before the step: the sum of the tags' cross-entropies, its mean over the images.
    ///
    /// # Errors
    /// When the images do not fit the classifier.
    pub fn step(
        &mut self,
        images: &Images,
        tags: &[Vec<usize>],
        learning_rate: f32,
    ) -> Result<f64> {
        let (loss, gradients) = self.classifier.gradients(images, tags)?;
        self.n_steps += 1;
        let step = AdamStep { lr: learning_rate, step: self.n_steps, ..AdamStep::default() };
        let muon = MuonStep { lr: learning_rate, weight_decay: 0.0, gradient_scale: 1.0 };
        let parameters = self.classifier.config.parameters();
        let moments = self.m.iter_mut().zip(&mut self.v);
        let values = self.classifier.values.iter_mut().zip(&gradients);
        for (((values, gradients), (m, v)), (name, shape)) in values.zip(moments).zip(&parameters) {
            match shape.as_slice() {
                &[side, _, c_in, width] if name != "conv.0.weight" => {
                    muon_step(&muon, [side * side * c_in, width], values, gradients, m);
                }
                _ => adam_step(&step, values, gradients, m, v),
            }
        }
        Ok(loss)
    }
}

/// Images channels-last.
struct Input {
    values: Vec<f32>,
    pixels: Pixels,
}

impl Classifier {
    /// The loss on `images`, and its gradient with respect to every parameter.
    pub(super) fn gradients(
        &self,
        images: &Images,
        tags: &[Vec<usize>],
    ) -> Result<(f64, Vec<Vec<f32>>)> {
        let n = images.len();
        if tags.len() != n {
            let problem = format!("of {} images found; expected {n}", tags.len());
            return Err(Error::invalid("tags", problem));
        }
        let [_, height, width] = images.image_shape();
        let input = Input { values: self.input(images)?, pixels: Pixels::new(n, height, width) };
        let computed = self.forward(&input.values, n, images.image_shape())?;
        let last = computed.len() - 1;
        let c = self.width(last);
        let pixels = computed[last].pixels;
        let (pooled, _) = self.pooled(last, &computed[last]);
        let logits = self.logits(n, &pooled);

        let n_tags = self.config.tags.len();
        let mut dlogits: Vec<f32> = logits.iter().map(|&z| sigmoid(z) / n as f32).collect();
        let mut loss = 0.0;
        // log(1 + e^z) for every tag, less z where it is there.
        for &z in &logits {
            let z = f64::from(z);
            loss += z.max(0.0) + libm::log1p(libm::exp(-z.abs()));
        }
        for (image, tags) in tags.iter().enumerate() {
            for &tag in tags {
                loss -= f64::from(logits[image * n_tags + tag]);
                dlogits[image * n_tags + tag] -= 1.0 / n as f32;
            }
        }

        let mut gradients: Vec<Vec<f32>> = vec![Vec::new(); self.values.len()];
        let shape = self.head(n);
        let head = self.values.len() - 2;
        let mut dweight = Unwritten::new(shape.c_in * shape.c_out);
        linear_weight_grad(shape, &pooled, &dlogits, &mut dweight);
        gradients[head] = dweight.into_vec();
        let mut dbias = Unwritten::new(shape.c_out);
        sum_pixels(Pixels::new(1, n, 1), &dlogits, shape.c_out, &mut dbias);
        gradients[head + 1] = dbias.into_vec();
        let mut dpooled = Unwritten::new(n * c);
        linear_data_grad(shape, &dlogits, &self.values[head], &mut dpooled);

        // The mean hands each pixel its share.
        let share = 1.0 / pixels.per_image() as f32;
        let mut dactivated: Vec<f32> = Vec::with_capacity(pixels.total() * c);
        for row in dpooled.into_vec().chunks_exact(c) {
            let row: Vec<f32> = row.iter().map(|value| value * share).collect();
            (0..pixels.per_image()).for_each(|_| dactivated.extend_from_slice(&row));
        }
        for k in (0..computed.len()).rev() {
            dactivated = self.layer_gradients(k, &computed, &input, &dactivated, &mut gradients);
        }
        Ok((loss / n as f64, gradients))
    }

    /// Carries the gradient behind layer `k` back to before it.
    fn layer_gradients(
        &self,
        k: usize,
        computed: &[Computed],
        input: &Input,
        dactivated: &[f32],
        gradients: &mut [Vec<f32>],
    ) -> Vec<f32> {
        let (layer, here) = (self.config.layers[k], &computed[k]);
        let c = layer.width;
        let [mut dgamma, mut dbeta] = [c, c].map(Unwritten::new);
        let mut dy = Unwritten::new(here.y.len());
        group_norm_backward(
            here.pixels,
            &Source::new(&here.y, c),
            &self.norm(k, &here.stats),
            dactivated,
            Sink::new(&mut dy, c),
            AffineGradients { gamma: (&mut dgamma).into(), beta: (&mut dbeta).into() },
        );
        let dy = dy.into_vec();
        gradients[3 * k + 1] = dgamma.into_vec();
        gradients[3 * k + 2] = dbeta.into_vec();

        let before = k.checked_sub(1).map(|k| &computed[k]);
        let folded = before.map(|before| self.norm(k - 1, &before.stats).folded());
        let (c_in, len, source) = match (before, &folded) {
            (Some(before), Some(folded)) => {
                let c_in = self.width(k - 1);
                (c_in, before.y.len(), source(before, c_in, folded))
            }
            _ => (self.config.channels, 0, Source::new(&input.values, self.config.channels)),
        };
        let pixels = before.map_or(input.pixels, |before| before.pixels);
        let weights = &self.values[3 * k];
        let mut dweight = Unwritten::new(weights.len());
        let mut dbefore = Unwritten::new(len);
        if layer.stride == 2 {
            conv3x3_stride2_weight_grad(pixels, Padding::Around, &source, &dy, c, &mut dweight);
            if len > 0 {
                conv3x3_stride2_data_grad(
                    pixels,
                    Padding::Around,
                    &dy,
                    c,
                    weights,
                    Sink::new(&mut dbefore, c_in),
                );
            }
        } else {
            conv3x3_weight_grad(pixels, &source, &dy, c, &mut dweight);
            if len > 0 {
                conv3x3_data_grad(pixels, &dy, c, weights, Sink::new(&mut dbefore, c_in));
            }
        }
        gradients[3 * k] = dweight.into_vec();
        if len > 0 { dbefore.into_vec() } else { Vec::new() }
    }
}
