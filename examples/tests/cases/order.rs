//! However often and whenever the process of an order dies: the payment is made once.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use durable_core::prelude::*;
use tempfile::TempDir;

use super::program::{Ran, run, spawn, wait};

/// What a crash leaves on standard error begins so.
const CRASHED: &str = "crashing on purpose ";

const SHIPPED: &[&str] = &["reserve", "charge", "ship"];
const TAKEN_BACK: &[&str] = &["reserve", "charge", "refund", "release"];

/// An order in a folder of its own.
struct Shop {
    folder: TempDir,
    fail_shipping: bool,
    pace: Duration,
}

impl Shop {
    fn new(fail_shipping: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, fail_shipping, pace: Duration::ZERO }
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let pace = self.pace.as_millis().to_string();
        let mut arguments: Vec<String> = vec!["--pace".into(), pace];
        if self.fail_shipping {
            arguments.push("--fail-shipping".into());
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    fn run(&self, more: &[&str]) -> Ran {
        run("order", self.folder.path(), &self.arguments(more))
    }

    /// Runs it and kills it after that time; `Some` where it had ended before.
    fn run_for(&self, time: Duration) -> Option<Ran> {
        let mut child = spawn("order", self.folder.path(), &self.arguments(&[]));
        std::thread::sleep(time);
        child.kill().expect("a child can be killed");
        let ran = wait(child);
        ran.status.code().is_some().then_some(ran)
    }

    /// Lets it crash where it is told to; what it said of the place.
    fn crash(&self, how: &[&str]) -> String {
        let ran = self.run(how);
        let place = ran.stderr.lines().find_map(|line| line.strip_prefix(CRASHED));
        assert!(!ran.status.success(), "{how:?}: {ran}");
        place.unwrap_or_else(|| panic!("{how:?} is no crash on purpose: {ran}")).to_owned()
    }

    fn data(&self, file: &str) -> PathBuf {
        self.folder.path().join("order-data").join(file)
    }

    /// What happened in the outside world, in order.
    fn ledger(&self) -> Vec<String> {
        std::fs::read_to_string(self.data("ledger.jsonl"))
            .unwrap_or_default()
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("a whole line");
                line["step"].as_str().expect("a step").to_owned()
            })
            .collect()
    }

    fn status(&self) -> RuntimeStatus {
        let client = Client::new(SqliteStore::open(self.data("order.sqlite")).unwrap());
        let id = InstanceId::new("order-1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = runtime.block_on(client.status(&id)).unwrap();
        status.expect("the order exists").runtime_status()
    }

    /// Runs it to its end: each step had its effect once, and another run changes nothing.
    fn finish(&self, story: &str) {
        let ran = self.run(&[]);
        assert!(ran.status.success(), "{story}: {ran}");
        let expected = if self.fail_shipping { TAKEN_BACK } else { SHIPPED };
        assert_eq!(self.ledger(), expected, "{story}: {ran}");
        assert_eq!(self.status(), RuntimeStatus::Completed, "{story}");
        let again = self.run(&[]);
        assert!(again.status.success(), "{story}: {again}");
        assert!(again.stdout.contains("order-1 was finished before"), "{story}: {again}");
        assert_eq!(again.stdout.lines().last(), ran.stdout.lines().last(), "{story}");
        assert_eq!(self.ledger(), expected, "{story}: shown, not done again");
    }
}

#[test]
fn an_order_is_shipped_or_taken_back() {
    Shop::new(false).finish("nothing went wrong");
    Shop::new(true).finish("the carrier refuses");
}

#[test]
fn a_crash_after_the_payment_does_not_pay_twice() {
    let shop = Shop::new(false);
    shop.crash(&["--crash-after", "charge"]);
    assert_eq!(shop.ledger(), ["reserve", "charge"]);
    let ran = shop.run(&[]);
    assert!(ran.stdout.contains("payment was already made: same receipt 2"), "{ran}");
    shop.finish("paid, then dead");
}

#[test]
fn it_survives_a_crash_after_every_step_and_its_record() {
    for (fail_shipping, steps) in
        [(false, SHIPPED), (true, &["reserve", "charge", "ship", "refund", "release"])]
    {
        for step in steps {
            for how in [(*step).to_owned(), format!("{step}-recorded")] {
                let shop = Shop::new(fail_shipping);
                shop.crash(&["--crash-after", &how]);
                shop.finish(&how);
            }
        }
    }
}

/// A step that takes its process along counts as lost after three starts; the next attempt goes on.
#[test]
fn a_step_that_kills_its_process_again_and_again_has_its_effect_once() {
    let shop = Shop::new(false);
    for _ in 0..7 {
        shop.crash(&["--crash-after", "charge"]);
    }
    shop.finish("seven crashes at one place");
}

/// Crashes at every write there is, on both sides of it, each time in a folder of its own.
fn crash_at_every_write(fail_shipping: bool, before: &[&str]) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for side in ["before", "after"] {
        for write in 1.. {
            let shop = Shop::new(fail_shipping);
            if !before.is_empty() {
                shop.crash(before);
            }
            let how = format!("--crash-{side}-write={write}");
            let ran = shop.run(&[&how]);
            let crashed = ran.stderr.lines().find_map(|line| line.strip_prefix(CRASHED));
            let Some(place) = crashed else {
                assert!(ran.status.success(), "{how}: {ran}");
                break;
            };
            // "before write 5 (commit 1)"
            let what = place.split(['(', ')']).nth(1).expect("the write's name");
            places.insert(format!("{side} {what}"));
            shop.finish(place);
        }
    }
    places
}

fn assert_commits(places: &BTreeSet<String>, commits: usize) {
    for side in ["before", "after"] {
        for commit in 1..=commits {
            let place = format!("{side} commit {commit}");
            assert!(places.contains(&place), "{place} was not tried: {places:?}");
        }
        let beyond = format!("{side} commit {}", commits + 1);
        assert!(!places.contains(&beyond), "there are more commits than was thought: {places:?}");
    }
}

/// A chain of three is four commits.
#[test]
fn killed_at_every_commit_it_never_charges_twice() {
    let places = crash_at_every_write(false, &[]);
    assert_commits(&places, 4);
    for place in ["before acceptance", "after acceptance", "after opening", "before giving back"] {
        assert!(places.contains(place), "{place} was not tried: {places:?}");
    }
}

/// Reserve, charge, ship, refund and release are six.
#[test]
fn killed_at_every_commit_of_taking_back_it_refunds_once() {
    assert_commits(&crash_at_every_write(true, &[]), 6);
}

/// The next process dies, too, at every write of taking up the work: one commit for each step that is
/// left, and one that counts the start which was lost.
#[test]
fn killed_at_every_commit_of_the_next_process_it_never_charges_twice() {
    let places = crash_at_every_write(false, &["--crash-after", "charge"]);
    assert!(places.contains("before commit 3") && places.contains("after commit 3"), "{places:?}");
}

/// Moments that nobody chose: a seeded series of kills, until one comes too late.
#[test]
fn killed_at_random_moments_it_never_charges_twice() {
    let mut killed = 0;
    for seed in 1..=4_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let shop = Shop { pace: Duration::from_millis(20), ..Shop::new(seed % 2 == 0) };
        let mut story = format!("seed {seed}, killed after");
        for _ in 0..25 {
            let time = Duration::from_millis(next(90));
            if shop.run_for(time).is_some() {
                break;
            }
            killed += 1;
            story += &format!(" {}", time.as_millis());
        }
        shop.finish(&story);
    }
    assert!(killed > 0, "no kill came in time");
}

#[test]
fn a_second_process_is_told_who_holds_the_hub() {
    let shop = Shop { pace: Duration::from_secs(60), ..Shop::new(false) };
    let mut first = spawn("order", shop.folder.path(), &shop.arguments(&[]));
    let said = BufReader::new(first.stdout.take().expect("it is piped")).lines();
    assert!(said.map_while(Result::ok).any(|line| line == "order-1 is new"), "it never began");
    let second = shop.run(&[]);
    first.kill().unwrap();
    let sentence = format!("order: the hub is in use by another worker (process {})", first.id());
    wait(first);
    assert_eq!(second.status.code(), Some(1), "{second}");
    assert!(second.stderr.starts_with(&sentence), "{second}");
    assert_eq!(second.stderr.lines().count(), 1, "{second}");
    // The killed one holds nothing any more.
    Shop { pace: Duration::ZERO, ..shop }.finish("killed in the first step");
}

#[cfg(unix)]
#[test]
fn ctrl_c_lets_the_step_end_and_the_next_run_goes_on() {
    let shop = Shop { pace: Duration::from_millis(400), ..Shop::new(false) };
    let child = spawn("order", shop.folder.path(), &shop.arguments(&[]));
    while shop.ledger().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The payment is under way now.
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ran = wait(child);
    assert_eq!(ran.status.code(), Some(130), "{ran}");
    assert!(ran.stdout.contains("stopping"), "{ran}");
    Shop { pace: Duration::ZERO, ..shop }.finish("interrupted");
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let shop = Shop::new(false);
    for (arguments, sentence) in [
        (["--order", "a/b"], "order: an instance id must not contain '/'"),
        (["--data", "/dev/null/x"], "order: the folder /dev/null/x cannot be made"),
    ] {
        let ran = shop.run(&arguments);
        assert_eq!(ran.status.code(), Some(1), "{ran}");
        assert!(ran.stderr.starts_with(sentence), "{ran}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
}
