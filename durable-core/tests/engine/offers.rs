//! Activities that wait for room with their owner run where there is some, and each counts once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use durable_core::EventKind;
use durable_core::prelude::*;
use durable_core::store::{PartitionStore as _, Sharing};
use futures::future::Either;

use super::faulty::{Faults, TestStore};
use super::hub::{Hub, PATIENCE, tell, until};
use super::several::{One, PARTITIONS, ids_of, until_balanced};

/// Nothing becomes visible again while a test runs, however busy the machine is.
const LONG: Duration = minutes(10);

fn hub(visibility: Duration) -> Hub {
    Hub::shared(PARTITIONS, Sharing { lease: secs(2), visibility })
}

/// What the activities of one worker share: whether they may end, and what they did.
#[derive(Clone, Default)]
struct Place {
    open: Arc<AtomicBool>,
    began: Arc<Mutex<Vec<(String, u32)>>>,
    cancelled: Arc<AtomicU64>,
}

impl Place {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// How often activities of this instance began here.
    fn began(&self, instance: &str) -> usize {
        let began = self.began.lock().expect("no panic here");
        began.iter().filter(|(of, _)| of == instance).count()
    }

    fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::SeqCst)
    }
}

/// Ends when its worker's activities may, or when nobody waits for it.
#[activity]
async fn work(
    ctx: ActivityContext,
    State(place): State<Place>,
    n: u32,
) -> Result<u32, ActivityError> {
    place.began.lock().expect("no panic here").push((ctx.instance_id().to_string(), n));
    while !place.open.load(Ordering::SeqCst) {
        if ctx.is_cancelled() {
            place.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        ctx.check_cancelled()?;
        tokio::time::sleep(millis(2)).await;
    }
    Ok(n)
}

/// Many at once.
#[orchestrator]
async fn many(ctx: OrchestrationContext, count: u32) -> Result<Vec<u32>, OrchestrationError> {
    let calls = (0..count).map(|n| ctx.call(work, &n));
    Ok(ctx.try_join_all(calls).await?)
}

/// One, until it is told that it need not be done.
#[orchestrator]
async fn unless_told(ctx: OrchestrationContext, (): ()) -> Result<bool, OrchestrationError> {
    let told = ctx.race(ctx.call(work, &0), ctx.wait_event::<()>("enough")).await;
    Ok(matches!(told, Either::Right(_)))
}

/// One, until it is told that it need not be done; and then until it has ended.
#[orchestrator]
async fn until_ended(ctx: OrchestrationContext, (): ()) -> Result<bool, OrchestrationError> {
    let scope = ctx.scope();
    let _ = ctx.race(scope.call(work, &0), ctx.wait_event::<()>("enough")).await;
    let ended = scope.cancel().await;
    Ok(ended.len() == 1 && ended[0].was_cancelled())
}

/// One, for a short time.
#[orchestrator]
async fn in_time(ctx: OrchestrationContext, (): ()) -> Result<String, OrchestrationError> {
    match ctx.call(work, &0).timeout(millis(100)).await {
        Ok(_) => Ok("done".into()),
        Err(error) => Ok(format!("{:?}: {}", error.class(), error.message())),
    }
}

/// One, with the longest limits that there are.
#[orchestrator]
async fn in_any_time(ctx: OrchestrationContext, (): ()) -> Result<u32, OrchestrationError> {
    let call = ctx.call(work, &0).timeout(Duration::MAX).heartbeat_timeout(Duration::MAX);
    Ok(call.await?)
}

fn registry(place: &Place) -> Registry {
    let mut registry = Registry::new();
    registry.register(many).register(unless_told).register(until_ended);
    registry.register(in_time).register(in_any_time).register(work);
    registry.state(place.clone());
    registry
}

/// One with a single lane that is taken, and one with many that are free.
struct Two {
    a: One,
    at_a: Place,
    b: One,
    at_b: Place,
}

impl Two {
    async fn start(hub: &Hub) -> Self {
        let (at_a, at_b) = (Place::default(), Place::default());
        let a =
            One::start_with(hub, registry(&at_a), |builder| builder.max_concurrent_activities(1))
                .await;
        let b = One::start(hub, registry(&at_b)).await;
        until_balanced(&[&a, &b]).await;
        // What takes the lane for good.
        let lane = &ids_of(&a, "lane", 1)[0];
        a.client().start(many, 1).id(lane).await.expect("accepted");
        // Before the other one can have seen it waiting.
        until("the lane is taken", || async { at_a.began(lane) + at_b.began(lane) == 1 }).await;
        assert_eq!(at_a.began(lane), 1, "a free lane is not offered");
        Self { a, at_a, b, at_b }
    }
}

async fn completed_once(client: &Client, id: &str, count: u32) {
    let handle = client.instance_of(many, id).expect("valid");
    let output = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output, (0..count).collect::<Vec<_>>());
    let history = handle.history().await.expect("read");
    let is_result = |kind: &EventKind| matches!(kind, EventKind::ActivityCompleted { .. });
    let results = history.events().iter().filter(|event| is_result(&event.is)).count();
    assert_eq!(results, usize::try_from(count).expect("small"));
}

#[test]
fn what_waits_with_one_worker_runs_with_another() {
    tell(hub(LONG), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "many", 1)[0];
        two.a.client().start(many, 20).id(id).await.expect("accepted");
        until("all of them run elsewhere", || async { two.at_b.began(id) == 20 }).await;
        two.at_b.open();
        completed_once(&two.a.client(), id, 20).await;
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 20));
    });
}

#[test]
fn an_owner_takes_back_what_it_offered_when_it_has_room() {
    tell(hub(LONG), |hub: Hub| async move {
        let (at_a, at_b) = (Place::default(), Place::default());
        let one_lane = |builder: durable_core::WorkerBuilder| builder.max_concurrent_activities(1);
        let a = One::start_with(&hub, registry(&at_a), one_lane).await;
        let b = One::start_with(&hub, registry(&at_b), one_lane).await;
        until_balanced(&[&a, &b]).await;
        let id = &ids_of(&a, "many", 1)[0];
        a.client().start(many, 12).id(id).await.expect("accepted");
        // Both lanes are taken, and all others were offered or wait.
        until("both lanes are taken", || async { at_a.began(id) + at_b.began(id) == 2 }).await;
        at_a.open();
        until("the owner has done the rest", || async { at_a.began(id) == 11 }).await;
        at_b.open();
        completed_once(&b.client(), id, 12).await;
    });
}

#[test]
fn what_a_dead_worker_had_taken_comes_back() {
    tell(hub(secs(1)), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "many", 1)[0];
        two.a.client().start(many, 6).id(id).await.expect("accepted");
        until("all of them run elsewhere", || async { two.at_b.began(id) >= 6 }).await;
        two.b.kill();
        two.at_a.open();
        completed_once(&two.a.client(), id, 6).await;
        assert!(two.at_a.began(id) >= 6, "they ran here in the end");
    });
}

#[test]
fn one_that_shuts_down_ends_what_it_has_taken() {
    tell(hub(LONG), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "many", 1)[0];
        two.a.client().start(many, 6).id(id).await.expect("accepted");
        until("all of them run elsewhere", || async { two.at_b.began(id) == 6 }).await;
        let ends = tokio::spawn(two.b.worker.shutdown());
        until("its partitions have moved", || async {
            two.a.owned().len() == usize::from(PARTITIONS)
        })
        .await;
        assert!(!ends.is_finished(), "it waits for what it runs");
        two.at_b.open();
        ends.await.expect("no panic").expect("a clean end");
        completed_once(&two.a.client(), id, 6).await;
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 6));
    });
}

#[test]
fn a_new_owner_does_not_begin_again_what_others_were_offered() {
    tell(hub(LONG), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "many", 1)[0];
        two.a.client().start(many, 6).id(id).await.expect("accepted");
        until("all of them run elsewhere", || async { two.at_b.began(id) == 6 }).await;
        let (store, id_of_many) = (hub.memory(), InstanceId::new(id.as_str()).expect("valid"));
        until("that is recorded", || async {
            let stored = store.load(&id_of_many).await.expect("no faults").expect("stored");
            let row = String::from_utf8(stored.in_flight.unwrap_or_default()).expect("text");
            row.matches("\"offered\":true").count() == 6
        })
        .await;
        two.at_a.open();
        two.a.worker.shutdown().await.expect("a clean end");
        until_balanced(&[&two.b]).await;
        two.at_b.open();
        completed_once(&two.b.client(), id, 6).await;
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 6));
    });
}

#[test]
fn whoever_runs_what_nobody_waits_for_any_more_is_told() {
    tell(hub(secs(1)), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "told", 1)[0];
        let handle = two.a.client().start(unless_told, ()).id(id).await.expect("accepted");
        until("it runs elsewhere", || async { two.at_b.began(id) > 0 }).await;
        handle.raise_event("enough", &()).await.expect("taken");
        assert!(handle.output_within(PATIENCE).await.expect("completed"));
        until("it is told", || async { two.at_b.cancelled() > 0 }).await;
    });
}

#[test]
fn who_waits_for_its_end_hears_of_it_when_it_has_ended_there() {
    tell(hub(secs(1)), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "ended", 1)[0];
        let handle = two.a.client().start(until_ended, ()).id(id).await.expect("accepted");
        until("it runs elsewhere", || async { two.at_b.began(id) > 0 }).await;
        handle.raise_event("enough", &()).await.expect("taken");
        assert!(handle.output_within(PATIENCE).await.expect("completed"));
        assert_eq!(two.at_b.cancelled(), 1, "its code had returned before");
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 1));
    });
}

#[test]
fn a_time_limit_holds_where_the_activity_runs() {
    tell(hub(LONG), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "in-time", 1)[0];
        let handle = two.a.client().start(in_time, ()).id(id).await.expect("accepted");
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output, "Timeout: an attempt of \"work\" took longer than 100ms");
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 1));
        until("it is told", || async { two.at_b.cancelled() > 0 }).await;
    });
}

#[test]
fn a_time_limit_of_for_ever_is_none_where_the_activity_runs() {
    tell(hub(LONG), |hub: Hub| async move {
        let two = Two::start(&hub).await;
        let id = &ids_of(&two.a, "in-any-time", 1)[0];
        let handle = two.a.client().start(in_any_time, ()).id(id).await.expect("accepted");
        until("it runs elsewhere", || async { two.at_b.began(id) == 1 }).await;
        two.at_b.open();
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 0);
        assert_eq!((two.at_a.began(id), two.at_b.began(id)), (0, 1));
    });
}

#[test]
fn a_worker_leaves_alone_what_it_has_not_registered() {
    tell(hub(millis(300)), |hub: Hub| async move {
        let at_a = Place::default();
        let a =
            One::start_with(&hub, registry(&at_a), |builder| builder.max_concurrent_activities(1))
                .await;
        let faults = Faults::default();
        let taken = Arc::new(AtomicU64::new(0));
        let takes = taken.clone();
        faults.plan(move |_, method| {
            takes.fetch_add(u64::from(method == "take"), Ordering::SeqCst);
            None
        });
        let mut registry_of_b = Registry::new();
        registry_of_b.register(many);
        // A name of its own, so that it has lanes for something.
        registry_of_b.register_activity_fn("other", |_, (): ()| async { Ok(()) });
        registry_of_b.register_activity_fn("work-elsewhere", |_, (): ()| async { Ok(()) });
        let store = TestStore::new(hub.open(), faults);
        let b = Worker::builder(store).registry(registry_of_b).start().await.expect("started");
        until("it has its share", || async { b.partitions().len() == 3 }).await;
        let id = &ids_of(&a, "many", 1)[0];
        a.client().start(many, 6).id(id).await.expect("accepted");
        until("one runs", || async { at_a.began(id) == 1 }).await;
        let before = taken.load(Ordering::SeqCst);
        until("the other worker has looked", || async {
            taken.load(Ordering::SeqCst) >= before + 3
        })
        .await;
        at_a.open();
        completed_once(&a.client(), id, 6).await;
    });
}

#[test]
fn what_cannot_be_offered_waits_on() {
    tell(hub(LONG), |hub: Hub| async move {
        let (at_a, at_b) = (Place::default(), Place::default());
        let faults = Faults::default();
        let store = TestStore::new(hub.open(), faults.clone());
        let builder = Worker::builder(store).registry(registry(&at_a));
        let a = builder.max_concurrent_activities(1).start().await.expect("started");
        let b = One::start(&hub, registry(&at_b)).await;
        until("each has its share", || async { a.partitions().len() == 3 }).await;
        faults.plan(|_, method| (method == "offer").then_some(super::faulty::Fault::Busy));
        let owned = a.partitions();
        let id = (0..)
            .map(|n| format!("many-{n}"))
            .find(|id| {
                let id = InstanceId::new(id.as_str()).expect("valid");
                owned.contains(&id.partition(PARTITIONS))
            })
            .expect("one of many");
        a.client().start(many, 8).id(&id).await.expect("accepted");
        until("offers fail", || async { faults.injected() >= 3 }).await;
        at_a.open();
        completed_once(&b.client(), &id, 8).await;
        assert_eq!((at_a.began(&id), at_b.began(&id)), (8, 0));
        a.shutdown().await.expect("a clean end");
    });
}
