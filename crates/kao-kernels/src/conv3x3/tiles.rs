//! Images as tiles of 4×4 pixels, and their way into the Winograd domain and back.
//!
//! Tiles are counted over the whole batch, row of tiles by row of tiles. In the Winograd domain the
//! tiles of a group lie in 36 planes, each in the blocked layout of [`crate::gemm`].

use super::phase::Phase;
use super::transform;
use super::weights::PLANES;
use crate::activation::{Pointwise, for_activation};
use crate::gemm::pack::{PixelRun, Rows, copy_source};
use crate::gemm::{BLOCK, PANEL};
use crate::output::Output;
use crate::simd::{Kernel, Simd};
use crate::{Pixels, Source};

/// A batch as rows of tiles.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    pub(super) pixels: Pixels,
    /// Rows of tiles in an image.
    pub(super) high: usize,
    /// Tiles in a row.
    pub(super) wide: usize,
}

impl Tiling {
    pub(super) fn new(pixels: Pixels) -> Self {
        Self { pixels, high: pixels.h.div_ceil(4), wide: pixels.w.div_ceil(4) }
    }

    /// Rows of tiles in the batch.
    pub(super) fn rows(self) -> usize {
        self.pixels.n * self.high
    }

    /// The pixels of a tile; those of a phase of an image of twice the sides, where there is one.
    fn pixels_of(self, tile: usize, phase: Option<Phase>) -> TilePixels {
        let Pixels { h, w, .. } = self.pixels;
        let (image, top) = self.place(tile / self.wide);
        let left = tile % self.wide * 4;
        match phase {
            None => TilePixels { first: (image * h + top) * w + left, right: 1, down: w },
            Some(Phase { row, column }) => {
                let (top, left) = (2 * top + row, 2 * left + column);
                TilePixels { first: (image * 2 * h + top) * 2 * w + left, right: 2, down: 4 * w }
            }
        }
    }

    /// Image and first line of a row of tiles.
    fn place(self, row: usize) -> (usize, usize) {
        (row / self.high, row % self.high * 4)
    }
}

/// Where the pixels of a tile are.
#[derive(Clone, Copy)]
struct TilePixels {
    /// Its first pixel in the batch.
    first: usize,
    /// From one to the next in a line, and to the one below.
    right: usize,
    down: usize,
}

/// Room for the tiles of a group in the Winograd domain.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) tiles: usize,
    pub(super) channels: usize,
}

impl Group {
    pub(super) fn block_stride(self) -> usize {
        self.tiles * BLOCK
    }

    /// An odd number of cache lines, so that planes do not meet in the same cache sets.
    pub(super) fn plane_stride(self) -> usize {
        let len = self.channels.div_ceil(BLOCK) * self.block_stride();
        if len.is_multiple_of(2 * BLOCK) { len + BLOCK } else { len }
    }

    pub(super) fn len(self) -> usize {
        PLANES * self.plane_stride()
    }
}

/// Length of the working memory of [`TransformInput`] and [`TransformOutputGradient`].
pub(super) fn strip_len(tiling: Tiling, channels: usize) -> usize {
    6 * (tiling.wide * 4 + 2) * channels.next_multiple_of(BLOCK)
}

/// Bᵀ x B for rows of tiles.
///
/// # Safety of running it
/// The source fits the pixels of the tiling, which has the rows; `to` has room for the group, and
/// `strip` for [`strip_len`].
pub(super) struct TransformInput<'a> {
    pub(super) tiling: Tiling,
    pub(super) source: &'a Source<'a>,
    /// First row of tiles and number of rows.
    pub(super) rows: (usize, usize),
    /// Of the source.
    pub(super) first_channel: usize,
    pub(super) channels: usize,
    /// Of the group that the rows belong to.
    pub(super) group: Group,
    /// The group's memory, from the block on that these channels begin.
    pub(super) to: *mut f32,
    /// The place of the first tile in the group.
    pub(super) first_tile: usize,
    pub(super) strip: *mut f32,
    /// Where the source has twice the sides: the pixels that are wanted.
    pub(super) phase: Option<Phase>,
}

impl Kernel for TransformInput<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let activation =
            self.source.prologue.map(|prologue| prologue.activation).unwrap_or_default();
        // SAFETY: the caller's promise.
        for_activation!(activation, P => unsafe { self.run_with::<S, P>() });
    }
}

impl TransformInput<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise>(self) {
        let pixel_stride = self.channels.next_multiple_of(BLOCK);
        let line_stride = (self.tiling.wide * 4 + 2) * pixel_stride;
        // SAFETY: the strip has room for six lines, `to` for the group.
        unsafe {
            let mut lines = [std::ptr::null_mut(); 6];
            for (i, line) in lines.iter_mut().enumerate() {
                *line = self.strip.add(i * line_stride);
            }
            for i in 0..self.rows.1 {
                let (image, first_line) = self.tiling.place(self.rows.0 + i);
                // The last two lines of the row of tiles above are the first two of this one.
                let known = if i > 0 && first_line > 0 { 2 } else { 0 };
                if known > 0 {
                    lines.rotate_left(4);
                }
                for (j, &line) in lines.iter().enumerate().skip(known) {
                    // Line 0 is the one above the tile.
                    self.fill_line::<S, P>(image, first_line + j, line, pixel_stride);
                }
                for column in 0..self.tiling.wide {
                    let tile = self.first_tile + i * self.tiling.wide + column;
                    let to = self.to.add(tile * BLOCK);
                    let from = lines.map(|line| line.add(column * 4 * pixel_stride).cast_const());
                    self.transform_tile::<S>(from, pixel_stride, to);
                }
            }
        }
    }

    /// Writes line `y − 1` of an image with a pixel of zeros on its left, and zeros to the end of
    /// the last tile on its right; all zeros outside the image.
    #[inline(always)]
    unsafe fn fill_line<S: Simd, P: Pointwise>(
        &self,
        image: usize,
        y: usize,
        line: *mut f32,
        pixel_stride: usize,
    ) {
        let Pixels { h, w, .. } = self.tiling.pixels;
        let source = self.source;
        let n_pixels = self.tiling.wide * 4 + 2;
        // SAFETY: a line has room for this many pixels, and the source holds the line.
        unsafe {
            if y == 0 || y > h {
                line.write_bytes(0, n_pixels * pixel_stride);
                return;
            }
            line.write_bytes(0, pixel_stride);
            line.add((w + 1) * pixel_stride).write_bytes(0, (n_pixels - w - 1) * pixel_stride);
            let to =
                Rows { to: line.add(pixel_stride), row_stride: pixel_stride, block_stride: BLOCK };
            let y = y - 1;
            let (pixel, step) = match self.phase {
                Some(Phase { row, column }) => ((image * 2 * h + 2 * y + row) * 2 * w + column, 2),
                None => ((image * h + y) * w, 1),
            };
            let channels = (self.first_channel, self.channels);
            let pixels = PixelRun { image, first: pixel, step, number: w };
            copy_source::<S, P>(source, channels, pixels, to);
        }
    }

    #[inline(always)]
    unsafe fn transform_tile<S: Simd>(
        &self,
        from: [*const f32; 6],
        pixel_stride: usize,
        to: *mut f32,
    ) {
        let plane_stride = self.group.plane_stride();
        // SAFETY: six pixels of six lines, and the tile's place in the group.
        unsafe {
            let mut channel = 0;
            while channel < pixel_stride {
                let mut along_x = [[S::splat(0.0); 6]; 6];
                for (from, along_x) in from.iter().zip(&mut along_x) {
                    let mut x = [S::splat(0.0); 6];
                    for (j, x) in x.iter_mut().enumerate() {
                        *x = S::load(from.add(j * pixel_stride + channel));
                    }
                    *along_x = transform::input::<S>(x);
                }
                let to = to.add(channel / BLOCK * self.group.block_stride() + channel % BLOCK);
                for j in 0..6 {
                    let mut column = [S::splat(0.0); 6];
                    for (value, along_x) in column.iter_mut().zip(&along_x) {
                        *value = along_x[j];
                    }
                    for (i, &value) in transform::input::<S>(column).iter().enumerate() {
                        S::store(to.add((i * 6 + j) * plane_stride), value);
                    }
                }
                channel += S::LANES;
            }
        }
    }
}

/// Aᵀ m A for the tiles of a group and one panel of channels, and out with it.
///
/// # Safety of running it
/// `from` holds `[plane][tile][PANEL]` with the plane stride [`product_plane_stride`]; the output
/// fits the pixels of the tiling.
pub(super) struct TransformOutput<'a> {
    pub(super) tiling: Tiling,
    pub(super) output: &'a Output<'a>,
    /// First tile in the batch, and number of tiles.
    pub(super) tiles: (usize, usize),
    pub(super) first_channel: usize,
    /// Where the output has twice the sides: the pixels that these are.
    pub(super) phase: Option<Phase>,
    pub(super) from: *const f32,
}

/// Distance of the planes of the products of a number of tiles and one panel.
pub(super) fn product_plane_stride(tiles: usize) -> usize {
    tiles * PANEL + 16
}

impl Kernel for TransformOutput<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Pixels { h, w, .. } = self.tiling.pixels;
        let width = (self.output.channels() - self.first_channel).min(PANEL);
        let plane_stride = product_plane_stride(self.tiles.1);
        for i in 0..self.tiles.1 {
            let tile = self.tiles.0 + i;
            let (image, top) = self.tiling.place(tile / self.tiling.wide);
            let left = tile % self.tiling.wide * 4;
            let (height, breadth) = ((h - top).min(4), (w - left).min(4));
            let pixels = self.tiling.pixels_of(tile, self.phase);
            let mut column = 0;
            while column < width {
                let lanes = (width - column).min(S::LANES);
                let channel = self.first_channel + column;
                // SAFETY: the tile, its pixels inside the image and the channels exist.
                unsafe {
                    let from = self.from.add(i * PANEL + column);
                    let mut along_y = [[S::splat(0.0); 4]; 6];
                    for (j, along_y) in along_y.iter_mut().enumerate() {
                        let mut m = [S::splat(0.0); 6];
                        for (i, m) in m.iter_mut().enumerate() {
                            *m = S::load(from.add((i * 6 + j) * plane_stride));
                        }
                        *along_y = transform::output::<S>(m);
                    }
                    let bias = self.output.bias::<S>(image, channel, lanes);
                    let mut lines = [[S::splat(0.0); 4]; 4];
                    for (y, line) in lines.iter_mut().enumerate() {
                        let mut m = [S::splat(0.0); 6];
                        for (m, along_y) in m.iter_mut().zip(&along_y) {
                            *m = along_y[y];
                        }
                        *line = transform::output::<S>(m);
                    }
                    if let (4, 4, Some((to, stride, residual))) =
                        (height, breadth, self.output.place(pixels.first, channel, S::LANES))
                        && lanes == S::LANES
                    {
                        // The usual case, without a decision for every pixel.
                        let accumulates = self.output.accumulates();
                        for (y, line) in lines.iter().enumerate() {
                            let to = to.add(y * pixels.down * stride);
                            let residual = residual.map(|residual| {
                                residual.wrapping_add(y * pixels.down * self.output.channels())
                            });
                            for (x, &value) in line.iter().enumerate() {
                                let mut value = S::add(value, bias);
                                if let Some(residual) = residual {
                                    let right = x * pixels.right * self.output.channels();
                                    let residual = residual.add(right);
                                    value = S::add(value, S::load(residual));
                                }
                                let to = to.add(x * pixels.right * stride);
                                if accumulates {
                                    value = S::add(S::load(to), value);
                                }
                                S::store(to, value);
                            }
                        }
                    } else {
                        for (y, line) in lines.iter().enumerate().take(height) {
                            let pixel = pixels.first + y * pixels.down;
                            for (x, &value) in line.iter().enumerate().take(breadth) {
                                let (value, pixel) =
                                    (S::add(value, bias), pixel + x * pixels.right);
                                self.output.write::<S>(pixel, channel, lanes, value);
                            }
                        }
                    }
                }
                column += lanes;
            }
        }
    }
}

/// Asks for the pixels of a tile, `width` channels from `first_channel` on.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(super) unsafe fn prefetch_tile<S: Simd>(
    tiling: Tiling,
    output: &Output<'_>,
    tile: usize,
    phase: Option<Phase>,
    first_channel: usize,
    width: usize,
) {
    let Pixels { h, w, .. } = tiling.pixels;
    let (_, top) = tiling.place(tile / tiling.wide);
    let left = tile % tiling.wide * 4;
    let pixels = tiling.pixels_of(tile, phase);
    for y in 0..(h - top).min(4) {
        for x in 0..(w - left).min(4) {
            let pixel = pixels.first + y * pixels.down + x * pixels.right;
            for column in (0..width).step_by(BLOCK) {
                // SAFETY: S is available.
                unsafe { output.prefetch::<S>(pixel, first_channel + column) };
            }
        }
    }
}

/// A dy Aᵀ for rows of tiles: the gradient of an output on its way to that of the weights.
///
/// # Safety of running it
/// dy is `[N, H, W, c_out]` of the tiling's pixels, of twice the sides where there is a phase; `to`
/// has room for the group.
pub(super) struct TransformOutputGradient<'a> {
    pub(super) tiling: Tiling,
    pub(super) dy: &'a [f32],
    pub(super) c_out: usize,
    /// There are as many as the group has.
    pub(super) first_channel: usize,
    pub(super) rows: (usize, usize),
    pub(super) group: Group,
    pub(super) to: *mut f32,
    pub(super) first_tile: usize,
    /// Where dy has twice the sides: the pixels that are wanted.
    pub(super) phase: Option<Phase>,
}

impl Kernel for TransformOutputGradient<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn run<S: Simd>(self) {
        let Pixels { h, w, .. } = self.tiling.pixels;
        let channels = self.group.channels;
        for i in 0..self.rows.1 * self.tiling.wide {
            let (_, top) = self.tiling.place(self.rows.0 + i / self.tiling.wide);
            let left = i % self.tiling.wide * 4;
            let pixels = self.tiling.pixels_of(self.rows.0 * self.tiling.wide + i, self.phase);
            let (height, breadth) = ((h - top).min(4), (w - left).min(4));
            let tile = self.first_tile + i;
            let mut channel = 0;
            while channel < channels.next_multiple_of(BLOCK) {
                let lanes = channels.saturating_sub(channel).min(S::LANES);
                // SAFETY: pixels inside the image, and the tile's place in the group.
                unsafe {
                    let mut along_x = [[S::splat(0.0); 6]; 4];
                    for (y, along_x) in along_x.iter_mut().enumerate().take(height) {
                        let pixel = pixels.first + y * pixels.down;
                        let mut dy = [S::splat(0.0); 4];
                        for (x, dy) in dy.iter_mut().enumerate().take(breadth) {
                            let pixel = pixel + x * pixels.right;
                            let place = pixel * self.c_out + self.first_channel + channel;
                            let from = self.dy.as_ptr().wrapping_add(place);
                            if lanes == S::LANES {
                                *dy = S::load(from);
                            } else if lanes > 0 {
                                *dy = S::load_part(from, lanes);
                            }
                        }
                        *along_x = transform::output_gradient::<S>(dy);
                    }
                    let place = channel / BLOCK * self.group.block_stride()
                        + tile * BLOCK
                        + channel % BLOCK;
                    let to = self.to.add(place);
                    for j in 0..6 {
                        let column = [along_x[0][j], along_x[1][j], along_x[2][j], along_x[3][j]];
                        let planes = transform::output_gradient::<S>(column);
                        for (i, &value) in planes.iter().enumerate() {
                            S::store(to.add((i * 6 + j) * self.group.plane_stride()), value);
                        }
                    }
                }
                channel += S::LANES;
            }
        }
    }
}
