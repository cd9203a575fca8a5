//! Azurite, the emulator of Azure Storage, as a child process, for tests.
//!
//! `make emulator` installs it. Everything that it holds is in its memory and gone with it. A [`proxy`] in
//! front of it injects faults.
//!
//! ```no_run
//! # fn main() -> Result<(), durable_emulator::EmulatorError> {
//! let emulator = durable_emulator::Emulator::start()?;
//! println!("{}", emulator.connection_string());
//! # Ok(())
//! # }
//! ```

mod process;
pub mod proxy;
mod service;

pub use process::{Emulator, EmulatorError};
pub use service::{ACCOUNT_KEY, ACCOUNT_NAME, Endpoints, Service};
