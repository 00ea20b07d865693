//! The convolution by way of the Winograd domain; the data gradient is one too.
//!
//! Two schedules give the same bytes, so the choice may depend on the batch and the threads:
//! - *local*: a task takes a few rows of tiles all the way, everything in its own cache. For many
//!   tiles, or weights that fit the cache beside them.
//! - *shared*: all tasks transform a group of tiles; then each takes some tiles and output channels
//!   through products and inverse transform. Large weights are read once for many tiles.

use super::phase::Phase;
use super::tiles::prefetch_tile;
use super::tiles::{
    Group, Tiling, TransformInput, TransformOutput, product_plane_stride, strip_len,
};
use super::weights::{Direction, Layout, PLANES, Phases, Taps, transform_part, transform_weights};
use crate::gemm::{BLOCK, Blocked, PANEL, Product, RowMajor, multiply};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Pixels, Source};

/// Tiles of a task of the local schedule.
const LOCAL_TILES: usize = 32;
/// The most transformed weights that the local schedule reads anew for so few tiles, in f32. Larger
/// ones want [`MANY_TILES`] in all, and twice as many a task: reading the weights then costs more
/// than what no longer fits the cache.
const LOCAL_WEIGHTS: usize = 1_000_000;
const MANY_TILES: usize = 384;
/// The fewest tiles that a task of the local schedule is worth.
const FEW_TILES: usize = 8;
/// The most transformed inputs of a group of the shared schedule, in f32.
const SHARED_INPUTS: usize = 2_400_000;
/// The most tiles of a task of the shared schedule.
const SHARED_TILES: usize = 128;
/// The most products of a plane that a task keeps where it takes several panels at once, in f32.
const PRODUCTS: usize = 8192;
/// Rows of weights that a task transforms at once, where it does so; a multiple of [`BLOCK`].
const ROWS_AT_ONCE: usize = 64;

/// Whether the transformed weights do not fit the cache beside a task of the local schedule.
fn is_large(layout: Layout) -> bool {
    PLANES * layout.rows() * layout.panels() * PANEL > LOCAL_WEIGHTS
}

/// The number of tasks of the local schedule, if it suits.
fn local_tasks(tiling: Tiling, layout: Layout) -> Option<usize> {
    let (tiles, threads) = (tiling.rows() * tiling.wide, rayon::current_num_threads());
    if is_large(layout) && tiles < MANY_TILES {
        return None;
    }
    let mut tasks = tiles.div_ceil(if is_large(layout) { 2 * LOCAL_TILES } else { LOCAL_TILES });
    if tasks < 4 * threads {
        // So few that they should be dealt out evenly.
        tasks = tasks.next_multiple_of(threads);
    }
    let tasks = tasks.min(tiling.rows());
    (threads == 1 || tiles >= FEW_TILES * tasks && tasks >= threads).then_some(tasks)
}

/// Convolves.
///
/// # Safety
/// The level is available; the source fits the pixels and has `layout.c_from` channels; `weights`
/// fits the layout; the output fits the pixels and has `layout.c_to` channels.
pub(super) unsafe fn convolve(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    weights: Taps<'_>,
    layout: Layout,
    output: &Output<'_>,
) {
    let tiling = Tiling::new(pixels);
    // Weights of which each panel is used by one task only are best transformed there.
    let mut all_weights = None;
    let transform_all = |memory: &mut Option<Scratch>| match weights {
        Taps::Transformed(weights) => Shared::new(weights.as_ptr().cast_mut()),
        Taps::Plain(weights, direction) => {
            let to = memory.insert(Scratch::new(layout.len())).as_mut_ptr();
            // SAFETY: the caller's promise, and there is room for the layout.
            unsafe { transform_weights(level, weights, layout, direction, to) };
            Shared::new(to)
        }
    };
    if let Some(tasks) = local_tasks(tiling, layout) {
        let weights = transform_all(&mut all_weights);
        for_each_task(tasks, |task| {
            let first_row = task * tiling.rows() / tasks;
            let n_rows = (task + 1) * tiling.rows() / tasks - first_row;
            let group = Group { tiles: n_rows * tiling.wide, channels: group_channels(layout) };
            // Inputs that do not fit the cache either are read less often with several panels.
            let panels_at_once =
                if is_large(layout) { (PRODUCTS / (group.tiles * PANEL)).max(1) } else { 1 };
            let mut inputs = Scratch::new(group.len());
            let mut strip = Scratch::new(strip_len(tiling, layout.c_from));
            let rows = (first_row, n_rows);
            // SAFETY: the caller's promise; the memory is of the lengths asked for.
            unsafe {
                let (to, strip_to) = (inputs.as_mut_ptr(), strip.as_mut_ptr());
                transform_inputs(level, tiling, source, layout, rows, group, to, 0, strip_to);
                drop(strip);
                multiply_and_transform(
                    level,
                    tiling,
                    Part {
                        inputs: inputs.as_mut_ptr(),
                        group,
                        first_of_group: first_row * tiling.wide,
                        tiles: (0, group.tiles),
                        panels: (0, layout.panels()),
                        panels_at_once,
                    },
                    TaskWeights::Ready(weights),
                    layout,
                    output,
                );
            }
        });
        return;
    }

    let per_row = PLANES * tiling.wide * group_channels(layout);
    let n_groups = (per_row * tiling.rows()).div_ceil(SHARED_INPUTS).clamp(1, tiling.rows().max(1));
    let mut ready = None;
    let mut first_row = 0;
    for i in 0..n_groups {
        let n_rows = (tiling.rows() - first_row).div_ceil(n_groups - i);
        let group = Group { tiles: n_rows * tiling.wide, channels: group_channels(layout) };
        let mut inputs = Scratch::new(group.len());
        let inputs = Shared::new(inputs.as_mut_ptr());
        for_each_task(n_rows, |row| {
            let mut strip = Scratch::new(strip_len(tiling, layout.c_from));
            let (rows, first_tile) = ((first_row + row, 1), row * tiling.wide);
            let (to, strip) = (inputs.get(), strip.as_mut_ptr());
            // SAFETY: the caller's promise; the memory is of the lengths asked for.
            unsafe {
                transform_inputs(level, tiling, source, layout, rows, group, to, first_tile, strip);
            }
        });
        let n_tile_parts = tile_parts(group.tiles, layout);
        let panels_at_once = panels_at_once(group.tiles.div_ceil(n_tile_parts), layout);
        let n_panel_parts = layout.panels().div_ceil(panels_at_once);
        let in_task = match weights {
            // Without input channels no task would ever write its products.
            Taps::Plain(weights, direction)
                if n_groups * n_tile_parts == 1 && layout.c_from > 0 =>
            {
                Some(TaskWeights::Plain(weights, direction))
            }
            _ => None,
        };
        if in_task.is_none() && ready.is_none() {
            ready = Some(transform_all(&mut all_weights));
        }
        for_each_task(n_tile_parts * n_panel_parts, |task| {
            let (panel_part, tile_part) = (task / n_tile_parts, task % n_tile_parts);
            let first_tile = tile_part * group.tiles / n_tile_parts;
            let end_tile = (tile_part + 1) * group.tiles / n_tile_parts;
            let first_panel = panel_part * panels_at_once;
            let part = Part {
                inputs: inputs.get(),
                group,
                first_of_group: first_row * tiling.wide,
                tiles: (first_tile, end_tile - first_tile),
                panels: (first_panel, panels_at_once.min(layout.panels() - first_panel)),
                panels_at_once,
            };
            let weights = match (in_task, ready) {
                (Some(weights), _) => weights,
                (None, Some(ready)) => TaskWeights::Ready(ready),
                (None, None) => unreachable!("transformed before the tasks"),
            };
            // SAFETY: the caller's promise; each task has tiles and panels of its own.
            unsafe { multiply_and_transform(level, tiling, part, weights, layout, output) };
        });
        first_row += n_rows;
    }
}

/// Channels of a group: those of every phase begin a block.
fn group_channels(layout: Layout) -> usize {
    match layout.phases_from() {
        1 => layout.c_from,
        phases => phases * layout.c_from.next_multiple_of(BLOCK),
    }
}

/// Transforms the inputs of some rows of tiles, in every phase of the source.
///
/// # Safety
/// As [`convolve`]; `to` has room for the group and `strip` for [`strip_len`].
#[allow(clippy::too_many_arguments)]
unsafe fn transform_inputs(
    level: SimdLevel,
    tiling: Tiling,
    source: &Source<'_>,
    layout: Layout,
    rows: (usize, usize),
    group: Group,
    to: *mut f32,
    first_tile: usize,
    strip: *mut f32,
) {
    for phase in 0..layout.phases_from() {
        let block = phase * layout.c_from.div_ceil(BLOCK);
        let kernel = TransformInput {
            tiling,
            source,
            rows,
            first_channel: 0,
            channels: layout.c_from,
            group,
            to: to.wrapping_add(block * group.block_stride()),
            first_tile,
            strip,
            phase: (layout.phases == Phases::Inputs).then(|| Phase::new(phase)),
        };
        // SAFETY: the caller's promise.
        unsafe { dispatch(level, kernel) };
    }
}

/// Into how many parts the shared schedule deals a group of tiles.
fn tile_parts(tiles: usize, layout: Layout) -> usize {
    // More parts where there are many threads, unless they become too small.
    (2 * rayon::current_num_threads())
        .div_ceil(layout.panels())
        .min(tiles / FEW_TILES)
        .max(tiles.div_ceil(SHARED_TILES))
}

/// How many panels a task of the shared schedule takes with so many tiles: the more, the less often
/// the transformed inputs are read, as long as the products fit the cache.
fn panels_at_once(tiles: usize, layout: Layout) -> usize {
    let shares = layout.panels().div_ceil(2 * rayon::current_num_threads());
    (PRODUCTS / (tiles * PANEL)).clamp(1, shares)
}

/// Some tiles of a transformed group, and some panels of output channels.
#[derive(Clone, Copy)]
struct Part {
    inputs: *const f32,
    group: Group,
    /// The place of the group's first tile in the batch.
    first_of_group: usize,
    /// First in the group, and number.
    tiles: (usize, usize),
    panels: (usize, usize),
    /// Panels whose products are kept side by side.
    panels_at_once: usize,
}

/// The weights of a task.
#[derive(Clone, Copy)]
enum TaskWeights<'a> {
    /// In the Winograd domain, all panels.
    Ready(Shared<*mut f32>),
    /// To be transformed by the task, some rows at a time.
    Plain(&'a [f32], Direction),
}

/// Products of all planes, inverse transform, output.
///
/// # Safety
/// As [`convolve`], and the part exists.
unsafe fn multiply_and_transform(
    level: SimdLevel,
    tiling: Tiling,
    part: Part,
    weights: TaskWeights<'_>,
    layout: Layout,
    output: &Output<'_>,
) {
    let products_len = PLANES * product_plane_stride(part.tiles.1);
    let mut products = Scratch::new(part.panels_at_once * products_len);
    let to = products.as_mut_ptr();
    let end = part.panels.0 + part.panels.1;
    for first in (part.panels.0..end).step_by(part.panels_at_once) {
        let panels = (first, part.panels_at_once.min(end - first));
        let multiply = |phase_from, rows: (usize, usize), weights: *const f32, strides: Layout| {
            let kernel = Multiply {
                tiling,
                output,
                part,
                panels,
                phase_from,
                rows,
                weights,
                layout,
                panel_stride: strides.panel_stride(),
                plane_stride: strides.plane_stride(),
                to,
            };
            // SAFETY: the caller's promise; there is room for the products.
            unsafe { dispatch(level, kernel) };
        };
        for phase_from in 0..layout.phases_from() {
            match weights {
                TaskWeights::Ready(weights) => {
                    let place = first * layout.panel_stride() + phase_from * layout.c_from * PANEL;
                    let weights = weights.get().wrapping_add(place);
                    multiply(phase_from, (0, layout.c_from), weights, layout);
                }
                TaskWeights::Plain(weights, direction) => {
                    for row in (0..layout.c_from).step_by(ROWS_AT_ONCE) {
                        let rows = (row, ROWS_AT_ONCE.min(layout.c_from - row));
                        let c_to = panels.1 * PANEL;
                        let some = Layout { c_from: rows.1, c_to, phases: Phases::None };
                        let mut transformed = Scratch::new(some.len());
                        let to = transformed.as_mut_ptr();
                        // SAFETY: the caller's promise; there is room for these rows and panels.
                        unsafe {
                            transform_part(
                                level, weights, layout, direction, panels, phase_from, rows, to,
                            );
                        }
                        multiply(phase_from, rows, to, some);
                    }
                }
            }
        }
        for i in 0..panels.1 {
            let (phase, first_channel) = layout.place(first + i);
            let kernel = TransformOutput {
                tiling,
                output,
                tiles: (part.first_of_group + part.tiles.0, part.tiles.1),
                first_channel,
                phase,
                from: to.wrapping_add(i * products_len),
            };
            // SAFETY: the caller's promise; the products are there.
            unsafe { dispatch(level, kernel) };
        }
    }
}

/// The matrix products of all planes of a part for some panels, over some rows of the weights
/// (input channels of one phase).
struct Multiply<'a> {
    tiling: Tiling,
    output: &'a Output<'a>,
    part: Part,
    /// First and number.
    panels: (usize, usize),
    phase_from: usize,
    /// First and number; the products of rows before the first, and of phases before this one, are
    /// there already.
    rows: (usize, usize),
    /// Those of these panels and rows.
    weights: *const f32,
    /// Of all weights.
    layout: Layout,
    /// Of the weights at hand.
    panel_stride: usize,
    plane_stride: usize,
    /// `[panel][plane][tile][PANEL]`.
    to: *mut f32,
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Part { inputs, group, tiles, .. } = self.part;
        let layout = self.layout;
        let first_tile = self.part.first_of_group + tiles.0;
        let plane_len = product_plane_stride(tiles.1);
        let first_block = self.phase_from * layout.c_from.div_ceil(BLOCK) + self.rows.0 / BLOCK;
        let is_first = self.phase_from == 0 && self.rows.0 == 0;
        let is_last = self.phase_from + 1 == layout.phases_from()
            && self.rows.0 + self.rows.1 == layout.c_from;
        // Of the output: phase, first channel, number of channels.
        let place = |panel: usize| {
            let (phase, first_channel) = layout.place(self.panels.0 + panel);
            (phase, first_channel, (layout.c_to - first_channel).min(PANEL))
        };
        for plane in 0..PLANES {
            // SAFETY: plane, rows, panels and tiles exist in inputs, weights and products.
            unsafe {
                // Prefetch the output tiles while the products are computed, some with every plane.
                if is_last {
                    for i in tiles.1 * plane / PLANES..tiles.1 * (plane + 1) / PLANES {
                        for panel in 0..self.panels.1 {
                            let (tile, output) = (first_tile + i, self.output);
                            let (phase, channel, width) = place(panel);
                            prefetch_tile::<S>(self.tiling, output, tile, phase, channel, width);
                        }
                    }
                }
                let inputs = inputs.add(
                    plane * group.plane_stride()
                        + first_block * group.block_stride()
                        + tiles.0 * BLOCK,
                );
                for panel in 0..self.panels.1 {
                    let to = self.to.add((panel * PLANES + plane) * plane_len);
                    if layout.is_zero(self.phase_from, self.panels.0 + panel, plane) {
                        if is_first {
                            to.write_bytes(0, tiles.1 * PANEL);
                        }
                        continue;
                    }
                    let weights = panel * self.panel_stride + plane * self.plane_stride;
                    multiply::<S>(Product {
                        rows: tiles.1,
                        depth: self.rows.1,
                        columns: place(panel).2,
                        a: Blocked { at: inputs, block_stride: group.block_stride() },
                        b: self.weights.add(weights),
                        c: RowMajor { at: to, stride: PANEL },
                        accumulate: !is_first,
                    });
                }
            }
        }
    }
}
