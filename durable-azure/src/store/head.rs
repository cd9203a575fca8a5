//! The row that stands for a partition: who owns it, and what only a commit may change.

use std::collections::BTreeMap;

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{Fence, MessageNumber, PartitionId};
use durable_core::machine::store::Head;
use durable_core::store::StoreError;

use super::body;
use super::failure::{corrupt, damaged};
use super::rows::{
    Counts, calendar, decode_counts, encode_counts, json, number, read_number, text,
};
use crate::service::{Columns, Etag, Row};

const FENCE: &str = "fence";
const OPENING: &str = "opening";
const OWNER: &str = "owner";
const COMMIT: &str = "commit";
pub(super) const COUNTS: &str = "counts";
const OUTBOX_DONE: &str = "outbox_done";
const TIME: &str = "time";
const UNCLEAN_OPENS: &str = "unclean_opens";

/// How far the messages to each receiver were applied.
pub(super) type Done = BTreeMap<PartitionId, MessageNumber>;

/// The head row as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeadRow {
    pub(super) fence: Fence,
    /// New for each opening.
    pub(super) opening: String,
    /// The worker; empty where the partition was given back.
    pub(super) owner: String,
    /// The write that made the row what it is: what settles a lost answer.
    pub(super) commit: String,
    pub(super) head: Head,
    pub(super) counts: Counts,
    pub(super) outbox_done: Done,
}

impl HeadRow {
    pub(super) fn columns(&self) -> Columns {
        let mut columns = Columns::from([
            (FENCE.into(), number(self.fence.0)),
            (OPENING.into(), text(&*self.opening)),
            (OWNER.into(), text(&*self.owner)),
            (COMMIT.into(), text(&*self.commit)),
            (COUNTS.into(), encode_counts(&self.counts)),
            (
                OUTBOX_DONE.into(),
                text(serde_json::to_string(&self.outbox_done).unwrap_or_default()),
            ),
            (TIME.into(), calendar(self.head.time)),
            (UNCLEAN_OPENS.into(), number(self.head.unclean_opens.into())),
        ]);
        body::set_inline(&mut columns, &encode_row(&self.head));
        columns
    }

    pub(super) async fn read(
        container: &crate::service::Container,
        row: &Row,
    ) -> Result<(Self, Etag), StoreError> {
        let named = |column: &str| {
            row.text(column)
                .map(str::to_owned)
                .ok_or_else(|| damaged(&row.partition, &row.key, format!("it has no {column:?}")))
        };
        let bytes = body::read_fixed(container, row).await?;
        let head = Self {
            fence: Fence(read_number(row, FENCE)?),
            opening: named(OPENING)?,
            owner: named(OWNER)?,
            commit: named(COMMIT)?,
            head: body::decode(&bytes).map_err(|error| corrupt(&row.partition, &row.key, error))?,
            counts: decode_counts(row, COUNTS)?,
            outbox_done: json(row, OUTBOX_DONE)?,
        };
        Ok((head, row.etag.clone()))
    }
}
