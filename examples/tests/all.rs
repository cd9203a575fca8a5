//! The examples as their users run them, and the documentation held against the tree.

#![allow(clippy::unwrap_used, reason = "tests and their helpers say what went wrong by failing")]

mod cases;
