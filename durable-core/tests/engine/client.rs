//! Starting instances and looking at them.

use std::collections::BTreeSet;

use durable_core::prelude::*;
use durable_core::{EventKind, InstanceStatus, ListQuery};
use futures::StreamExt;

use super::hub::{Hub, PATIENCE, until_is, until_status};
use super::on_every_store;

on_every_store! {
    a_start_is_visible_when_it_is_answered,
    a_generated_id_is_32_hex_digits,
    an_active_id_is_refused_given_or_replaced_as_the_start_says,
    an_id_that_has_ended_starts_anew,
    an_existing_instance_that_has_ended_meanwhile_is_seen_at_once,
    an_unknown_orchestrator_is_refused_with_the_known_names,
    a_start_without_a_worker_is_pending_until_one_comes,
    an_instance_suspended_while_pending_waits_for_its_resume,
    an_instance_terminated_while_pending_runs_no_code,
    waiting_for_an_output_ends_with_its_time,
    a_list_is_newest_first_in_pages_and_filtered,
    counts_say_how_many_are_in_each_status,
    a_history_says_what_happened_also_after_the_end,
    nobody_is_found_under_an_id_that_was_not_started,
    odd_ids_are_ids_like_any_other_and_bad_ones_are_named,
    payloads_up_to_the_limit_travel_and_beyond_it_are_refused,
    a_custom_status_beyond_its_limit_is_an_error_in_the_code,
    an_output_of_another_shape_is_an_error_and_the_instance_stays,
}

#[orchestrator]
async fn echo(_ctx: OrchestrationContext, text: String) -> Result<String, OrchestrationError> {
    Ok(text)
}

/// Returns the value of the event "end", with its input in front.
#[orchestrator]
async fn linger(ctx: OrchestrationContext, text: String) -> Result<String, OrchestrationError> {
    let end: String = ctx.wait_event("end").await?;
    Ok(text + &end)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(echo).register(linger);
    registry
}

/// The worker's own client, and one of another process.
async fn both(hub: &Hub, worker: &Worker) -> [Client; 2] {
    [worker.client(), hub.outside().await]
}

async fn a_start_is_visible_when_it_is_answered(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in both(&hub, &worker).await {
        for id in [None, Some(format!("chosen-{client:?}").replace(['/', '"'], ""))] {
            let mut start = client.start(linger, "a".into());
            if let Some(id) = &id {
                start = start.id(id);
            }
            let handle = start.await.expect("started");
            let status = handle.status().await.expect("it is visible");
            assert!(!status.has_ended());
            assert_eq!(status.name(), "linger");
            assert_eq!(status.input::<String>().expect("a text"), "a");
            assert_eq!(Some(status.run()), handle.run());
            let other = hub.outside().await.status(handle.id()).await.expect("read");
            assert!(other.is_some(), "others see it, too");
        }
    }
}

async fn a_generated_id_is_32_hex_digits(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let mut ids = BTreeSet::new();
    for client in both(&hub, &worker).await {
        for _ in 0..5 {
            let handle = client.start(echo, "a".into()).await.expect("started");
            let id = handle.id().to_string();
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(id.len() == 32 && id.chars().all(hex), "{id}");
            assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "a");
            ids.insert(id);
        }
    }
    assert_eq!(ids.len(), 10);
}

async fn an_active_id_is_refused_given_or_replaced_as_the_start_says(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (name, client) in ["inside", "outside"].iter().zip(both(&hub, &worker).await) {
        let first = client.start(linger, "first ".into()).id(*name).await.expect("started");
        until_is(&client, name, RuntimeStatus::Running).await;
        match client.start(linger, "second ".into()).id(*name).await {
            Err(ClientError::Active { instance, status }) => {
                assert_eq!((instance.as_str(), status), (*name, RuntimeStatus::Running));
            }
            other => panic!("the id is active: {other:?}"),
        }
        let start = client.start(linger, "third ".into()).id(*name).use_existing();
        let same = start.await.expect("the active one");
        assert_eq!(same.run(), first.run());

        let start = client.start(linger, "fourth ".into()).id(*name).replace_existing();
        let fourth = start.await.expect("started");
        assert!(fourth.run() > first.run());
        let run = fourth.run().expect("known");
        until_status(&client, name, |status| {
            status.run() == run && status.runtime_status() == RuntimeStatus::Running
        })
        .await;
        match tokio::time::timeout(PATIENCE, first.wait()).await.expect("it is told") {
            Err(ClientError::Replaced(_)) => {}
            // Seen in the moment between.
            Ok(status) => assert_eq!(status.runtime_status(), RuntimeStatus::Terminated),
            Err(error) => panic!("{error}"),
        }
        fourth.raise_event("end", "end").await.expect("accepted");
        assert_eq!(fourth.output_within(PATIENCE).await.expect("completed"), "fourth end");
    }
}

async fn an_id_that_has_ended_starts_anew(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let mut runs = BTreeSet::new();
    for round in 0..3 {
        for client in both(&hub, &worker).await {
            let text = format!("round {round}");
            let start = client.start(echo, text.clone()).id("again");
            let handle = start.await.expect("the last one has ended");
            assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), text);
            assert!(runs.insert(handle.run()), "a new run");
            let status = handle.status().await.expect("there");
            assert_eq!(status.input::<String>().expect("a text"), text);
        }
    }
    assert_eq!(
        worker.client().counts().await.expect("read").into_iter().collect::<Vec<_>>(),
        [(RuntimeStatus::Completed, 1)]
    );
}

async fn an_existing_instance_that_has_ended_meanwhile_is_seen_at_once(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(linger, "a".into()).id("shared").await.expect("started");
    until_is(&client, "shared", RuntimeStatus::Running).await;
    let start = client.start(linger, "b".into()).id("shared").use_existing();
    let same = start.await.expect("the active one");
    let first = {
        let mut watched = std::pin::pin!(same.watch());
        tokio::time::timeout(secs(2), watched.next()).await
    };
    let seen = first.expect("at once").expect("a status").expect("read");
    assert_eq!(seen.runtime_status(), RuntimeStatus::Running);
    handle.raise_event("end", "end").await.expect("accepted");
    assert_eq!(same.output_within(PATIENCE).await.expect("completed"), "aend");
}

async fn an_unknown_orchestrator_is_refused_with_the_known_names(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in both(&hub, &worker).await {
        let error = client.start_by_name("nobody", &()).id("x").await.expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "no worker of the hub registers an orchestrator \"nobody\"; they register: echo, linger"
        );
    }
    assert!(hub.outside().await.counts().await.expect("read").is_empty(), "nothing was stored");
}

async fn a_start_without_a_worker_is_pending_until_one_comes(hub: Hub) {
    let client = hub.outside().await;
    let handle = client.start(echo, "early".into()).id("early").await.expect("accepted");
    let generated = client.start(echo, "bird".into()).await.expect("accepted");
    let status = handle.status().await.expect("visible");
    assert_eq!(status.runtime_status(), RuntimeStatus::Pending);
    assert!(matches!(
        client.start(echo, "late".into()).id("early").await,
        Err(ClientError::Active { status: RuntimeStatus::Pending, .. })
    ));
    let history = handle.history().await.expect("read");
    assert!(history.events().is_empty());
    let _worker = hub.worker(registry()).await;
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "early");
    assert_eq!(generated.output_within(PATIENCE).await.expect("completed"), "bird");
}

async fn an_instance_suspended_while_pending_waits_for_its_resume(hub: Hub) {
    let client = hub.outside().await;
    let handle = client.start(echo, "held".into()).id("held").await.expect("accepted");
    handle.suspend("not yet").await.expect("accepted");
    let worker = hub.worker(registry()).await;
    until_is(&client, "held", RuntimeStatus::Suspended).await;
    // Another one that was started later has run, so this one had its chance.
    let other = worker.client().start(echo, "other".into()).await.expect("started");
    other.output_within(PATIENCE).await.expect("completed");
    until_is(&client, "held", RuntimeStatus::Suspended).await;
    handle.resume("now").await.expect("accepted");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "held");
}

async fn an_instance_terminated_while_pending_runs_no_code(hub: Hub) {
    let client = hub.outside().await;
    let handle = client.start(echo, "never".into()).id("never").await.expect("accepted");
    handle.raise_event("kept", &1).await.expect("accepted");
    handle.terminate("changed my mind").await.expect("accepted");
    let _worker = hub.worker(registry()).await;
    let status = tokio::time::timeout(PATIENCE, handle.wait()).await.expect("in time");
    let status = status.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Terminated);
    // The event may be listed with the end or a moment later.
    until_status(&client, "never", |status| status.unconsumed().len() == 1).await;
}

async fn waiting_for_an_output_ends_with_its_time(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in both(&hub, &worker).await {
        let handle = client.start(linger, "a".into()).await.expect("started");
        let error = handle.output_within(millis(20)).await.expect_err("it waits");
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        handle.raise_event("end", "b").await.expect("accepted");
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "ab");
    }
}

async fn ids(client: &Client, query: &ListQuery, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = client.list(query, after, limit).await.expect("read");
        assert!(page.instances.len() <= limit);
        ids.extend(page.instances.iter().map(|status| status.id().to_string()));
        match page.next {
            Some(next) => {
                assert_eq!(page.instances.len(), limit, "pages are filled");
                after = Some(next);
            }
            None => return ids,
        }
    }
}

async fn a_list_is_newest_first_in_pages_and_filtered(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    for n in 0..10 {
        let id = format!("{}-{n}", if n % 2 == 0 { "even" } else { "odd" });
        let handle = client.start(linger, String::new()).id(id).await.expect("started");
        if n < 4 {
            handle.raise_event("end", "").await.expect("accepted");
            handle.output().await.expect("completed");
        }
    }
    client.start(echo, String::new()).id("even-echo").await.expect("started");
    until_is(&client, "even-echo", RuntimeStatus::Completed).await;
    until_is(&client, "odd-9", RuntimeStatus::Running).await;
    for client in both(&hub, &worker).await {
        let mut all: Vec<String> =
            (0..10).map(|n| format!("{}-{n}", if n % 2 == 0 { "even" } else { "odd" })).collect();
        all.push("even-echo".into());
        all.reverse();
        for limit in [1, 3, 11, 100] {
            assert_eq!(ids(&client, &ListQuery::default(), limit).await, all);
        }
        let odd = ListQuery { id_prefix: Some("odd".into()), ..ListQuery::default() };
        assert_eq!(ids(&client, &odd, 2).await, ["odd-9", "odd-7", "odd-5", "odd-3", "odd-1"]);
        let ended = ListQuery { statuses: vec![RuntimeStatus::Completed], ..ListQuery::default() };
        assert_eq!(
            ids(&client, &ended, 2).await,
            ["even-echo", "odd-3", "even-2", "odd-1", "even-0"]
        );
        let named = ListQuery { name: Some("echo".into()), ..ListQuery::default() };
        assert_eq!(ids(&client, &named, 2).await, ["even-echo"]);
        let id = InstanceId::new("odd-5").expect("valid");
        let made = client.status(&id).await.expect("read").expect("there").row().created_at;
        let since = ListQuery { created_from: Some(made), ..odd.clone() };
        assert_eq!(ids(&client, &since, 100).await, ["odd-9", "odd-7", "odd-5"]);
        let before = ListQuery { created_to: Some(made), ..odd };
        assert_eq!(ids(&client, &before, 100).await, ["odd-5", "odd-3", "odd-1"]);
    }
}

async fn counts_say_how_many_are_in_each_status(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    assert!(client.counts().await.expect("read").is_empty());
    for n in 0..6 {
        let id = format!("n{n}");
        client.start(linger, String::new()).id(&id).await.expect("started");
        until_is(&client, &id, RuntimeStatus::Running).await;
    }
    let at = |n: u32| client.instance(format!("n{n}")).expect("valid");
    at(0).raise_event("end", "").await.expect("accepted");
    at(1).terminate("").await.expect("accepted");
    at(2).suspend("").await.expect("accepted");
    at(3).raise_event("end", &17).await.expect("accepted");
    until_is(&client, "n0", RuntimeStatus::Completed).await;
    until_is(&client, "n3", RuntimeStatus::Failed).await;
    for client in both(&hub, &worker).await {
        let counts = client.counts().await.expect("read");
        let expected = [
            (RuntimeStatus::Running, 2),
            (RuntimeStatus::Completed, 1),
            (RuntimeStatus::Failed, 1),
            (RuntimeStatus::Terminated, 1),
            (RuntimeStatus::Suspended, 1),
        ];
        assert_eq!(counts, expected.into_iter().collect());
    }
}

async fn a_history_says_what_happened_also_after_the_end(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let handle = worker.client().start(linger, "a".into()).await.expect("started");
    handle.raise_event("end", "b").await.expect("accepted");
    handle.output().await.expect("completed");
    for client in both(&hub, &worker).await {
        let history = client.history(handle.id()).await.expect("read").expect("there");
        let kinds: Vec<_> = history.events().iter().map(|event| event.is.summary()).collect();
        assert_eq!(kinds, ["execution of \"linger\" started", "event \"end\" raised", "completed"]);
        assert!(history.events().is_sorted_by_key(|event| event.at));
        match &history.events()[2].is {
            EventKind::ExecutionCompleted { output } => {
                assert_eq!(output.to::<String>().expect("a text"), "ab");
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn nobody_is_found_under_an_id_that_was_not_started(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in both(&hub, &worker).await {
        let handle = client.instance_of(echo, "nobody").expect("valid");
        let not_found = |error: ClientError| {
            assert!(
                matches!(&error, ClientError::NotFound(id) if id.as_str() == "nobody"),
                "{error}"
            );
        };
        not_found(handle.status().await.expect_err("nobody"));
        not_found(handle.wait().await.expect_err("nobody"));
        not_found(handle.output().await.expect_err("nobody"));
        not_found(handle.history().await.expect_err("nobody"));
        assert_eq!(client.status(handle.id()).await.expect("read"), None);
    }
}

async fn odd_ids_are_ids_like_any_other_and_bad_ones_are_named(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let long = "ü".repeat(256);
    let good = [" ", "a b", "'; DROP TABLE instances; --", "%_", "🦀🦀", "\"q\"", "~", ".", &long];
    for id in good {
        for client in both(&hub, &worker).await {
            let handle = client.start(echo, id.to_owned()).id(id).await.expect("a good id");
            assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), id);
            assert_eq!(handle.status().await.expect("there").id().as_str(), id);
        }
    }
    assert_eq!(ids(&worker.client(), &ListQuery::default(), 4).await.len(), good.len());
    let prefix = ListQuery { id_prefix: Some("%".into()), ..ListQuery::default() };
    assert_eq!(ids(&worker.client(), &prefix, 4).await, ["%_"]);
    let too_long = "x".repeat(257);
    for id in ["", "@x", "a/b", "a\\b", "a?b", "a#b", "a\nb", "a\u{7f}b", &too_long] {
        for client in both(&hub, &worker).await {
            let error = client.start(echo, String::new()).id(id).await.expect_err("a bad id");
            assert!(matches!(error, ClientError::InvalidId(_)), "{id:?}: {error}");
            assert!(error.to_string().starts_with("an instance id "), "{error}");
            assert!(client.instance(id).is_err());
        }
    }
}

async fn payloads_up_to_the_limit_travel_and_beyond_it_are_refused(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let most = durable_core::machine::model::limits::PAYLOAD_BYTES_MAX;
    for client in both(&hub, &worker).await {
        // With its two quotes the text has exactly as many bytes as may be.
        let text = "x".repeat(most - 2);
        let handle = client.start(echo, text.clone()).await.expect("it fits");
        assert!(handle.output_within(PATIENCE).await.expect("completed") == text);
        let text = "x".repeat(most - 1);
        let error = client.start(echo, text.clone()).await.expect_err("a byte too many");
        assert!(error.to_string().contains("the input is larger than 16 MiB"), "{error}");
        let handle = client.start(linger, "x".repeat(100)).await.expect("started");
        let error = handle.raise_event("end", &text).await.expect_err("a byte too many");
        assert!(error.to_string().contains("the event's payload is larger than 16 MiB"));
        let name = "n".repeat(1025);
        assert!(handle.raise_event(name, &1).await.is_err(), "a name that is too long");
        // An output that grows beyond the limit fails its instance, and nothing else.
        handle.raise_event("end", &text[..most - 50]).await.expect("it fits");
        match handle.output_within(PATIENCE).await {
            Err(ClientError::Failed { failure, .. }) => {
                assert_eq!(failure.class, FailureClass::Limit);
            }
            other => panic!("too large: {:?}", other.map(|text| text.len())),
        }
    }
    let handle = worker.client().start(echo, "small".into()).await.expect("started");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "small");
}

async fn a_custom_status_beyond_its_limit_is_an_error_in_the_code(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("shows", |ctx, bytes: usize| async move {
        ctx.set_custom_status(&"x".repeat(bytes))?;
        Ok(())
    });
    let worker = hub.worker(registry).await;
    let start = |bytes: usize| worker.client().start_by_name("shows", &bytes);
    let fits = start(16 * 1024 - 2).await.expect("started").wait().await.expect("it ends");
    assert_eq!(fits.runtime_status(), RuntimeStatus::Completed);
    assert_eq!(fits.custom_status::<String>().expect("a text").expect("set").len(), 16 * 1024 - 2);
    let large = start(16 * 1024 - 1).await.expect("started").wait().await.expect("it ends");
    let why = large.failure().expect("why").to_string();
    assert!(why.contains("it has 16385 bytes; at most 16384 fit"), "{why}");
}

async fn an_output_of_another_shape_is_an_error_and_the_instance_stays(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    client.start(echo, "text".into()).id("shape").await.expect("started");
    until_is(&client, "shape", RuntimeStatus::Completed).await;
    let status: InstanceStatus =
        client.instance("shape").expect("valid").wait().await.expect("ended");
    assert!(status.output::<u32>().is_err());
    assert!(status.input::<Vec<u8>>().is_err());
    assert_eq!(status.output::<String>().expect("a text").as_deref(), Some("text"));
}
