//! Tables.

use azure_core::Pageable;
use azure_data_tables::clients::TableClient;
use azure_data_tables::operations::QueryEntityResponse;
use azure_data_tables::{Filter, Select, Top};
use futures::StreamExt as _;

use super::batch::{self, Op};
use super::call::{Caller, Tries};
use super::fault::{Fault, created, deleted};
use super::row::{Etag, Row, check_key};
use super::transactions::Kind;

type Json = serde_json::Map<String, serde_json::Value>;

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    client: TableClient,
    caller: Caller,
}

/// Which rows to read. An empty one asks for all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// Of one partition.
    pub(crate) partition: Option<String>,
    /// Keys from here on, this one included.
    pub(crate) from: Option<String>,
    /// Keys before this one.
    pub(crate) to: Option<String>,
    /// A further condition, in OData.
    pub(crate) filter: Option<String>,
    /// The columns to read beside keys and version; all if empty.
    pub(crate) select: Vec<&'static str>,
    /// Rows on one page, at most 1000.
    pub(crate) top: Option<u32>,
}

/// Where a query goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continuation {
    partition: String,
    row: Option<String>,
}

/// One page of a query. It may be empty and yet not the last.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Its rows, by partition and key.
    pub(crate) rows: Vec<Row>,
    /// Where the next one begins; `None` on the last.
    pub(crate) next: Option<Continuation>,
}

impl Table {
    pub(super) fn new(client: TableClient, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// Creates it. That it exists already is success.
    pub(crate) async fn create(&self) -> Result<(), Fault> {
        let request = |context| self.client.create().context(context).into_future();
        let answer = self.caller.call(Kind::Create, Tries::Several, request).await;
        created(answer, "TableAlreadyExists")
    }

    /// Deletes it with all its rows. That it is missing is success.
    pub(crate) async fn delete(&self) -> Result<(), Fault> {
        let request = |context| self.client.delete().context(context).into_future();
        deleted(self.caller.call(Kind::Delete, Tries::Several, request).await)
    }

    /// One row; `None` where it is missing.
    pub(crate) async fn get(&self, partition: &str, key: &str) -> Result<Option<Row>, Fault> {
        check_key(partition)?;
        check_key(key)?;
        let client = self.client.partition_key_client(partition).entity_client(key);
        let request = |context| client.get::<Json>().context(context).into_future();
        match self.caller.call(Kind::TableGet, Tries::Several, request).await {
            Ok(answer) => {
                let found = answer.read()?;
                Row::read(&found.entity, Some(found.etag.as_ref())).map(Some)
            }
            Err(fault) if fault.is_refused_as(&["ResourceNotFound", "EntityNotFound"]) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// One page of rows: one request.
    pub(crate) async fn query(
        &self,
        query: &Query,
        after: Option<Continuation>,
    ) -> Result<Page, Fault> {
        let request = |context| {
            let mut builder = self.client.query().context(context);
            if let Some(filter) = query.condition() {
                builder = builder.filter(Filter::new(filter));
            }
            if !query.select.is_empty() {
                let keys = ["PartitionKey", "RowKey"];
                let columns: Vec<_> = keys.iter().chain(&query.select).copied().collect();
                builder = builder.select(Select::new(columns.join(",")));
            }
            if let Some(top) = query.top {
                builder = builder.top(Top::new(top));
            }
            if let Some(after) = after.clone() {
                builder = builder.initial_partition_key(after.partition);
                if let Some(row) = after.row {
                    builder = builder.initial_row_key(row);
                }
            }
            first_page(builder.into_stream::<Json>())
        };
        let answer = self.caller.call(Kind::TableQuery, Tries::Several, request).await?;
        let page = answer.read()?;
        let next = azure_core::Continuable::continuation(&page)
            .map(|(partition, row)| Continuation { partition, row });
        let rows = page.entities.iter().map(|json| Row::read(json, None));
        Ok(Page { rows: rows.collect::<Result<_, _>>()?, next })
    }

    /// Applies all operations or none: one entity group transaction, one request. Returns the new versions.
    pub(crate) async fn transact(
        &self,
        partition: &str,
        ops: &[Op],
    ) -> Result<Vec<Option<Etag>>, Fault> {
        batch::check(partition, ops)?;
        let client = self.client.partition_key_client(partition);
        let builder = batch::build(&client, ops)
            .map_err(|error| Fault::malformed(format!("a transaction cannot be built: {error}")))?;
        let request = |context| builder.clone().context(context).into_future();
        let answer = self.caller.call(Kind::TableTransaction, Tries::One, request).await?;
        batch::outcome(&answer.body, ops.len())
    }

    /// An upper bound for the bytes that these operations make of the 4 MiB that a transaction may have.
    /// Endpoint, table name and partition key are taken to be less than 500 characters together.
    pub(crate) fn encoded_bytes(ops: &[Op]) -> usize {
        batch::encoded_bytes(ops)
    }
}

async fn first_page(
    mut pages: Pageable<QueryEntityResponse<Json>, azure_core::Error>,
) -> azure_core::Result<QueryEntityResponse<Json>> {
    match pages.next().await {
        Some(page) => page,
        None => Err(azure_core::Error::message(
            azure_core::error::ErrorKind::Other,
            "a query without a page",
        )),
    }
}

impl Query {
    fn condition(&self) -> Option<String> {
        let compared = |column: &str, relation: &str, value: &Option<String>| {
            let value = value.as_ref()?.replace('\'', "''");
            Some(format!("{column} {relation} '{value}'"))
        };
        let conditions: Vec<String> = [
            compared("PartitionKey", "eq", &self.partition),
            compared("RowKey", "ge", &self.from),
            compared("RowKey", "lt", &self.to),
            self.filter.as_ref().map(|filter| format!("({filter})")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!conditions.is_empty()).then(|| conditions.join(" and "))
    }
}
