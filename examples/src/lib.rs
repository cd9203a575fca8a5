//! What the small programs in `examples/` share. Run one with `cargo run --example hello` or
//! `cargo run --example order`.

mod crash_store;
mod place;

pub use crash_store::{CrashStore, Side};
pub use place::{Error, Place, follow};
