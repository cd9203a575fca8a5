//! A worker process that is killed again and again, and a client that holds it to what it promised.
//!
//! The parent is the client. It starts this test binary once more as a worker ([`child`]) on a SQLite file,
//! kills it with SIGKILL at random moments, starts it again at once, and writes down what it was told: which
//! starts and events were accepted. When the kills are over everything has to end, and [`check`] compares
//! the hub with both journals.
//!
//! `DURABLE_KILLS=n` sets the number of kills, `DURABLE_SEED=n` repeats a run (but not its timing).

#![allow(
    clippy::print_stdout,
    reason = "what was done is part of the result, and the seed of a failure"
)]

mod check;
mod workload;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use durable_core::prelude::*;
use durable_core::store::SqliteStore;

use workload::Journal;

/// Set for the child: the folder with the hub and the journal.
const FOLDER: &str = "DURABLE_KILL_FOLDER";

const KILLS: u32 = 15;

/// A life of the worker, at most.
const LIFE_MAX_MS: u64 = 300;

/// Time for everything to end once nothing is killed any more.
const PATIENCE: Duration = secs(60);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn database(folder: &Path) -> PathBuf {
    folder.join("hub.db")
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The worker process. Killed if the test fails.
struct Killed(Child);

impl Killed {
    fn start(folder: &Path) -> Self {
        let binary = std::env::current_exe().expect("this binary has a path");
        let child = Command::new(binary)
            .args(["--exact", "kill::child", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the child starts");
        Self(child)
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().expect("the child can be killed");
        self.0.wait().expect("the child is gone");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The worker, when this binary is started by [`Killed`]; a test that does nothing otherwise.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(database(&folder)).expect("the hub opens");
        let journal = Journal::open(&folder.join("activities"));
        let worker = Worker::builder(store).registry(workload::registry(journal));
        let worker = worker.start().await.expect("the worker starts");
        worker.ended().await.expect("the worker serves until it is killed");
    });
}

#[test]
fn a_worker_that_is_killed_again_and_again_loses_nothing_and_repeats_no_result() {
    let kills = number("DURABLE_KILLS").map_or(KILLS, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let seed = number("DURABLE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("DURABLE_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let told = runtime.block_on(async {
        let client = Client::new(SqliteStore::open(database(folder.path())).expect("it opens"));
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let clients: Vec<_> = (0..workload::CLIENTS)
            .map(|number| {
                tokio::spawn(workload::drive(client.clone(), number, seed, stopped.clone()))
            })
            .collect();
        let mut worker = Killed::start(folder.path());
        for _ in 0..kills {
            tokio::time::sleep(millis(random.below(LIFE_MAX_MS + 1))).await;
            worker.kill();
            worker = Killed::start(folder.path());
        }
        stop.send(true).expect("the clients listen");
        let mut told = Vec::new();
        for client in clients {
            told.extend(client.await.expect("a client sees no error"));
        }
        let ended = tokio::time::timeout(PATIENCE, workload::end(&client, &told)).await;
        if ended.is_err() {
            check::print_active(&client).await;
            panic!("not everything has ended");
        }
        worker.kill();
        told
    });
    let bodies = Journal::lines(&folder.path().join("activities"));
    let client = Client::new(SqliteStore::open(database(folder.path())).expect("it opens"));
    let found = runtime.block_on(check::check(&client, &told, &bodies));
    assert!(found.instances >= 20 && found.events >= 20, "too little was done: {found:?}");
    println!(
        "{kills} kills, {} instances, {} events, 0 lost, 0 duplicated results",
        found.instances, found.events
    );
}

#[test]
fn after_a_kill_the_next_process_serves_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = Client::new(SqliteStore::open(database(folder.path())).expect("it opens"));
        let waits = client.start_by_name("collect", &1).id("waits").await.expect("accepted");
        let mut worker = Killed::start(folder.path());
        let running = |status: RuntimeStatus| status == RuntimeStatus::Running;
        let end = Instant::now() + PATIENCE;
        while !running(waits.status().await.expect("there").runtime_status()) {
            assert!(Instant::now() < end, "the first worker does not run it");
            tokio::time::sleep(millis(5)).await;
        }
        worker.kill();
        waits.raise_event("n", &7).id("n").await.expect("accepted while nobody serves");
        let killed = Instant::now();
        let _next = Killed::start(folder.path());
        waits.output_within(PATIENCE).await.expect("completed");
        let took = killed.elapsed();
        println!("served {took:?} after the kill, the start of the process included");
        assert!(took < secs(5), "{took:?}");
    });
}

/// Waits until an instance that another process runs has this status.
async fn until_is(client: &Client, id: &str, wanted: RuntimeStatus) {
    let end = Instant::now() + PATIENCE;
    let id = InstanceId::new(id).expect("valid");
    loop {
        let status = client.status(&id).await.expect("read").expect("there");
        if status.runtime_status() == wanted {
            return;
        }
        assert!(Instant::now() < end, "{id} is not {wanted}: {status:?}");
        tokio::time::sleep(millis(5)).await;
    }
}

#[test]
fn a_client_of_another_process_reaches_the_worker_and_a_second_worker_is_told_its_process_id() {
    use RuntimeStatus::{Completed, Running, Suspended, Terminated};
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = SqliteStore::open(database(folder.path())).expect("it opens");
        let client = Client::new(store.clone());
        let pending = client.start_by_name("collect", &1).id("a").await.expect("accepted");
        pending.suspend("before anybody serves").await.expect("accepted");
        let worker = Killed::start(folder.path());
        until_is(&client, "a", Suspended).await;
        pending.raise_event("n", &1).await.expect("kept");
        pending.resume("").await.expect("accepted");
        until_is(&client, "a", Completed).await;

        let error = client.start_by_name("nobody", &()).await.expect_err("it is not registered");
        let known = "they register: chain, collect, fan";
        assert!(error.to_string().ends_with(known), "{error}");
        let running = client.start_by_name("collect", &1).id("b").await.expect("accepted");
        until_is(&client, "b", Running).await;
        let again = client.start_by_name("collect", &1).id("b").await;
        assert!(matches!(again, Err(ClientError::Active { status: Running, .. })), "{again:?}");
        running.suspend("").await.expect("accepted");
        until_is(&client, "b", Suspended).await;
        running.resume("").await.expect("accepted");
        until_is(&client, "b", Running).await;
        running.terminate("enough").await.expect("accepted");
        until_is(&client, "b", Terminated).await;
        for ended in [&pending, &running] {
            for said in [
                ended.raise_event("n", &2).await,
                ended.terminate("").await,
                ended.suspend("").await,
                ended.resume("").await,
            ] {
                assert!(matches!(said, Err(ClientError::Ended { .. })), "{said:?}");
            }
        }
        let nobody = client.instance("nobody").expect("valid");
        let said = nobody.terminate("").await;
        assert!(matches!(said, Err(ClientError::NotFound(_))), "{said:?}");

        let second = Worker::builder(store).start().await.map(|_| ()).expect_err("one at a time");
        let told = format!("in use by another worker (process {})", worker.0.id());
        assert!(second.to_string().contains(&told), "{second}");
    });
}
