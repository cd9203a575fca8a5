//! Messages that can never be applied, as a worker meets them.

use std::time::Duration;

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{Command, Envelope, EnvelopeId, Payload};
use durable_core::prelude::*;
use durable_core::{Client, HubName};
use durable_emulator::Emulator;

use super::super::wire::{Wire, instance_of};
use super::super::{AzureOptions, AzureStore};
use crate::Connection;
use crate::service::Query;

#[orchestrator]
async fn waits(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    Ok(ctx.wait_event::<u32>("go").await?)
}

fn damaged_command(instance: &InstanceId) -> String {
    let command = Command::Raise { name: "go".into(), input: Payload::of(&7).unwrap() };
    let id = EnvelopeId("e".into());
    let envelope = Envelope { id, instance: instance.clone(), run: None, command };
    let text = String::from_utf8(encode_row(&Wire::Command(Box::new(envelope)))).unwrap();
    let damaged = text.replace(":7", ":8");
    assert_ne!(damaged, text);
    damaged
}

#[test]
fn an_unreadable_message_often_still_says_for_whom_it_was() {
    let id = InstanceId::new("order-7").unwrap();
    assert_eq!(instance_of(&damaged_command(&id)), Some(id));
    for text in ["", "{", "{}", r#"{"instance":7}"#, r#"{"instance":"a/b"}"#, "[1,[2]]"] {
        assert_eq!(instance_of(text), None, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_applied_is_kept_with_its_reason_and_the_instance_says_so() {
    let emulator = Emulator::start().unwrap();
    let connection = Connection::parse(&emulator.connection_string()).unwrap();
    let options = AzureOptions { hub: HubName::new("dead").unwrap(), ..AzureOptions::default() };
    let store = AzureStore::open(&connection, options).await.unwrap();
    let id = InstanceId::new("order-7").unwrap();
    let client = Client::new(store.clone());
    let handle = client.start(waits, ()).id(&id).await.unwrap();
    let queue = store.inner.queue(id.partition(4)).unwrap();
    queue.put(&damaged_command(&id)).await.unwrap();
    queue.put("no message of anybody").await.unwrap();

    let worker = Worker::builder(store.clone()).register(waits).start().await.unwrap();
    let listed = loop {
        let status = client.status(&id).await.unwrap().unwrap();
        if !status.dead_letters().is_empty() {
            break status.dead_letters().to_vec();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(listed.len(), 1);
    assert!(listed[0].reason.contains("checksum"), "{}", listed[0].reason);
    handle.raise_event("go", &9).await.unwrap();
    assert_eq!(handle.output().await.unwrap(), 9, "the others get through");
    let dead = store.inner.dead.query(&Query::default(), None).await.unwrap();
    let reasons: Vec<_> = dead.rows.iter().filter_map(|row| row.text("reason")).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    worker.shutdown().await.unwrap();
}
