//! The server as clients see it: what it answers, what it refuses, and that it gives the bytes of
//! the library. Everything goes over connections, with the heads of requests written by hand, so
//! that they can be wrong.

mod client;
mod hostile;
mod interface;
mod same_bytes;

use client::Server;
