//! The command line program; all of it is in the library.

use std::process::ExitCode;

use clap::Parser;
use sample_imgrec::cli::Cli;

fn main() -> ExitCode {
    sample_imgrec::process::run(Cli::parse())
}
