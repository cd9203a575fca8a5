//! The SQLite store: the contract, and what only a file can do.

mod contract;
