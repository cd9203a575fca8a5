//! The three services of a storage account, and how a client is told where they are.

use std::fmt;
use std::net::SocketAddr;

/// The only account that the emulator knows.
pub const ACCOUNT_NAME: &str = "devstoreaccount1";

/// The key of [`ACCOUNT_NAME`]: published, the same in every emulator.
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// One of the services of a storage account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Blobs in containers.
    Blob,
    /// Queues of messages.
    Queue,
    /// Rows in tables.
    Table,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Blob, Self::Queue, Self::Table];
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Blob => "Blob",
            Self::Queue => "Queue",
            Self::Table => "Table",
        })
    }
}

/// Where the services of the account are: URLs with the account's name, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Of the blob service.
    pub blob: String,
    /// Of the queue service.
    pub queue: String,
    /// Of the table service.
    pub table: String,
}

impl Endpoints {
    pub(crate) fn at(address: impl Fn(Service) -> SocketAddr) -> Self {
        let of = |service| format!("http://{}/{ACCOUNT_NAME}", address(service));
        Self { blob: of(Service::Blob), queue: of(Service::Queue), table: of(Service::Table) }
    }

    /// That of one service.
    #[must_use]
    pub fn of(&self, service: Service) -> &str {
        match service {
            Service::Blob => &self.blob,
            Service::Queue => &self.queue,
            Service::Table => &self.table,
        }
    }

    /// What a client needs: the account, its key and these endpoints.
    #[must_use]
    pub fn connection_string(&self) -> String {
        let Self { blob, queue, table } = self;
        format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};\
             BlobEndpoint={blob};QueueEndpoint={queue};TableEndpoint={table};"
        )
    }
}
