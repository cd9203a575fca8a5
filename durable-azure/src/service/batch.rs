//! Entity group transactions: what goes into one, and the one place that says what became of it.

use std::collections::BTreeSet;

use azure_core::Etag as AzureEtag;
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::PartitionKeyClient;
use azure_data_tables::operations::TransactionBuilder;

use super::fault::{self, Fault};
use super::row::{Columns, Etag, Written, check_key};

/// Operations that one transaction may have.
const OPS_MAX: usize = 100;
/// Bytes around an operation's JSON, at most: boundaries, headers, and the URL without the row's key.
const AROUND_OP_BYTES: usize = 1024;
/// Bytes around all operations.
const AROUND_ALL_BYTES: usize = 512;
/// Bytes that a character of a key may take in a URL: up to four of UTF-8, three each when escaped.
const KEY_BYTE_IN_URL: usize = 3;

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A new row: 409 if it is there.
    Insert {
        /// Its key.
        key: String,
        /// Its columns.
        columns: Columns,
    },
    /// A row whether it is there or not; columns that it had are gone.
    Put {
        /// Its key.
        key: String,
        /// Its columns.
        columns: Columns,
    },
    /// A row whether it is there or not; columns that are not named stay.
    Merge {
        /// Its key.
        key: String,
        /// The columns to set.
        columns: Columns,
    },
    /// A known version of a row; columns that are not named stay: 412 if it has another version, 404 if it is
    /// missing.
    Amend {
        /// Its key.
        key: String,
        /// The columns to set.
        columns: Columns,
        /// The version to change.
        etag: Etag,
    },
    /// A known version of a row by another: 412 if it has another version, 404 if it is missing.
    Replace {
        /// Its key.
        key: String,
        /// All its columns.
        columns: Columns,
        /// The version to replace.
        etag: Etag,
    },
    /// A row, in any version or a known one: 404 if it is missing, 412 if it has another version.
    Delete {
        /// Its key.
        key: String,
        /// The version to delete.
        etag: Option<Etag>,
    },
}

impl Op {
    /// The row it is about.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Insert { key, .. }
            | Self::Put { key, .. }
            | Self::Merge { key, .. }
            | Self::Amend { key, .. }
            | Self::Replace { key, .. }
            | Self::Delete { key, .. } => key,
        }
    }

    fn columns(&self) -> Option<&Columns> {
        match self {
            Self::Insert { columns, .. }
            | Self::Put { columns, .. }
            | Self::Merge { columns, .. }
            | Self::Amend { columns, .. }
            | Self::Replace { columns, .. } => Some(columns),
            Self::Delete { .. } => None,
        }
    }
}

/// An upper bound for the body that these operations make, for endpoints and partition keys of usual length.
pub(super) fn encoded_bytes(ops: &[Op]) -> usize {
    let of = |op: &Op| {
        let json = op
            .columns()
            .map_or(0, |columns| Written { partition: "", key: op.key(), columns }.json_bytes());
        AROUND_OP_BYTES + KEY_BYTE_IN_URL * op.key().len() + json
    };
    AROUND_ALL_BYTES + ops.iter().map(of).sum::<usize>()
}

/// Refuses what must not be sent: the service would refuse it, or take it for something else.
pub(super) fn check(partition: &str, ops: &[Op]) -> Result<(), Fault> {
    if ops.is_empty() || ops.len() > OPS_MAX {
        return Err(Fault::malformed(format!(
            "a transaction of {} operations; it may have 1 to {OPS_MAX}",
            ops.len()
        )));
    }
    let mut keys = BTreeSet::new();
    for op in ops {
        if !keys.insert(op.key()) {
            return Err(Fault::malformed(format!("a transaction with {:?} twice", op.key())));
        }
        match op.columns() {
            Some(columns) => Written { partition, key: op.key(), columns }.check()?,
            None => {
                check_key(partition)?;
                check_key(op.key())?;
            }
        }
    }
    Ok(())
}

/// Makes the request.
pub(super) fn build(
    client: &PartitionKeyClient,
    ops: &[Op],
) -> azure_core::Result<TransactionBuilder> {
    let matching = |etag: &Etag| IfMatchCondition::Etag(AzureEtag::from(etag.0.clone()));
    let partition = client.partition_key();
    let mut builder = client.transaction();
    for op in ops {
        let key = op.key();
        builder = match op {
            Op::Insert { columns, .. } => builder.insert(Written { partition, key, columns })?,
            Op::Put { columns, .. } => {
                builder.insert_or_replace(key, Written { partition, key, columns })?
            }
            Op::Merge { columns, .. } => {
                builder.insert_or_merge(key, Written { partition, key, columns })?
            }
            Op::Amend { columns, etag, .. } => {
                builder.merge(key, Written { partition, key, columns }, Some(matching(etag)))?
            }
            Op::Replace { columns, etag, .. } => {
                builder.update(key, Written { partition, key, columns }, Some(matching(etag)))?
            }
            Op::Delete { etag, .. } => builder.delete(key, etag.as_ref().map(matching))?,
        };
    }
    Ok(builder)
}

/// What became of a transaction of `ops` operations, from the body of its answer.
///
/// The answer's own status says only that it was answered. It was applied if it holds as many responses as
/// operations and each is a success; otherwise one response says why not, and nothing was applied.
pub(super) fn outcome(body: &[u8], ops: usize) -> Result<Vec<Option<Etag>>, Fault> {
    let text = String::from_utf8_lossy(body);
    let parts: Vec<Part<'_>> = text.split("--changesetresponse_").filter_map(Part::read).collect();
    if let Some(part) = parts.iter().find(|part| !(200..300).contains(&part.status)) {
        return Err(part.fault(ops));
    }
    if parts.len() == ops {
        return Ok(parts.into_iter().map(|part| part.etag).collect());
    }
    Err(Fault::Unknown {
        reason: format!("storage answered {} of {ops} operations of a transaction", parts.len()),
    })
}

/// The response to one operation.
struct Part<'a> {
    status: u16,
    etag: Option<Etag>,
    body: &'a str,
}

impl<'a> Part<'a> {
    /// `None` for what stands between and around the responses.
    fn read(text: &'a str) -> Option<Self> {
        let start = text.find("HTTP/1.1 ")?;
        let (head, body) = split_head(&text[start..]);
        let mut lines = head.lines();
        let status = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
        let etag = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("etag").then(|| Etag(value.trim().to_owned()))
        });
        Some(Self { status, etag, body })
    }

    /// The message begins with the operation's index: `"3:The specified entity already exists."`.
    fn fault(&self, ops: usize) -> Fault {
        let (code, message) = fault::odata_error(self.body).unwrap_or_default();
        let index = message.split_once(':').and_then(|(index, _)| index.trim().parse().ok());
        let index = index.filter(|index| *index < ops);
        Fault::of_answer(self.status, &code, None).of_operation(index)
    }
}

fn split_head(text: &str) -> (&str, &str) {
    let at = |end: &'static str| text.split_once(end);
    at("\r\n\r\n").or_else(|| at("\n\n")).unwrap_or((text, ""))
}
