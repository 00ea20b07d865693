//! Images that are not finished yet.

use kao::Images;
use kao::images::unit_to_byte;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The predicted clean images of a batch after a step.
///
/// The work only rounds them to bytes. They are packed when somebody looks, once for all.
pub struct Preview {
    /// Number of the first of them among the images of the job.
    pub first: usize,
    n_images: usize,
    channels: usize,
    height: usize,
    width: usize,
    /// `[N, H, W, C]`.
    bytes: Vec<u8>,
    packed: OnceLock<String>,
}

impl Preview {
    pub fn new(first: usize, images: &Images) -> Self {
        let [n_images, channels, height, width] = images.shape();
        let plane = height * width;
        let mut bytes = vec![0; images.data().len()];
        let pictures = bytes.chunks_exact_mut((channels * plane).max(1));
        for (image, picture) in images.data().chunks_exact((channels * plane).max(1)).zip(pictures)
        {
            for (channel, values) in image.chunks_exact(plane.max(1)).enumerate() {
                let places = picture[channel..].iter_mut().step_by(channels);
                places.zip(values).for_each(|(byte, &value)| *byte = unit_to_byte(value));
            }
        }
        Preview { first, n_images, channels, height, width, bytes, packed: OnceLock::new() }
    }

    /// As an event: the images below each other in one PNG, as Base64.
    pub fn to_json(&self) -> Value {
        json!({
            "first": self.first,
            "count": self.n_images,
            "width": self.width,
            "height": self.height,
            "png": self.packed.get_or_init(|| kao::render::base64(&self.png())),
        })
    }

    /// Packed fast rather than well.
    fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, (self.n_images * self.height) as u32);
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        let colour =
            if self.channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale };
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fastest);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.bytes)?;
            writer.finish()
        });
        match written {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kao::control::Unattended;
    use kao::device::Device;
    use kao::model::Model;
    use kao::requests::Sample;
    use kao::sampler::SamplingConfig;
    use std::time::Instant;

    #[test]
    fn previews_cost_little_beside_the_steps_that_they_show() {
        let model = Model::built_in(&Device::Cpu).unwrap();
        let shortest = |seconds: &mut dyn FnMut() -> f64, n: usize| {
            (0..n).map(|_| seconds()).fold(f64::INFINITY, f64::min)
        };
        let sampling = SamplingConfig { steps: Some(2), ..SamplingConfig::default() };
        let sample = Sample { count: Some(16), sampling, ..Sample::default() };
        let images = sample.run_on(&model, "built-in", &Unattended).unwrap().images;
        let mut steps = || {
            let sampled = sample.run_on(&model, "built-in", &Unattended).unwrap();
            sampled.seconds / sampled.n_evaluations as f64
        };
        let step = shortest(&mut steps, 3);
        let mut previews = || {
            let started = Instant::now();
            assert!(Preview::new(0, &images).to_json()["png"].is_string());
            started.elapsed().as_secs_f64()
        };
        let preview = shortest(&mut previews, 20);
        println!("a preview takes {:.2} % of a step", 100.0 * preview / step);
        assert!(preview < 0.05 * step, "{preview} s of {step} s");
    }

    #[test]
    fn a_preview_has_the_pixels_of_its_images() {
        let data = (0..2 * 3 * 4).map(|i| i as f32 / 12.0 - 1.0).collect();
        let images = Images::from_vec([2, 3, 2, 2], data).unwrap();
        let preview = Preview::new(5, &images);
        let expected: Vec<u8> = (0..2).flat_map(|k| images.to_bytes_hwc(k)).collect();
        assert_eq!(preview.bytes, expected);
        let json = preview.to_json();
        assert_eq!((&json["first"], &json["count"]), (&json!(5), &json!(2)));
        let mut decoder =
            png::Decoder::new(std::io::Cursor::new(preview.png())).read_info().unwrap();
        let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
        decoder.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, expected);
    }
}
