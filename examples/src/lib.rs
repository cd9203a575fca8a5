//! Small programs that show `durable-core` at work. Run one with `cargo run --example hello`.
