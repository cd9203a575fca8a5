//! Seeded sequences of operations, applied to the store under test and to the model; every answer is
//! compared, and at the end everything that can be read.
//!
//! `CONTRACT_SEEDS=n` runs more of them, `CONTRACT_FROM=k` begins elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use durable_core::machine::model::{
    Acceptance, EnvelopeId, Fence, InstanceId, Message, MessageBody, MessageNumber, PartitionId,
    Payload, ReusePolicy, RunNumber, RuntimeStatus, StatusRow, Timestamp,
};
use durable_core::machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Begins, Commit, Consumed, Cursor, Head,
    InstanceWrite, ListQuery, OutboxWrite, Refusal, RowChange, Snapshot, StoreModel, TimerMove,
};
use durable_core::store::{Store, StoreError};

use super::make::{
    arrived, at, at_rest, begin, begin_fresh, end, events, id, key, raise, start, status_of, write,
};
use super::{Make, Subject};

const OPERATIONS: usize = 150;

pub(crate) async fn random_operations_agree_with_the_model(make: Make<'_>) {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let from = number("CONTRACT_FROM", 0);
    // Where each operation is a request or several, fewer have to do.
    let few = make(1).store().limits().redelivers;
    for seed in from..from + number("CONTRACT_SEEDS", if few { 6 } else { 30 }) {
        let _named = Named(seed);
        let mut dice = Dice(seed);
        let partitions = [1, 1, 3][dice.below(3)];
        let mut run = Run::new(make(partitions), partitions, dice).await;
        for _ in 0..OPERATIONS {
            run.operation().await;
        }
        run.compare_everything().await;
    }
}

/// Says which seed failed.
struct Named(u64);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "it belongs to the report of the failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What the engine would know of an instance.
#[derive(Clone)]
struct Live {
    run: u64,
    execution: u32,
    next: u64,
    timer: Option<Timestamp>,
    ended: bool,
}

/// An owner of a partition, at the store and at the model.
#[derive(Clone)]
struct Owner {
    fence: Fence,
    model_fence: Fence,
    head: Head,
    number: u64,
    seen: ArrivalPosition,
    model_seen: ArrivalPosition,
}

struct Run {
    subject: Box<dyn Subject>,
    client: Arc<dyn Store>,
    model: StoreModel,
    partitions: u16,
    dice: Dice,
    clock: i64,
    live: BTreeMap<InstanceId, Live>,
    /// The last run of what was purged: being times, numbers grow also where nothing is stored.
    floors: BTreeMap<PartitionId, u64>,
    owners: BTreeMap<PartitionId, Owner>,
    stale: Vec<(PartitionId, Owner)>,
    sent: Vec<(PartitionId, String)>,
    /// Commands and starts come through queues: any number of times, in any order, to the opening that took them.
    redelivers: bool,
}

impl Run {
    async fn new(subject: Box<dyn Subject>, partitions: u16, dice: Dice) -> Self {
        Self {
            client: subject.client().await,
            redelivers: subject.store().limits().redelivers,
            subject,
            model: StoreModel::new(partitions),
            partitions,
            dice,
            clock: 0,
            live: BTreeMap::new(),
            floors: BTreeMap::new(),
            owners: BTreeMap::new(),
            stale: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn anybody(&mut self) -> Arc<dyn Store> {
        if self.dice.chance(50) { Arc::clone(&self.client) } else { self.subject.store() }
    }

    fn floor(&self, id: &InstanceId) -> u64 {
        self.floors.get(&id.partition(self.partitions)).copied().unwrap_or_default()
    }

    fn text(&mut self) -> String {
        format!("i{}", self.dice.below(14))
    }

    async fn operation(&mut self) {
        match self.dice.below(100) {
            0..20 => self.accept().await,
            20..32 => self.send().await,
            32..70 => self.commit().await,
            70..73 => self.stale_commit().await,
            73..76 => self.wrong_commit().await,
            76..80 => self.open().await,
            80..82 => self.release().await,
            82..84 => {
                // Connections of the other process outlive this one's.
                self.reopen().await;
            }
            84..90 => self.arrivals().await,
            90..94 => {
                let id = id(&self.text());
                self.compare_instance(&id).await;
            }
            94..97 => self.compare_list().await,
            _ => self.compare_timers().await,
        }
    }

    async fn reopen(&mut self) {
        self.subject.reopen().await;
        if self.redelivers {
            // What an opening has taken is in the memory of its process.
            self.owners.clear();
        }
    }

    async fn accept(&mut self) {
        let text = self.text();
        let nonce = u128::from(self.dice.next() % 60);
        let reuse = *self.dice.pick(&[
            ReusePolicy::RefuseActive,
            ReusePolicy::UseActive,
            ReusePolicy::ReplaceActive,
        ]);
        let run = RunNumber(self.floor(&id(&text)) + 1 + self.dice.next() % 3);
        let acceptance = Acceptance { reuse, run, ..start(&text, nonce) };
        let found = self.anybody().accept(&acceptance).await.expect("no fault");
        let expected = self.model.accept(&acceptance);
        match (&found, &expected) {
            // Whether it is fresh is the store's own knowledge.
            (
                AcceptOutcome::Accepted { run: found, .. },
                AcceptOutcome::Accepted { run: expected, .. },
            ) => assert_eq!(found, expected, "accept of {text}"),
            _ => assert_eq!(found, expected, "accept of {text}"),
        }
        if matches!(found, AcceptOutcome::Accepted { .. }) {
            // It may have replaced an instance that had ended.
            if let Some(stored) = self.model.load(&acceptance.instance)
                && let Some(status) = stored.status
                && self.live.get(&acceptance.instance).is_some_and(|l| l.run != status.run.0)
            {
                self.live.remove(&acceptance.instance);
            }
        }
    }

    async fn send(&mut self) {
        let text = self.text();
        let partition = id(&text).partition(self.partitions);
        let envelope = format!("e{}-{partition}", self.dice.below(40));
        let envelope = raise(&text, &envelope);
        let found = self.anybody().send(&envelope).await.expect("no fault");
        assert_eq!(found, self.model.send(&envelope), "send to {text}");
        self.sent.push((partition, envelope.id.to_string()));
    }

    async fn open(&mut self) {
        let partition = PartitionId(
            u16::try_from(self.dice.below(usize::from(self.partitions))).expect("a partition"),
        );
        self.open_partition(partition).await;
    }

    async fn open_partition(&mut self, partition: PartitionId) {
        let found = self.subject.store().open(partition).await.expect("no fault");
        let expected = self.model.open(partition);
        let owner = Owner {
            fence: found.fence,
            model_fence: expected.fence,
            head: expected.head.clone(),
            number: 0,
            seen: ArrivalPosition::default(),
            model_seen: ArrivalPosition::default(),
        };
        self.compare_snapshots(found, expected);
        if let Some(old) = self.owners.insert(partition, owner) {
            self.stale.push((partition, old));
        }
    }

    /// The order of what has none, and how far the time of the head is ahead of the model's, are the
    /// store's own.
    fn compare_snapshots(&self, mut found: Snapshot, mut expected: Snapshot) {
        for snapshot in [&mut found, &mut expected] {
            snapshot.fence = Fence(0);
            snapshot.in_flight.sort();
            snapshot.consumed.sort();
        }
        assert!(found.head.time >= expected.head.time, "time runs backwards");
        assert!(found.head.time <= at(self.clock).max(expected.head.time), "time from nowhere");
        found.head.time = expected.head.time;
        assert_eq!(found, expected);
    }

    async fn release(&mut self) {
        let partitions: Vec<_> = self.owners.keys().copied().collect();
        if partitions.is_empty() {
            return;
        }
        let partition = *self.dice.pick(&partitions);
        let owner = self.owners.remove(&partition).expect("picked from them");
        self.subject.store().release(partition, owner.fence).await.expect("the newest owner");
        self.model.release(partition, owner.model_fence).expect("the newest owner");
        // Without an owner nobody commits; with its fence still the newest, it could.
        self.stale.retain(|(of, _)| *of != partition);
    }

    async fn owner(&mut self) -> (PartitionId, Owner) {
        let partition = PartitionId(
            u16::try_from(self.dice.below(usize::from(self.partitions))).expect("a partition"),
        );
        if !self.owners.contains_key(&partition) {
            self.open_partition(partition).await;
        }
        (partition, self.owners[&partition].clone())
    }

    async fn commit(&mut self) {
        let (partition, mut owner) = self.owner().await;
        let mut live = self.live.clone();
        let commit = self.make_commit(partition, &mut owner, &mut live);
        self.subject
            .store()
            .commit(owner.fence, Arc::new(commit.clone()))
            .await
            .unwrap_or_else(|error| panic!("a valid commit was refused: {error}\n{commit:#?}"));
        self.model
            .commit(owner.model_fence, &commit)
            .unwrap_or_else(|error| panic!("a valid commit was refused: {error:?}\n{commit:#?}"));
        for touched in &commit.instances {
            self.compare_instance(&touched.key.instance).await;
        }
        for key in &commit.purges {
            let floor = self.floors.entry(commit.partition).or_default();
            *floor = key.run.0.max(*floor);
            self.compare_instance(&key.instance).await;
            // What is being removed may still raise the number of a run, and keeps a start from being counted.
            let run = [(key.instance.as_str(), key.run.0)];
            let remains = at_rest(&self.anybody(), &run).await;
            let known = [(key.instance.clone(), key.run)];
            assert_eq!(remains, self.model.remains(&known), "{key}");
        }
        self.live = live;
        self.owners.insert(partition, owner);
    }

    async fn stale_commit(&mut self) {
        let Some((partition, mut owner)) = self.stale.pop() else { return };
        let mut live = self.live.clone();
        let commit = self.make_commit(partition, &mut owner, &mut live);
        let expected = self.model.commit(owner.model_fence, &commit);
        assert!(matches!(expected, Err(Refusal::Fenced { .. })));
        let found = self.subject.store().commit(owner.fence, Arc::new(commit)).await;
        assert!(matches!(found, Err(StoreError::Fenced { .. })), "{found:?}");
    }

    /// A commit whose last write contradicts what is stored.
    async fn wrong_commit(&mut self) {
        let (partition, mut owner) = self.owner().await;
        let mut live = self.live.clone();
        let mut commit = self.make_commit(partition, &mut owner, &mut live);
        let Some((text, it)) = self.live.iter().find(|(id, _)| {
            id.partition(self.partitions) == partition
                && commit.instances.iter().all(|write| write.key.instance != **id)
        }) else {
            return;
        };
        let mut wrong = end(text.as_str(), it.run, it.next + 1, at(self.clock));
        if self.dice.chance(50) {
            wrong = end(text.as_str(), it.run + 1, it.next, at(self.clock));
        }
        wrong.key.execution.0 = it.execution;
        commit.instances.push(wrong);
        let expected = self.model.commit(owner.model_fence, &commit);
        assert!(matches!(expected, Err(Refusal::Contradiction(_))), "{expected:?}");
        let touched: Vec<_> = commit.instances.iter().map(|w| w.key.instance.clone()).collect();
        let found = self.subject.store().commit(owner.fence, Arc::new(commit)).await;
        assert!(matches!(found, Err(StoreError::Unusable(_))), "{found:?}");
        for id in touched {
            self.compare_instance(&id).await;
        }
    }

    fn make_commit(
        &mut self,
        partition: PartitionId,
        owner: &mut Owner,
        live: &mut BTreeMap<InstanceId, Live>,
    ) -> Commit {
        // A first commit brings the time with it.
        let head_changed = owner.head.time == Timestamp::default() || self.dice.chance(70);
        if head_changed {
            self.clock += i64::try_from(self.dice.below(1000)).expect("small");
            owner.head.time = owner.head.time.max(at(self.clock));
            owner.head.unclean_opens = 0;
            if self.dice.chance(20) {
                let from = PartitionId(u16::try_from(self.dice.below(3)).expect("small"));
                let cursor: &mut Cursor = owner.head.cursors.entry(from).or_default();
                cursor.apply(cursor.upto.next());
            }
        }
        let time = owner.head.time;
        owner.number += 1;
        let mut commit = Commit {
            partition,
            number: durable_core::machine::model::CommitNumber(owner.number),
            head: Head::default(),
            head_changed,
            instances: Vec::new(),
            purges: Vec::new(),
            outbox: Vec::new(),
            outbox_done: Vec::new(),
            consumed: Vec::new(),
            at: time,
            counts: BTreeMap::new(),
        };
        let mut used = Vec::new();
        for _ in 0..=self.dice.below(5) {
            let text = self.text();
            let instance = id(&text);
            if instance.partition(self.partitions) != partition || used.contains(&instance) {
                continue;
            }
            used.push(instance.clone());
            self.write_instance(&text, time, live, &mut commit);
        }
        self.purge_some(partition, &used, owner, live, &mut commit);
        if self.dice.chance(40) && self.sent.iter().any(|(to, _)| *to == partition) {
            let sent: Vec<_> = self.sent.iter().filter(|(to, _)| *to == partition).collect();
            let (_, envelope) = (*self.dice.pick(&sent)).clone();
            let remember = self.dice.chance(50) || self.redelivers;
            commit.consumed.push(Consumed { id: EnvelopeId(envelope.into()), remember });
        }
        if head_changed && self.dice.chance(25) {
            self.write_outbox(partition, owner, &mut commit);
        }
        commit.head = owner.head.clone();
        commit
    }

    /// Instances that have ended, and that the commit does not touch otherwise, may go.
    fn purge_some(
        &mut self,
        partition: PartitionId,
        used: &[InstanceId],
        owner: &mut Owner,
        live: &mut BTreeMap<InstanceId, Live>,
        commit: &mut Commit,
    ) {
        let others = live.keys().filter(|id| !used.contains(id)).cloned();
        let mine: Vec<_> = others.filter(|id| id.partition(self.partitions) == partition).collect();
        for instance in mine {
            let Some(stored) = self.model.load(&instance).and_then(|stored| stored.status) else {
                continue;
            };
            if stored.status.is_terminal() && self.dice.chance(20) {
                *commit.counts.entry(stored.status).or_default() -= 1;
                owner.head.purged = owner.head.purged.max(Some(stored.run));
                commit.head_changed = true;
                commit.purges.push(stored.key());
                live.remove(&instance);
            }
        }
    }

    fn write_outbox(&mut self, partition: PartitionId, owner: &mut Owner, commit: &mut Commit) {
        let to = PartitionId(u16::try_from(self.dice.below(3)).expect("small"));
        let last = owner.head.sent.entry(to).or_default();
        let messages = (0..=self.dice.below(3)).map(|_| {
            *last = last.next();
            Message {
                from: partition,
                to,
                number: *last,
                body: MessageBody::Raise {
                    instance: id("x"),
                    name: "go".into(),
                    input: Payload::null(),
                },
            }
        });
        commit.outbox.push(OutboxWrite { to, messages: messages.collect() });
        if self.dice.chance(50) {
            let done = self.dice.next() % (last.0 + 1);
            commit.outbox_done.push((to, MessageNumber(done)));
        }
    }

    /// Whatever can happen to an instance next.
    fn write_instance(
        &mut self,
        text: &str,
        time: Timestamp,
        live: &mut BTreeMap<InstanceId, Live>,
        commit: &mut Commit,
    ) {
        let stored = self.model.load(&id(text));
        let acceptance = stored.as_ref().and_then(|stored| stored.acceptance.clone());
        let before = stored.and_then(|stored| stored.status).map(|row| row.status);
        let it = live.get(&id(text)).cloned();
        let mut writes: Vec<InstanceWrite> = Vec::new();
        match (it, acceptance) {
            (Some(it), acceptance) if !it.ended => {
                if let Some(acceptance) = acceptance
                    && self.dice.chance(50)
                {
                    // ReplaceActive: the old run ends and the new one begins.
                    let mut last = end(text, it.run, it.next, time);
                    last.key.execution.0 = it.execution;
                    last.status =
                        Some(Box::new(status_of(&last.key, RuntimeStatus::Terminated, time)));
                    last.timer = it.timer.map(|from| TimerMove { from: Some(from), to: None });
                    writes.push(last);
                    writes.push(self.begin_run(text, acceptance.run.0, time, live));
                } else {
                    writes = self.go_on(text, it, time, live);
                }
            }
            (_, Some(acceptance)) => {
                writes.push(self.begin_run(text, acceptance.run.0, time, live));
            }
            (Some(it), None) => {
                // It has ended: a child of the same id may begin, or a rewind.
                if self.dice.chance(50) {
                    let mut child = self.begin_run(text, it.run + 2, time, live);
                    child.begins = Begins::Asked;
                    writes.push(child);
                } else {
                    writes.push(self.next_execution(text, &it, time, live));
                }
            }
            (None, None) => {
                let run = self.floor(&id(text)) + 3;
                let mut first = self.begin_run(text, run, time, live);
                if self.dice.chance(30) {
                    first.begins = Begins::Asked;
                }
                writes.push(first);
            }
        }
        let after = writes.iter().rev().find_map(|write| write.status.as_ref());
        if let Some(after) = after {
            if let Some(before) = before {
                *commit.counts.entry(before).or_default() -= 1;
            }
            *commit.counts.entry(after.status).or_default() += 1;
        }
        commit.instances.extend(writes);
    }

    fn some_timer(&mut self, time: Timestamp) -> Option<Timestamp> {
        self.dice
            .chance(50)
            .then(|| at(time.as_micros() % 1000 + 60_000 + self.dice.below(5) as i64))
    }

    fn begin_run(
        &mut self,
        text: &str,
        run: u64,
        time: Timestamp,
        live: &mut BTreeMap<InstanceId, Live>,
    ) -> InstanceWrite {
        let known = live.contains_key(&id(text)) || self.model.load(&id(text)).is_some();
        let mut write = if known { begin(text, run, time) } else { begin_fresh(text, run, time) };
        let timer = self.some_timer(time);
        write.timer = timer.map(|to| TimerMove { from: None, to: Some(to) });
        write.in_flight = self.some_work();
        live.insert(id(text), Live { run, execution: 0, next: 2, timer, ended: false });
        write
    }

    fn some_work(&mut self) -> RowChange<Vec<u8>> {
        match self.dice.below(3) {
            0 => RowChange::Keep,
            1 => RowChange::Set(format!("{{\"open\":{}}}", self.dice.below(100)).into_bytes()),
            _ => RowChange::Delete,
        }
    }

    fn next_execution(
        &mut self,
        text: &str,
        it: &Live,
        time: Timestamp,
        live: &mut BTreeMap<InstanceId, Live>,
    ) -> InstanceWrite {
        let mut next = write(key(text, it.run, it.execution + 1));
        next.history = Some(events(0, 1, 7, time));
        next.status = Some(Box::new(status_of(&next.key, RuntimeStatus::Running, time)));
        live.insert(
            id(text),
            Live { execution: it.execution + 1, next: 1, ended: false, ..it.clone() },
        );
        next
    }

    fn go_on(
        &mut self,
        text: &str,
        mut it: Live,
        time: Timestamp,
        live: &mut BTreeMap<InstanceId, Live>,
    ) -> Vec<InstanceWrite> {
        if self.dice.chance(20) {
            // Ends.
            let mut last = end(text, it.run, it.next, time);
            last.key.execution.0 = it.execution;
            last.status = Some(Box::new(status_of(&last.key, RuntimeStatus::Completed, time)));
            last.timer = it.timer.map(|from| TimerMove { from: Some(from), to: None });
            live.insert(id(text), Live { next: it.next + 1, timer: None, ended: true, ..it });
            return vec![last];
        }
        if self.dice.chance(20) {
            // Continues as new.
            let mut last = write(key(text, it.run, it.execution));
            last.history = Some(events(it.next, 1, 8, time));
            if self.dice.chance(50) {
                last.timer = it.timer.map(|from| TimerMove { from: Some(from), to: None });
                if last.timer.is_some() {
                    it.timer = None;
                }
            }
            return vec![last, self.next_execution(text, &it, time, live)];
        }
        let mut one = write(key(text, it.run, it.execution));
        if self.dice.chance(70) {
            let count = u32::try_from(1 + self.dice.below(3)).expect("small");
            one.history = Some(events(it.next, count, 5, time));
            it.next += u64::from(count);
        }
        if self.dice.chance(30) {
            let status = *self.dice.pick(&[RuntimeStatus::Running, RuntimeStatus::Suspended]);
            let mut row: StatusRow = status_of(&one.key, status, time);
            if self.dice.chance(20) {
                let text = "x".repeat(self.dice.below(6000));
                row.custom_status = Some(Payload::of(&text).expect("JSON"));
            }
            one.status = Some(Box::new(row));
        }
        if self.dice.chance(40) {
            let to = self.some_timer(time);
            one.timer = Some(TimerMove { from: it.timer, to });
            it.timer = to;
        }
        one.in_flight = self.some_work();
        live.insert(id(text), it);
        vec![one]
    }

    async fn arrivals(&mut self) {
        let (partition, mut owner) = self.owner().await;
        let limit = 1 + self.dice.below(5);
        if self.redelivers {
            self.compare_arrivals(partition).await;
            return;
        }
        let found =
            self.subject.store().arrivals(partition, owner.seen, limit).await.expect("no fault");
        let expected = self.model.arrivals(partition, owner.model_seen, limit);
        assert_eq!(found.acceptances, expected.acceptances);
        assert_eq!(found.envelopes, expected.envelopes);
        assert_eq!(found.more, expected.more);
        owner.seen = found.position;
        owner.model_seen = expected.position;
        self.owners.insert(partition, owner);
    }

    /// All that was not consumed.
    async fn compare_arrivals(&self, partition: PartitionId) {
        let expected = self.model.arrivals(partition, ArrivalPosition::default(), 1000);
        let (starts, commands) = (expected.acceptances.len(), expected.envelopes.len());
        let found = arrived(&self.subject.store(), partition, starts, commands).await;
        let of = |arrivals: &Arrivals| {
            let starts = arrivals.acceptances.iter().map(|start| start.acceptance.instance.clone());
            let mut commands: Vec<_> =
                arrivals.envelopes.iter().map(|envelope| envelope.id.clone()).collect();
            commands.sort();
            (starts.collect::<BTreeSet<_>>(), commands)
        };
        assert_eq!(of(&found), of(&expected));
    }

    async fn compare_instance(&mut self, id: &InstanceId) {
        let store = self.anybody();
        assert_eq!(store.load(id).await.expect("no fault"), self.model.load(id), "{id}");
        assert_eq!(store.status(id).await.expect("no fault"), self.model.status(id), "{id}");
        let history = self.model.history(id);
        assert_eq!(store.history(id).await.expect("no fault"), history, "{id}");
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = store.history_page(id, after, 2).await.expect("no fault");
            let Some(page) = page else {
                assert_eq!(history, None, "{id}");
                return;
            };
            assert!(page.rows.len() <= 2);
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(Some(rows), history, "{id}, in pages");
    }

    async fn compare_list(&mut self) {
        let mut query = ListQuery::default();
        if self.dice.chance(40) {
            query.statuses = vec![*self.dice.pick(&RuntimeStatus::ALL), RuntimeStatus::Running];
        }
        if self.dice.chance(20) {
            query.created_from = Some(at(i64::try_from(self.dice.below(50)).expect("small")));
        }
        if self.dice.chance(20) {
            query.created_to = Some(at(self.clock / 2));
        }
        if self.dice.chance(20) {
            query.id_prefix = Some("i1".into());
        }
        if self.dice.chance(20) {
            query.tags = vec![("team".into(), "blue".into())];
        }
        let store = self.anybody();
        let limit = 1 + self.dice.below(20);
        let (mut after, mut model_after) = (None, None);
        loop {
            let found = store.list(&query, after, limit).await.expect("no fault");
            let expected = self.model.list(&query, model_after, limit);
            assert_eq!(found.rows, expected.rows);
            assert_eq!(found.next.is_some(), expected.next.is_some());
            (after, model_after) = (found.next, expected.next);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(store.counts().await.expect("no fault"), self.model.counts());
    }

    async fn compare_timers(&mut self) {
        let store = self.subject.store();
        let limit = 1 + self.dice.below(6);
        for partition in (0..self.partitions).map(PartitionId) {
            let mut after = None;
            loop {
                let found = store.timers(partition, after.clone(), limit).await.expect("no fault");
                let expected = self.model.timers(partition, after.as_ref(), limit);
                assert_eq!(found, expected);
                after = found.timers.last().cloned();
                if !found.more {
                    break;
                }
            }
        }
    }

    async fn compare_everything(&mut self) {
        self.reopen().await;
        for n in 0..14 {
            self.compare_instance(&id(&format!("i{n}"))).await;
        }
        for _ in 0..5 {
            self.compare_list().await;
        }
        self.compare_timers().await;
        for partition in (0..self.partitions).map(PartitionId) {
            if self.redelivers {
                self.open_partition(partition).await;
                self.compare_arrivals(partition).await;
                continue;
            }
            let (from, many) = (ArrivalPosition::default(), 1000);
            let found =
                self.subject.store().arrivals(partition, from, many).await.expect("no fault");
            let expected = self.model.arrivals(partition, from, many);
            assert_eq!(found.acceptances, expected.acceptances);
            assert_eq!(found.envelopes, expected.envelopes);
            self.open_partition(partition).await;
        }
    }
}
