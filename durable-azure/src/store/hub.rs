//! A hub as a whole: its names, its creation, its end.

use durable_core::machine::model::{HubName, PartitionId, limits};
use durable_core::store::{HubInfo, StoreError};

use super::failure::{damaged, maybe_applied, not_applied};
use super::inner::Inner;
use super::rows::{calendar, number, read_number, text};
use super::{AzureOptions, keys};
use crate::connection::Connection;
use crate::service::{
    Columns, Container, Fault, HubNames, Op, Queue, Row, Service, ServiceOptions, Table,
};

/// The format of rows and messages that this build writes.
const FORMAT: u32 = 1;
/// Looks at the hub row while another process creates the hub, too.
const LOOKS_MAX: usize = 5;

/// The parts of a hub.
pub(super) struct Parts {
    pub(super) table: Table,
    pub(super) dead: Table,
    pub(super) container: Container,
    pub(super) queues: Vec<Queue>,
    pub(super) work: Queue,
}

fn names(hub: &HubName) -> HubNames {
    let lower = hub.as_str().to_ascii_lowercase();
    HubNames {
        table: format!("{hub}Durable"),
        dead: format!("{hub}DurableDead"),
        container: format!("{lower}-durable"),
        queue_prefix: lower,
    }
}

fn parts(service: &Service, names: &HubNames, partitions: u16) -> Parts {
    let prefix = &names.queue_prefix;
    let queue =
        |number| service.queue(&format!("{prefix}-{}", keys::partition(PartitionId(number))));
    Parts {
        table: service.table(&names.table),
        dead: service.table(&names.dead),
        container: service.container(),
        queues: (0..partitions).map(queue).collect(),
        work: service.queue(&format!("{prefix}-work")),
    }
}

/// Opens a hub, and creates it where there is none.
pub(super) async fn open(
    connection: &Connection,
    options: AzureOptions,
) -> Result<Inner, StoreError> {
    let count = options.partitions;
    if !(1..=limits::PARTITIONS_MAX).contains(&count) {
        return Err(StoreError::Unusable(format!(
            "a hub has 1 to {} partitions, not {count}",
            limits::PARTITIONS_MAX
        )));
    }
    let names = names(&options.hub);
    let service_options =
        ServiceOptions { request_timeout: options.request_timeout, ..ServiceOptions::default() };
    let service = Service::connect(connection, &names, &service_options)
        .map_err(|error| StoreError::Unusable(error.to_string()))?;
    let parts = parts(&service, &names, count);
    let hub = HubInfo { name: options.hub.clone(), partitions: count };
    for _ in 0..LOOKS_MAX {
        let found = match parts.table.get(keys::HUB, keys::HUB).await {
            Ok(found) => found,
            Err(fault) if fault.is_refused_as(&["TableNotFound", "TableBeingDeleted"]) => None,
            Err(fault) => return Err(not_applied(fault)),
        };
        match found {
            Some(row) => {
                check(&row, &hub)?;
                return Ok(Inner::new(hub, options, service, parts));
            }
            None => create(&service, &parts, &hub).await?,
        }
    }
    Err(StoreError::Unusable(format!("the hub {} does not show after its creation", hub.name)))
}

/// The row that stands for the hub comes last: where it is, everything is.
async fn create(service: &Service, parts: &Parts, hub: &HubInfo) -> Result<(), StoreError> {
    tracing::info!(hub = hub.name.as_str(), partitions = hub.partitions, "the hub is created");
    let queues = parts.queues.iter().chain([&parts.work]).map(|queue| queue.create());
    let created = async {
        parts.table.create().await?;
        futures::try_join!(
            parts.dead.create(),
            parts.container.create(),
            futures::future::try_join_all(queues)
        )
    };
    created.await.map_err(|fault: Fault| {
        if fault.is_refused_as(&["TableBeingDeleted", "QueueBeingDeleted", "ContainerBeingDeleted"])
        {
            StoreError::Busy {
                retry_after: std::time::Duration::from_secs(5),
                reason: "a hub of this name is being deleted".into(),
            }
        } else {
            not_applied(fault)
        }
    })?;
    let columns = Columns::from([
        ("name".into(), text(hub.name.as_str())),
        ("partitions".into(), number(hub.partitions.into())),
        ("format".into(), number(FORMAT.into())),
        ("created_time".into(), calendar(service.clock().now())),
    ]);
    let insert = Op::Insert { key: keys::HUB.into(), columns };
    match parts.table.transact(keys::HUB, &[insert]).await {
        // Where it is there already, another process was faster, and the next look checks it.
        Ok(_) | Err(Fault::Refused { status: 409, .. } | Fault::Unknown { .. }) => Ok(()),
        Err(fault) => Err(not_applied(fault)),
    }
}

fn check(row: &Row, asked: &HubInfo) -> Result<(), StoreError> {
    let format = read_number(row, "format")?;
    if format > u64::from(FORMAT) {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(StoreError::NewerSchema { found, supported: FORMAT });
    }
    let name =
        row.text("name").ok_or_else(|| damaged(&row.partition, &row.key, "the hub has no name"))?;
    if name != asked.name.as_str() {
        return Err(StoreError::Unusable(format!(
            "the hub is named {name:?}, not {:?}: names of tables differ in more than letter case",
            asked.name.as_str()
        )));
    }
    let partitions = read_number(row, "partitions")?;
    if partitions != u64::from(asked.partitions) {
        return Err(StoreError::Unusable(format!(
            "the hub {name:?} was created with {partitions} partitions, and cannot be used with {}",
            asked.partitions
        )));
    }
    Ok(())
}

/// Deletes a hub. Its table goes last: as long as it is there the hub can be opened and deleted again.
pub(super) async fn delete(inner: &Inner) -> Result<(), StoreError> {
    for (_, opened) in std::mem::take(&mut *inner.opened()) {
        opened.stop();
    }
    let queues = inner.queues.iter().chain([&inner.work]).map(|queue| queue.delete());
    futures::future::try_join_all(queues).await.map_err(maybe_applied)?;
    inner.container.delete().await.map_err(maybe_applied)?;
    inner.dead.delete().await.map_err(maybe_applied)?;
    inner.table.delete().await.map_err(maybe_applied)
}
