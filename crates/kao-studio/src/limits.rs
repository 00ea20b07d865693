//! How much may be asked for at once. Whatever goes beyond is refused before the work.

use std::time::Duration;

/// Images of one job.
pub const MAX_IMAGES: usize = 256;
/// Steps of a sampler.
pub const MAX_STEPS: usize = 1000;
/// Snapshots of the process of each image.
pub const MAX_SNAPSHOTS: usize = 60;
/// Combinations of samplers, steps and η of one comparison.
pub const MAX_COMBINATIONS: usize = 64;
/// Seconds that a job may be estimated to take on a CPU; training is exempt.
pub const MAX_JOB_SECONDS: f64 = 900.0;
/// Values of all images and snapshots that a job leaves.
pub const MAX_RESULT_VALUES: usize = 48 << 20;
/// Jobs that wait.
pub const MAX_WAITING: usize = 32;
/// Jobs whose results are kept.
pub const MAX_FINISHED: usize = 200;
/// Bytes of the results that are kept, beside those of the newest job.
pub const MAX_RESULT_BYTES: usize = 256 << 20;
/// Bytes of a request that is JSON.
pub const MAX_JSON_BYTES: usize = 64 << 10;
/// Bytes of a picture that is sent here.
pub const MAX_UPLOAD_BYTES: usize = 10 << 20;
/// Bytes of all requests that are being read.
pub const MAX_ARRIVING_BYTES: usize = 64 << 20;
/// Pixels of a picture that is sent here.
pub const MAX_UPLOAD_PIXELS: u64 = 40_000_000;
/// Pictures that were sent here and are kept; older ones are forgotten.
pub const MAX_UPLOADS: usize = 32;
/// Seconds within which a request's body has to come.
pub const BODY_TIME: Duration = Duration::from_secs(30);
/// Seconds within which a request's head has to come, and a connection may do nothing.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Seconds after which nobody is waited for who does not take what is sent.
pub const TAKING_TIME: Duration = Duration::from_secs(30);
/// Connections at once. The oldest one that never sent a request makes room for the next.
pub const MAX_CONNECTIONS: usize = 12_000;
