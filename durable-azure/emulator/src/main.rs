//! `cargo run -p durable-emulator [-- --faults SEED]`: runs the storage emulator, says how to reach it,
//! and stays until it is interrupted.
#![allow(clippy::print_stdout, reason = "a program: its output is its purpose")]

use std::error::Error;
use std::process::ExitCode;

use durable_emulator::Emulator;
use durable_emulator::proxy::{FaultProxy, Plan};

fn main() -> ExitCode {
    let faults = match parse(std::env::args().skip(1)) {
        Ok(faults) => faults,
        Err(message) => {
            println!("{message}");
            println!("usage: durable-emulator [--faults SEED]");
            return ExitCode::from(2);
        }
    };
    match run(faults) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<u64>, String> {
    let mut faults = None;
    while let Some(word) = words.next() {
        if word != "--faults" {
            return Err(format!("unknown argument {word}"));
        }
        let value = words.next().ok_or("--faults needs a value")?;
        let seed = value.parse().map_err(|_| format!("--faults: {value:?} is not a number"))?;
        faults = Some(seed);
    }
    Ok(faults)
}

/// Never returns once all runs. The emulator sees its standard input close when this process ends.
fn run(faults: Option<u64>) -> Result<(), Box<dyn Error>> {
    let emulator = Emulator::start()?;
    let proxy = match faults {
        Some(seed) => Some(FaultProxy::start(emulator.endpoints(), Plan::drawn(seed))?),
        None => None,
    };
    let endpoints = proxy.as_ref().map_or(emulator.endpoints(), FaultProxy::endpoints);
    println!("{}", endpoints.connection_string());
    loop {
        std::thread::park();
    }
}
