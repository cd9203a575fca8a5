//! Random operations on a few ids, each answer and each state held against a model of what should come.

use durable_core::prelude::*;
use serde_json::json;

use super::server::{Answer, Server};

/// What an id is in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Nobody,
    Running,
    /// What ended it, had it not been held; the first counts.
    Suspended(Option<RuntimeStatus>),
    Ended(RuntimeStatus),
}
use Expected::{Ended, Nobody, Running, Suspended};

#[derive(Debug, Clone, Copy)]
enum Operation {
    Start,
    /// An event that nobody waits for, or one that ends it so.
    Raise(Option<RuntimeStatus>),
    Terminate,
    Suspend,
    Resume,
    Restart,
    Purge,
}
use Operation::{Purge, Raise, Restart, Resume, Start, Suspend, Terminate};

const COMPLETES: Option<RuntimeStatus> = Some(RuntimeStatus::Completed);
const FAILS: Option<RuntimeStatus> = Some(RuntimeStatus::Failed);

const OPERATIONS: [Operation; 12] = [
    Start,
    Start,
    Start,
    Raise(None),
    Raise(COMPLETES),
    Raise(FAILS),
    Terminate,
    Suspend,
    Suspend,
    Resume,
    Restart,
    Purge,
];

impl Expected {
    /// The code that an operation is answered with, and what comes of it.
    fn after(self, operation: Operation) -> (u16, Self) {
        match (operation, self) {
            (Start, Nobody | Ended(_)) | (Restart, Ended(_)) => (202, Running),
            (Start | Restart, active @ (Running | Suspended(_))) => (409, active),
            (Restart, Nobody) => (400, Nobody),
            (Purge, Ended(_)) => (200, Nobody),
            (Purge, active @ (Running | Suspended(_))) => (412, active),
            (_, Nobody) => (404, Nobody),
            (_, ended @ Ended(_)) => (410, ended),
            (Raise(None), active) => (202, active),
            (Raise(Some(end)), Running) => (202, Ended(end)),
            (Raise(Some(end)), Suspended(kept)) => (202, Suspended(kept.or(Some(end)))),
            (Terminate, Running | Suspended(_)) => (202, Ended(RuntimeStatus::Terminated)),
            (Suspend, Running) => (202, Suspended(None)),
            (Suspend, held @ Suspended(_)) => (202, held),
            (Resume, Suspended(Some(end))) => (202, Ended(end)),
            (Resume, Suspended(None) | Running) => (202, Running),
        }
    }

    fn status(&self) -> Option<RuntimeStatus> {
        match self {
            Nobody => None,
            Running => Some(RuntimeStatus::Running),
            Suspended(_) => Some(RuntimeStatus::Suspended),
            Ended(status) => Some(*status),
        }
    }
}

async fn carry_out(server: &Server, id: &str, operation: Operation) -> Answer {
    let path = |rest: &str| format!("/instances/{id}{rest}");
    match operation {
        Start => server.call("POST", &format!("/orchestrators/Told/{id}"), "null").await,
        Raise(end) => {
            let event = end.map_or("noise", |end| end.name());
            let json = [("content-type", "application/json")];
            let path = path(&format!("/raiseEvent/{event}"));
            server.call_with("POST", &path, &json, "null").await
        }
        Terminate => server.post(&path("/terminate?reason=told")).await,
        Suspend => server.post(&path("/suspend")).await,
        Resume => server.post(&path("/resume")).await,
        Restart => server.post(&path("/restart?restartWithNewInstanceId=false")).await,
        Purge => server.call("DELETE", &path(""), "").await,
    }
}

/// Xorshift: the same numbers in each run of the test.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below a usize")
    }
}

#[tokio::test]
async fn point_10_whatever_is_done_in_whichever_order_each_answer_is_right() {
    let server = Server::start().await;
    for seed in 1..=20_u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let ids = ["a", "b c"].map(|id| format!("{id}-{seed}"));
        let mut model = vec![Nobody; ids.len()];
        let mut story = Vec::new();
        for _ in 0..40 {
            let at = numbers.below(ids.len());
            let operation = OPERATIONS[numbers.below(OPERATIONS.len())];
            let id = &ids[at];
            let (code, expected) = model[at].clone().after(operation);
            story.push(format!("{operation:?} {id}: {code} {expected:?}"));
            let answer = carry_out(&server, &id.replace(' ', "%20"), operation).await;
            assert_eq!(answer.status, code, "seed {seed}: {story:#?} {answer:?}");
            reaches(&server, id, expected.status(), &story).await;
            model[at] = expected;
        }
        // What is listed is what is there.
        for (id, expected) in ids.iter().zip(&model) {
            let prefix = id.replace(' ', "%20");
            let listed = server.get(&format!("/instances?instanceIdPrefix={prefix}")).await.json();
            let states: Vec<_> =
                listed.as_array().unwrap().iter().map(|of| of["runtimeStatus"].clone()).collect();
            let expected: Vec<_> =
                expected.status().iter().map(|status| json!(status.name())).collect();
            assert_eq!(states, expected, "seed {seed}: {story:#?}");
        }
    }
}

/// What was accepted takes effect in a moment.
async fn reaches(server: &Server, id: &str, wanted: Option<RuntimeStatus>, story: &[String]) {
    let end = tokio::time::Instant::now() + secs(30);
    loop {
        let status = server.client.status(id).await.expect("it can be read");
        let status = status.map(|status| status.runtime_status());
        if status == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{id} is {status:?}: {story:#?}");
        tokio::time::sleep(millis(1)).await;
    }
}
