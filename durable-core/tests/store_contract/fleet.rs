//! What holds for a hub that several workers share: they learn of each other, and give each other work.

use std::time::Duration;

use durable_core::machine::model::{
    Message, MessageBody, MessageNumber, PartitionId, Payload, Post, StartAttempt,
};
use durable_core::machine::store::ArrivalPosition;
use durable_core::store::{Member, Renewal};

use super::Make;
use super::make::{Owner, P0, at, begin, id, member, offered, result, worker};

pub(crate) async fn an_offer_is_taken_by_one_renewed_and_finished(make: Make<'_>) {
    let subject = make(1);
    let (store, other) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    for call in 0..3 {
        // One by one: what is offered together is taken together.
        store.offer(vec![offered(call)]).await.expect("no fault");
    }
    let long = Duration::from_secs(60);
    let mine = other.take(worker(1), 2, long).await.expect("no fault");
    assert_eq!(
        mine.iter().map(|work| work.item.clone()).collect::<Vec<_>>(),
        [offered(0), offered(1)]
    );
    let rest = store.take(worker(2), 10, Duration::from_secs(1)).await.expect("no fault");
    assert_eq!(rest.len(), 1, "what is hidden is not taken");
    // Its visibility ends: another takes it, and the first taker learns of it.
    let again = loop {
        let again = other.take(worker(3), 10, long).await.expect("no fault");
        if !again.is_empty() {
            break again;
        }
    };
    assert_eq!(again[0].item, offered(2));
    assert_eq!(store.renew(&rest[0], long).await.expect("no fault"), Renewal::Lost);
    assert_eq!(other.renew(&again[0], long).await.expect("no fault"), Renewal::Renewed);
    assert!(!store.finish(&rest[0], result(&rest[0])).await.expect("no fault"));
    for work in mine.iter().chain(&again) {
        assert!(other.finish(work, result(work)).await.expect("no fault"));
    }
    assert_eq!(store.take(worker(1), 10, long).await.expect("no fault"), vec![]);
    let mut known = Some(store.changed(None).await.expect("no fault"));
    let mut calls: Vec<_> = Vec::new();
    let mut position = ArrivalPosition::default();
    while calls.len() < 4 {
        let arrivals = store.arrivals(P0, position, 10).await.expect("no fault");
        position = arrivals.position;
        calls.extend(arrivals.results.iter().map(|result| result.attempt.call.0));
        if calls.len() < 4 {
            known = Some(store.changed(known).await.expect("no fault"));
        }
    }
    calls.sort_unstable();
    assert_eq!(calls, [0, 1, 2, 2], "also that of the taker who lost it: the first one counts");
}

pub(crate) async fn what_an_attempt_reported_is_told_to_whoever_takes_it_next(make: Make<'_>) {
    let subject = make(1);
    let (store, other) = (subject.store(), subject.client().await);
    let item = |call: u32| StartAttempt {
        heartbeat_timeout: Some(Duration::from_secs(30)),
        heartbeat_details: Some(Payload::of("before").expect("a text is JSON")),
        ..offered(call)
    };
    store.offer(vec![item(0), item(1)]).await.expect("no fault");
    let brief = Duration::from_secs(2);
    let mut taken = other.take(worker(1), 2, brief).await.expect("no fault");
    assert_eq!(taken.iter().map(|work| work.item.clone()).collect::<Vec<_>>(), [item(0), item(1)]);
    // The second says something, and more than once: the last word counts.
    for word in ["a", "b"] {
        taken[1].item.heartbeat_details = Some(Payload::of(word).expect("a text is JSON"));
        for work in &taken {
            let renewal = other.renew(work, brief).await.expect("no fault");
            assert_eq!(renewal, Renewal::Renewed);
        }
    }
    // Nothing is heard of the taker from then on.
    let mut again = Vec::new();
    while again.len() < 2 {
        again.extend(store.take(worker(2), 2, Duration::from_secs(60)).await.expect("no fault"));
    }
    again.sort_by_key(|work| work.item.attempt.call);
    let told: Vec<_> = again.into_iter().map(|work| work.item).collect();
    let word = taken[1].item.heartbeat_details.clone();
    assert_eq!(told, [item(0), StartAttempt { heartbeat_details: word, ..item(1) }]);
}

pub(crate) async fn who_works_on_what_nobody_waits_for_learns_of_it(make: Make<'_>) {
    let subject = make(1);
    let (store, other) = (subject.store(), subject.client().await);
    let item = offered(7);
    store.offer(vec![item.clone()]).await.expect("no fault");
    let long = Duration::from_secs(60);
    let taken = other.take(worker(1), 2, long).await.expect("no fault");
    assert_eq!(other.renew(&taken[0], long).await.expect("no fault"), Renewal::Renewed);
    store.withdraw(vec![item.attempt]).await.expect("no fault");
    assert_eq!(other.renew(&taken[0], long).await.expect("no fault"), Renewal::Withdrawn);
}

pub(crate) async fn a_worker_learns_when_another_comes_or_goes(make: Make<'_>) {
    let subject = make(4);
    let (store, other) = (subject.store(), subject.client().await);
    let (one, two) = (worker(1), worker(2));
    let beat = |worker, beat| Member { beat, ..member(worker) };
    store.heartbeat(&beat(one, 1)).await.expect("no fault");
    assert!(!store.heartbeat(&beat(one, 2)).await.expect("no fault"), "it is alone");
    other.heartbeat(&beat(two, 1)).await.expect("no fault");
    assert!(store.heartbeat(&beat(one, 3)).await.expect("no fault"), "another came");
    assert!(!store.heartbeat(&beat(one, 4)).await.expect("no fault"), "it was told");
    let mut members = store.members().await.expect("no fault");
    members.sort_by_key(|member| member.worker);
    assert_eq!(members, [beat(one, 4), beat(two, 1)]);
    for partition in (0..4).map(PartitionId) {
        store.claim(one, partition).await.expect("a fence keeps owners apart, not a claim");
        other.claim(two, partition).await.expect("likewise");
    }
    other.leave(two).await.expect("no fault");
    assert!(store.heartbeat(&beat(one, 5)).await.expect("no fault"), "it left");
    assert_eq!(store.members().await.expect("no fault"), [beat(one, 5)]);
}

pub(crate) async fn posts_reach_the_owner_of_the_other_partition(make: Make<'_>) {
    let subject = make(2);
    let (store, other) = (subject.store(), subject.client().await);
    let (_, _) = Owner::open(&store, P0).await;
    let message = Message {
        from: PartitionId(1),
        to: P0,
        number: MessageNumber(1),
        body: MessageBody::Raise { instance: id("a"), name: "go".into(), input: Payload::null() },
    };
    let posts = vec![
        Post::Message(Box::new(message)),
        Post::Confirmation { by: PartitionId(1), upto: MessageNumber(4) },
    ];
    let mut known = Some(store.changed(None).await.expect("no fault"));
    other.post(P0, posts.clone()).await.expect("no fault");
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(
            store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault").posts,
        );
        if found.len() < 2 {
            known = Some(store.changed(known).await.expect("no fault"));
        }
    }
    assert_eq!(found, posts);
}
