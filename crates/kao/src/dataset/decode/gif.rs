//! GIF: the first frame, on a white ground.

use std::io::{Cursor, ErrorKind};
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodingError, MemoryLimit};

use super::{DecodeError, MAX_PIXELS, Source, one_line};

pub(super) struct Gif<'a> {
    reader: gif::Decoder<Cursor<&'a [u8]>>,
    frame: Frame,
}

/// Where the first frame lies in the picture, and its colours.
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    palette: Vec<u8>,
    transparent: Option<u8>,
}

impl<'a> Gif<'a> {
    pub fn open(content: &'a [u8]) -> Result<Self, DecodeError> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(ColorOutput::Indexed);
        // One byte a pixel.
        options.set_memory_limit(MemoryLimit::Bytes(
            NonZeroU64::new(MAX_PIXELS).unwrap_or(NonZeroU64::MIN),
        ));
        let mut reader = options.read_info(Cursor::new(content)).map_err(reason)?;
        let frame = reader.next_frame_info().map_err(reason)?;
        let frame = frame.ok_or_else(|| broken("it holds no frame"))?;
        let local = frame.palette.clone();
        let mut frame = Frame {
            left: frame.left.into(),
            top: frame.top.into(),
            width: frame.width.into(),
            height: frame.height.into(),
            palette: vec![],
            transparent: frame.transparent,
        };
        let global = || reader.global_palette().map(<[u8]>::to_vec);
        frame.palette = local.or_else(global).ok_or_else(|| broken("it has no palette"))?;
        Ok(Gif { reader, frame })
    }
}

impl Source for Gif<'_> {
    fn size(&self) -> [u32; 2] {
        [self.reader.width(), self.reader.height()].map(u32::from)
    }

    fn working_bytes(&self) -> u64 {
        self.frame.width as u64 * self.frame.height as u64
    }

    fn decode(mut self: Box<Self>) -> Result<Vec<u8>, DecodeError> {
        let [width, height] = self.size().map(|side| side as usize);
        let frame = &self.frame;
        if self.working_bytes() > MAX_PIXELS {
            let [width, height] = [frame.width, frame.height].map(|side| side as u32);
            return Err(DecodeError::TooManyPixels { width, height, most: MAX_PIXELS });
        }
        let n_across = frame.width.min(width.saturating_sub(frame.left));
        let n_down = frame.height.min(height.saturating_sub(frame.top));
        if n_across == 0 || n_down == 0 {
            return Err(broken("its first frame lies outside of it"));
        }
        let mut indices = vec![0; frame.width * frame.height];
        self.reader.read_into_buffer(&mut indices).map_err(reason)?;
        let mut pixels = vec![255; width * height * 3];
        for (y, row) in indices.chunks_exact(frame.width).take(n_down).enumerate() {
            let start = ((frame.top + y) * width + frame.left) * 3;
            let into = pixels[start..].as_chunks_mut::<3>().0.iter_mut();
            for (&index, pixel) in row.iter().take(n_across).zip(into) {
                let colour = frame.palette.as_chunks::<3>().0.get(usize::from(index));
                if frame.transparent != Some(index) {
                    *pixel =
                        *colour.ok_or_else(|| broken("a pixel has no colour of the palette"))?;
                }
            }
        }
        Ok(pixels)
    }
}

fn broken(problem: &str) -> DecodeError {
    DecodeError::Broken(problem.to_owned())
}

fn reason(error: DecodingError) -> DecodeError {
    match &error {
        DecodingError::UnexpectedEof => DecodeError::CutShort,
        DecodingError::Io(source) if source.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::CutShort
        }
        // The decoder has no kind of its own for a frame with too little data.
        error if error.to_string().ends_with("image truncated") => DecodeError::CutShort,
        error => DecodeError::Broken(one_line(error)),
    }
}
