//! Working memory that outlives a call.
//!
//! Fresh large buffers cost a page fault for every 4 KiB, which was a fifth of the time of a naive
//! implementation. So every thread keeps the buffers its kernels have used, as many as were ever in
//! use at once, and lends them again. Their contents are whatever was left there.

use std::cell::RefCell;
use std::mem::MaybeUninit;

/// A cache line, so that buffers are aligned to one.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]);

/// Values aligned to a cache line, for good: a vector of them never lies across two lines.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)] }
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// The most lines of a buffer that a thread keeps. Larger ones, which the transformed weights of wide
/// layers need, go back to the allocator, so that feature maps can have their memory meanwhile.
const KEPT_LINES: usize = 1 << 16;

/// Lines of any contents: they are written and read through pointers only.
type Lines = Vec<MaybeUninit<Line>>;

thread_local! {
    static KEPT: RefCell<Vec<Lines>> = const { RefCell::new(Vec::new()) };
}

/// A buffer on loan from the thread that asked for it.
pub(crate) struct Scratch {
    lines: Lines,
}

impl Scratch {
    /// At least `len` f32, aligned to 64 bytes, of any contents.
    pub(crate) fn new(len: usize) -> Self {
        let needed = len.div_ceil(16);
        let mut lines = KEPT.with_borrow_mut(|kept| {
            // The smallest that is large enough, else the largest, which then grows.
            let fits = (0..kept.len())
                .filter(|&i| kept[i].len() >= needed)
                .min_by_key(|&i| kept[i].len())
                .or_else(|| (0..kept.len()).max_by_key(|&i| kept[i].len()));
            match fits {
                // Nothing that is kept is large enough, and nothing as large will be kept.
                Some(i) if kept[i].len() < needed && needed > KEPT_LINES => Lines::new(),
                Some(i) => kept.swap_remove(i),
                None => Lines::new(),
            }
        });
        if lines.len() < needed {
            // Drop before allocating, so that nothing is copied.
            drop(lines);
            lines = Box::new_uninit_slice(needed).into_vec();
        }
        Self { lines }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.len() <= KEPT_LINES {
            // No room to keep it while the thread ends.
            let _ = KEPT.try_with(|kept| kept.borrow_mut().push(lines));
        }
    }
}
