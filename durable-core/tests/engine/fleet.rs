//! Several workers on one hub: who owns what, and that nothing is lost or done twice while that changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use durable_core::machine::model::{PartitionId, WorkerId};
use durable_core::prelude::*;
use durable_core::store::{Fleet as _, Member};
use durable_core::{ClientError, EventKind};
use futures::StreamExt;
use uuid::Uuid;

use super::faulty::{Fault, Faults, TestStore};
use super::hub::{Hub, PATIENCE, tell, until};
use super::several::{One, PARTITIONS, SHARING, balanced, hub, ids_of, until_balanced};

/// How often each activity ran, by instance.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<BTreeMap<String, u32>>>);

/// Collects events until it is told the end, with an activity for each.
#[orchestrator]
async fn collects(ctx: OrchestrationContext, wanted: u32) -> Result<Vec<u32>, OrchestrationError> {
    let mut got = Vec::new();
    for _ in 0..wanted {
        let n = ctx.wait_event::<u32>("n").await?;
        got.push(ctx.call(note, &n).await?);
    }
    Ok(got)
}

#[activity]
async fn note(
    ctx: ActivityContext,
    State(runs): State<Runs>,
    n: u32,
) -> Result<u32, ActivityError> {
    let mut runs = runs.0.lock().expect("no panic here");
    *runs.entry(ctx.instance_id().to_string()).or_default() += 1;
    Ok(n)
}

fn collecting(runs: &Runs) -> Registry {
    let mut registry = Registry::new();
    registry.register(collects).register(note).state(runs.clone());
    registry
}

/// Raises an event until it is known to be taken: under its id it counts once.
async fn raise(client: &Client, id: &str, n: u32) {
    let handle = client.instance(id).expect("valid");
    until("the event is taken", || async {
        match handle.raise_event("n", &n).id(format!("n-{n}")).await {
            Ok(()) | Err(ClientError::Ended { .. }) => true,
            Err(ClientError::Unanswered) => false,
            Err(error) => panic!("{id}: {error}"),
        }
    })
    .await;
}

/// Its result, and that its history holds each event once.
async fn ended_once(client: &Client, id: &str, wanted: &[u32]) {
    let handle = client.instance(id).expect("valid");
    let output = handle.output_within(PATIENCE).await.expect("completed");
    let mut got = output.to::<Vec<u32>>().expect("numbers");
    // Two events of one sender may change places where the partition moved in between.
    got.sort_unstable();
    assert_eq!(got, wanted, "{id}");
    let history = handle.history().await.expect("read");
    let of = |kind: fn(&EventKind) -> bool| {
        history.events().iter().filter(|event| kind(&event.is)).count()
    };
    assert_eq!(of(|kind| matches!(kind, EventKind::EventRaised { .. })), wanted.len(), "{id}");
    assert_eq!(of(|kind| matches!(kind, EventKind::ActivityCompleted { .. })), wanted.len());
    assert_eq!(of(EventKind::is_terminal), 1, "{id}");
}

#[test]
fn the_store_hears_of_each_partition_that_is_served_no_more() {
    tell(hub(), |hub: Hub| async move {
        let faults = Faults::default();
        faults.plan(|_, method| (method == "release").then_some(Fault::Busy));
        let store = TestStore::new(hub.open(), faults.clone());
        let registry = collecting(&Runs::default());
        let a = Worker::builder(store).registry(registry).start().await.expect("started");
        let b = One::start(&hub, collecting(&Runs::default())).await;
        until("half of them have moved", || async {
            a.partitions().len() == 3 && b.owned().len() == 3
        })
        .await;
        assert!(faults.injected() >= 3, "none could be given back in good order");
        assert!(faults.abandoned().len() >= 3, "{:?}", faults.abandoned());
    });
}

#[test]
fn workers_that_come_and_go_share_the_partitions() {
    tell(hub(), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        assert!(balanced(&[&a]), "when it has started, all of its share is served");
        let ids: Vec<_> = (0..20).map(|n| format!("i-{n}")).collect();
        for id in &ids {
            a.client().start(collects, 4).id(id).await.expect("accepted");
        }
        let b = One::start(&hub, collecting(&runs)).await;
        let raise_all = async |client: Client, n: u32| {
            for id in &ids {
                raise(&client, id, n).await;
            }
        };
        raise_all(b.client(), 1).await;
        until_balanced(&[&a, &b]).await;
        let c = One::start(&hub, collecting(&runs)).await;
        raise_all(a.client(), 2).await;
        until_balanced(&[&a, &b, &c]).await;
        a.worker.shutdown().await.expect("a clean end");
        raise_all(c.client(), 3).await;
        until_balanced(&[&b, &c]).await;
        drop(c);
        until_balanced(&[&b]).await;
        raise_all(b.client(), 4).await;
        for id in &ids {
            ended_once(&b.client(), id, &[1, 2, 3, 4]).await;
        }
        b.worker.shutdown().await.expect("a clean end");
    });
}

/// One call of an activity that ends when it may.
fn one_that_waits(open: &Arc<AtomicBool>) -> Registry {
    let mut registry = Registry::new();
    let open = open.clone();
    registry.register_activity_fn("waits", move |_, (): ()| {
        let open = open.clone();
        async move {
            until("it may end", || async { open.load(Ordering::SeqCst) }).await;
            Ok(())
        }
    });
    registry.register_orchestrator_fn("one", |ctx, (): ()| async move {
        ctx.call_by_name::<()>("waits", &()).await?;
        Ok(())
    });
    registry
}

#[test]
fn one_that_shuts_down_gives_back_at_once_what_it_need_not_keep() {
    tell(hub(), |hub: Hub| async move {
        let open = Arc::new(AtomicBool::new(false));
        let a = One::start(&hub, one_that_waits(&open)).await;
        let b = One::start(&hub, one_that_waits(&open)).await;
        until_balanced(&[&a, &b]).await;
        let id = &ids_of(&a, "x", 1)[0];
        a.client().start_by_name("one", &()).id(id).await.expect("started");
        until("the activity is scheduled", || async {
            let handle = a.client().instance(id).expect("valid");
            handle.history().await.is_ok_and(|history| history.events().len() == 2)
        })
        .await;
        let ends = tokio::spawn(a.worker.shutdown());
        until("all but one have moved", || async { b.owned().len() >= 5 }).await;
        open.store(true, Ordering::SeqCst);
        ends.await.expect("no panic").expect("a clean end");
        until_balanced(&[&b]).await;
        let handle = b.client().instance(id).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
    });
}

#[test]
fn the_partitions_of_a_dead_worker_are_taken_over() {
    tell(hub(), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        let b = One::start(&hub, collecting(&runs)).await;
        until_balanced(&[&a, &b]).await;
        let ids = ids_of(&b, "i", 8);
        for id in &ids {
            b.client().start(collects, 2).id(id).await.expect("accepted");
            raise(&b.client(), id, 1).await;
        }
        b.kill();
        // Its clients are those of the worker that lives: they reach the hub all the time.
        for id in &ids {
            raise(&a.client(), id, 2).await;
        }
        until_balanced(&[&a]).await;
        for id in &ids {
            ended_once(&a.client(), id, &[1, 2]).await;
        }
        let store = hub.memory();
        until("its row is removed", || async {
            store.members().await.expect("no faults").len() == 1
        })
        .await;
    });
}

#[test]
fn a_worker_that_wakes_up_after_its_lease_does_no_harm() {
    tell(hub(), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        let b = One::start(&hub, collecting(&runs)).await;
        until_balanced(&[&a, &b]).await;
        let ids = ids_of(&b, "i", 8);
        for id in &ids {
            b.client().start(collects, 3).id(id).await.expect("accepted");
            raise(&b.client(), id, 1).await;
        }
        b.link.stick();
        // Taken by loops that cannot commit them.
        let handles: Vec<_> =
            ids.iter().map(|id| b.client().instance(id).expect("valid")).collect();
        let raises = handles.iter().map(|handle| {
            let raise = handle.raise_event("n", &2).id("n-2");
            tokio::spawn(async move { raise.await })
        });
        let raises: Vec<_> = raises.collect();
        until_balanced(&[&a]).await;
        for id in &ids {
            raise(&a.client(), id, 2).await;
        }
        b.link.mend();
        for raise in raises {
            let told = raise.await.expect("no panic");
            assert!(matches!(told, Ok(()) | Err(ClientError::Unanswered)), "{told:?}");
        }
        until_balanced(&[&a, &b]).await;
        for id in &ids {
            raise(&b.client(), id, 3).await;
            ended_once(&b.client(), id, &[1, 2, 3]).await;
        }
        for one in [a, b] {
            one.worker.shutdown().await.expect("neither has failed");
        }
    });
}

#[test]
fn a_worker_whose_beats_fail_begins_no_activity_until_one_succeeds() {
    tell(Hub::shared(1, SHARING), |hub: Hub| async move {
        let open = Arc::new(AtomicBool::new(false));
        let runs = Runs::default();
        let mut registry = one_that_waits(&open);
        registry.register(note).state(runs.clone());
        registry.register_orchestrator_fn("two", |ctx, (): ()| async move {
            ctx.call_by_name::<()>("waits", &()).await?;
            Ok(ctx.call(note, &7).await?)
        });
        let a = Worker::builder(hub.store()).registry(registry).start().await.expect("started");
        let handle = a.client().start_by_name("two", &()).await.expect("started");
        // Only its beats fail: commits go through.
        hub.faults.plan(|_, method| (method == "heartbeat").then_some(Fault::LostBefore));
        // More than two thirds of the lease: there are four tries in each third.
        until("beats fail", || async { hub.faults.injected() >= 12 }).await;
        open.store(true, Ordering::SeqCst);
        until("the next call is scheduled", || async {
            handle.history().await.expect("read").events().len() == 4
        })
        .await;
        assert!(runs.0.lock().expect("no panic here").is_empty(), "it must not begin");
        hub.faults.heal();
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output.to::<u32>().expect("a number"), 7);
    });
}

#[test]
fn a_loop_that_does_not_come_round_is_given_up_and_its_partition_served_on() {
    tell(Hub::shared(2, SHARING), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        a.link.wedge_next_commit();
        a.client().start(collects, 2).id("x").await.expect("accepted");
        until("its loop is wedged", || async { a.link.is_wedged() }).await;
        // Served by another thread, with another fence.
        raise(&a.client(), "x", 1).await;
        raise(&a.client(), "x", 2).await;
        ended_once(&a.client(), "x", &[1, 2]).await;
        assert!(a.link.is_wedged(), "the first thread still hangs");
        a.link.unwedge();
        assert_eq!(a.owned().len(), 2);
        a.worker.shutdown().await.expect("it is none the worse for it");
    });
}

#[test]
fn a_client_reaches_instances_of_other_workers_also_while_they_move() {
    tell(hub(), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        let b = One::start(&hub, collecting(&runs)).await;
        until_balanced(&[&a, &b]).await;
        let client = a.client();
        let mut ids = ids_of(&b, "of-b", 4);
        ids.extend(ids_of(&a, "of-a", 4));
        let mut watching = Vec::new();
        for id in &ids {
            let handle = client.start(collects, 3).id(id).await.expect("accepted");
            watching.push(tokio::spawn(async move {
                let statuses: Vec<_> = handle.watch().collect().await;
                let last = statuses.into_iter().last().expect("at least one");
                last.expect("no failure").runtime_status()
            }));
            raise(&client, id, 1).await;
        }
        // Some of these are of one worker, some of the other.
        let mut generated = Vec::new();
        for _ in 0..12 {
            generated.push(client.start(collects, 0).await.expect("accepted"));
        }
        for handle in &generated {
            assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), [0_u32; 0]);
        }
        let c = One::start(&hub, collecting(&runs)).await;
        until_balanced(&[&a, &b, &c]).await;
        for id in &ids {
            raise(&client, id, 2).await;
        }
        let (left, ()) = tokio::join!(b.worker.shutdown(), async {
            for id in &ids {
                raise(&client, id, 3).await;
            }
        });
        left.expect("a clean end");
        for watcher in watching {
            let last = tokio::time::timeout(PATIENCE, watcher).await.expect("it sees the end");
            assert_eq!(last.expect("no panic"), RuntimeStatus::Completed);
        }
        for id in &ids {
            ended_once(&client, id, &[1, 2, 3]).await;
        }
    });
}

#[test]
fn events_between_instances_of_different_workers_arrive_once_and_in_order() {
    const EACH: u32 = 20;
    fn registry() -> Registry {
        let mut registry = Registry::new();
        registry.register_activity_fn("nothing", |_, (): ()| async { Ok(()) });
        registry.register_orchestrator_fn("send", |ctx, to: Vec<String>| async move {
            for n in 0..EACH {
                for receiver in &to {
                    ctx.raise_event(receiver.as_str(), "n", &n)?;
                }
                ctx.call_by_name::<()>("nothing", &()).await?;
            }
            Ok(())
        });
        registry.register_orchestrator_fn("receive", |ctx, (): ()| async move {
            let mut got = Vec::new();
            for _ in 0..EACH {
                got.push(ctx.wait_event::<u32>("n").await?);
            }
            ctx.wait_event::<()>("end").await?;
            Ok(got)
        });
        registry
    }
    tell(hub(), |hub: Hub| async move {
        let a = One::start(&hub, registry()).await;
        let b = One::start(&hub, registry()).await;
        until_balanced(&[&a, &b]).await;
        let receivers = ids_of(&b, "receiver", 4);
        let sender = &ids_of(&a, "sender", 1)[0];
        let client = a.client();
        for receiver in &receivers {
            let start = client.start_by_name("receive", &()).id(receiver);
            start.await.expect("accepted");
        }
        let start = client.start_by_name("send", &receivers).id(sender);
        let sent = start.await.expect("accepted");
        sent.output_within(PATIENCE).await.expect("completed");
        // What is on its way is delivered by whoever owns the partitions next.
        a.worker.shutdown().await.expect("a clean end");
        let client = b.client();
        for receiver in &receivers {
            let handle = client.instance(receiver).expect("valid");
            until("all events have come", || async {
                let history = handle.history().await.expect("read");
                let is_event = |kind: &EventKind| matches!(kind, EventKind::EventRaised { .. });
                let raised = history.events().iter().filter(|event| is_event(&event.is)).count();
                raised == usize::try_from(EACH).expect("small")
            })
            .await;
            handle.raise_event("end", &()).await.expect("taken");
            let output = handle.output_within(PATIENCE).await.expect("completed");
            let got = output.to::<Vec<u32>>().expect("numbers");
            assert_eq!(got, (0..EACH).collect::<Vec<_>>());
            let status = handle.status().await.expect("there");
            assert!(status.unconsumed().is_empty(), "{:?}", status.unconsumed());
        }
    });
}

#[test]
fn a_start_is_accepted_if_any_worker_has_the_orchestrator() {
    fn registry(name: &'static str) -> Registry {
        let mut registry = Registry::new();
        registry.register_orchestrator_fn(name, |_, (): ()| async { Ok(()) });
        registry
    }
    tell(hub(), |hub: Hub| async move {
        let a = One::start(&hub, registry("ours")).await;
        let b = One::start(&hub, registry("theirs")).await;
        until_balanced(&[&a, &b]).await;
        let id = &ids_of(&b, "x", 1)[0];
        let start = a.client().start_by_name("theirs", &()).id(id);
        start.await.expect("accepted").output_within(PATIENCE).await.expect("completed");
        let refused = a.client().start_by_name("nobodys", &()).await.map(|_| ());
        match refused.expect_err("nobody has it") {
            ClientError::UnknownOrchestrator { known, .. } => assert_eq!(known, ["ours", "theirs"]),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn what_two_workers_count_on_is_given_back_and_claimed_anew() {
    tell(hub(), |hub: Hub| async move {
        let runs = Runs::default();
        let a = One::start(&hub, collecting(&runs)).await;
        assert!(balanced(&[&a]));
        let handle = a.client().start(collects, 1).id("x").await.expect("accepted");
        // One that believes to own what it has lost, and leaves nothing to be seen of it but its beats.
        let store = hub.memory();
        let lives = Arc::new(AtomicBool::new(true));
        let other = lives.clone();
        let beats = tokio::spawn(async move {
            let mut member = Member {
                worker: WorkerId(Uuid::from_u128(7)),
                beat: 0,
                pid: std::process::id(),
                host: "elsewhere".into(),
                orchestrators: Vec::new(),
                build: None,
                boot: String::new(),
                owns: (0..PARTITIONS).map(PartitionId).collect(),
                needs: BTreeMap::new(),
                leaving: false,
            };
            while other.load(Ordering::SeqCst) {
                member.beat += 1;
                store.heartbeat(&member).await.expect("no faults");
                tokio::time::sleep(millis(20)).await;
            }
        });
        until("it is given back", || async { a.owned().is_empty() }).await;
        lives.store(false, Ordering::SeqCst);
        beats.await.expect("no panic");
        until_balanced(&[&a]).await;
        handle.raise_event("n", &1).await.expect("taken");
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), [1]);
    });
}
