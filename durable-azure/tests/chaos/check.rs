//! Compares the hub with what its client was told and what activity bodies left behind. It knows the public
//! contract alone.

use std::collections::{BTreeMap, BTreeSet};

use durable_core::prelude::*;
use durable_core::{EventKind, History, InstanceStatus, ListQuery};
use futures::stream::{self, StreamExt};

use super::hub::PARTITIONS;
use super::journal::{Body, Note};
use super::workload::{Done, EVENT, Story};

/// Rows in one page of a list.
const PAGE: usize = 200;

/// Histories that are read at once.
const READS: usize = 8;

/// How far the hub's clocks of two workers may be apart: they follow a header that counts whole seconds.
const CLOCKS_APART: Duration = millis(1000);

/// What was compared, and what is wrong.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) instances: usize,
    pub(super) events: usize,
    pub(super) sent_elsewhere: usize,
    pub(super) unconsumed: usize,
    pub(super) retries: usize,
    pub(super) bodies: usize,
    /// Bodies of one attempt beyond the first: work that was done again, as it may be.
    pub(super) repeated_bodies: usize,
    /// Fan-outs whose bodies ran in several processes.
    pub(super) spread_fans: usize,
    pub(super) unknown_starts: usize,
    /// Instances that were held, and let go on.
    pub(super) holds: usize,
    pub(super) timers: usize,
    pub(super) latest_timer: Duration,
    pub(super) lost: usize,
    pub(super) duplicated: usize,
    pub(super) violations: Vec<String>,
}

/// What the journal says of one instance.
#[derive(Debug, Default, Clone)]
struct Told {
    story: Option<Story>,
    begun: u64,
    run: Option<u64>,
    start_unknown: bool,
    raised: BTreeSet<String>,
    /// May have been accepted.
    unsure: BTreeSet<String>,
    ended: Vec<(u64, String, Option<String>, u64)>,
}

/// Everything that the client knows.
struct Journalled {
    told: BTreeMap<String, Told>,
    breaches: Vec<String>,
    holds: usize,
}

fn journalled(notes: &[Note]) -> Journalled {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let (mut breaches, mut holds) = (Vec::new(), 0);
    for note in notes.iter().cloned() {
        match note {
            Note::Starting { id, story, at } => {
                let told = told.entry(id).or_default();
                (told.story, told.begun) = (Some(story), at);
            }
            Note::Accepted { id, run } => told.entry(id).or_default().run = Some(run),
            Note::StartUnknown { id } => told.entry(id).or_default().start_unknown = true,
            Note::Raising { id, value } => {
                told.entry(id).or_default().unsure.insert(value);
            }
            Note::Raised { id, value } => {
                let told = told.entry(id).or_default();
                told.unsure.remove(&value);
                told.raised.insert(value);
            }
            Note::Refused { id, value, asked_before } => {
                if !asked_before {
                    told.entry(id).or_default().unsure.remove(&value);
                }
            }
            Note::Ended { id, run, status, output, at } => {
                told.entry(id).or_default().ended.push((run, status, output, at));
            }
            Note::Held { .. } => holds += 1,
            Note::Breach { id, what } => breaches.push(format!("{id}: {what}")),
        }
    }
    Journalled { told, breaches, holds }
}

/// What has not ended.
async fn open(client: &Client) -> Vec<InstanceStatus> {
    let mut all = all(client).await;
    all.retain(|status| !status.has_ended());
    all
}

/// What has not ended, some of it with its history, for people.
pub(super) async fn print_open(client: &Client, most: usize) {
    let open = open(client).await;
    for status in open.iter().take(most) {
        let history = client.history(status.id()).await;
        println!("partition {}: {status:?}\n{history:#?}", status.id().partition(PARTITIONS));
    }
    println!("{} instances have not ended", open.len());
}

async fn all(client: &Client) -> Vec<InstanceStatus> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = client.list(&ListQuery::default(), after, PAGE).await.expect("read");
        all.extend(page.instances);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

pub(super) async fn check(client: &Client, notes: &[Note], bodies: &[Body]) -> Found {
    let Journalled { told, breaches, holds } = journalled(notes);
    let mut found = Found { violations: breaches, holds, bodies: bodies.len(), ..Found::default() };

    let listed = all(client).await;
    let mut statuses = BTreeMap::new();
    for status in listed {
        let id = status.id().to_string();
        if statuses.insert(id.clone(), status).is_some() {
            found.wrong(&id, "is listed twice");
        }
    }
    let counts = client.counts().await.expect("read");
    let mut counted: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
    for status in statuses.values() {
        *counted.entry(status.runtime_status()).or_default() += 1;
    }
    if counts != counted {
        found.violations.push(format!("the counts are {counts:?}, the list has {counted:?}"));
    }
    for id in statuses.keys().filter(|id| !told.contains_key(*id)) {
        found.wrong(id, "is there and nobody started it");
    }

    let mut ran: BTreeMap<&str, BTreeSet<&Body>> = BTreeMap::new();
    let mut first_bodies = BTreeSet::new();
    for body in bodies {
        ran.entry(&body.instance).or_default().insert(body);
        if !first_bodies.insert((&body.instance, body.run, body.call, body.attempt)) {
            found.repeated_bodies += 1;
        }
    }

    let histories: BTreeMap<String, Option<History>> = stream::iter(told.keys().cloned())
        .map(|id| async move {
            let history = client.history(id.as_str()).await.expect("read");
            (id, history)
        })
        .buffer_unordered(READS)
        .collect()
        .await;

    // What instances sent is known from their histories.
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, history) in &histories {
        for event in history.iter().flat_map(History::events) {
            if let EventKind::EventSent { instance, input, .. } = &event.is {
                let value = input.to::<String>().expect("a text");
                sent.entry(instance.to_string()).or_default().push(value);
                let from = InstanceId::new(id.as_str()).expect("valid");
                if from.partition(PARTITIONS) != instance.partition(PARTITIONS) {
                    found.sent_elsewhere += 1;
                }
            }
        }
    }

    for (id, told) in &told {
        found.unknown_starts += usize::from(told.start_unknown);
        let none = BTreeSet::new();
        let bodies = ran.get(id.as_str()).unwrap_or(&none);
        let (Some(status), Some(history)) = (statuses.get(id), &histories[id]) else {
            if told.run.is_some() {
                found.lost += 1;
                found.wrong(id, "was accepted and is not there");
            } else if !bodies.is_empty() {
                found.wrong(id, "was never accepted, is not there, and activities of it ran");
            }
            continue;
        };
        found.instances += 1;
        if let Some(run) = told.run
            && run != status.run().0
        {
            found.wrong(id, &format!("run {run} was promised, {} is there", status.run()));
        }
        if told.run.is_none() && !told.start_unknown {
            found.wrong(id, "is there and its start was not answered");
        }
        if let Some(body) = bodies.iter().find(|body| body.run != status.run().0) {
            found.wrong(id, &format!("a body of another run: {body:?}"));
        }
        if !status.has_ended() {
            found.lost += 1;
            found.wrong(id, &format!("has not ended: {status:?}"));
            continue;
        }
        found.history(status, history, bodies);
        found.result(id, told, status, history);
        let processes: BTreeSet<_> = bodies.iter().map(|body| body.pid).collect();
        if matches!(told.story, Some(Story::Fan(_))) && processes.len() > 1 {
            found.spread_fans += 1;
        }
        found.seen_by_client(told, status);
        if let Some(Story::Collect { count }) = &told.story {
            let sent = sent.remove(id).unwrap_or_default();
            found.collected(told, *count, sent, status, history);
        }
    }
    for (id, values) in sent {
        found.wrong(&id, &format!("{values:?} were sent to it and it collects nothing"));
    }
    found
}

impl Found {
    fn wrong(&mut self, id: &str, what: &str) {
        self.violations.push(format!("{id}: {what}"));
    }

    /// Begins with the start, has one end, each call is scheduled once and has one result that a body gave,
    /// timers are not early, times do not run backwards.
    fn history(&mut self, status: &InstanceStatus, history: &History, bodies: &BTreeSet<&Body>) {
        let (id, events) = (status.id().as_str(), history.events());
        let before = self.violations.len();
        if !matches!(events.first().map(|event| &event.is), Some(EventKind::ExecutionStarted(_))) {
            self.wrong(id, "its history does not begin with its start");
        }
        if !events.is_sorted_by_key(|event| event.at) {
            self.wrong(id, "the times of its history run backwards");
        }
        let ends = events.iter().filter(|event| event.is.is_terminal()).count();
        if ends != 1 {
            self.wrong(id, &format!("its history has {ends} ends"));
        }
        match events.last().map(|event| &event.is) {
            Some(EventKind::ExecutionCompleted { output }) => {
                let agrees = status.row().output.as_ref() == Some(output)
                    && status.runtime_status() == RuntimeStatus::Completed;
                if !agrees {
                    self.wrong(id, "status and history do not agree on the end");
                }
            }
            other => self.wrong(id, &format!("its history ends with {other:?}")),
        }
        let mut scheduled = BTreeSet::new();
        let mut open = BTreeMap::new();
        let mut envelopes = BTreeSet::new();
        for event in events {
            match &event.is {
                EventKind::ActivityScheduled(activity) => {
                    if !scheduled.insert(activity.call) {
                        self.wrong(id, &format!("call {} is scheduled twice", activity.call));
                    }
                    open.insert(activity.call, event.at);
                }
                EventKind::ActivityCompleted { call, output } => {
                    if open.remove(call).is_none() {
                        self.duplicated += 1;
                        self.wrong(id, &format!("a second result of call {call}, or one of none"));
                    }
                    self.evidence(status, call.0, output, bodies);
                }
                EventKind::TimerCreated { call, due } => {
                    if !scheduled.insert(*call) {
                        self.wrong(id, &format!("timer {call} is set twice"));
                    }
                    open.insert(*call, *due);
                }
                EventKind::TimerFired { call } => match open.remove(call) {
                    None => self.wrong(id, &format!("timer {call} fires twice, or was never set")),
                    Some(due) if event.at < due => {
                        self.wrong(
                            id,
                            &format!("timer {call} fires {:?} early", due.since(event.at)),
                        );
                    }
                    Some(due) => {
                        self.timers += 1;
                        self.latest_timer = self.latest_timer.max(event.at.since(due));
                    }
                },
                EventKind::EventRaised { id: Some(envelope), .. } => {
                    if !envelopes.insert(envelope.0.clone()) {
                        self.wrong(id, &format!("message {envelope:?} was applied twice"));
                    }
                }
                EventKind::EventRaised { id: None, .. }
                | EventKind::EventSent { .. }
                | EventKind::ExecutionStarted(_)
                | EventKind::ExecutionCompleted { .. } => {}
                other => self.wrong(id, &format!("nobody asked for {other:?}")),
            }
        }
        if !open.is_empty() {
            self.wrong(id, &format!("without a result: {open:?}"));
        }
        if self.violations.len() > before {
            self.violations.push(format!("the history of {id}: {events:#?}"));
        }
    }

    /// The result is that of a body which ran, and of the right one.
    fn evidence(
        &mut self,
        status: &InstanceStatus,
        call: u32,
        output: &Payload,
        bodies: &BTreeSet<&Body>,
    ) {
        let id = status.id().as_str();
        let Ok(done) = output.to::<Done>() else {
            return self.wrong(id, &format!("the result of {call} is {}", output.json()));
        };
        let of_call = || bodies.iter().filter(|body| body.call == call);
        if !of_call().any(|body| body.token == done.token && body.attempt == done.attempt) {
            self.wrong(id, &format!("call {call} has a result that no body gave: {done:?}"));
        }
        self.retries += usize::try_from(done.attempt - 1).expect("small");
    }

    /// The output is the right one.
    fn result(&mut self, id: &str, told: &Told, status: &InstanceStatus, history: &History) {
        let Some(story) = &told.story else { return self.wrong(id, "has no story") };
        let row = status.row();
        let output = row.output.clone().unwrap_or_else(Payload::null);
        match story {
            Story::Chain(_) | Story::Fan(_) | Story::Send { .. } => {
                let done: Vec<Done> = output.to().unwrap_or_default();
                let fits = done.len() == story.jobs().len()
                    && story.jobs().iter().zip(&done).all(|(job, done)| job.is_done_by(done));
                if !fits {
                    self.wrong(id, &format!("returned {done:?} for {story:?}"));
                }
                let tokens: BTreeSet<_> = done.iter().map(|done| &done.token).collect();
                let recorded: Vec<Done> = history
                    .events()
                    .iter()
                    .filter_map(|event| match &event.is {
                        EventKind::ActivityCompleted { output, .. } => output.to().ok(),
                        _ => None,
                    })
                    .collect();
                let known: BTreeSet<_> = recorded.iter().map(|done| &done.token).collect();
                if tokens != known || tokens.len() != done.len() {
                    self.wrong(id, &format!("returned {done:?}, recorded are {recorded:?}"));
                }
                if let Story::Send { to, values, .. } = story {
                    let sent: Vec<_> = history
                        .events()
                        .iter()
                        .filter_map(|event| match &event.is {
                            EventKind::EventSent { instance, input, name, .. } => {
                                Some((instance.to_string(), name.to_string(), input.to().ok()?))
                            }
                            _ => None,
                        })
                        .collect();
                    let wanted: Vec<_> = values
                        .iter()
                        .map(|value: &String| (to.clone(), EVENT.to_owned(), value.clone()))
                        .collect();
                    if sent != wanted {
                        self.wrong(id, &format!("sent {sent:?} instead of {wanted:?}"));
                    }
                }
            }
            Story::Nap { millis: length } => {
                let slept = Duration::from_micros(output.to().unwrap_or_default());
                if slept < millis(*length) {
                    self.wrong(id, &format!("slept {slept:?} instead of {length} ms"));
                }
                for (_, _, _, at) in &told.ended {
                    let seen = Duration::from_micros(at.saturating_sub(told.begun));
                    if seen + CLOCKS_APART < millis(*length) {
                        self.wrong(id, &format!("{length} ms took {seen:?} to look at"));
                    }
                }
            }
            Story::Probe => {
                if output.json() != "null" {
                    self.wrong(id, &format!("returned {}", output.json()));
                }
            }
            Story::Collect { .. } => {}
        }
    }

    /// What the client saw of the end is what is there now.
    fn seen_by_client(&mut self, told: &Told, status: &InstanceStatus) {
        let id = status.id().as_str();
        if told.run.is_some() && told.ended.len() != 1 {
            self.wrong(id, &format!("its end was seen {} times", told.ended.len()));
        }
        let there = status.row().output.as_ref().map(Payload::json);
        for (run, name, output, _) in &told.ended {
            let same = *run == status.run().0
                && *name == status.runtime_status().to_string()
                && output.as_deref() == there;
            if !same {
                self.wrong(id, &format!("was seen to end as {name} with {output:?}"));
            }
        }
    }

    /// Each accepted event was consumed once or is listed as left over.
    fn collected(
        &mut self,
        told: &Told,
        count: usize,
        sent: Vec<String>,
        status: &InstanceStatus,
        history: &History,
    ) {
        let id = status.id().as_str();
        let consumed: Vec<String> =
            status.row().output.as_ref().and_then(|output| output.to().ok()).unwrap_or_default();
        if consumed.len() != count {
            self.wrong(id, &format!("consumed {consumed:?} instead of {count}"));
        }
        let left = status.unconsumed().iter().filter_map(|event| event.input.to::<String>().ok());
        let left: Vec<_> = left.collect();
        self.unconsumed += left.len();
        let mut there = BTreeSet::new();
        for value in consumed.iter().chain(&left) {
            if !there.insert(value.clone()) {
                self.duplicated += 1;
                self.wrong(id, &format!("event {value} was taken twice"));
            }
        }
        let accepted: BTreeSet<_> = told.raised.iter().cloned().chain(sent).collect();
        self.events += accepted.len();
        for value in accepted.difference(&there) {
            self.lost += 1;
            let events = history.events();
            self.wrong(id, &format!("event {value} was accepted and is lost: {events:#?}"));
        }
        for value in there.difference(&accepted).filter(|value| !told.unsure.contains(*value)) {
            self.wrong(id, &format!("event {value} was never accepted"));
        }
    }
}
