//! Convolutions as matrix products whose left operand is gathered from pixels: 1×1, and 3×3 with
//! stride 2.
//!
//! Every output row (a pixel) has one input pixel for each tap, or none where the window leaves the
//! image. Each tap is a product of gathered rows with its own weights; taps are summed in their
//! order, so a result depends neither on the batch nor on the threads.

use crate::activation::{Pointwise, for_activation};
use crate::gemm::pack::{Rows, copy_source, pack_panel, pack_panel_transposed};
use crate::gemm::{BLOCK, PANEL, multiply, multiply_transposed};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch, lanes};
use crate::{Destination, Pixels, Source};

/// Which input pixels an output pixel sees.
#[derive(Clone, Copy)]
pub(crate) enum Window {
    /// Its own.
    Pointwise(Pixels),
    /// The 3×3 around (2y, 2x), for inputs of these pixels.
    Stride2(Pixels),
    /// The transpose of `Stride2`, for the outputs (pixels of the convolution's input) with these
    /// parities of y and x. Taps are those of the parity; see [`Window::weight_tap`].
    Stride2Transposed(Pixels, usize, usize),
}

impl Window {
    /// Output pixels.
    fn rows(self) -> usize {
        match self {
            Self::Pointwise(pixels) => pixels.total(),
            Self::Stride2(pixels) => pixels.halved().total(),
            Self::Stride2Transposed(pixels, y, x) => {
                let (high, wide) = lattice(pixels, y, x);
                pixels.n * high * wide
            }
        }
    }

    fn taps(self) -> usize {
        match self {
            Self::Pointwise(_) => 1,
            Self::Stride2(_) => 9,
            // Even places are hit by the middle row of weights, odd ones by the outer two.
            Self::Stride2Transposed(_, y, x) => (1 + y) * (1 + x),
        }
    }

    /// The place of a tap in the weights `[3, 3, …]`.
    fn weight_tap(self, tap: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(_) => tap,
            Self::Stride2Transposed(_, y, x) => {
                let (ky, kx) = transposed_tap(tap, y, x);
                ky * 3 + kx
            }
        }
    }

    /// Image, and y and x of an output row: its pixel, counted in the output's own lattice.
    fn place(self, row: usize) -> (usize, usize, usize) {
        let (high, wide) = match self {
            Self::Pointwise(pixels) => (pixels.h, pixels.w),
            Self::Stride2(pixels) => (pixels.h.div_ceil(2), pixels.w.div_ceil(2)),
            Self::Stride2Transposed(pixels, y, x) => lattice(pixels, y, x),
        };
        (row / (high * wide), row / wide % high, row % wide)
    }

    /// Where an output row is written.
    fn output_pixel(self, row: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(_) => row,
            Self::Stride2Transposed(pixels, odd_y, odd_x) => {
                let (image, y, x) = self.place(row);
                (image * pixels.h + 2 * y + odd_y) * pixels.w + 2 * x + odd_x
            }
        }
    }

    /// The line and column of the input that an output pixel sees through a tap.
    fn input_place(self, y: usize, x: usize, tap: usize) -> Option<(usize, usize)> {
        match self {
            Self::Pointwise(_) => Some((y, x)),
            Self::Stride2(pixels) => {
                let (y, x) = ((2 * y + tap / 3).checked_sub(1)?, (2 * x + tap % 3).checked_sub(1)?);
                (y < pixels.h && x < pixels.w).then_some((y, x))
            }
            Self::Stride2Transposed(pixels, odd_y, odd_x) => {
                let (ky, kx) = transposed_tap(tap, odd_y, odd_x);
                // 2·(y of dy) + ky − 1 = y of dx, and likewise for x.
                let (y, x) = ((2 * y + odd_y + 1 - ky) / 2, (2 * x + odd_x + 1 - kx) / 2);
                let halved = pixels.halved();
                (y < halved.h && x < halved.w).then_some((y, x))
            }
        }
    }

    /// The pixels of the input.
    fn input(self) -> Pixels {
        match self {
            Self::Pointwise(pixels) | Self::Stride2(pixels) => pixels,
            Self::Stride2Transposed(pixels, ..) => pixels.halved(),
        }
    }
}

/// Height and width of the pixels with these parities.
fn lattice(pixels: Pixels, odd_y: usize, odd_x: usize) -> (usize, usize) {
    ((pixels.h + 1 - odd_y) / 2, (pixels.w + 1 - odd_x) / 2)
}

fn transposed_tap(tap: usize, odd_y: usize, odd_x: usize) -> (usize, usize) {
    let (i, j) = (tap / (1 + odd_x), tap % (1 + odd_x));
    (if odd_y == 1 { 2 * i } else { 1 }, if odd_x == 1 { 2 * j } else { 1 })
}

/// The shape of packed weights: `taps` matrices `[c_from, c_to]`, each in panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PackedLayout {
    pub(crate) taps: usize,
    pub(crate) c_from: usize,
    pub(crate) c_to: usize,
}

impl PackedLayout {
    fn panels(self) -> usize {
        self.c_to.div_ceil(PANEL)
    }

    fn panel_stride(self) -> usize {
        self.c_from * PANEL + BLOCK
    }

    fn tap_stride(self) -> usize {
        self.panels() * self.panel_stride()
    }

    pub(crate) fn len(self) -> usize {
        self.taps * self.tap_stride()
    }
}

/// Packs weights `[taps, c_from, c_to]`, or with `transposed` `[taps, c_to, c_from]`.
///
/// # Safety
/// The level is available, `weights` has that length, and `to` has room for the layout.
pub(crate) unsafe fn pack_weights(
    level: SimdLevel,
    weights: &[f32],
    layout: PackedLayout,
    transposed: bool,
    to: *mut f32,
) {
    let to = Shared::new(to);
    for_each_task(layout.taps * layout.panels(), |task| {
        let (tap, panel) = (task / layout.panels(), task % layout.panels());
        let kernel = PackPanel {
            weights: &weights[tap * layout.c_from * layout.c_to..],
            layout,
            transposed,
            panel,
            // SAFETY: the caller's promise.
            to: unsafe { to.get().add(tap * layout.tap_stride() + panel * layout.panel_stride()) },
        };
        // SAFETY: the caller's promise; each task has a panel of its own.
        unsafe { dispatch(level, kernel) };
    });
}

struct PackPanel<'a> {
    weights: &'a [f32],
    layout: PackedLayout,
    transposed: bool,
    panel: usize,
    to: *mut f32,
}

impl Kernel for PackPanel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (from, first) = (self.weights.as_ptr(), self.panel * PANEL);
        let PackedLayout { c_from, c_to, .. } = self.layout;
        // SAFETY: the weights hold the matrix, and `to` the panel.
        unsafe {
            if self.transposed {
                pack_panel_transposed::<S>(self.to, from, c_from, c_from, first, c_to);
            } else {
                pack_panel::<S>(self.to, from, c_to, c_from, first, c_to);
            }
        }
    }
}

/// Rows of a task.
const TASK_ROWS: usize = 56;

/// `output = gathered source · weights`, for all rows of the window.
///
/// # Safety
/// The level is available; the source fits the window's input and has `layout.c_from` channels; the
/// packed weights have the layout, with all taps of `[3, 3]` or one; the output fits the window.
pub(crate) unsafe fn multiply_gathered(
    level: SimdLevel,
    window: Window,
    source: &Source<'_>,
    weights: *const f32,
    layout: PackedLayout,
    output: &Output<'_>,
) {
    let weights = Shared::new(weights.cast_mut());
    let n_rows = window.rows();
    if is_direct(level, window, source, layout) {
        let tasks = n_rows.div_ceil(DIRECT_ROWS);
        return for_each_task(tasks, |task| {
            let first = task * n_rows / tasks;
            let rows = (first, (task + 1) * n_rows / tasks - first);
            let weights = weights.get();
            let kernel = MultiplyDirect { window, source, weights, layout, output, rows };
            // SAFETY: the caller's promise; each task has rows of its own.
            unsafe { dispatch(level, kernel) };
        });
    }
    // Few rows are dealt out by panels too, so that all threads have work.
    let row_tasks = n_rows.div_ceil(TASK_ROWS);
    let panel_tasks =
        if row_tasks < 2 * rayon::current_num_threads() { layout.panels() } else { 1 };
    for_each_task(row_tasks * panel_tasks, |task| {
        let (row_task, panel_task) = (task / panel_tasks, task % panel_tasks);
        let first = row_task * n_rows / row_tasks;
        let rows = (first, (row_task + 1) * n_rows / row_tasks - first);
        let first = panel_task * layout.panels() / panel_tasks;
        let panels = (first, (panel_task + 1) * layout.panels() / panel_tasks - first);
        let tap_len = rows.1 * layout.c_from.next_multiple_of(BLOCK);
        let mut gathered = Scratch::new(window.taps() * tap_len);
        let mut products = Scratch::new(rows.1 * PANEL);
        let kernel = MultiplyRows {
            window,
            source,
            weights: weights.get(),
            layout,
            output,
            rows,
            panels,
            gathered: gathered.as_mut_ptr(),
            products: products.as_mut_ptr(),
        };
        // SAFETY: the caller's promise; each task has rows and panels of its own.
        unsafe { dispatch(level, kernel) };
    });
}

/// Rows of a task of [`MultiplyDirect`], and of its register tile.
const DIRECT_ROWS: usize = 96;
const DIRECT_TILE_ROWS: usize = 6;
/// The most input channels of a direct product: the weights of its columns should stay in the first
/// cache while the rows go by.
const DIRECT_CHANNELS: usize = 256;

/// Whether rows can be multiplied where they lie: pixels as they are, by vectors of 16, and enough
/// of them for all threads.
fn is_direct(level: SimdLevel, window: Window, source: &Source<'_>, layout: PackedLayout) -> bool {
    lanes(level) == BLOCK
        && matches!(window, Window::Pointwise(_))
        && source.prologue.is_none()
        && !source.upsampled
        && layout.c_to.is_multiple_of(2 * PANEL)
        && layout.c_from <= DIRECT_CHANNELS
        && window.rows() >= 2 * DIRECT_TILE_ROWS * rayon::current_num_threads()
}

/// A product whose left operand is read where it lies, for [`is_direct`]: nothing is gathered, and
/// results are written from the registers. Its chains of multiply-adds are those of [`multiply`].
struct MultiplyDirect<'a> {
    window: Window,
    source: &'a Source<'a>,
    weights: *const f32,
    layout: PackedLayout,
    output: &'a Output<'a>,
    /// First and number.
    rows: (usize, usize),
}

impl Kernel for MultiplyDirect<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (first, n_rows) = self.rows;
        let n_tiles = n_rows.div_ceil(DIRECT_TILE_ROWS);
        for panel in (0..self.layout.panels()).step_by(2) {
            let mut row = 0;
            for tile in 0..n_tiles {
                let height = (n_rows - row).div_ceil(n_tiles - tile);
                // SAFETY: the caller of `dispatch` promises the rows, and both panels.
                unsafe {
                    match height {
                        1 => self.tile::<S, 1>(first + row, panel),
                        2 => self.tile::<S, 2>(first + row, panel),
                        3 => self.tile::<S, 3>(first + row, panel),
                        4 => self.tile::<S, 4>(first + row, panel),
                        5 => self.tile::<S, 5>(first + row, panel),
                        _ => self.tile::<S, DIRECT_TILE_ROWS>(first + row, panel),
                    }
                }
                row += height;
            }
        }
    }
}

impl MultiplyDirect<'_> {
    /// Some rows by two panels.
    ///
    /// # Safety
    /// S is available, with vectors of a block; the rows and panels exist.
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize>(&self, row: usize, panel: usize) {
        let Source { first, c_first, second, c_second, .. } = *self.source;
        // SAFETY: the caller's promise.
        unsafe {
            let left = self.weights.add(panel * self.layout.panel_stride());
            let panels = [left, left.add(self.layout.panel_stride())];
            let sums = [[S::splat(0.0); 4]; ROWS];
            let from = first.as_ptr().wrapping_add(row * c_first);
            let sums = accumulated::<S, ROWS>(sums, c_first, from, panels);
            let from = second.as_ptr().wrapping_add(row * c_second);
            let panels = panels.map(|panel| panel.wrapping_add(c_first * PANEL));
            let sums = accumulated::<S, ROWS>(sums, c_second, from, panels);
            let channel = panel * PANEL;
            let in_order = !self.output.has_image_bias();
            for (i, sums) in sums.iter().enumerate() {
                let row = row + i;
                let image = if in_order { 0 } else { self.window.place(row).0 };
                for (j, &sum) in sums.iter().enumerate() {
                    let channel = channel + j * BLOCK;
                    let bias = self.output.bias::<S>(image, channel, BLOCK);
                    self.output.write::<S>(row, channel, BLOCK, S::add(sum, bias));
                }
            }
        }
    }
}

/// The sums of some rows of `channels` values by two panels, added to what they were.
///
/// # Safety
/// S is available, with vectors of a block; the rows and panels exist.
#[inline(always)]
unsafe fn accumulated<S: Simd, const ROWS: usize>(
    mut sums: [[S::V; 4]; ROWS],
    channels: usize,
    from: *const f32,
    [left, right]: [*const f32; 2],
) -> [[S::V; 4]; ROWS] {
    // SAFETY: the caller's promise.
    unsafe {
        for k in 0..channels {
            let (left, right) = (left.add(k * PANEL), right.add(k * PANEL));
            let b = [
                S::load(left),
                S::load(left.add(BLOCK)),
                S::load(right),
                S::load(right.add(BLOCK)),
            ];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = S::splat(*from.add(i * channels + k));
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = S::fma(a, b, *sum);
                }
            }
        }
    }
    sums
}

struct MultiplyRows<'a> {
    window: Window,
    source: &'a Source<'a>,
    weights: *const f32,
    layout: PackedLayout,
    output: &'a Output<'a>,
    rows: (usize, usize),
    panels: (usize, usize),
    gathered: *mut f32,
    products: *mut f32,
}

impl Kernel for MultiplyRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (window, layout, rows) = (self.window, self.layout, self.rows);
        let tap_len = rows.1 * layout.c_from.next_multiple_of(BLOCK);
        // SAFETY: the working memory has room for rows, taps and one panel.
        unsafe {
            for tap in 0..window.taps() {
                gather::<S>(
                    window,
                    self.source,
                    rows,
                    tap,
                    self.gathered.add(tap * tap_len),
                    rows.1,
                );
            }
            for panel in self.panels.0..self.panels.0 + self.panels.1 {
                let columns = (layout.c_to - panel * PANEL).min(PANEL);
                for tap in 0..window.taps() {
                    let weights = self.weights.add(
                        window.weight_tap(tap) * layout.tap_stride()
                            + panel * layout.panel_stride(),
                    );
                    multiply::<S>(
                        rows.1,
                        layout.c_from,
                        columns,
                        self.gathered.add(tap * tap_len),
                        rows.1 * BLOCK,
                        weights,
                        self.products,
                        PANEL,
                        tap > 0,
                    );
                }
                self.write_panel::<S>(panel * PANEL, columns);
            }
        }
    }
}

impl MultiplyRows<'_> {
    /// Writes the products of one panel, `columns` channels from `first_channel` on.
    ///
    /// # Safety
    /// S is available; the products are there, and the output has the rows and channels.
    #[inline(always)]
    unsafe fn write_panel<S: Simd>(&self, first_channel: usize, columns: usize) {
        let (window, rows) = (self.window, self.rows);
        // The place of a row takes divisions, which are as slow as its products: where rows are
        // pixels in order and all images have one bias, it is not needed.
        let in_order = matches!(window, Window::Pointwise(_)) && !self.output.has_image_bias();
        for row in 0..rows.1 {
            let (image, pixel) = if in_order {
                (0, rows.0 + row)
            } else {
                (window.place(rows.0 + row).0, window.output_pixel(rows.0 + row))
            };
            let mut column = 0;
            while column < columns {
                let lanes = (columns - column).min(S::LANES);
                let channel = first_channel + column;
                // SAFETY: the caller's promise.
                unsafe {
                    let product = S::load(self.products.add(row * PANEL + column));
                    let bias = self.output.bias::<S>(image, channel, lanes);
                    self.output.write::<S>(pixel, channel, lanes, S::add(product, bias));
                }
                column += lanes;
            }
        }
    }
}

/// Gathers what `rows` (first, number) see through a tap, in blocked layout of `group_rows` rows.
///
/// # Safety
/// S is available; the source fits the window's input; `to` has room for the rows.
#[inline(always)]
unsafe fn gather<S: Simd>(
    window: Window,
    source: &Source<'_>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
) {
    let activation = source.prologue.map(|prologue| prologue.activation).unwrap_or_default();
    // SAFETY: the caller's promise.
    for_activation!(activation, P => unsafe {
        gather_with::<S, P>(window, source, rows, tap, to, group_rows);
    });
}

#[inline(always)]
unsafe fn gather_with<S: Simd, P: Pointwise>(
    window: Window,
    source: &Source<'_>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
) {
    let channels = source.channels();
    let block_stride = group_rows * BLOCK;
    let input = window.input();
    let side_by_side = matches!(window, Window::Pointwise(_)) && !source.upsampled;
    let mut row = 0;
    while row < rows.1 {
        let (image, y, x) = window.place(rows.0 + row);
        // Rows that follow each other in the input too, to the end of the image.
        let run = if side_by_side {
            (rows.1 - row).min(input.per_image() - (y * input.w + x))
        } else {
            1
        };
        // SAFETY: the rows lie within the window, their input pixels within the source, and
        // `to` has room for all rows.
        unsafe {
            let to = Rows { to: to.add(row * BLOCK), row_stride: BLOCK, block_stride };
            if let Some((y, x)) = window.input_place(y, x, tap) {
                let pixel = if source.upsampled {
                    (image * (input.h / 2) + y / 2) * (input.w / 2) + x / 2
                } else {
                    (image * input.h + y) * input.w + x
                };
                copy_source::<S, P>(source, (0, channels), image, pixel, 1, run, to);
            } else {
                for block in 0..channels.div_ceil(BLOCK) {
                    to.to.add(block * block_stride).write_bytes(0, BLOCK);
                }
            }
        }
        row += run;
    }
}

/// The most gathered inputs and gradients of a group, in f32.
const GROUP_LEN: usize = 1_800_000;
/// Rows of a gathering task.
const GATHER_ROWS: usize = 64;
/// The most blocks of input channels of a multiplying task.
const TASK_BLOCKS: usize = 4;
/// Rows of a stretch of the local schedule, and the most stretches.
const STRETCH_ROWS: usize = 512;
const STRETCHES: usize = 16;
/// The most sums of a stretch, and the most that is gathered for it at once, in f32.
const STRETCH_SUMS: usize = 150_000;
const STRETCH_LEN: usize = 200_000;

/// `dw = gathered sourceᵀ · dy`, `[taps, C_in, c_out]`.
///
/// Two schedules, chosen by shape alone, since they sum in different orders:
/// - *local*, for many rows and not too many weights: rows are cut into stretches. A task gathers
///   and sums one stretch in its own cache; the stretches are added in order.
/// - *shared*: rows are taken in groups. All tasks gather a group, then each sums some channels.
///
/// # Safety
/// The level is available; the source fits the window's input, dy (`[rows, c_out]`) its rows, dw
/// taps and channels.
pub(crate) unsafe fn weight_gradient(
    level: SimdLevel,
    window: Window,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    mut dw: Destination<'_>,
) {
    if window.rows() == 0 || dw.is_empty() {
        dw.into_slice().fill(0.0);
        return;
    }
    let products = Products { level, window, source, dy, c_out };
    let stretches = (window.rows() / STRETCH_ROWS).min(STRETCHES);
    // SAFETY: the caller's promise.
    unsafe {
        if stretches > 1 && products.sums_len() <= STRETCH_SUMS {
            products.sum_locally(stretches, &mut dw);
        } else {
            products.sum_shared(&mut dw);
        }
        dw.mark_written();
    }
}

/// The products that a weight gradient sums.
struct Products<'a> {
    level: SimdLevel,
    window: Window,
    source: &'a Source<'a>,
    dy: &'a [f32],
    c_out: usize,
}

impl Products<'_> {
    fn padded_in(&self) -> usize {
        self.source.channels().next_multiple_of(BLOCK)
    }

    fn padded_out(&self) -> usize {
        self.c_out.next_multiple_of(BLOCK)
    }

    /// Length of `[taps, C_in, c_out]`, channels rounded up to blocks.
    fn sums_len(&self) -> usize {
        self.window.taps() * self.padded_in() * self.padded_out()
    }

    /// What is gathered for a row.
    fn row_len(&self) -> usize {
        self.window.taps() * self.padded_in() + self.padded_out()
    }

    /// # Safety
    /// As [`weight_gradient`].
    unsafe fn sum_locally(&self, stretches: usize, dw: &mut Destination<'_>) {
        let (n_rows, padded_in) = (self.window.rows(), self.padded_in());
        let mut sums = Scratch::new(stretches * self.sums_len());
        let sums = Shared::new(sums.as_mut_ptr());
        let rows_at_once = (STRETCH_LEN / self.row_len()).max(GATHER_ROWS);
        for_each_task(stretches, |stretch| {
            let first_of_stretch = stretch * n_rows / stretches;
            let end = (stretch + 1) * n_rows / stretches;
            let mut gathered = Scratch::new(rows_at_once * self.row_len());
            let inputs = gathered.as_mut_ptr();
            for first in (first_of_stretch..end).step_by(rows_at_once) {
                let n = rows_at_once.min(end - first);
                // SAFETY: there is room for so many rows; each task has sums of its own.
                unsafe {
                    let gradients = inputs.add(self.window.taps() * n * padded_in);
                    self.gather((first, n), inputs, gradients, n);
                    for tap in 0..self.window.taps() {
                        let to = stretch * self.sums_len() + tap * padded_in * self.padded_out();
                        let kernel = MultiplyBlocks {
                            depth: n,
                            blocks: padded_in / BLOCK,
                            padded_out: self.padded_out(),
                            inputs: inputs.add(tap * n * padded_in),
                            gradients,
                            sums: sums.get().add(to),
                            accumulate: first > first_of_stretch,
                        };
                        dispatch(self.level, kernel);
                    }
                }
            }
        });
        // SAFETY: the sums are there, and all tasks are done.
        unsafe { self.add_stretches(sums, stretches, dw) };
    }

    /// dw from the sums of the stretches.
    ///
    /// # Safety
    /// The sums have been written.
    unsafe fn add_stretches(
        &self,
        sums: Shared<*mut f32>,
        stretches: usize,
        dw: &mut Destination<'_>,
    ) {
        let (c_in, c_out) = (self.source.channels(), self.c_out);
        let to = Shared::new(dw.as_mut_ptr());
        for_each_task((self.window.taps() * c_in).div_ceil(GATHER_ROWS), |task| {
            let first = task * GATHER_ROWS;
            for i in first..(first + GATHER_ROWS).min(self.window.taps() * c_in) {
                let place = (i / c_in * self.padded_in() + i % c_in) * self.padded_out();
                // SAFETY: sums and dw hold this row, and each task has rows of its own.
                unsafe {
                    let row = |stretch: usize| {
                        let from = sums.get().add(stretch * self.sums_len() + place);
                        std::slice::from_raw_parts(from, c_out)
                    };
                    let to = to.get().add(i * c_out);
                    to.copy_from_nonoverlapping(row(0).as_ptr(), c_out);
                    let to = std::slice::from_raw_parts_mut(to, c_out);
                    for stretch in 1..stretches {
                        for (to, more) in to.iter_mut().zip(row(stretch)) {
                            *to += more;
                        }
                    }
                }
            }
        });
    }

    /// # Safety
    /// As [`weight_gradient`].
    unsafe fn sum_shared(&self, dw: &mut Destination<'_>) {
        let (n_rows, taps) = (self.window.rows(), self.window.taps());
        let (padded_in, padded_out) = (self.padded_in(), self.padded_out());
        // Whole blocks need no memory beside dw.
        let in_place = self.sums_len() == dw.len();
        let mut memory = Scratch::new(if in_place { 0 } else { self.sums_len() });
        let sums = if in_place { dw.as_mut_ptr() } else { memory.as_mut_ptr() };
        let sums = Shared::new(sums);
        // Groups depend on the channels alone.
        let rows_at_once = (GROUP_LEN / self.row_len()).max(GATHER_ROWS);
        for first_row in (0..n_rows).step_by(rows_at_once) {
            let group_rows = rows_at_once.min(n_rows - first_row);
            let mut inputs = Scratch::new(taps * group_rows * padded_in);
            let mut gradients = Scratch::new(group_rows * padded_out);
            let inputs = Shared::new(inputs.as_mut_ptr());
            let gradients = Shared::new(gradients.as_mut_ptr());
            for_each_task(group_rows.div_ceil(GATHER_ROWS), |task| {
                let first = task * GATHER_ROWS;
                let rows = (first_row + first, GATHER_ROWS.min(group_rows - first));
                // SAFETY: the caller's promise; each task has rows of its own.
                unsafe {
                    let inputs = inputs.get().add(first * BLOCK);
                    let gradients = gradients.get().add(first * BLOCK);
                    self.gather(rows, inputs, gradients, group_rows);
                }
            });
            // Few tasks, since each reads all gradients; enough for all threads.
            let blocks = padded_in / BLOCK;
            let at_once = taps * blocks / (2 * rayon::current_num_threads());
            let at_once = at_once.clamp(1, TASK_BLOCKS);
            let parts = blocks.div_ceil(at_once);
            for_each_task(taps * parts, |task| {
                let (tap, first) = (task / parts, task % parts * at_once);
                // SAFETY: each task has rows of the sums of its own.
                unsafe {
                    let place = tap * padded_in + first * BLOCK;
                    let kernel = MultiplyBlocks {
                        depth: group_rows,
                        blocks: at_once.min(blocks - first),
                        padded_out,
                        inputs: inputs.get().add(place * group_rows),
                        gradients: gradients.get(),
                        sums: sums.get().add(place * padded_out),
                        accumulate: first_row > 0,
                    };
                    dispatch(self.level, kernel);
                }
            });
        }
        if !in_place {
            // SAFETY: the sums are there, and all tasks are done.
            unsafe { self.add_stretches(sums, 1, dw) };
        }
    }

    /// Gathers rows (first, number) into the blocked layout of a group of `group_rows`: the inputs
    /// of all taps, and the gradients.
    ///
    /// # Safety
    /// As [`weight_gradient`]; there is room for the group from these rows on.
    unsafe fn gather(
        &self,
        rows: (usize, usize),
        inputs: *mut f32,
        gradients: *mut f32,
        group_rows: usize,
    ) {
        let dy = Source::new(self.dy, self.c_out);
        let pixels = Window::Pointwise(Pixels::rows(self.window.rows()));
        let tap_len = group_rows * self.padded_in();
        // SAFETY: the caller's promise.
        unsafe {
            for tap in 0..self.window.taps() {
                let (window, source, to) = (self.window, self.source, inputs.add(tap * tap_len));
                dispatch(self.level, Gather { window, source, rows, tap, to, group_rows });
            }
            let (window, source, to) = (pixels, &dy, gradients);
            dispatch(self.level, Gather { window, source, rows, tap: 0, to, group_rows });
        }
    }
}

struct Gather<'a> {
    window: Window,
    source: &'a Source<'a>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
}

impl Kernel for Gather<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        unsafe {
            gather::<S>(self.window, self.source, self.rows, self.tap, self.to, self.group_rows);
        }
    }
}

/// Some blocks of input channels of one tap, against all output channels.
struct MultiplyBlocks {
    depth: usize,
    blocks: usize,
    padded_out: usize,
    inputs: *const f32,
    gradients: *const f32,
    sums: *mut f32,
    accumulate: bool,
}

impl Kernel for MultiplyBlocks {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        unsafe {
            multiply_transposed::<S>(
                self.depth,
                self.blocks * BLOCK,
                self.padded_out,
                self.inputs,
                self.depth * BLOCK,
                self.gradients,
                self.depth * BLOCK,
                self.sums,
                self.padded_out,
                self.accumulate,
            );
        }
    }
}
