//! The store against the emulator: the contract of all stores, and what only this one has.

mod contract;
mod hubs;
mod offers;
mod owners;
mod settling;

use std::time::Duration;

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::machine::model::HubName;
use durable_emulator::Emulator;
use uuid::Uuid;

/// One emulator for all tests of this process.
pub(crate) fn connection() -> Connection {
    let emulator = Emulator::shared().expect("the emulator starts");
    Connection::parse(&emulator.connection_string()).expect("its connection string is one")
}

/// A hub of its own for each test.
pub(crate) fn options(partitions: u16) -> AzureOptions {
    let name = format!("h{}", &Uuid::new_v4().simple().to_string()[..20]);
    AzureOptions {
        hub: HubName::new(name).expect("letters and digits"),
        partitions,
        visibility: Duration::from_secs(1),
        idle_poll_max: Duration::from_millis(300),
        ..AzureOptions::default()
    }
}

pub(crate) async fn open(options: &AzureOptions) -> AzureStore {
    AzureStore::open(&connection(), options.clone()).await.expect("the hub opens")
}

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test)
}
