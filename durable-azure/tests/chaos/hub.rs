//! The hub, as every process opens it.

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::StoreError;
use durable_core::machine::model::HubName;
use durable_core::prelude::*;

use super::process::Setting;

pub(super) const PARTITIONS: u16 = 4;

pub(super) async fn open(setting: &Setting) -> Result<AzureStore, StoreError> {
    let connection = Connection::parse(&setting.connection).expect("the emulator's");
    let options = AzureOptions {
        hub: HubName::new(setting.hub.as_str()).expect("letters and digits"),
        partitions: PARTITIONS,
        lease: setting.lease,
        visibility: secs(2),
        idle_poll_max: millis(500),
        request_timeout: secs(2),
    };
    AzureStore::open(&connection, options).await
}
