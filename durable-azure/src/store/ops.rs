//! The rows that a commit touches, each once.

use std::collections::BTreeMap;

use super::body;
use crate::service::{Columns, Etag, Op, Table};

/// Bytes of an encoded transaction: 4 MiB, less a margin.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024 - 64 * 1024;

/// What happens to one row.
#[derive(Debug, Clone)]
struct Change {
    kind: Kind,
    columns: Columns,
    body: Option<Body>,
    /// The version that is merged with.
    etag: Option<Etag>,
    /// Whether the row was there before the commit.
    was_there: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It must not be there.
    Insert,
    Put,
    /// What is not named stays.
    Merge,
    Delete,
}

/// A body that goes into a row, or into the blob of that name.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) blob: String,
}

/// All changes of a commit. A later one of the same row is joined with the earlier.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<String, Change>);

/// A blob to be written before the transaction.
pub(super) struct Blob {
    pub(super) row: String,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Rows {
    /// A row that must not be there.
    pub(super) fn insert(&mut self, key: String, columns: Columns, body: Option<Body>) {
        self.0.insert(
            key,
            Change { kind: Kind::Insert, columns, body, etag: None, was_there: false },
        );
    }

    /// A row as a whole.
    pub(super) fn put(&mut self, key: String, columns: Columns, body: Option<Body>, there: bool) {
        let was_there = self.0.get(&key).map_or(there, |change| change.was_there);
        self.0.insert(key, Change { kind: Kind::Put, columns, body, etag: None, was_there });
    }

    /// Some columns of a row that is there.
    pub(super) fn merge(&mut self, key: String, columns: Columns, body: Option<Body>) {
        match self.0.get_mut(&key) {
            Some(change) if change.kind != Kind::Delete => {
                change.columns.extend(columns);
                if body.is_some() {
                    change.body = body;
                }
            }
            _ => {
                let kind = Kind::Merge;
                self.0.insert(key, Change { kind, columns, body, etag: None, was_there: true });
            }
        }
    }

    /// Some columns of a row that must be there in this version.
    pub(super) fn amend(&mut self, key: String, columns: Columns, etag: Etag) {
        self.merge(key.clone(), columns, None);
        if let Some(change) = self.0.get_mut(&key) {
            change.etag = Some(etag);
        }
    }

    /// A row that is there, by this commit or since before it.
    pub(super) fn delete(&mut self, key: String) {
        let was_there = self.0.get(&key).is_none_or(|change| change.was_there);
        if was_there {
            let columns = Columns::new();
            self.0.insert(
                key,
                Change { kind: Kind::Delete, columns, body: None, etag: None, was_there },
            );
        } else {
            self.0.remove(&key);
        }
    }

    /// Takes out the rows whose keys begin with `prefix`.
    pub(super) fn split_off(&mut self, prefix: &str) -> Self {
        let (out, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key.starts_with(prefix));
        self.0 = rest;
        Self(out)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The operations, and the blobs of bodies that are too large for their rows, or for all rows together.
    /// `beside` bytes of the transaction are taken by something else.
    pub(super) fn finish(self, beside: usize) -> (Vec<Op>, Vec<Blob>) {
        let mut blobs = Vec::new();
        let mut ops: Vec<(Op, usize, Option<Body>)> = Vec::with_capacity(self.0.len());
        for (key, mut change) in self.0 {
            let mut inline = None;
            if let Some(body) = change.body.take() {
                if body.bytes.len() > body::INLINE_BYTES_MAX {
                    body::set_blob(&mut change.columns, &body.blob);
                    blobs.push(Blob { row: key.clone(), name: body.blob, bytes: body.bytes });
                } else {
                    body::set_inline(&mut change.columns, &body.bytes);
                    inline = Some(body);
                }
            }
            let columns = change.columns;
            let op = match change.kind {
                Kind::Insert => Op::Insert { key, columns },
                Kind::Put => Op::Put { key, columns },
                Kind::Merge => match change.etag {
                    Some(etag) => Op::Amend { key, columns, etag },
                    None => Op::Merge { key, columns },
                },
                Kind::Delete => Op::Delete { key, etag: None },
            };
            let size = Table::encoded_bytes(std::slice::from_ref(&op));
            ops.push((op, size, inline));
        }
        let mut size = beside + ops.iter().map(|(_, size, _)| size).sum::<usize>();
        while size > TRANSACTION_BYTES_MAX {
            let largest = ops
                .iter_mut()
                .filter(|(_, _, inline)| inline.is_some())
                .max_by_key(|(_, _, inline)| inline.as_ref().map(|body| body.bytes.len()));
            let Some((op, bytes, inline)) = largest else { break };
            if let (Some(body), Some(columns)) = (inline.take(), columns_of(op)) {
                body::set_blob(columns, &body.blob);
                let row = op.key().to_owned();
                blobs.push(Blob { row, name: body.blob, bytes: body.bytes });
                let now = Table::encoded_bytes(std::slice::from_ref(op));
                size = size - *bytes + now;
                *bytes = now;
            }
        }
        (ops.into_iter().map(|(op, _, _)| op).collect(), blobs)
    }
}

fn columns_of(op: &mut Op) -> Option<&mut Columns> {
    match op {
        Op::Insert { columns, .. }
        | Op::Put { columns, .. }
        | Op::Merge { columns, .. }
        | Op::Amend { columns, .. }
        | Op::Replace { columns, .. } => Some(columns),
        Op::Delete { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Value;

    fn column(name: &'static str) -> Columns {
        Columns::from([(name.into(), Value::Bool(true))])
    }

    fn body(bytes: usize) -> Option<Body> {
        Some(Body { bytes: vec![b'x'; bytes], blob: "b".into() })
    }

    #[test]
    fn a_row_is_touched_once() {
        let mut rows = Rows::default();
        rows.put("new, deleted".into(), column("a"), None, false);
        rows.delete("new, deleted".into());
        rows.delete("old, put".into());
        rows.put("old, put".into(), column("a"), None, false);
        rows.delete("old, put, deleted".into());
        rows.put("old, put, deleted".into(), column("a"), None, false);
        rows.delete("old, put, deleted".into());
        rows.insert("inserted, merged".into(), column("a"), None);
        rows.merge("inserted, merged".into(), column("b"), None);
        rows.merge("merged twice".into(), column("a"), None);
        rows.merge("merged twice".into(), column("b"), None);
        let (ops, blobs) = rows.finish(0);
        let both: Columns = column("a").into_iter().chain(column("b")).collect();
        assert_eq!(
            ops,
            [
                Op::Insert { key: "inserted, merged".into(), columns: both.clone() },
                Op::Merge { key: "merged twice".into(), columns: both },
                Op::Put { key: "old, put".into(), columns: column("a") },
                Op::Delete { key: "old, put, deleted".into(), etag: None },
            ]
        );
        assert!(blobs.is_empty());
    }

    #[test]
    fn large_bodies_and_the_largest_of_too_many_go_to_blobs() {
        let mut rows = Rows::default();
        rows.put("alone".into(), Columns::new(), body(body::INLINE_BYTES_MAX + 1), false);
        rows.put("small".into(), Columns::new(), body(100), false);
        for n in 0..98 {
            rows.put(format!("{n:02}"), Columns::new(), body(44_000 + n), false);
        }
        let (ops, blobs) = rows.finish(2000);
        assert_eq!(ops.len(), 100);
        assert!(Table::encoded_bytes(&ops) < TRANSACTION_BYTES_MAX);
        let gone: Vec<_> = blobs.iter().map(|blob| &*blob.row).collect();
        assert!(gone.len() < 20, "{gone:?}");
        assert_eq!(&gone[..3], ["alone", "97", "96"]);
    }
}
