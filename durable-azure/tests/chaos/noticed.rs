//! That the checker notices what is wrong: the same small hub, compared with stories that are not its own.

use durable_core::prelude::*;
use durable_emulator::Emulator;
use durable_emulator::proxy::{Fault, FaultProxy, Plan, Rule};

use super::client::until_ended;
use super::journal::{Body, Evidence, Journal, Note, wall};
use super::process::Setting;
use super::random::Random;
use super::workload::{self, EVENT, Story};
use super::{check, hub};

/// A start that another process made is found within this time.
const PROMPT: Duration = secs(10);

fn setting(connection: String, folder: &std::path::Path) -> Setting {
    let hub = "noticed".to_owned();
    Setting { connection, hub, folder: folder.to_owned(), lease: secs(3), seed: 0 }
}

async fn worker(setting: &Setting) -> Worker {
    let store = hub::open(setting).await.expect("the hub opens");
    let registry = workload::registry(Evidence::open(&setting.evidence()));
    Worker::builder(store).registry(registry).start().await.expect("the worker starts")
}

/// A chain, two instances of which one sends to the other, and a nap.
async fn work(client: &Client, journal: &Journal) {
    let mut random = Random::new(1);
    let sent = vec!["sent".to_owned()];
    for (id, story) in [
        ("chain", Story::chain(&mut random)),
        ("collect", Story::Collect { count: 2 }),
        ("send", Story::send(&mut random, "collect".to_owned(), sent)),
        ("nap", Story::Nap { millis: 200 }),
    ] {
        journal.note(&Note::Starting { id: id.to_owned(), story: story.clone(), at: wall() });
        let instance = InstanceId::new(id).expect("valid");
        let handle = workload::start(client, &instance, &story).await.expect("accepted");
        journal.note(&Note::Accepted { id: id.to_owned(), run: handle.run().expect("known").0 });
    }
    let (id, value) = (|| "collect".to_owned(), || "raised".to_owned());
    journal.note(&Note::Raising { id: id(), value: value() });
    let collect = client.instance("collect").expect("valid");
    collect.raise_event(EVENT, "raised").id("raised").await.expect("accepted");
    journal.note(&Note::Raised { id: id(), value: value() });
    for id in ["chain", "collect", "send", "nap"] {
        until_ended(&client.instance(id).expect("valid"), journal).await;
    }
}

type Change = fn(&mut Vec<Note>, &mut Vec<Body>);

/// What is claimed besides or instead of what happened, and a word of what the checker says to it.
const CHANGES: [(Change, &str); 10] = [
    (|_, bodies| drop(bodies.pop()), "a result that no body gave"),
    (|_, bodies| bodies[0].run += 1, "a body of another run"),
    (|notes, _| accepted(notes, "never", 1), "was accepted and is not there"),
    (|notes, _| accepted(notes, "nap", 1), "was promised"),
    (|notes, _| notes.retain(|note| !note.is_of("chain")), "nobody started it"),
    (|notes, _| raised(notes, "lost"), "was accepted and is lost"),
    (
        |notes, _| notes.retain(|n| !matches!(n, Note::Raised { .. } | Note::Raising { .. })),
        "never accepted",
    ),
    (|notes, _| story(notes, "collect", Story::Collect { count: 3 }), "instead of 3"),
    (|notes, _| story(notes, "nap", Story::Nap { millis: 60_000 }), "instead of 60000 ms"),
    (|notes, _| notes.extend(notes.clone().pop()), "was seen 2 times"),
];

impl Note {
    fn is_of(&self, wanted: &str) -> bool {
        let (Self::Starting { id, .. } | Self::Accepted { id, .. } | Self::Ended { id, .. }) = self
        else {
            return false;
        };
        id == wanted
    }
}

fn accepted(notes: &mut Vec<Note>, id: &str, run: u64) {
    notes.push(Note::Accepted { id: id.to_owned(), run });
}

fn raised(notes: &mut Vec<Note>, value: &str) {
    notes.push(Note::Raised { id: "collect".to_owned(), value: value.to_owned() });
}

fn story(notes: &mut Vec<Note>, id: &str, story: Story) {
    notes.push(Note::Starting { id: id.to_owned(), story, at: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_hub_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start().unwrap();
    let setting = setting(emulator.connection_string(), folder.path());
    let worker = worker(&setting).await;
    let client = Client::new(hub::open(&setting).await.unwrap());
    work(&client, &Journal::open(&setting.journal())).await;
    let (notes, bodies) = (Journal::read(&setting.journal()), Evidence::read(&setting.evidence()));

    let found = check::check(&client, &notes, &bodies).await;
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert_eq!((found.instances, found.events), (4, 2));
    for (change, said) in CHANGES {
        let (mut notes, mut bodies) = (notes.clone(), bodies.clone());
        change(&mut notes, &mut bodies);
        let violations = check::check(&client, &notes, &bodies).await.violations;
        assert!(violations.iter().any(|what| what.contains(said)), "{said:?}: {violations:?}");
    }
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_message_to_the_owner_was_lost_is_found_promptly() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start().unwrap();
    let worker = worker(&setting(emulator.connection_string(), folder.path())).await;
    let proxy = FaultProxy::start(emulator.endpoints(), Plan::none()).unwrap();
    let store = hub::open(&setting(proxy.connection_string(), folder.path())).await.unwrap();
    let client = Client::new(store);
    let mut cut = 0;
    // The caller's own tries get through, or do not and leave it to later ones.
    for tries in [1, 4] {
        let put = Rule::new(Fault::CutBefore).method("POST").path("/messages").at_most(tries);
        proxy.set_plan(Plan::none().rule(put));
        let id = InstanceId::new(format!("told-{tries}")).unwrap();
        let handle = workload::start(&client, &id, &Story::Probe).await.unwrap();
        handle.output_within(PROMPT).await.unwrap();
        cut += tries;
        assert_eq!(proxy.counts().faults(Fault::CutBefore), cut);
    }
    worker.shutdown().await.unwrap();
}
