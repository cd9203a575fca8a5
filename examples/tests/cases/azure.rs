//! Examples in Azure Storage: each dies around its writes, and the next process finishes what it began.

use durable_emulator::Emulator;
use tempfile::TempDir;

use super::program::{Ran, run};

/// An example with a folder and a hub of its own.
struct Program {
    name: &'static str,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Program {
    fn new(name: &'static str, arguments: &[&str]) -> Self {
        let connection = Emulator::shared().unwrap().connection_string();
        let hub = format!("{}Killed", name.replace('_', ""));
        let place = ["--azure", &connection, "--hub", &hub];
        let arguments = place.iter().chain(arguments).map(|&argument| argument.into()).collect();
        Self { name, arguments, folder: tempfile::tempdir().unwrap() }
    }

    fn run(&self, more: &[&str]) -> Ran {
        let more = more.iter().map(|&argument| argument.to_owned());
        let arguments: Vec<String> = self.arguments.iter().cloned().chain(more).collect();
        run(self.name, self.folder.path(), &arguments)
    }

    /// Lets it die before one write and after another. Returns what was printed until its end.
    fn killed_and_finished(&self) -> (String, Ran) {
        let mut said = String::new();
        for crash in [["--crash-after-write", "2"], ["--crash-before-write", "3"]] {
            let ran = self.run(&crash);
            assert!(ran.stderr.contains("crashing on purpose"), "{ran}");
            said += &ran.stdout;
        }
        let ran = self.run(&[]);
        (said + &ran.stdout, ran)
    }
}

#[test]
fn an_approval_is_given_up_after_all_its_mails() {
    let (said, ran) = Program::new("approval", &["--day", "0.3"]).killed_and_finished();
    assert!(ran.status.success() && ran.stdout.contains("nobody decided; given up"), "{ran}");
    assert!(said.contains("mail to grace: ada has not decided for three days"), "{said}");
}

#[test]
fn orders_behind_a_circuit_breaker_are_paid() {
    let orders = ["--down", "2", "--open", "300", "--orders", "3"];
    let (_, ran) = Program::new("circuit_breaker", &orders).killed_and_finished();
    assert!(ran.status.success(), "{ran}");
    for number in 1..=3 {
        assert!(ran.stdout.contains(&format!("order-{number}: receipt {number}")), "{ran}");
    }
}

#[test]
fn rows_are_imported_once() {
    let rows = ["--rows", "3000", "--chunk", "100", "--parallel", "4", "--pace", "10"];
    let (_, ran) = Program::new("fan_out", &rows).killed_and_finished();
    assert!(ran.status.success() && ran.stdout.contains("2997 rows imported"), "{ran}");
}

#[test]
fn a_price_is_watched_until_it_moves() {
    let (_, ran) = Program::new("monitor", &["--every", "20"]).killed_and_finished();
    assert!(ran.status.success() && ran.stdout.contains("it moved from 4200 to 3690"), "{ran}");
}

#[test]
fn a_schedule_has_all_its_turns() {
    let turns = ["--cron", "* * * * * *", "--turns", "3"];
    let (_, ran) = Program::new("schedule", &turns).killed_and_finished();
    assert!(ran.status.success() && ran.stdout.contains("3 turns are done"), "{ran}");
}

#[test]
fn a_trip_is_booked() {
    let (said, ran) = Program::new("trip", &[]).killed_and_finished();
    assert!(ran.status.success() && ran.stdout.contains("booked: hotel-"), "{ran}");
    for what in ["hotel booked", "flight booked", "car booked"] {
        assert!(said.replace(" in Rome ", " ").contains(what), "{said}");
    }
}
