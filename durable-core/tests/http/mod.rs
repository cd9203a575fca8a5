//! The management API, point by point of the conformance checklist. Each test is named after its point.
//!
//! Requests are driven through the router without a socket, but for what only a socket shows. Every answer of
//! every test is checked for what holds for all of them (`server.rs`).

mod bad_inputs;
mod document;
mod events;
#[cfg(feature = "sqlite")]
mod failing_store;
mod functions;
mod fuzz;
mod handlers;
mod health;
mod links;
mod listing;
mod operations;
mod purging;
mod random;
mod routes;
mod security;
mod server;
mod serving;
mod starting;
mod status;
mod tcp;
mod waiting;
