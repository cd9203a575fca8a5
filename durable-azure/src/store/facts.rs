//! What a commit has to know of its instances.

use std::collections::{BTreeSet, HashMap};

use durable_core::machine::model::InstanceId;
use durable_core::machine::store::{Begins, Commit};
use durable_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};

use super::Inner;
use super::known::Known;
use super::opened::Opened;
use super::plan::Facts;

const READS_AT_ONCE: usize = 16;

/// What the commit has to know of its instances, read where this opening does not remember it.
pub(super) async fn of(
    inner: &Inner,
    opened: &Opened,
    commit: &Commit,
) -> Result<HashMap<InstanceId, Facts>, StoreError> {
    let mut facts = HashMap::new();
    let mut unknown = BTreeSet::new();
    {
        let (cache, inbox) = (opened.cache(), opened.inbox());
        for write in &commit.instances {
            let instance = &write.key.instance;
            if unknown.contains(instance) {
                continue;
            }
            let seen: Option<&Facts> = facts.get(instance);
            let found = match (write.begins, seen) {
                (Begins::Fresh, None) => Some(Facts::default()),
                (Begins::Accepted, None) => inbox.fresh(instance, write.key.run).or_else(|| {
                    let pending = |known: &&Known| {
                        known.start.as_ref().is_some_and(|start| start.run == write.key.run)
                    };
                    let known = cache.get(instance).filter(pending)?.clone();
                    Some(Facts { known: Some(known), ..Facts::default() })
                }),
                // A start takes the place of a run within one commit: its acceptance has to be read.
                (Begins::Fresh | Begins::Accepted, Some(_)) => None,
                // Whether a start of the id was accepted is in the store only.
                (Begins::Asked, _) => None,
                (Begins::No, None) => cache
                    .get(instance)
                    .filter(|known| known.run == write.key.run)
                    .map(|known| Facts { known: Some(known.clone()), ..Facts::default() }),
                (Begins::No, Some(_)) => continue,
            };
            match found {
                Some(found) => {
                    facts.insert(instance.clone(), found);
                }
                None => {
                    facts.remove(instance);
                    unknown.insert(instance.clone());
                }
            }
        }
        for key in &commit.purges {
            match cache.get(&key.instance).filter(|known| known.run == key.run) {
                Some(known) => {
                    let found = Facts { known: Some(known.clone()), ..Facts::default() };
                    facts.insert(key.instance.clone(), found);
                }
                None => {
                    unknown.insert(key.instance.clone());
                }
            }
        }
    }
    let read = futures::stream::iter(unknown.into_iter().map(|instance| async move {
        let found = read_facts(inner, &opened.key, &instance).await?;
        Ok::<_, StoreError>((instance, found))
    }));
    let read: Vec<_> = read.buffer_unordered(READS_AT_ONCE).try_collect().await?;
    facts.extend(read);
    Ok(facts)
}

async fn read_facts(
    inner: &Inner,
    partition: &str,
    instance: &InstanceId,
) -> Result<Facts, StoreError> {
    let found = inner.read_instance(partition, instance).await?;
    let Some(columns) = &found.columns else { return Ok(Facts::default()) };
    let next = inner.next_event(partition, columns).await?;
    let etag = found.status.as_ref().map(|row| row.etag.clone());
    Ok(Facts { known: found.known(next), start: found.start_facts(), etag })
}
