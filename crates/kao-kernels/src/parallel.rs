//! Tasks on rayon's current pool.

use rayon::prelude::*;

/// Calls `task(0)` … `task(count − 1)`, on the threads of the pool if there is more than one. Tasks
/// have to be independent; which thread runs which is open, so results must not depend on it.
pub(crate) fn for_each_task(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 || rayon::current_num_threads() == 1 {
        for i in 0..count {
            task(i);
        }
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// A pointer that tasks share. Each task that writes through it touches places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(T);

// SAFETY: a raw pointer is only an address; whoever dereferences it answers for the aliasing.
unsafe impl<T> Send for Shared<*mut T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<*mut T> {}

impl Shared<*mut f32> {
    pub(crate) fn new(pointer: *mut f32) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}
