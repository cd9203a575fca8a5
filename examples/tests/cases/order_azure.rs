//! An order whose workflow is kept in Azure Storage: another process takes it over.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use durable_emulator::Emulator;
use tempfile::TempDir;

use super::program::{Ran, run, spawn, wait};

const SHIPPED: &[&str] = &["reserve", "charge", "ship"];

/// Well beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An order with a hub and a folder of its own.
struct Shop {
    folder: TempDir,
    connection: String,
    hub: String,
}

impl Shop {
    fn new(emulator: &Emulator, hub: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, connection: emulator.connection_string(), hub: hub.to_owned() }
    }

    fn arguments(&self, pace: u64, more: &[&str]) -> Vec<String> {
        let pace = pace.to_string();
        let fixed = ["--azure", &self.connection, "--hub", &self.hub, "--pace", &pace];
        fixed.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    }

    fn spawn(&self, pace: u64) -> Child {
        spawn("order", self.folder.path(), &self.arguments(pace, &[]))
    }

    fn run(&self, more: &[&str]) -> Ran {
        run("order", self.folder.path(), &self.arguments(0, more))
    }

    fn ledger(&self) -> Vec<String> {
        std::fs::read_to_string(self.folder.path().join("order-data/ledger.jsonl"))
            .unwrap_or_default()
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("a whole line");
                line["step"].as_str().expect("a step").to_owned()
            })
            .collect()
    }

    fn wait_for_steps(&self, steps: usize) {
        let began = Instant::now();
        while self.ledger().len() < steps {
            assert!(began.elapsed() < PATIENCE, "it never got so far: {:?}", self.ledger());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn finish(&self, story: &str) {
        let ran = self.run(&[]);
        assert!(ran.status.success(), "{story}: {ran}");
        assert_eq!(self.ledger(), SHIPPED, "{story}: {ran}");
        let again = self.run(&[]);
        assert!(again.stdout.contains("order-1 was finished before"), "{story}: {again}");
        assert_eq!(self.ledger(), SHIPPED, "{story}: shown, not done again");
    }
}

#[test]
fn killed_after_the_payment_the_next_process_goes_on_at_once() {
    let emulator = Emulator::start().unwrap();
    let shop = Shop::new(&emulator, "killed");
    let mut first = shop.spawn(500);
    shop.wait_for_steps(2);
    first.kill().unwrap();
    wait(first);
    let began = Instant::now();
    let second = shop.run(&[]);
    // The worker may be through before the program looks at the status, which says "goes on".
    assert!(second.stdout.contains("shipped (parcel 3)"), "{second}");
    // The dead one is known by its process id: nobody waits for its lease of 30 s.
    assert!(began.elapsed() < Duration::from_secs(15), "taken over after {:?}", began.elapsed());
    shop.finish("killed after the payment");
}

#[test]
fn a_process_that_runs_already_takes_the_order_over_when_the_other_is_killed() {
    let emulator = Emulator::start().unwrap();
    let shop = Shop::new(&emulator, "pair");
    let mut first = shop.spawn(2_000);
    let said = BufReader::new(first.stdout.take().expect("it is piped")).lines();
    assert!(said.map_while(Result::ok).any(|line| line == "order-1 is new"), "it never began");
    let mut second = shop.spawn(100);
    let mut said = BufReader::new(second.stdout.take().expect("it is piped")).lines();
    assert!(
        said.by_ref().map_while(Result::ok).any(|line| line == "order-1 goes on"),
        "the other process does not see it"
    );
    first.kill().unwrap();
    wait(first);
    let shipped = said.map_while(Result::ok).any(|line| line.starts_with("order-1 is shipped"));
    let ran = wait(second);
    assert!(shipped && ran.status.success(), "{ran}");
    shop.finish("taken over by a process that was there");
}

/// Every write there is, each time in a hub of its own; the other side of each is tried on a file.
#[test]
fn killed_after_every_write_it_never_charges_twice() {
    let emulator = Emulator::start().unwrap();
    let mut crashes = 0;
    for write in 1.. {
        let shop = Shop::new(&emulator, &format!("after{write}"));
        let ran = shop.run(&[&format!("--crash-after-write={write}")]);
        if ran.status.success() {
            break;
        }
        assert!(ran.stderr.contains("crashing on purpose"), "write {write}: {ran}");
        crashes += 1;
        let ran = shop.run(&[]);
        assert!(ran.status.success(), "write {write}: {ran}");
        assert_eq!(shop.ledger(), SHIPPED, "write {write}: {ran}");
    }
    assert!(crashes > 10, "only {crashes} writes were tried");
}
