//! `make simulate SEEDS=n [FROM=k]`: runs seeds of the simulation and says what they came to.
#![allow(clippy::print_stdout, reason = "a program: its output is its purpose")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use durable_machine::sim::{self, Fault, FaultCounts, Planted, Settings};

/// Violations that are told in full; the others are counted.
const TOLD_MAX: usize = 3;

struct Arguments {
    seeds: u64,
    from: u64,
    settings: Settings,
}

#[derive(Default)]
struct Totals {
    instances: u64,
    faults: FaultCounts,
    violations: u64,
    told: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            println!("{message}");
            println!("usage: simulate --seeds N [--from K] [--planted BUG] [--whole-story]");
            return ExitCode::from(2);
        }
    };
    // Panics of the workload are part of it, panics of the engine are told with their seed.
    std::panic::set_hook(Box::new(|_| {}));
    let totals = run_all(&arguments);
    for story in &totals.told {
        println!("{story}");
    }
    for fault in Fault::ALL {
        println!("{:>9}  {}", totals.faults.of(*fault), fault.words());
    }
    let idle = proof_of_work(arguments.seeds, &totals);
    for line in &idle {
        println!("{line}");
    }
    println!(
        "{} seeds, {} instances, {} faults, {} violations",
        arguments.seeds,
        totals.instances,
        totals.faults.total(),
        totals.violations
    );
    if totals.violations == 0 && idle.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 1, from: 0, settings: Settings::default() };
    while let Some(word) = words.next() {
        if word == "--whole-story" {
            arguments.settings.whole_story = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word}: {value:?} is not a number"));
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.from = number()?,
            "--planted" => {
                let bug = Planted::ALL.iter().find(|bug| format!("{bug:?}") == value);
                arguments.settings.planted =
                    Some(*bug.ok_or_else(|| format!("no planted bug {value:?}"))?);
            }
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(arguments)
}

/// Every core takes the next seed until none is left.
#[allow(clippy::disallowed_methods, reason = "the library is pure; this program uses the cores")]
fn run_all(arguments: &Arguments) -> Totals {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        break;
                    }
                    let report = sim::run(arguments.from + number, arguments.settings);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.instances += report.instances;
                    totals.faults.merge(&report.faults);
                    if let Some(violation) = report.violation {
                        totals.violations += 1;
                        let seed = report.seed;
                        let story = format!(
                            "seed {seed}: {}\n{}\nrepeat it: make simulate SEEDS=1 FROM={seed}\n",
                            violation.what,
                            violation.story.join("\n")
                        );
                        if totals.told.len() < TOLD_MAX {
                            totals.told.push(story);
                        } else {
                            let what = &violation.what;
                            totals.told.push(format!("seed {seed}: {what}"));
                        }
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A run that did nothing proves nothing: what is missing for one of this many seeds.
fn proof_of_work(seeds: u64, totals: &Totals) -> Vec<String> {
    let mut missing = Vec::new();
    if totals.instances < seeds {
        missing.push(format!("only {} instances ended in {seeds} seeds", totals.instances));
    }
    // Each kind is drawn in about every third seed; rare ones take some hundred to show.
    if seeds >= 500 {
        for fault in Fault::ALL {
            if totals.faults.of(*fault) < seeds / 500 {
                missing.push(format!("fault never injected enough: {}", fault.words()));
            }
        }
    }
    missing
}
