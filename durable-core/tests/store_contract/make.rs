//! Small valid things to put into a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_core::machine::codec::EventEncoder;
use durable_core::machine::model::{
    Acceptance, Attempt, AttemptKey, CallNumber, Command, CommitNumber, Envelope, EnvelopeId,
    Event, EventKind, EventSeq, ExecutionKey, ExecutionNumber, Fence, InstanceId, PartitionId,
    Payload, RunNumber, RuntimeStatus, StartAttempt, StartNonce, StatusRow, Timestamp, WorkerId,
};
use durable_core::machine::store::{
    ArrivalPosition, Arrivals, Begins, Commit, Consumed, Head, HistoryAppend, InstanceWrite,
    Remains, RowChange, Snapshot, TimerMove, WorkResult,
};
use durable_core::store::{Member, Store, StoreError, TakenWork};
use uuid::Uuid;

pub(crate) const P0: PartitionId = PartitionId(0);

/// The first moment of all tests: later than any test of the wall clock needs.
pub(crate) const EPOCH: i64 = 1_700_000_000_000_000;

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(EPOCH + micros)
}

pub(crate) fn id(text: &str) -> InstanceId {
    InstanceId::new(text).expect("a valid id")
}

pub(crate) fn worker(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

pub(crate) fn member(worker: WorkerId) -> Member {
    Member {
        worker,
        beat: 1,
        pid: std::process::id(),
        host: "here".into(),
        orchestrators: vec!["chain".into()],
        build: None,
        boot: String::new(),
        owns: Vec::new(),
        needs: BTreeMap::new(),
        leaving: false,
    }
}

pub(crate) fn start(text: &str, nonce: u128) -> Acceptance {
    Acceptance::new(
        id(text),
        RunNumber(1),
        StartNonce(Uuid::from_u128(nonce)),
        "chain".into(),
        Payload::from_json(format!("{{\"order\":{nonce}}}")).expect("JSON"),
        at(i64::try_from(nonce).expect("small")),
    )
}

pub(crate) fn raise(text: &str, envelope: &str) -> Envelope {
    Envelope {
        id: EnvelopeId(envelope.into()),
        instance: id(text),
        run: None,
        command: Command::Raise { name: "approved".into(), input: Payload::null() },
    }
}

pub(crate) fn key(text: &str, run: u64, execution: u32) -> ExecutionKey {
    ExecutionKey { instance: id(text), run: RunNumber(run), execution: ExecutionNumber(execution) }
}

/// A history row of `count` events from `first`, told apart by `mark`.
/// The first attempt of a call of run 1 of `a`, for whoever takes it.
#[allow(dead_code, reason = "stores that no workers share leave it out")]
pub(crate) fn offered(call: u32) -> StartAttempt {
    StartAttempt {
        attempt: AttemptKey {
            key: key("a", 1, 0),
            call: CallNumber(call),
            attempt: Attempt::FIRST,
        },
        name: "ship".into(),
        input: Payload::null(),
        start_to_finish: None,
        heartbeat_timeout: None,
        heartbeat_details: None,
    }
}

/// What the taker of an attempt made of it.
#[allow(dead_code, reason = "stores that no workers share leave it out")]
pub(crate) fn result(work: &TakenWork) -> WorkResult {
    WorkResult {
        id: EnvelopeId(format!("result of {} by {}", work.item.attempt.call, work.receipt).into()),
        attempt: work.item.attempt.clone(),
        result: Ok(Payload::null()),
        heartbeat_details: None,
    }
}

pub(crate) fn events(first: u64, count: u32, mark: u32, time: Timestamp) -> HistoryAppend {
    let mut encoder = EventEncoder::default();
    for n in 0..count {
        encoder.push(&Event {
            at: time,
            is: EventKind::TimerFired { call: CallNumber(mark * 1000 + n) },
        });
    }
    HistoryAppend { first: EventSeq(first), count, at: time, body: encoder.finish() }
}

pub(crate) fn status_of(key: &ExecutionKey, status: RuntimeStatus, time: Timestamp) -> StatusRow {
    StatusRow {
        instance: key.instance.clone(),
        run: key.run,
        execution: key.execution,
        name: "chain".into(),
        status,
        created_at: time,
        updated_at: time,
        input: Payload::from_json("[1,2]").expect("JSON"),
        output: status.is_terminal().then(Payload::null),
        failure: None,
        custom_status: None,
        hold: None,
        unconsumed: Vec::new(),
        dead_letters: Vec::new(),
        parent: None,
        version: None,
        tags: vec![("team".into(), "blue".into())],
        scheduled_for: None,
        deadline: None,
        expires_at: None,
    }
}

/// A write that changes nothing yet.
pub(crate) fn write(key: ExecutionKey) -> InstanceWrite {
    InstanceWrite {
        key,
        begins: Begins::No,
        history: None,
        status: None,
        in_flight: RowChange::Keep,
        timer: None,
    }
}

/// The write that begins a run under an id that may exist: two events, status `Running`.
pub(crate) fn begin(text: &str, run: u64, time: Timestamp) -> InstanceWrite {
    let key = key(text, run, 0);
    InstanceWrite {
        begins: Begins::Accepted,
        history: Some(events(0, 2, 1, time)),
        status: Some(Box::new(status_of(&key, RuntimeStatus::Running, time))),
        ..write(key)
    }
}

/// The same under an id that was made for it.
pub(crate) fn begin_fresh(text: &str, run: u64, time: Timestamp) -> InstanceWrite {
    InstanceWrite { begins: Begins::Fresh, ..begin(text, run, time) }
}

/// The same because another instance asked for it.
pub(crate) fn begin_asked(text: &str, run: u64, time: Timestamp) -> InstanceWrite {
    InstanceWrite { begins: Begins::Asked, ..begin(text, run, time) }
}

/// The write that ends a run whose history has `first` events.
pub(crate) fn end(text: &str, run: u64, first: u64, time: Timestamp) -> InstanceWrite {
    let key = key(text, run, 0);
    InstanceWrite {
        history: Some(events(first, 1, 2, time)),
        status: Some(Box::new(status_of(&key, RuntimeStatus::Completed, time))),
        in_flight: RowChange::Delete,
        ..write(key)
    }
}

pub(crate) fn timer(from: Option<i64>, to: Option<i64>) -> Option<TimerMove> {
    Some(TimerMove { from: from.map(at), to: to.map(at) })
}

pub(crate) fn forget(envelope: &str) -> Consumed {
    Consumed { id: EnvelopeId(envelope.into()), remember: false }
}

pub(crate) fn remember(envelope: &str) -> Consumed {
    Consumed { id: EnvelopeId(envelope.into()), remember: true }
}

/// All that has reached an opened partition and was not consumed, once there are this many starts and commands: they
/// may be on their way.
pub(crate) async fn arrived(
    store: &Arc<dyn Store>,
    partition: PartitionId,
    starts: usize,
    commands: usize,
) -> Arrivals {
    let mut known = Some(store.changed(None).await.expect("no fault"));
    loop {
        let from = ArrivalPosition::default();
        let arrivals = store.arrivals(partition, from, 1000).await.expect("no fault");
        if arrivals.acceptances.len() >= starts && arrivals.envelopes.len() >= commands {
            return arrivals;
        }
        known = Some(store.changed(known).await.expect("no fault"));
    }
}

/// Waits until nothing more is being removed of these runs, and says what there is of them then.
pub(crate) async fn at_rest(store: &Arc<dyn Store>, runs: &[(&str, u64)]) -> Vec<Remains> {
    let runs: Vec<_> = runs.iter().map(|(text, run)| (id(text), RunNumber(*run))).collect();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let remains = store.remains(&runs).await.expect("no fault");
        if !remains.contains(&Remains::Rest) {
            return remains;
        }
        assert!(Instant::now() < end, "something stays: {remains:?}");
        // No runtime is needed for a wait this short.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An owner of a partition, as simple as one can be.
pub(crate) struct Owner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partition: PartitionId,
    pub(crate) fence: Fence,
    pub(crate) head: Head,
    number: CommitNumber,
}

impl Owner {
    pub(crate) async fn open(store: &Arc<dyn Store>, partition: PartitionId) -> (Self, Snapshot) {
        let snapshot = store.open(partition).await.expect("the partition opens");
        let owner = Self {
            store: Arc::clone(store),
            partition,
            fence: snapshot.fence,
            head: snapshot.head.clone(),
            number: CommitNumber(0),
        };
        (owner, snapshot)
    }

    /// A commit of these writes, with the first one's bookkeeping.
    pub(crate) fn group(&mut self, time: Timestamp, instances: Vec<InstanceWrite>) -> Commit {
        self.number = self.number.next();
        self.head.time = time;
        self.head.unclean_opens = 0;
        Commit {
            partition: self.partition,
            number: self.number,
            head: self.head.clone(),
            head_changed: true,
            instances,
            purges: Vec::new(),
            outbox: Vec::new(),
            outbox_done: Vec::new(),
            consumed: Vec::new(),
            at: time,
            counts: BTreeMap::new(),
        }
    }

    /// A commit that purges these, each by its run.
    pub(crate) fn purge(&mut self, time: Timestamp, purges: Vec<ExecutionKey>) -> Commit {
        Commit { purges, ..self.group(time, Vec::new()) }
    }

    pub(crate) async fn give(&self, commit: Commit) -> Result<(), StoreError> {
        self.store.commit(self.fence, Arc::new(commit)).await
    }

    pub(crate) async fn commit(&mut self, time: Timestamp, instances: Vec<InstanceWrite>) {
        let commit = self.group(time, instances);
        self.give(commit).await.expect("the commit is applied");
    }
}
