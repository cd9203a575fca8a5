//! The processes: this binary once more, as a worker or as the client.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use durable_azure::AzureStore;
use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

use super::journal::{Evidence, Journal};
use super::{client, hub, workload};

/// Set for a child: its [`Setting`].
const SETTING: &str = "DURABLE_CHAOS_SETTING";

/// The level of what the processes log: `error`, `warn` (the default), `info`, `debug`, `trace`.
const LOG: &str = "DURABLE_CHAOS_LOG";

/// Few, so that a fan-out waits for a lane and is offered to other workers.
const LANES: usize = 4;

const SHUTDOWN_TIMEOUT: Duration = secs(5);

/// Before a worker that could not begin tries again.
const BEGIN_AGAIN: Duration = millis(250);

/// What a process has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) connection: String,
    pub(super) hub: String,
    pub(super) folder: PathBuf,
    pub(super) lease: Duration,
    pub(super) seed: u64,
}

impl Setting {
    pub(super) fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    pub(super) fn evidence(&self) -> PathBuf {
        self.folder.join("evidence")
    }

    fn ready(&self, pid: u32) -> PathBuf {
        self.folder.join(format!("ready-{pid}"))
    }

    fn of_this_process() -> Option<Self> {
        let text = std::env::var(SETTING).ok()?;
        Some(serde_json::from_str(&text).expect("the parent's setting"))
    }
}

/// A worker or the client. Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    ready: PathBuf,
}

impl Process {
    pub(super) fn worker(setting: &Setting) -> Self {
        Self::start(setting, "worker")
    }

    pub(super) fn client(setting: &Setting) -> Self {
        Self::start(setting, "client")
    }

    fn start(setting: &Setting, role: &str) -> Self {
        let begun = setting.folder.join(format!("{role}-begun"));
        let child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args(["--exact", &format!("chaos::process::{role}"), "--nocapture"])
            .env(SETTING, serde_json::to_string(setting).expect("it has a JSON form"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&begun).expect("the log opens"))
            .spawn()
            .expect("the process starts");
        let pid = child.id();
        let log = setting.folder.join(format!("{role}-{pid}.log"));
        fs::rename(begun, &log).expect("the log gets its name");
        Self { child, log, ready: setting.ready(pid) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it serves, as a worker. It may have begun to just now.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.exists()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process is gone");
    }

    /// `STOP`, `CONT` or `TERM`.
    pub(super) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.expect("kill runs").success(), "{signal} to {pid}");
    }

    /// Tells the client that it may end.
    pub(super) fn stop(&mut self) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(b"s").expect("the client reads");
    }

    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be asked")
    }

    /// The last lines that it logged.
    pub(super) fn log(&self) -> String {
        last_lines(&self.log)
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log() {
    let level = std::env::var(LOG).ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::WARN))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}

/// The worker, when this binary is started by [`Process`]; a test that does nothing otherwise.
#[test]
fn worker() {
    let Some(setting) = Setting::of_this_process() else { return };
    log();
    std::thread::spawn(|| {
        // Its end is that of the parent.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let evidence = Evidence::open(&setting.evidence());
        let worker = loop {
            match begin(&setting, evidence.clone()).await {
                Ok(worker) => break worker,
                Err(error) => {
                    tracing::warn!(%error, "the worker does not begin");
                    tokio::time::sleep(BEGIN_AGAIN).await;
                }
            }
        };
        let served = tokio::spawn(worker.run_until_interrupted());
        fs::write(setting.ready(std::process::id()), "").expect("the folder is there");
        let served = served.await.expect("it does not panic");
        served.expect("it serves until it is told to leave");
    });
}

async fn begin(setting: &Setting, evidence: Evidence) -> Result<Worker, durable_core::StartError> {
    let store: AzureStore = hub::open(setting).await?;
    Worker::builder(store)
        .registry(workload::registry(evidence))
        .max_concurrent_activities(LANES)
        .shutdown_timeout(SHUTDOWN_TIMEOUT)
        .start()
        .await
}

/// The client, likewise.
#[test]
fn client() {
    let Some(setting) = Setting::of_this_process() else { return };
    log();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = loop {
            match hub::open(&setting).await {
                Ok(store) => break store,
                Err(error) => {
                    tracing::warn!(%error, "the hub does not open");
                    tokio::time::sleep(BEGIN_AGAIN).await;
                }
            }
        };
        let journal = Journal::open(&setting.journal());
        client::run(Client::new(store), journal, setting.seed).await;
    });
}
