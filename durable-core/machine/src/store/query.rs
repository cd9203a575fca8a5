//! Listing instances.

use super::HistoryRow;
use crate::model::{ExecutionNumber, RunNumber, RuntimeStatus, StatusRow, Timestamp};

/// Which instances a list holds. Filters are ANDed; the default holds all.
///
/// ```
/// # use durable_machine::model::RuntimeStatus;
/// # use durable_machine::store::ListQuery;
///
/// let failed_orders = ListQuery {
///     statuses: vec![RuntimeStatus::Failed],
///     id_prefix: Some("order-".into()),
///     ..ListQuery::default()
/// };
/// assert!(failed_orders.tags.is_empty() && failed_orders.name.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// Any of these; empty means every status.
    pub statuses: Vec<RuntimeStatus>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// The id begins with this; case matters.
    pub id_prefix: Option<String>,
    /// The orchestrator's name.
    pub name: Option<String>,
    /// Tags that it has, all of them: key and value.
    pub tags: Vec<(String, String)>,
}

impl ListQuery {
    /// Whether a row is in the list.
    #[must_use]
    pub fn holds(&self, row: &StatusRow) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && self.created_from.is_none_or(|from| row.created_at >= from)
            && self.created_to.is_none_or(|to| row.created_at <= to)
            && self.id_prefix.as_ref().is_none_or(|p| row.instance.as_str().starts_with(p.as_str()))
            && self.name.as_ref().is_none_or(|name| *name == *row.name)
            && self
                .tags
                .iter()
                .all(|(key, value)| row.tags.iter().any(|(k, v)| **k == **key && **v == **value))
    }
}

/// One page of a list: newest start first, in an order that does not change while an instance lives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListPage {
    /// The instances.
    pub rows: Vec<StatusRow>,
    /// Pass this to get the next page; `None` on the last.
    pub next: Option<ListToken>,
}

/// One page of the history of an instance's current execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The run that it belongs to.
    pub run: RunNumber,
    /// The execution that it belongs to.
    pub execution: ExecutionNumber,
    /// Its rows, in order.
    pub rows: Vec<HistoryRow>,
    /// Pass this to get the next page; `None` on the last.
    pub next: Option<HistoryToken>,
}

/// Where a history goes on. Opaque, as [`ListToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryToken(pub u64);

/// Where a list goes on. Opaque: its number is the store's own, and good for that store only.
///
/// ```
/// # use durable_machine::store::ListToken;
/// // As text on its way through a client, say.
/// let token = ListToken(7);
/// let text = token.0.to_string();
/// assert_eq!(text.parse().map(ListToken), Ok(token));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListToken(pub u64);
