//! The container of blobs.

use azure_core::request_options::{IfMatchCondition, NextMarker, Prefix};
use azure_core::{Context, Pageable};
use azure_storage_blobs::container::operations::ListBlobsResponse;
use azure_storage_blobs::prelude::{BlobClient, ContainerClient};
use bytes::Bytes;
use durable_core::machine::model::Timestamp;
use futures::StreamExt as _;

use super::call::{Caller, Tries};
use super::fault::{Fault, created, deleted};
use super::transactions::Kind;

/// Bytes that one request reads: far more than any blob that the store writes.
const READ_BYTES: u64 = 64 * 1024 * 1024;
/// Characters that a name may have.
const NAME_CHARS_MAX: usize = 1024;

/// A container of blobs that are written once.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    client: ContainerClient,
    caller: Caller,
}

/// A blob in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedBlob {
    /// Its name.
    pub(crate) name: String,
    /// When it was written, by the service's clock, in whole seconds.
    pub(crate) modified: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobPage {
    /// Its blobs, by name.
    pub(crate) blobs: Vec<ListedBlob>,
    /// Where the next page begins; `None` on the last.
    pub(crate) next: Option<String>,
}

impl Container {
    pub(super) fn new(client: ContainerClient, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// Creates it. That it exists already is success.
    pub(crate) async fn create(&self) -> Result<(), Fault> {
        let request = |context| self.client.create().context(context).into_future();
        let answer = self.caller.call(Kind::Create, Tries::Several, request).await;
        created(answer, "ContainerAlreadyExists")
    }

    /// Deletes it with all its blobs. That it is missing is success.
    pub(crate) async fn delete(&self) -> Result<(), Fault> {
        let request = |context| self.client.delete().context(context).into_future();
        deleted(self.caller.call(Kind::Delete, Tries::Several, request).await)
    }

    /// Writes a blob that is not there yet. `false`: it is, and stays as it was.
    pub(crate) async fn put_new(&self, name: &str, bytes: impl Into<Bytes>) -> Result<bool, Fault> {
        let client = self.blob(name)?;
        let bytes = bytes.into();
        let request = |context| {
            let put = client.put_block_blob(bytes.clone());
            put.if_match(IfMatchCondition::NotMatch("*".to_owned())).context(context).into_future()
        };
        match self.caller.call(Kind::BlobPut, Tries::One, request).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_refused_as(&["BlobAlreadyExists"]) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// The whole of a blob; `None` where it is missing.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let client = self.blob(name)?;
        let request = |context| read_all(&client, context);
        match self.caller.call(Kind::BlobGet, Tries::Several, request).await {
            Ok(answer) => answer.read().map(Some),
            Err(fault) if fault.is_refused_as(&["BlobNotFound"]) => Ok(None),
            // No range fits into an empty blob.
            Err(fault) if fault.is_refused_as(&["InvalidRange"]) => Ok(Some(Vec::new())),
            Err(fault) => Err(fault),
        }
    }

    /// Removes a blob. That it is missing is success.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Fault> {
        let client = self.blob(name)?;
        let request = |context| client.delete().context(context).into_future();
        match self.caller.call(Kind::BlobDelete, Tries::Several, request).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_refused_as(&["BlobNotFound"]) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// One page of the blobs whose names begin with `prefix`: one request. `after` is the `next` of the page
    /// before.
    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<BlobPage, Fault> {
        let request = |context| {
            let mut builder = self.client.list_blobs().context(context);
            if !prefix.is_empty() {
                builder = builder.prefix(Prefix::from(prefix.to_owned()));
            }
            if let Some(after) = after {
                builder = builder.marker(NextMarker::new(after.to_owned()));
            }
            first_page(builder.into_stream())
        };
        let page = self.caller.call(Kind::BlobList, Tries::Several, request).await?.read()?;
        let blobs = page.blobs.blobs().map(|blob| ListedBlob {
            name: blob.name.clone(),
            modified: Timestamp::from_micros(
                blob.properties.last_modified.unix_timestamp().saturating_mul(1_000_000),
            ),
        });
        let next = page.next_marker.as_ref().map(|next| next.as_str().to_owned());
        Ok(BlobPage { blobs: blobs.collect(), next })
    }

    /// Refuses names that would be taken for others.
    fn blob(&self, name: &str) -> Result<BlobClient, Fault> {
        let fits = name.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !name.chars().any(|c| c == '\\' || c.is_control())
            && name.chars().count() <= NAME_CHARS_MAX;
        if fits {
            Ok(self.client.blob_client(name))
        } else {
            let start: String = name.chars().take(64).collect();
            Err(Fault::malformed(format!("{start:?} cannot be the name of a blob")))
        }
    }
}

async fn read_all(client: &BlobClient, context: Context) -> azure_core::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut pages = client.get().chunk_size(READ_BYTES).context(context).into_stream();
    while let Some(page) = pages.next().await {
        bytes.extend_from_slice(&page?.data.collect().await?);
    }
    Ok(bytes)
}

async fn first_page(
    mut pages: Pageable<ListBlobsResponse, azure_core::Error>,
) -> azure_core::Result<ListBlobsResponse> {
    match pages.next().await {
        Some(page) => page,
        None => Err(azure_core::Error::message(
            azure_core::error::ErrorKind::Other,
            "a list without a page",
        )),
    }
}
