//! Azurite, the emulator of Azure Storage, as a child process, for tests.
//!
//! `make emulator` installs it. Everything that it holds is in its memory and gone with it.
//!
//! ```no_run
//! # fn main() -> Result<(), durable_emulator::EmulatorError> {
//! let emulator = durable_emulator::Emulator::start()?;
//! println!("{}", emulator.connection_string());
//! # Ok(())
//! # }
//! ```

mod process;
mod service;

pub use process::{Emulator, EmulatorError};
pub use service::{ACCOUNT_KEY, ACCOUNT_NAME, Endpoints, Service};
