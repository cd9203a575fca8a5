//! Stored histories against changed code.

use durable_core::HistoryFile;
use durable_core::prelude::*;
use durable_core::testing::{TestHub, replay};

use super::{charge, order, place_order, reserve};

/// An order as production recorded it.
fn recorded() -> HistoryFile {
    let hub = TestHub::new()
        .register(place_order)
        .register(reserve)
        .mock(charge, |_, cents| Ok::<_, ActivityError>(cents));
    let placed = hub.start(place_order, order());
    placed.raise_event_after(minutes(90), "approved", &true);
    placed.output().expect("approved and charged");
    HistoryFile::new(placed.status().row().key(), placed.history())
}

fn registry<R: durable_core::Register>(orchestrator: R) -> Registry {
    let mut registry = Registry::new();
    registry.register(orchestrator);
    registry
}

#[test]
fn a_history_fits_the_code_that_made_it() {
    let replayed = replay(&recorded(), &registry(place_order)).unwrap();
    assert_eq!((replayed.events, replayed.input_differences), (9, 0));
}

#[test]
fn changed_code_is_told_where_it_parts_from_the_history() {
    #[orchestrator(name = "place_order")]
    async fn charges_first(
        ctx: OrchestrationContext,
        order: super::Order,
    ) -> Result<u32, OrchestrationError> {
        let paid = ctx.call(charge, &order.cents).await?;
        ctx.call(reserve, &order).await?;
        Ok(paid)
    }
    let failed = replay(&recorded(), &registry(charges_first)).unwrap_err();
    assert_eq!(failed.event(), Some(1));
    let text = failed.to_string();
    for part in [
        r#"event 1: the history has call 0 of activity "reserve", the code asks for call 0 of activity "charge""#,
        r#"->    1  +00:00:00  call 0 of activity "reserve": {"item":"lamp","cents":4200}"#,
        r#"      4  +01:30:00  event "approved" raised: true"#,
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn code_that_goes_on_where_the_history_ends_is_told_so() {
    #[orchestrator(name = "place_order")]
    async fn reserves_twice(
        ctx: OrchestrationContext,
        order: super::Order,
    ) -> Result<(), OrchestrationError> {
        futures::try_join!(ctx.call(reserve, &order), ctx.call(reserve, &order))?;
        Ok(())
    }
    let recorded = recorded();
    let begun = HistoryFile::new(recorded.execution().clone(), recorded.events()[..2].to_vec());
    let text = replay(&begun, &registry(reserves_twice)).unwrap_err().to_string();
    assert!(text.contains("->       the code goes on here"), "{text}");
}

#[test]
fn an_orchestrator_that_is_not_there_is_named() {
    let text = replay(&recorded(), &Registry::new()).unwrap_err().to_string();
    assert!(text.contains(r#"orchestrator "place_order", which is not registered"#), "{text}");
}

#[test]
fn a_file_keeps_the_history_and_refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("order.json");
    let recorded = recorded();
    recorded.write(&path).unwrap();
    assert_eq!(HistoryFile::read(&path).unwrap(), recorded);
    let newer =
        std::fs::read_to_string(&path).unwrap().replacen("\"format\": 1", "\"format\": 2", 1);
    for (text, says) in [(newer.as_str(), "format 2"), ("[]", "no exported history"), ("", "EOF")] {
        std::fs::write(&path, text).unwrap();
        let error = HistoryFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_exports_can_be_replayed() {
    let worker =
        Worker::builder(MemoryStore::new()).register(place_order).register(reserve).start();
    let worker = worker.await.unwrap();
    let handle = worker.client().start(place_order, order()).id("exported").await.unwrap();
    let exported = loop {
        let exported = handle.export_history().await.unwrap();
        if exported.events().len() >= 4 {
            break exported;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(exported.orchestrator(), Some("place_order"));
    assert_eq!(exported.execution().instance.as_str(), "exported");
    // It goes on: the code waits where the history ends.
    assert_eq!(replay(&exported, &registry(place_order)).unwrap().input_differences, 0);
    assert!(worker.client().export_history("nobody").await.unwrap().is_none());
    worker.shutdown().await.unwrap();
}
