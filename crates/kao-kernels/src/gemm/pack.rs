//! Operands on their way into the layouts of the matrix product.

use super::{BLOCK, PANEL};
use crate::Source;
use crate::activation::Pointwise;
use crate::simd::Simd;

/// How many values ahead rows are asked for.
const PREFETCH: usize = 512;

/// Where rows of channels go: channel c of row r to
/// `to + r · row_stride + (c / 16) · block_stride + c % 16`.
///
/// A block stride of 16 is row-major; a row stride of 16 is the blocked layout.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) to: *mut f32,
    pub(crate) row_stride: usize,
    pub(crate) block_stride: usize,
}

impl Rows {
    #[inline(always)]
    unsafe fn place(self, row: usize, channel: usize) -> *mut f32 {
        let offset = row * self.row_stride + channel / BLOCK * self.block_stride + channel % BLOCK;
        // SAFETY: the caller promises room for this row and channel.
        unsafe { self.to.add(offset) }
    }
}

/// Stored pixels of one image.
#[derive(Clone, Copy)]
pub(crate) struct PixelRun {
    pub(crate) image: usize,
    /// The first, counted in the batch.
    pub(crate) first: usize,
    /// From one to the next.
    pub(crate) step: usize,
    /// How many.
    pub(crate) number: usize,
}

/// Copies some channels (first, number) of stored pixels of a source through its prologue (whose
/// activation is P), and clears the rest of the last block.
///
/// # Safety
/// S is available; the source holds the pixels and the channels; `to` has room for as many rows of as
/// many channels.
#[inline(always)]
pub(crate) unsafe fn copy_source<S: Simd, P: Pointwise>(
    source: &Source<'_>,
    channels: (usize, usize),
    pixels: PixelRun,
    to: Rows,
) {
    let PixelRun { image, first: pixel, step, number: rows } = pixels;
    let parts =
        [(source.first, source.c_first, 0), (source.second, source.c_second, source.c_first)];
    let end = channels.0 + channels.1;
    // SAFETY: the caller's promise; the prologue's lengths were checked with the source's.
    unsafe {
        for (part, c_part, first_of_part) in parts {
            // What is wanted of this part.
            let first = channels.0.max(first_of_part);
            let n = end.min(first_of_part + c_part).saturating_sub(first);
            if n == 0 {
                continue;
            }
            let (scale, shift) = match &source.prologue {
                Some(prologue) => {
                    let place = image * source.channels() + first;
                    (prologue.scale.as_ptr().add(place), prologue.shift.as_ptr().add(place))
                }
                None => (std::ptr::null(), std::ptr::null()),
            };
            let from = part.as_ptr().add(pixel * c_part + first - first_of_part);
            let copied = CopiedRows {
                from,
                stride: step * c_part,
                rows,
                channels: n,
                scale,
                shift,
                first_channel: first - channels.0,
            };
            copied.copy::<S, P>(to);
        }
        clear_padding(to, rows, channels.1);
    }
}

/// Rows of values on their way to the channels from `first_channel` on.
struct CopiedRows {
    from: *const f32,
    /// From one row to the next.
    stride: usize,
    rows: usize,
    /// Values of a row.
    channels: usize,
    /// One value for each channel, or null where there is no prologue.
    scale: *const f32,
    shift: *const f32,
    first_channel: usize,
}

impl CopiedRows {
    /// Copies them through `act(x · scale + shift)`, where there is a scale.
    ///
    /// # Safety
    /// S is available; the rows, the scale and the shift hold their values; `to` has room for the rows.
    #[inline(always)]
    unsafe fn copy<S: Simd, P: Pointwise>(&self, to: Rows) {
        let Self { from, stride, rows, channels, scale, shift, first_channel } = *self;
        // SAFETY: the caller's promise; an aligned vector stays within one block of 16.
        unsafe {
            let aligned = first_channel.is_multiple_of(BLOCK);
            let ahead = PREFETCH.div_ceil(channels) * stride;
            for row in 0..rows {
                let from = from.add(row * stride);
                let mut channel = 0;
                while channel < channels {
                    let lanes = (channels - channel).min(S::LANES);
                    S::prefetch(from.wrapping_add(ahead + channel));
                    let mut x = if lanes == S::LANES {
                        S::load(from.add(channel))
                    } else {
                        S::load_part(from.add(channel), lanes)
                    };
                    if !scale.is_null() {
                        let (scale, shift) = if lanes == S::LANES {
                            (S::load(scale.add(channel)), S::load(shift.add(channel)))
                        } else {
                            (
                                S::load_part(scale.add(channel), lanes),
                                S::load_part(shift.add(channel), lanes),
                            )
                        };
                        x = P::apply::<S>(S::fma(x, scale, shift));
                    }
                    if aligned && lanes == S::LANES {
                        S::store(to.place(row, first_channel + channel), x);
                    } else if aligned {
                        S::store_part(to.place(row, first_channel + channel), lanes, x);
                    } else {
                        let mut values = [0.0f32; 16];
                        S::store(values.as_mut_ptr(), x);
                        for (i, &value) in values.iter().enumerate().take(lanes) {
                            *to.place(row, first_channel + channel + i) = value;
                        }
                    }
                    channel += lanes;
                }
            }
        }
    }
}

/// Puts zeros into the channels from `channels` to the end of its block.
///
/// # Safety
/// `to` has room for `rows` rows of `channels` rounded up to a block.
#[inline(always)]
unsafe fn clear_padding(to: Rows, rows: usize, channels: usize) {
    for row in 0..rows {
        for channel in channels..channels.next_multiple_of(BLOCK) {
            // SAFETY: the caller's promise.
            unsafe { *to.place(row, channel) = 0.0 };
        }
    }
}

/// A matrix of which a panel is packed.
#[derive(Clone, Copy)]
pub(crate) struct Unpacked {
    pub(crate) at: *const f32,
    /// From one row to the next, as it lies in memory.
    pub(crate) stride: usize,
    /// Rows of the panel.
    pub(crate) depth: usize,
    /// Columns of all panels together.
    pub(crate) columns: usize,
    /// The first column of the panel.
    pub(crate) first: usize,
}

/// Packs the columns from `first` on of a matrix `[depth, columns]` as a panel `[depth, PANEL]`, zeros
/// beyond the last column.
///
/// # Safety
/// S is available; the matrix has its rows, of which all columns are readable, and `to` has room for
/// the panel.
#[inline(always)]
pub(crate) unsafe fn pack_panel<S: Simd>(to: *mut f32, matrix: Unpacked) {
    let Unpacked { at: b, stride: b_stride, depth: k, columns, first } = matrix;
    // SAFETY: the caller's promise.
    unsafe {
        let width = (columns - first).min(PANEL);
        for row in 0..k {
            let from = b.add(row * b_stride + first);
            let to = to.add(row * PANEL);
            let mut column = 0;
            while column < PANEL {
                let lanes = width.saturating_sub(column).min(S::LANES);
                let x = if lanes == S::LANES {
                    S::load(from.add(column))
                } else if lanes > 0 {
                    S::load_part(from.add(column), lanes)
                } else {
                    S::splat(0.0)
                };
                S::store(to.add(column), x);
                column += S::LANES;
            }
        }
    }
}

/// Packs the columns from `first` on of the transpose of a matrix, which lies as `[columns, depth]`, as
/// a panel `[depth, PANEL]`, zeros beyond the last column.
///
/// # Safety
/// S is available; the matrix has as many rows as `columns` says, each of `depth` values; `to` has room
/// for the panel.
#[inline(always)]
pub(crate) unsafe fn pack_panel_transposed<S: Simd>(to: *mut f32, matrix: Unpacked) {
    let Unpacked { at: b, stride: b_stride, depth: k, columns, first } = matrix;
    // SAFETY: the caller's promise.
    unsafe {
        let mut block = 0;
        while block < PANEL {
            let width = columns.saturating_sub(first + block).min(BLOCK);
            let mut row = 0;
            while row < k {
                let from = b.wrapping_add((first + block) * b_stride + row);
                let to = to.add(row * PANEL + block);
                let height = (k - row).min(BLOCK);
                if width == BLOCK && height == BLOCK {
                    S::transpose16(from, b_stride, to, PANEL);
                } else {
                    for i in 0..height {
                        for j in 0..BLOCK {
                            *to.add(i * PANEL + j) =
                                if j < width { *from.add(j * b_stride + i) } else { 0.0 };
                        }
                    }
                }
                row += BLOCK;
            }
            block += BLOCK;
        }
    }
}
