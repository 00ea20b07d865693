//! Matrix products on operands that fit the caches: the inner loops of all convolutions, linear
//! layers and of attention.
//!
//! **Blocked layout.** The left operand has its columns in blocks of 16, each block holding all
//! rows: element (row, k) lies at `(k / 16) · block_stride + row · 16 + k % 16`. A register tile
//! then reads it at fixed distances from one pointer, and it has no strides of a power of two.
//!
//! **Panels.** The right operand comes in panels of [`PANEL`] columns, `[k][PANEL]`, zeros beyond
//! the last column.
//!
//! **Determinism.** Every element is one chain of fused multiply-adds in the order of k, whatever
//! tile it falls into, so the way that rows and columns are shared out never shows in a result.

pub(crate) mod pack;

use crate::simd::Simd;

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// Rows that [`multiply_transposed`] takes at once: two blocks of them fit the first cache.
const DEPTH: usize = 128;

/// How many rows of a panel ahead the first tile asks for.
const AHEAD: usize = 24;

/// Columns of a block.
pub(crate) const BLOCK: usize = 16;

/// An operand in blocked layout.
#[derive(Clone, Copy)]
pub(crate) struct Blocked {
    pub(crate) at: *const f32,
    /// From one block of columns to the next.
    pub(crate) block_stride: usize,
}

/// A result, row by row.
#[derive(Clone, Copy)]
pub(crate) struct RowMajor {
    pub(crate) at: *mut f32,
    /// From one row to the next.
    pub(crate) stride: usize,
}

/// `C (+)= A · B` for one panel B.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    /// Rows of A and C.
    pub(crate) rows: usize,
    /// Columns of A, and rows of B.
    pub(crate) depth: usize,
    /// Columns of B that are wanted.
    pub(crate) columns: usize,
    pub(crate) a: Blocked,
    /// A panel.
    pub(crate) b: *const f32,
    pub(crate) c: RowMajor,
    /// Whether the product is added to C.
    pub(crate) accumulate: bool,
}

/// Computes a product.
///
/// # Safety
/// S is available; A and B have the rows and columns; C has the rows, each with room for [`PANEL`]
/// columns.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd>(product: Product) {
    let Product { rows, columns, a, b, c, .. } = product;
    // Rows are dealt evenly: 16 rows are better as 8 + 8 than as 14 + 2.
    let n_tiles = rows.div_ceil(S::TILE_ROWS);
    let wide = S::TILE_VECTORS * S::LANES;
    let mut column = 0;
    while column < columns {
        let narrow = columns - column <= S::LANES;
        let mut row = 0;
        for tile in 0..n_tiles {
            let height = (rows - row).div_ceil(n_tiles - tile);
            // SAFETY: the tile lies within what the caller promised.
            unsafe {
                let tile = Product {
                    a: Blocked { at: a.at.add(row * BLOCK), ..a },
                    b: b.add(column),
                    c: RowMajor { at: c.at.add(row * c.stride + column), ..c },
                    ..product
                };
                macro_rules! heights {
                    ($($height:literal)*) => {
                        match height {
                            $($height if $height <= S::TILE_ROWS => {
                                if narrow && S::TILE_VECTORS > 1 {
                                    tile_nn::<S, $height, true>(tile)
                                } else {
                                    tile_nn::<S, $height, false>(tile)
                                }
                            })*
                            _ => unreachable!(),
                        }
                    };
                }
                heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            }
            row += height;
        }
        column += wide;
    }
}

/// A register tile of [`multiply`], from the operands' first row and column on.
#[inline(always)]
unsafe fn tile_nn<S: Simd, const ROWS: usize, const NARROW: bool>(tile: Product) {
    let Product { depth: k, b, accumulate, .. } = tile;
    let (a, a_block_stride) = (tile.a.at, tile.a.block_stride);
    let (c, c_stride) = (tile.c.at, tile.c.stride);
    let vectors = if NARROW { 1 } else { S::TILE_VECTORS };
    // SAFETY: the caller promises that the tile lies within A, B and C.
    unsafe {
        let mut sums = [[S::splat(0.0); 4]; ROWS];
        if accumulate {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate().take(vectors) {
                    *sum = S::load(c.add(i * c_stride + j * S::LANES));
                }
            }
        }
        let blocks = k / BLOCK;
        for block in 0..blocks {
            let a = a.add(block * a_block_stride);
            let b = b.add(block * BLOCK * PANEL);
            for quarter in 0..4 {
                for kk in 4 * quarter..4 * quarter + 4 {
                    // The rows of the next tile, which lie next to those of this one.
                    S::prefetch(a.wrapping_add((ROWS + kk) * BLOCK));
                    // What comes soon of the panel, which the first tile reads from a slower cache.
                    S::prefetch(b.wrapping_add((kk + AHEAD) * PANEL));
                    S::prefetch(b.wrapping_add((kk + AHEAD) * PANEL + BLOCK));
                    step::<S, ROWS>(&mut sums, vectors, a.add(kk), b.add(kk * PANEL));
                }
            }
        }
        for kk in 0..k % BLOCK {
            let a = a.add(blocks * a_block_stride + kk);
            step::<S, ROWS>(&mut sums, vectors, a, b.add((blocks * BLOCK + kk) * PANEL));
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate().take(vectors) {
                S::store(c.add(i * c_stride + j * S::LANES), sum);
            }
        }
    }
}

/// One k of [`tile_nn`].
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize>(
    sums: &mut [[S::V; 4]; ROWS],
    vectors: usize,
    a: *const f32,
    b: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut b_vectors = [S::splat(0.0); 4];
        for (j, vector) in b_vectors.iter_mut().enumerate().take(vectors) {
            *vector = S::load(b.add(j * S::LANES));
        }
        for (i, row) in sums.iter_mut().enumerate() {
            let a = S::splat(*a.add(i * BLOCK));
            for j in 0..vectors {
                row[j] = S::fma(a, b_vectors[j], row[j]);
            }
        }
    }
}

/// `C (+)= Aᵀ · B`: sums over rows.
#[derive(Clone, Copy)]
pub(crate) struct TransposedProduct {
    /// Rows of A and B.
    pub(crate) depth: usize,
    /// Columns of A, and rows of C: a multiple of [`BLOCK`].
    pub(crate) rows: usize,
    /// Columns of B and C: a multiple of [`BLOCK`].
    pub(crate) columns: usize,
    pub(crate) a: Blocked,
    pub(crate) b: Blocked,
    pub(crate) c: RowMajor,
    /// Whether the product is added to C.
    pub(crate) accumulate: bool,
}

/// Computes a product.
///
/// # Safety
/// S is available; the operands and C have the rows and columns.
#[inline(always)]
pub(crate) unsafe fn multiply_transposed<S: Simd>(product: TransposedProduct) {
    let TransposedProduct { depth, rows, columns, a, b, c, accumulate } = product;
    debug_assert!(rows.is_multiple_of(BLOCK) && columns.is_multiple_of(BLOCK));
    let height = if S::LANES == 16 { 8 } else { 4 };
    let width = if S::LANES == 16 { 2 * BLOCK } else { BLOCK };
    let mut done = 0;
    // At least once, so that C is cleared where there is nothing to sum.
    while done < depth.max(1) {
        let depth = (depth - done).min(DEPTH);
        let accumulate = accumulate || done > 0;
        let mut column = 0;
        while column < columns {
            let mut row = 0;
            while row < rows {
                // SAFETY: the tile lies within what the caller promised.
                unsafe {
                    let of_a = row / BLOCK * a.block_stride + row % BLOCK + done * BLOCK;
                    let of_b = column / BLOCK * b.block_stride + done * BLOCK;
                    let tile = TransposedProduct {
                        depth,
                        a: Blocked { at: a.at.add(of_a), ..a },
                        b: Blocked { at: b.at.add(of_b), ..b },
                        c: RowMajor { at: c.at.add(row * c.stride + column), ..c },
                        accumulate,
                        ..product
                    };
                    if S::LANES == 16 {
                        if columns - column == BLOCK {
                            tile_tn::<S, 8, 1>(tile);
                        } else {
                            tile_tn::<S, 8, 2>(tile);
                        }
                    } else {
                        tile_tn::<S, 4, 1>(tile);
                    }
                }
                row += height;
            }
            column += width;
        }
        done += DEPTH;
    }
}

/// A register tile of [`multiply_transposed`], from the operands' first column on, `BLOCKS` blocks of
/// columns wide.
#[inline(always)]
unsafe fn tile_tn<S: Simd, const ROWS: usize, const BLOCKS: usize>(tile: TransposedProduct) {
    let TransposedProduct { depth, accumulate, .. } = tile;
    let (a, b, b_block_stride) = (tile.a.at, tile.b.at, tile.b.block_stride);
    let (c, c_stride) = (tile.c.at, tile.c.stride);
    let vectors = BLOCK / S::LANES;
    // SAFETY: the caller promises that the tile lies within A, B and C.
    unsafe {
        let mut sums = [[[S::splat(0.0); 4]; BLOCKS]; ROWS];
        if accumulate {
            for (i, row) in sums.iter_mut().enumerate() {
                for (block, row) in row.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate().take(vectors) {
                        *sum = S::load(c.add(i * c_stride + block * BLOCK + j * S::LANES));
                    }
                }
            }
        }
        for t in 0..depth {
            let (a, b) = (a.add(t * BLOCK), b.add(t * BLOCK));
            let mut b_vectors = [[S::splat(0.0); 4]; BLOCKS];
            for (block, row) in b_vectors.iter_mut().enumerate() {
                for (j, vector) in row.iter_mut().enumerate().take(vectors) {
                    *vector = S::load(b.add(block * b_block_stride + j * S::LANES));
                }
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i));
                for (row, b_vectors) in row.iter_mut().zip(&b_vectors) {
                    for j in 0..vectors {
                        row[j] = S::fma(a, b_vectors[j], row[j]);
                    }
                }
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (block, row) in row.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate().take(vectors) {
                    S::store(c.add(i * c_stride + block * BLOCK + j * S::LANES), sum);
                }
            }
        }
    }
}
