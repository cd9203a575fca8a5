//! Parents and their children: each child ran once, its parent was told how it ended, and none is left behind.

use std::collections::{BTreeMap, BTreeSet};

use super::execution::{Archived, Child};
use super::{Checker, RunSeen, Verdict, holds};
use crate::model::{
    CallNumber, EventKind, ExecutionKey, ExecutionNumber, Failure, InstanceId, ParentClose,
    ParentLink, Payload, RuntimeStatus, StatusRow,
};
use crate::sim::journal::Journal;
use crate::sim::script::Script;
use crate::store::{ListQuery, StoreModel};

impl Checker {
    /// I4: what an execution was told of its children, behind that place of its history.
    pub(super) fn children_said(&self, key: &ExecutionKey, before: usize) -> Verdict {
        let Some(archived) = self.archived(key) else { return Ok(()) };
        for event in archived.events.get(before..).unwrap_or_default() {
            match &event.is {
                EventKind::ChildCompleted { call, execution, output } => {
                    self.child_said(key, archived.child(*call), *execution, Ok(output))?;
                }
                EventKind::ChildFailed { call, execution, failure } => {
                    self.child_said(key, archived.child(*call), *execution, Err(failure))?;
                }
                EventKind::ExecutionTerminated { reason: Some(reason) } => {
                    terminated_by_its_parent(key, archived, reason)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn child_said(
        &self,
        key: &ExecutionKey,
        child: Option<&Child>,
        execution: ExecutionNumber,
        told: Result<&Payload, &Failure>,
    ) -> Verdict {
        let Some(Child { created, .. }) = child else { return Ok(()) };
        if self.damaged.contains(&created.instance) {
            return Ok(());
        }
        let run = self.run_of(&link(key, created.call), &created.instance);
        let status = run.map(|run| run.row.status);
        let right = match told {
            Ok(output) => run.is_some_and(|run| {
                run.row.status == RuntimeStatus::Completed
                    && run.row.output.as_ref() == Some(output)
                    && run.row.execution == execution
            }),
            // Also what a child of its own came to.
            Err(failure) if run.is_some_and(|run| run.row.failure.as_ref() == Some(failure)) => {
                status == Some(RuntimeStatus::Failed)
            }
            Err(failure) => match &*failure.kind {
                "InstanceInUse" => run.is_none(),
                "Replaced" => run.is_none_or(|run| run.replaced || made_way(&run.row)),
                "Terminated" => status == Some(RuntimeStatus::Terminated),
                _ => false,
            },
        };
        holds(right, || {
            format!(
                "I4: {key} was told {told:?} of child {} ({}), which is {:?}",
                created.call,
                created.instance,
                run.map(|run| (run.row.key(), run.row.status, run.replaced))
            )
        })
    }

    /// The run that was begun for a call that waits.
    fn run_of(&self, link: &ParentLink, child: &InstanceId) -> Option<&RunSeen> {
        self.runs.get(child)?.values().find(|run| run.row.parent.as_ref() == Some(link))
    }

    /// I1: every child ran once, but for those whose id was taken.
    pub(super) fn children_ran(&self, journal: &Journal) -> Verdict {
        let taken: BTreeSet<_> = journal.starts.values().map(|start| &start.instance).collect();
        let mut begun: BTreeMap<u64, u32> = BTreeMap::new();
        for run in self.runs.values().flat_map(BTreeMap::values) {
            if let Ok(script) = run.row.input.to::<Script>() {
                *begun.entry(script.token).or_default() += 1;
            }
        }
        for run in self.runs.values().flat_map(BTreeMap::values) {
            for (key, archived) in &run.executions {
                if self.damaged.contains(&key.instance) {
                    continue;
                }
                for Child { created, .. } in archived.children() {
                    if self.damaged.contains(&created.instance) {
                        continue;
                    }
                    let Ok(script) = created.input.to::<Script>() else { continue };
                    let times = begun.get(&script.token).copied().unwrap_or_default();
                    let may_lack = created.instance.as_str().starts_with('k')
                        || taken.contains(&created.instance);
                    holds(times == 1 || (times == 0 && may_lack), || {
                        format!(
                            "I1: child {} of {key} ({}) ran {times} times",
                            created.call, created.instance
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    /// I11: nothing runs whose parent is over, where everything that was sent has arrived.
    pub(in crate::sim) fn no_orphan_runs(&self, store: &StoreModel) -> Verdict {
        for row in store.list(&ListQuery::default(), None, usize::MAX).rows {
            let Some(link) = row.parent.as_ref().filter(|_| !row.status.is_terminal()) else {
                continue;
            };
            if self.damaged.contains(&row.instance) || self.damaged.contains(&link.instance) {
                continue;
            }
            let parent = self.runs.get(&link.instance).and_then(|runs| runs.get(&link.run));
            let archived = self.archived(&link.key());
            let child = archived.and_then(|archived| archived.child(link.call));
            let (Some(parent), Some(archived), Some(child)) = (parent, archived, child) else {
                return Err(format!("I11: {} runs for {link:?}, which is nobody", row.key()));
            };
            let waits =
                !archived.ended && !parent.replaced && (child.created.detached || child.is_open());
            holds(waits || child.created.close == ParentClose::Abandon, || {
                format!("I11: {} still runs, its parent {} is over", row.key(), link.key())
            })?;
        }
        Ok(())
    }
}

/// Whether a run ended because of a start whose time had not come.
fn made_way(row: &StatusRow) -> bool {
    row.output.as_ref().is_some_and(|reason| reason.json() == "\"replaced by a new start\"")
}

fn link(key: &ExecutionKey, call: CallNumber) -> ParentLink {
    let ExecutionKey { instance, run, execution } = key.clone();
    ParentLink { instance, run, execution, call, detached: false }
}

/// I11: a parent terminates its own child, and no other run of its id.
fn terminated_by_its_parent(key: &ExecutionKey, archived: &Archived, reason: &str) -> Verdict {
    let Some(EventKind::ExecutionStarted(started)) = archived.events.first().map(|event| &event.is)
    else {
        return Ok(());
    };
    let by = reason.strip_suffix(" no longer waits for it").or_else(|| {
        let reason = reason.strip_prefix("its parent ")?;
        reason.strip_suffix(" has ended").or_else(|| reason.strip_suffix(" has continued as new"))
    });
    let parent = started.parent.as_ref().map(|parent| parent.instance.as_str());
    holds(by.is_none() || by == parent, || {
        format!("I11: {key}, whose parent is {parent:?}, was terminated because {reason}")
    })
}
