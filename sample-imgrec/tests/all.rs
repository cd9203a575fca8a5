//! All integration tests in one program, which links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its input has to stop")]

mod cases;
mod support;
