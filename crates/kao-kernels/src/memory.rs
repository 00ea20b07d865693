//! The allocator's habits: large buffers that are freed are used again soon.

/// Tells the C library's allocator to keep freed memory for the next allocation.
///
/// By default glibc gives every large buffer back to the system when it is freed, and the kernel
/// clears its pages anew for the next one: that costs a training step of the 25-million-parameter
/// UNet about a tenth of its time. With this, the process keeps what it once had, up to its peak. All
/// threads share one heap: with one each, every heap grows to that peak in the end (the same
/// training took 1.4 GiB with one, 2.2 with as many as glibc likes).
/// Call it once, at the start of a program. Other C libraries are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // From glibc's malloc.h.
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_TOP_PAD: c_int = -2;
        const M_MMAP_MAX: c_int = -4;
        const M_ARENA_MAX: c_int = -8;
        const NEVER: c_int = -1;
        const GROWTH_BYTES: c_int = 64 << 20;
        for (parameter, value) in [
            (M_TRIM_THRESHOLD, NEVER),
            (M_TOP_PAD, GROWTH_BYTES),
            (M_MMAP_MAX, 0),
            (M_ARENA_MAX, 1),
        ] {
            // SAFETY: mallopt takes any integers, and refuses what it does not know. A refusal
            // leaves the defaults, which are slower and right.
            unsafe { mallopt(parameter, value) };
        }
    }
}

/// Gives freed memory back to the system once, in spite of [`keep_freed_memory`]: between phases that
/// use memory in pieces of other sizes, which would otherwise add up.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> c_int;
        }
        // SAFETY: malloc_trim touches no memory that is in use.
        unsafe { malloc_trim(0) };
    }
}
