//! Memory that a kernel is about to write.
//!
//! An output that is cleared first, only to be overwritten whole, costs a pass over the memory on one
//! thread while the others wait. So memory may come as it is. Safe code never reads it before a kernel
//! has written it: the note that it is written is made at the end of a kernel, not when one begins.

use std::mem::MaybeUninit;

/// Room for the output of a kernel, not cleared: given as `&mut` in place of a slice, it becomes a
/// vector once a kernel has written it.
#[derive(Debug)]
pub struct Unwritten {
    room: Box<[MaybeUninit<f32>]>,
    written: bool,
}

impl Unwritten {
    /// Room for `len` values.
    pub fn new(len: usize) -> Self {
        Self { room: Box::new_uninit_slice(len), written: len == 0 }
    }

    /// What was written; nothing is copied.
    ///
    /// # Panics
    /// If no kernel has written it, or the only ones that would have panicked.
    #[track_caller]
    pub fn into_vec(self) -> Vec<f32> {
        assert!(self.written, "no kernel has written this output");
        // SAFETY: it is empty, or a kernel promised that all of it is written.
        unsafe { self.room.assume_init() }.into_vec()
    }
}

/// Where a kernel writes an output whole: a slice, a vector, an array, or an [`Unwritten`], each
/// turning into this by itself.
#[derive(Debug)]
pub struct Destination<'a> {
    /// Only values are ever written here.
    room: &'a mut [MaybeUninit<f32>],
    /// Where it is noted that all of it is written; none where that was always so.
    written: Option<&'a mut bool>,
}

impl<'a> Destination<'a> {
    pub(crate) fn len(&self) -> usize {
        self.room.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.room.is_empty()
    }

    /// Of `len` values; to be read only where [`Self::is_written`], or after writing.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.room.as_mut_ptr().cast()
    }

    /// Whether a kernel has written every element.
    pub(crate) fn is_written(&self) -> bool {
        self.written.as_ref().is_none_or(|written| **written)
    }

    /// Notes that every element is written now.
    ///
    /// # Safety
    /// All of it has been written.
    pub(crate) unsafe fn mark_written(self) {
        if let Some(written) = self.written {
            *written = true;
        }
    }

    /// As a slice, cleared where no kernel has written it yet: for what is small, or not fast anyway.
    pub(crate) fn into_slice(self) -> &'a mut [f32] {
        if !self.is_written() {
            self.room.fill(MaybeUninit::new(0.0));
        }
        if let Some(written) = self.written {
            *written = true;
        }
        // SAFETY: there were values, or there are zeros now.
        unsafe { self.room.assume_init_mut() }
    }
}

impl<'a> From<&'a mut [f32]> for Destination<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        let room = std::ptr::from_mut(values) as *mut [MaybeUninit<f32>];
        // SAFETY: the layout is the same, and a destination keeps values values.
        Self { room: unsafe { &mut *room }, written: None }
    }
}

impl<'a> From<&'a mut Vec<f32>> for Destination<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        values.as_mut_slice().into()
    }
}

impl<'a, const N: usize> From<&'a mut [f32; N]> for Destination<'a> {
    fn from(values: &'a mut [f32; N]) -> Self {
        values.as_mut_slice().into()
    }
}

impl<'a> From<&'a mut Unwritten> for Destination<'a> {
    fn from(unwritten: &'a mut Unwritten) -> Self {
        Self { room: &mut unwritten.room, written: Some(&mut unwritten.written) }
    }
}
