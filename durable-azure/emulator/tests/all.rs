//! The emulator as tests use it.

#![allow(clippy::unwrap_used, reason = "tests and their helpers say what went wrong by failing")]

mod cases;
