//! What the client was told, and which activity bodies ran: two files that outlive the processes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use durable_core::InstanceStatus;
use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

use super::workload::Story;

/// What the client asked for and was told, in the order in which that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Note {
    /// Is going to start it.
    Starting { id: String, story: Story, at: u64 },
    /// The start was answered with success.
    Accepted { id: String, run: u64 },
    /// Nobody can say whether the start took effect. It is not repeated.
    StartUnknown { id: String },
    /// Is going to raise it.
    Raising { id: String, value: String },
    /// The event was answered with success.
    Raised { id: String, value: String },
    /// The instance had ended. `asked_before`: an earlier try was not answered, and may have arrived.
    Refused { id: String, value: String, asked_before: bool },
    /// The end was seen, with this output as JSON.
    Ended { id: String, run: u64, status: String, output: Option<String>, at: u64 },
    /// The engine held it, and it was resumed.
    Held { id: String, reason: String },
    /// An answer that no client may get.
    Breach { id: String, what: String },
}

impl Note {
    /// Of an instance that has ended.
    pub(super) fn ended(status: &InstanceStatus) -> Self {
        Self::Ended {
            id: status.id().to_string(),
            run: status.run().0,
            status: status.runtime_status().to_string(),
            output: status.row().output.as_ref().map(|output| output.json().to_owned()),
            at: wall(),
        }
    }
}

/// Microseconds of the wall clock.
pub(super) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("before the year 500 000")
}

/// Written to the disk before `note` returns.
#[derive(Debug, Clone)]
pub(super) struct Journal(Arc<Mutex<File>>);

impl Journal {
    pub(super) fn open(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(appended(path))))
    }

    pub(super) fn note(&self, note: &Note) {
        let mut line = serde_json::to_string(note).expect("notes have a JSON form");
        line.push('\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("the journal is written");
        file.sync_data().expect("the journal is on the disk");
    }

    pub(super) fn read(path: &Path) -> Vec<Note> {
        let text = std::fs::read_to_string(path).expect("the journal is read");
        text.lines().map(|line| serde_json::from_str(line).expect("a whole note")).collect()
    }
}

/// One line for each activity body that ran; each is one write at the file's end.
#[derive(Debug, Clone)]
pub(super) struct Evidence(Arc<File>);

/// A body that ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Body {
    pub(super) instance: String,
    pub(super) run: u64,
    pub(super) call: u32,
    pub(super) attempt: u32,
    pub(super) pid: u32,
    /// New for each body, and part of its result.
    pub(super) token: String,
}

impl Evidence {
    pub(super) fn open(path: &Path) -> Self {
        Self(Arc::new(appended(path)))
    }

    /// Notes a body that runs now, and returns its token.
    pub(super) fn note(&self, ctx: &ActivityContext) -> String {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (id, run, call) = (ctx.instance_id(), ctx.run(), ctx.call());
        let (attempt, pid) = (ctx.attempt(), std::process::id());
        let line = format!("{id}\t{run}\t{call}\t{attempt}\t{pid}\t{token}\n");
        (&*self.0).write_all(line.as_bytes()).expect("the evidence is written");
        token
    }

    pub(super) fn read(path: &Path) -> Vec<Body> {
        let text = std::fs::read_to_string(path).expect("the evidence is read");
        text.lines().map(|line| body(line).unwrap_or_else(|| panic!("torn: {line:?}"))).collect()
    }
}

fn body(line: &str) -> Option<Body> {
    let mut parts = line.split('\t');
    Some(Body {
        instance: parts.next()?.to_owned(),
        run: parts.next()?.parse().ok()?,
        call: parts.next()?.parse().ok()?,
        attempt: parts.next()?.parse().ok()?,
        pid: parts.next()?.parse().ok()?,
        token: parts.next().filter(|token| token.len() == 32)?.to_owned(),
    })
}

fn appended(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the file opens")
}
