//! Files with the noise that images start from: `x_T` [N, C, H, W], and `z` [S, N, C, H, W] for the
//! steps where a sampler draws noise.

use crate::error::{Error, Result};
use crate::formats::{self, NamedTensors};
use crate::images::Images;
use crate::quantities::counted;
use crate::sampler::Plan;
use std::path::Path;

/// Noise that a file gives.
pub(super) struct GivenNoise {
    /// x_T, `[N, C, H, W]`.
    pub x_t: Images,
    /// The noise of each step, `[N, C, H, W]` each.
    pub z: Vec<Images>,
}

impl GivenNoise {
    /// Reads the file at `path`, which must fit images of `[C, H, W]`.
    ///
    /// # Errors
    /// When it cannot be read, or holds no such noise.
    pub fn read(path: &Path, [c, h, w]: [usize; 3]) -> Result<Self> {
        let tensors = formats::read(path)?.tensors;
        let x_t = given_x_t(path, &tensors)?;
        if x_t.image_shape() != [c, h, w] {
            let problem = format!(
                "`x_T` is {:?}; expected [N, {c}, {h}, {w}], the images of the model",
                x_t.shape()
            );
            return Err(Error::malformed(path, problem));
        }
        if x_t.is_empty() {
            return Err(Error::malformed(path, "`x_T` holds no image; expected at least one"));
        }
        let z = step_noise(path, &tensors, &x_t)?;
        Ok(GivenNoise { x_t, z })
    }

    /// How many images the file at `path` has noise for.
    ///
    /// # Errors
    /// When it cannot be read, or holds no noise.
    pub fn count(path: &Path) -> Result<usize> {
        given_x_t(path, &formats::read(path)?.tensors).map(|x_t| x_t.len())
    }

    /// Refuses a plan that draws noise in more steps than the file at `path` has noise for.
    ///
    /// # Errors
    /// Says how many it has.
    pub fn check(&self, path: &Path, plan: &Plan) -> Result<()> {
        let n_steps = plan.steps().len();
        if !plan.draws_noise() || self.z.len() >= n_steps {
            return Ok(());
        }
        let found = match self.z.len() {
            0 => "no tensor `z`".to_owned(),
            n => format!("`z` holds the noise of {}", counted(n as u64, "step")),
        };
        let problem = format!("{found}; the sampler draws noise in each of {n_steps}");
        let hint = "take fewer steps, or a sampler without noise";
        Err(Error::malformed(path, problem).with_hint(hint))
    }

    /// The noise of these images alone.
    pub fn chosen(&self, indices: &[usize]) -> Self {
        GivenNoise {
            x_t: self.x_t.chosen(indices),
            z: self.z.iter().map(|step| step.chosen(indices)).collect(),
        }
    }
}

fn given_x_t(path: &Path, tensors: &NamedTensors) -> Result<Images> {
    let Some(tensor) = tensors.get("x_T") else {
        let found: Vec<&str> = tensors.names().take(5).collect();
        let problem = format!("no tensor `x_T`; it holds {}", found.join(", "));
        return Err(Error::malformed(path, problem)
            .with_hint("`x_T` [N, C, H, W] is the noise to start from, `z` that of the steps"));
    };
    let shape: [usize; 4] = tensor.shape().try_into().map_err(|_| {
        let problem = format!("`x_T` is {:?}; expected [N, C, H, W]", tensor.shape());
        Error::malformed(path, problem)
    })?;
    check_finite(path, "x_T", tensor.data())?;
    Images::from_vec(shape, tensor.data().to_vec())
}

/// The noise of the steps, where it is there.
fn step_noise(path: &Path, tensors: &NamedTensors, x_t: &Images) -> Result<Vec<Images>> {
    let Some(z) = tensors.get("z") else { return Ok(Vec::new()) };
    if z.shape().get(1..) != Some(&x_t.shape()) {
        let problem = format!(
            "`z` is {:?}; expected [S, N, C, H, W] to go with `x_T` of {:?}",
            z.shape(),
            x_t.shape()
        );
        return Err(Error::malformed(path, problem));
    }
    check_finite(path, "z", z.data())?;
    let steps = z.data().chunks_exact(x_t.data().len().max(1));
    steps.map(|step| Images::from_vec(x_t.shape(), step.to_vec())).collect()
}

fn check_finite(path: &Path, name: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => {
            Err(Error::malformed(path, format!("`{name}` holds {value}; expected finite numbers")))
        }
        None => Ok(()),
    }
}
