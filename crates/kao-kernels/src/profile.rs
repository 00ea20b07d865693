//! Where the time goes: how long each kernel took, by kind and by resolution, on request.

use crate::Pixels;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The calls of one kernel at one resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTime {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Height and width in pixels of what it was called on; 0 where there are no pixels.
    pub resolution: [usize; 2],
    /// How often it was called.
    pub calls: usize,
    /// The time of all calls together.
    pub time: Duration,
}

type Times = BTreeMap<(&'static str, [usize; 2]), (usize, Duration)>;

thread_local! {
    static TIMES: RefCell<Option<Times>> = const { RefCell::new(None) };
}

/// Runs `body` and tells how long the kernels took that it called on this thread (their tasks on
/// other threads count with them), by name and resolution. A call within a call is part of it.
pub fn profile<R>(body: impl FnOnce() -> R) -> (R, Vec<KernelTime>) {
    let outer = TIMES.replace(Some(Times::new()));
    let result = body();
    let times = TIMES.replace(outer).unwrap_or_default();
    let times = times.into_iter().map(|((kernel, resolution), (calls, time))| KernelTime {
        kernel,
        resolution,
        calls,
        time,
    });
    (result, times.collect())
}

/// Times the call of a kernel until it is dropped, where [`profile`] asks for it.
pub(crate) struct Timed(Option<(&'static str, [usize; 2], Instant, Times)>);

impl Timed {
    pub(crate) fn pixels(kernel: &'static str, pixels: Pixels) -> Self {
        Self::start(kernel, [pixels.h, pixels.w])
    }

    /// The recorder is taken out while the call runs, so that calls within it are not counted.
    pub(crate) fn start(kernel: &'static str, resolution: [usize; 2]) -> Self {
        let times = TIMES.take();
        Timed(times.map(|times| (kernel, resolution, Instant::now(), times)))
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if let Some((kernel, resolution, started, mut times)) = self.0.take() {
            let (calls, time) = times.entry((kernel, resolution)).or_default();
            *calls += 1;
            *time += started.elapsed();
            TIMES.set(Some(times));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_and_only_when_asked_for() {
        let call = || {
            let _timed = Timed::start("outer", [4, 4]);
            let _part = Timed::start("inner", [2, 2]);
        };
        call();
        let ((), times) = profile(|| {
            call();
            call();
        });
        assert_eq!(times.len(), 1);
        assert_eq!((times[0].kernel, times[0].resolution, times[0].calls), ("outer", [4, 4], 2));
    }
}
