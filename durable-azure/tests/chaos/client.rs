//! The client process: starts instances, raises events, waits for every end, and writes down what it is told.

use std::io::Read;
use std::sync::Arc;

use durable_core::prelude::*;
use durable_core::{HoldReason, InstanceStatus, StoreError};
use futures::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::journal::{Journal, Note, wall};
use super::random::Random;
use super::workload::{self, EVENT, Story};

const DRIVERS: u64 = 3;

/// Instances that have not ended, at most.
const OPEN_MAX: usize = 40;

/// Between two stories of a driver, at most.
const PAUSE_MAX_MS: u64 = 250;

/// Before something that failed is asked again.
const AGAIN: Duration = millis(100);

/// Starts instances until a byte comes on the standard input, then returns when all have ended.
pub(super) async fn run(client: Client, journal: Journal, seed: u64) {
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let mut byte = [0];
        if !matches!(std::io::stdin().read(&mut byte), Ok(1)) {
            // Nobody is left who would read the journal.
            std::process::exit(3);
        }
        let _ = stop.send(true);
    });
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    let mut drivers = JoinSet::new();
    for number in 0..DRIVERS {
        let driver = Driver {
            client: client.clone(),
            journal: journal.clone(),
            number,
            random: Random::new(seed ^ (number + 1).wrapping_mul(0xD1B5_4A32_D192_ED03)),
            next: 0,
            open: open.clone(),
            watched: JoinSet::new(),
        };
        drivers.spawn(driver.drive(stopped.clone()));
    }
    while let Some(ended) = drivers.join_next().await {
        ended.expect("a driver does not panic");
    }
}

struct Driver {
    client: Client,
    journal: Journal,
    number: u64,
    random: Random,
    next: u64,
    open: Arc<Semaphore>,
    watched: JoinSet<()>,
}

impl Driver {
    async fn drive(mut self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            match self.random.below(10) {
                0..=2 => self.one("chain", Story::chain).await,
                3 => self.one("fan", Story::fan).await,
                4 => self.one("retry", Story::retry).await,
                5 | 6 => self.one("nap", Story::nap).await,
                _ => self.events().await,
            }
            tokio::time::sleep(millis(self.random.below(PAUSE_MAX_MS))).await;
            while self.watched.try_join_next().is_some() {}
        }
        while let Some(ended) = self.watched.join_next().await {
            ended.expect("a watcher does not panic");
        }
    }

    async fn one(&mut self, name: &str, story: impl FnOnce(&mut Random) -> Story) {
        let story = story(&mut self.random);
        let id = self.id(name);
        self.start(&id, &story).await;
    }

    /// An instance that waits for events: from here, from another instance, or both, sometimes more than
    /// it waits for.
    async fn events(&mut self) {
        let id = self.id("collect");
        let value = |number: u64| format!("{id}/{number}");
        let raised: Vec<_> = (0..self.random.below(4)).map(value).collect();
        let sent: Vec<_> = (10..10 + self.random.below(3)).map(value).collect();
        let more = raised.len() + sent.len();
        let left_over = if self.random.percent(25) { self.random.index(more + 1) } else { 0 };
        let story = Story::Collect { count: more - left_over };
        if !self.start(&id, &story).await {
            return;
        }
        // At once, most often before a worker has seen the start.
        let wait = self.random.percent(50);
        let pause = millis(self.random.within(10, 400));
        let mut send = Vec::new();
        if !sent.is_empty() {
            let sender = self.id("send");
            let story = Story::send(&mut self.random, id.to_string(), sent.clone());
            if !self.start(&sender, &story).await {
                // In the place of what may never be sent, under names of their own.
                send = (20..20 + sent.len() as u64).map(value).collect();
            }
        }
        for value in raised.into_iter().chain(send) {
            if wait {
                tokio::time::sleep(pause).await;
            }
            raise(&self.client, &self.journal, &id, value).await;
        }
    }

    fn id(&mut self, name: &str) -> InstanceId {
        self.next += 1;
        InstanceId::new(format!("{name}-{}-{}", self.number, self.next)).expect("a valid id")
    }

    /// Whether the start was accepted. If so its end is waited for, elsewhere.
    async fn start(&mut self, id: &InstanceId, story: &Story) -> bool {
        let place = self.open.clone().acquire_owned().await.expect("never closed");
        let name = id.to_string();
        self.journal.note(&Note::Starting { id: name.clone(), story: story.clone(), at: wall() });
        let handle = loop {
            match workload::start(&self.client, id, story).await {
                Ok(handle) => break handle,
                // Nothing was taken.
                Err(ClientError::Store(StoreError::Busy { .. }) | ClientError::Overloaded) => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(ClientError::Store(StoreError::Unknown(_))) => {
                    self.journal.note(&Note::StartUnknown { id: name });
                    return false;
                }
                Err(error) => {
                    let what = format!("a start under a new id is answered with {error:?}");
                    self.journal.note(&Note::Breach { id: name, what });
                    return false;
                }
            }
        };
        let run = handle.run().expect("a start says its run").0;
        self.journal.note(&Note::Accepted { id: name, run });
        let journal = self.journal.clone();
        self.watched.spawn(async move {
            until_ended(&handle, &journal).await;
            drop(place);
        });
        true
    }
}

/// Raises an event, again and again until it is answered.
async fn raise(client: &Client, journal: &Journal, id: &InstanceId, value: String) {
    let name = id.to_string();
    let handle = client.instance(id).expect("valid");
    journal.note(&Note::Raising { id: name.clone(), value: value.clone() });
    let mut asked_before = false;
    loop {
        match handle.raise_event(EVENT, &value).id(value.as_str()).await {
            Ok(()) => return journal.note(&Note::Raised { id: name, value }),
            Err(ClientError::Ended { .. }) => {
                return journal.note(&Note::Refused { id: name, value, asked_before });
            }
            Err(ClientError::Store(StoreError::Busy { .. }) | ClientError::Overloaded) => {}
            Err(ClientError::Store(StoreError::Unknown(_))) => asked_before = true,
            Err(error) => {
                let what = format!("event {value} is answered with {error:?}");
                return journal.note(&Note::Breach { id: name, what });
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Resumes an instance that the engine holds.
///
/// A partition whose workers died several times before they had taken up all work loads one instance after
/// another, and holds the one at which a worker dies again: here that is mere chance.
pub(super) async fn let_go_on(
    handle: &Handle<Payload>,
    status: &InstanceStatus,
    journal: &Journal,
) {
    let Some(hold) = status.hold() else { return };
    let id = handle.id().to_string();
    journal.note(&Note::Held { id: id.clone(), reason: format!("{:?}", hold.reason) });
    if hold.reason != HoldReason::KilledProcess {
        journal.note(&Note::Breach { id, what: hold.message.clone() });
    }
    while matches!(handle.resume("by mere chance").await, Err(ClientError::Store(_))) {
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits for the end and notes it.
pub(super) async fn until_ended(handle: &Handle<Payload>, journal: &Journal) {
    let id = || handle.id().to_string();
    loop {
        let mut changes = std::pin::pin!(handle.watch());
        while let Some(status) = changes.next().await {
            let status = match status {
                Ok(status) => status,
                Err(ClientError::Store(StoreError::Busy { .. } | StoreError::Unknown(_))) => break,
                Err(error) => {
                    let what = format!("its status is answered with {error:?}");
                    return journal.note(&Note::Breach { id: id(), what });
                }
            };
            if status.has_ended() {
                return journal.note(&Note::ended(&status));
            }
            let_go_on(handle, &status, journal).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
