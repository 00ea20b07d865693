//! What is gone between: noise of seeds, or of a file.

use super::Interpolate;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::noise::{ImageNumbers, NoiseSource, NumberedNoise, Purpose};
use crate::quantities::counted;
use crate::requests::noise_file::GivenNoise;
use std::path::Path;

/// The ends of the way.
pub(super) struct Ends {
    /// What each is called in labels.
    pub names: Vec<String>,
    /// x_T of each, `[N, C, H, W]`.
    pub x_t: Images,
    /// The noise of the steps of each.
    pub noise: EndNoise,
}

/// Where the noise of the steps of the ends comes from.
#[derive(Debug)]
pub(super) enum EndNoise {
    /// Each end is the only image of its own source.
    Seeds(Vec<NumberedNoise>),
    /// The noise of each step.
    Given(Vec<Images>),
}

impl NoiseSource for EndNoise {
    fn fill(&self, step_index: usize, end: usize, z: &mut [f32]) {
        match self {
            EndNoise::Seeds(seeds) => seeds[end].fill(step_index, 0, z),
            EndNoise::Given(steps) => z.copy_from_slice(steps[step_index].image(end)),
        }
    }
}

impl Ends {
    /// Those that `request` names, for images of `[C, H, W]`; `given` is what its file holds.
    ///
    /// # Errors
    /// When the file does not hold an image that is named, or only one image.
    pub fn of(
        request: &Interpolate,
        given: Option<&GivenNoise>,
        image_shape: [usize; 3],
    ) -> Result<Self> {
        match given {
            Some(given) => Self::given(request, given),
            None => Self::of_seeds(request, image_shape),
        }
    }

    fn of_seeds(request: &Interpolate, image_shape: [usize; 3]) -> Result<Self> {
        let Interpolate { between, images, seed, .. } = request;
        let of_seed = images.iter().map(|&number| (format!("image {number}"), *seed, number));
        let seeds = between.iter().map(|&seed| (format!("seed {seed}"), seed, 0));
        let [c, h, w] = image_shape;
        let (mut names, mut x_t, mut noise) = (Vec::new(), Images::zeros([0, c, h, w]), Vec::new());
        // One of the two is empty.
        for (name, seed, number) in of_seed.chain(seeds) {
            let numbers = ImageNumbers::These(vec![number]);
            let of_end = NumberedNoise { seed, purpose: Purpose::Sampling, numbers };
            x_t.append(&of_end.initial(0, 1, image_shape))?;
            names.push(name);
            noise.push(of_end);
        }
        Ok(Ends { names, x_t, noise: EndNoise::Seeds(noise) })
    }

    fn given(request: &Interpolate, given: &GivenNoise) -> Result<Self> {
        let n = given.x_t.len();
        let path = request.latents.as_deref().unwrap_or(Path::new(""));
        if let Some(image) = request.images.iter().find(|image| **image >= n as u64) {
            let n_images = counted(n as u64, "image");
            let allowed = format!("below {n}, to be one of the {n_images} of `{}`", path.display());
            return Err(Error::out_of_range("images", image, allowed));
        }
        if n < 2 && request.images.is_empty() {
            let problem = "`x_T` holds 1 image; expected two or more to go between";
            return Err(Error::malformed(path, problem));
        }
        let chosen: Vec<usize> = match request.images.is_empty() {
            true => (0..n).collect(),
            // Below n.
            false => request.images.iter().map(|&image| image as usize).collect(),
        };
        let names = chosen.iter().map(|image| format!("image {image}")).collect();
        let GivenNoise { x_t, z } = given.chosen(&chosen);
        Ok(Ends { names, x_t, noise: EndNoise::Given(z) })
    }
}
