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
    pub(super) fn children_said(
        &self,
        key: &ExecutionKey,
        before: usize,
        store: &StoreModel,
    ) -> Verdict {
        let Some(archived) = self.archived(key) else { return Ok(()) };
        for event in archived.events.get(before..).unwrap_or_default() {
            match &event.is {
                EventKind::ChildCompleted { call, execution, output } => {
                    self.child_said(key, archived.child(*call), *execution, Ok(output), store)?;
                }
                EventKind::ChildFailed { call, execution, failure } => {
                    self.child_said(key, archived.child(*call), *execution, Err(failure), store)?;
                }
                EventKind::ExecutionTerminated { reason: Some(reason), tree } => {
                    self.terminated_by_its_parent(key, archived, reason, *tree)?;
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
        store: &StoreModel,
    ) -> Verdict {
        let Some(Child { created, .. }) = child else { return Ok(()) };
        if self.damaged.contains(&created.instance) {
            return Ok(());
        }
        let lineage = self.archived(key).map(|archived| archived.lineage(key)).unwrap_or_default();
        let found = lineage
            .iter()
            .rev()
            .find_map(|of| Some((of, self.run_of(&link(of, created.call), &created.instance)?)));
        let (of, run) = (found.map(|(of, _)| of), found.map(|(_, run)| run));
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
            // A client may have rewound it since.
            Err(failure) if run.is_some_and(|run| run.failed_with(execution, failure)) => true,
            Err(failure) => match &*failure.kind {
                // Also where it went on by itself for an execution further back, or was asked for in other words.
                "InstanceInUse" => run.is_none_or(|run| {
                    run.replaced
                        || made_way(&run.row)
                        || self.was_followed(run, store)
                        || of.is_some_and(|of| {
                            let before = self.archived(of).and_then(|of| of.child(created.call));
                            let alike = before.is_some_and(|child| child.created == *created);
                            of != key && !(alike && of.execution.next() == key.execution)
                        })
                }),
                "Replaced" => run.is_none_or(|run| run.replaced || made_way(&run.row)),
                "Terminated" => status == Some(RuntimeStatus::Terminated),
                "NotRewound" => status == Some(RuntimeStatus::Failed),
                // It was to end when its parent failed, and was told so then.
                "Cancelled" => self.archived(key).is_some_and(|archived| {
                    archived.is_repeated() && archived.is_cancelled(created.call)
                }),
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

    /// Whether a later run has its id, be it one that has not begun.
    fn was_followed(&self, run: &RunSeen, store: &StoreModel) -> bool {
        let (instance, earlier) = (&run.row.instance, run.row.run);
        let begun = self.runs.get(instance);
        begun.is_some_and(|runs| runs.keys().any(|later| *later > earlier))
            || store.status(instance).is_some_and(|row| row.run > earlier)
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
                    // One that was terminated with its parent begins again with it.
                    let parents = run.row.input.to::<Script>().ok();
                    let began_again =
                        parents.and_then(|script| begun.get(&script.token)) > Some(&1);
                    let most = if began_again || run.executions.values().any(Archived::is_repeated)
                    {
                        u32::MAX
                    } else {
                        1
                    };
                    holds((1..=most).contains(&times) || (times == 0 && may_lack), || {
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
            let goes_on =
                child.created.close == ParentClose::Abandon && !archived.ended_with_tree();
            // Its parent is not repeated with it.
            let rewound_alone = self.archived(&row.key()).is_some_and(Archived::is_repeated);
            holds(waits || goes_on || rewound_alone, || {
                format!("I11: {} still runs, its parent {} is over", row.key(), link.key())
            })?;
        }
        Ok(())
    }

    /// I11: a parent terminates its own child, and no other run of its id; it spares those that may go on,
    /// unless it was terminated with all its children, and then they with theirs.
    fn terminated_by_its_parent(
        &self,
        key: &ExecutionKey,
        archived: &Archived,
        reason: &str,
        tree: bool,
    ) -> Verdict {
        let Some(EventKind::ExecutionStarted(started)) =
            archived.events.first().map(|event| &event.is)
        else {
            return Ok(());
        };
        let ended = reason.strip_prefix("its parent ").and_then(|r| r.strip_suffix(" has ended"));
        let by = ended
            .or_else(|| reason.strip_suffix(" no longer waits for it"))
            .or_else(|| reason.strip_prefix("its parent ")?.strip_suffix(" has continued as new"));
        let run = self.runs.get(&key.instance).and_then(|runs| runs.get(&key.run));
        let link = run.map_or(started.parent.as_ref(), |run| run.row.parent.as_ref());
        let parent = link.map(|parent| parent.instance.as_str());
        holds(by.is_none() || by == parent, || {
            format!("I11: {key}, whose parent is {parent:?}, was terminated because {reason}")
        })?;
        let Some((link, over)) = link.and_then(|link| Some((link, self.archived(&link.key())?)))
        else {
            return Ok(());
        };
        let child = over.child(link.call).filter(|_| by.is_some());
        let all = ended.is_some() && over.ended_with_tree();
        let right = child.is_none_or(|child| all || child.created.close == ParentClose::Terminate)
            && (!all || tree);
        holds(right, || {
            format!(
                "I11: {key} was terminated because {reason} (all: {tree}), and {link:?} (all: {all}) did not ask for that"
            )
        })
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
