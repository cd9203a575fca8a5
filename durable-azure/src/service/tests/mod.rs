//! The services against the emulator, and against servers that misbehave.

mod container;
mod faults;
mod queue;
mod secrets;

mod server;
mod table;

use durable_emulator::Emulator;

use super::*;

pub(super) fn connection() -> Connection {
    let emulator = Emulator::shared().expect("the emulator");
    Connection::parse(&emulator.connection_string()).unwrap()
}

pub(super) fn names() -> HubNames {
    let id = uuid::Uuid::new_v4().simple().to_string();
    HubNames {
        table: format!("t{id}"),
        dead: format!("d{id}"),
        container: format!("c{id}"),
        queue_prefix: format!("q{id}"),
    }
}

/// A service of its own, with names that nobody else uses.
pub(super) fn service() -> (Service, HubNames) {
    let names = names();
    let service = Service::connect(&connection(), &names, &ServiceOptions::default()).unwrap();
    (service, names)
}

pub(super) fn refused(fault: &Fault) -> (u16, &str, Option<usize>) {
    match fault {
        Fault::Refused { status, code, index } => (*status, code, *index),
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn is_malformed<T: std::fmt::Debug>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Malformed { .. }))
}

#[tokio::test]
async fn creating_and_deleting_twice_is_success() {
    let (service, names) = service();
    let (table, queue) = (service.table(&names.table), service.queue(&names.queue_prefix));
    let container = service.container();
    for _ in 0..2 {
        table.create().await.unwrap();
        queue.create().await.unwrap();
        container.create().await.unwrap();
    }
    for _ in 0..2 {
        table.delete().await.unwrap();
        queue.delete().await.unwrap();
        container.delete().await.unwrap();
    }
    assert_eq!(service.transactions().iter().collect::<Vec<_>>(), [("create", 6), ("delete", 6)]);
}

#[tokio::test]
async fn the_clock_goes_by_the_service() {
    let (service, names) = service();
    let local = service.clock().now();
    service.table(&names.table).create().await.unwrap();
    let remote = service.clock().now();
    // The emulator has this machine's clock; its answers say it in whole seconds.
    let apart = remote.as_micros() - local.as_micros();
    assert!((-1_100_000..5_000_000).contains(&apart), "{apart}");
    assert!(service.clock().now() >= remote);
}
