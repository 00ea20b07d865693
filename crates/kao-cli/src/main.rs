//! kao
fn main() {}
