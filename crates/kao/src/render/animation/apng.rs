//! Animated PNG.

use super::{Animation, Frames};
use crate::render::png::add_texts;
use std::io::{self, Write};

pub(super) fn write(
    file: impl Write,
    animation: &Animation<'_>,
    [width, height]: [usize; 2],
    frame: &mut Frames<'_>,
) -> io::Result<()> {
    // Both checked: PNG can express them.
    let mut encoder = ::png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_animated(animation.n_frames as u32, 0)?;
    add_texts(&mut encoder, animation.texts)?;
    let mut writer = encoder.write_header()?;
    for index in 0..animation.n_frames {
        let milliseconds = animation.milliseconds(index).min(u16::MAX.into()) as u16;
        writer.set_frame_delay(milliseconds, 1000)?;
        writer.write_image_data(frame(index)?.rgb())?;
    }
    writer.finish()?;
    Ok(())
}
