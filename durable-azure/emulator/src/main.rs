//! `cargo run -p durable-emulator`: runs the storage emulator and says how to reach it.
#![allow(clippy::print_stdout, reason = "a program: its output is its purpose")]

use std::process::ExitCode;

use durable_emulator::Emulator;

fn main() -> ExitCode {
    match Emulator::start() {
        Ok(emulator) => {
            println!("{}", emulator.connection_string());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
