//! The three storage services, as the store needs them. Together with `connection` the only place that knows
//! the `azure_*` crates.
//!
//! One write call is one request; what became of it is an `Ok` or a [`Fault`], and nothing is repeated behind
//! the caller's back. Reads, and writes whose repetition nobody can tell, are tried a few times.

mod batch;
mod call;
mod clock;
mod container;
mod fault;
mod queue;
mod row;
mod table;
mod transactions;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use azure_core::{ClientOptions, RetryOptions, TransportOptions};
use azure_data_tables::clients::{TableServiceClient, TableServiceClientBuilder};
use azure_storage::CloudLocation;
use azure_storage_blobs::prelude::{BlobServiceClient, ClientBuilder};
use azure_storage_queues::{QueueServiceClient, QueueServiceClientBuilder};

use crate::connection::{ConnectError, Connection};
use call::Caller;
use transport::Transport;

pub(crate) use batch::Op;
pub(crate) use clock::Clock;
pub(crate) use container::Container;
pub(crate) use fault::Fault;
pub(crate) use queue::{Queue, Received};
pub(crate) use row::{Columns, Etag, Row, Value};
pub(crate) use table::{Continuation, Query, Table};
pub use transactions::Transactions;

/// Idle time after which a connection to an emulator is dropped: it closes them after 5 s, and what was sent
/// into a closing connection has an unknown outcome.
const LOCAL_POOL_IDLE: Duration = Duration::from_secs(3);

/// What a hub's parts are called in the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubNames {
    /// The table of partitions and instances.
    pub(crate) table: String,
    /// The table of what could not be processed.
    pub(crate) dead: String,
    /// The container of payloads too large for rows.
    pub(crate) container: String,
    /// What the names of its queues begin with.
    pub(crate) queue_prefix: String,
}

/// How long requests may take and connections are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceOptions {
    /// For one request, from taking a connection to the last byte of the answer.
    pub(crate) request_timeout: Duration,
    /// For opening a connection, with name look-up and TLS.
    pub(crate) connect_timeout: Duration,
    /// How long an unused connection is kept. At most 3 s on this machine, where emulators are.
    pub(crate) pool_idle: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(3),
            pool_idle: Duration::from_secs(60),
        }
    }
}

/// A storage account. Clones share connections, clock and counts.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tables: TableServiceClient,
    queues: QueueServiceClient,
    blobs: BlobServiceClient,
    container: String,
    caller: Caller,
    transport: Arc<Transport>,
}

impl Service {
    /// Sets up the clients; nothing is sent.
    pub(crate) fn connect(
        connection: &Connection,
        names: &HubNames,
        options: &ServiceOptions,
    ) -> Result<Self, ConnectError> {
        let local = connection.is_local();
        let pool_idle =
            if local { options.pool_idle.min(LOCAL_POOL_IDLE) } else { options.pool_idle };
        let transport = Arc::new(Transport::new(options.connect_timeout, pool_idle, local)?);
        let credentials = connection.credentials()?;
        let location = |endpoint: &str| CloudLocation::Custom {
            account: connection.account().to_owned(),
            uri: endpoint.to_owned(),
        };
        let client_options = || {
            let policy: Arc<dyn azure_core::Policy> = Arc::<Transport>::clone(&transport);
            let mut client_options =
                ClientOptions::new(TransportOptions::new_custom_policy(Arc::clone(&policy)))
                    .retry(RetryOptions::none());
            // Behind the signing policy and before the crate's own last one, which logs the signed request.
            // The transport ends the pipeline, so that one never runs.
            client_options.per_retry_policies_mut().push(policy);
            client_options
        };
        let endpoints = connection.endpoints();
        let tables = TableServiceClientBuilder::with_location(
            location(&endpoints.table),
            credentials.clone(),
        )
        .client_options(client_options())
        .build();
        let queues = QueueServiceClientBuilder::with_location(
            location(&endpoints.queue),
            credentials.clone(),
        )
        .client_options(client_options())
        .build();
        let blobs = ClientBuilder::with_location(location(&endpoints.blob), credentials)
            .client_options(client_options())
            .blob_service_client();
        let caller = Caller::new(options.request_timeout);
        let container = names.container.clone();
        Ok(Self { inner: Arc::new(Inner { tables, queues, blobs, container, caller, transport }) })
    }

    /// A table by name, whether it exists or not.
    pub(crate) fn table(&self, name: &str) -> Table {
        Table::new(self.inner.tables.table_client(name), self.inner.caller)
    }

    /// A queue by name, whether it exists or not.
    pub(crate) fn queue(&self, name: &str) -> Queue {
        Queue::new(self.inner.queues.queue_client(name), self.inner.caller)
    }

    /// The hub's container.
    pub(crate) fn container(&self) -> Container {
        Container::new(self.inner.blobs.container_client(&self.inner.container), self.inner.caller)
    }

    /// The time at the service.
    pub(crate) fn clock(&self) -> &Clock {
        self.inner.transport.clock()
    }

    /// What was sent so far.
    pub(crate) fn transactions(&self) -> Transactions {
        self.inner.transport.transactions()
    }
}

#[cfg(test)]
mod tests;
