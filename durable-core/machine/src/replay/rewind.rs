//! A failed execution is repeated without its failures: what succeeded is not done again.
//!
//! The code runs from its start and is given the arrivals of the failed execution in their order, but for the
//! failures. Up to the first of them it has to ask for what is recorded, as in any replay. From there on it may
//! take another way: where it asks for what it asked for then, in the same words, the recorded decision is taken
//! over, and with it the result; what else it asks for is new. Results that stand behind a failure wait at the
//! start of the history until the code asks for them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Action, Orchestration, ended_before_its_first_turn, marker};
use crate::model::{
    CallNumber, ChildCreated, Event, EventKind, EventSeq, ExecutionNumber, Payload, Succeeded,
    Timestamp, UnconsumedEvent,
};

/// One step of a repeated execution, for its history.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It happened, or was decided, in the failed execution, too.
    Kept(Event),
    /// The code asks for it for the first time.
    Asked {
        /// The time of the turn.
        at: Timestamp,
        /// What it asks for.
        action: Action,
    },
}

/// A repeated execution, up to where the failed one gives nothing more.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rewound {
    /// From the start on, in order.
    pub steps: Vec<Step>,
    /// External events behind its end, where it ended earlier than the failed one.
    pub left: Vec<UnconsumedEvent>,
}

/// What the failed execution decided.
struct Decided<'a> {
    numbered: BTreeMap<CallNumber, &'a EventKind>,
    cancelled: BTreeSet<CallNumber>,
    /// Those whose end was waited for: how they ended is no failure to take back.
    requested: BTreeSet<CallNumber>,
    markers: BTreeSet<Arc<str>>,
}

impl<'a> Decided<'a> {
    fn in_history(events: &'a [Event]) -> Self {
        let numbered = events.iter().filter_map(|event| Some((number(&event.is)?, &event.is)));
        let cancelled = events.iter().filter_map(|event| match event.is {
            EventKind::CallCancelled { call } => Some(call),
            _ => None,
        });
        Self {
            numbered: numbered.collect(),
            cancelled: cancelled.collect(),
            requested: requested(events),
            markers: events.iter().filter_map(|event| marker(&event.is)).collect(),
        }
    }

    /// The recorded decision that is the same: `exact` where the code may be on another way, on which numbers
    /// have another meaning.
    fn recorded(&self, action: &Action, exact: bool) -> Option<EventKind> {
        match action {
            Action::Cancel { call } => self.cancelled.contains(call).then(|| action.clone()),
            Action::RequestCancel { call } => self.requested.contains(call).then(|| action.clone()),
            Action::Patched { id, .. } => self.markers.contains(id).then(|| action.clone()),
            Action::ScheduleActivity { call, .. }
            | Action::CreateTimer { call, .. }
            | Action::SendEvent { call, .. } => return self.numbered_as(*call, action, exact),
            Action::StartChild(child) => return self.numbered_as(child.call, action, exact),
            Action::SetCustomStatus(_)
            | Action::Complete(_)
            | Action::Fail(_)
            | Action::ContinueAsNew(_) => None,
        }
        .and_then(Action::into_event)
    }

    fn numbered_as(&self, call: CallNumber, action: &Action, exact: bool) -> Option<EventKind> {
        let same = |kind: &&EventKind| {
            let other_words = action.clone().into_event().as_ref() != Some(*kind);
            action.fits(kind) && !(exact && other_words)
        };
        self.numbered.get(&call).copied().filter(same).cloned()
    }
}

/// The number that a decision gave out.
fn number(kind: &EventKind) -> Option<CallNumber> {
    match kind {
        EventKind::ActivityScheduled(scheduled) => Some(scheduled.call),
        EventKind::ChildCreated(created) => Some(created.call),
        EventKind::TimerCreated { call, .. } | EventKind::EventSent { call, .. } => Some(*call),
        _ => None,
    }
}

/// Calls that were cancelled, and whose end was waited for.
fn requested(events: &[Event]) -> BTreeSet<CallNumber> {
    let request = |event: &Event| match event.is {
        EventKind::CancelRequested { call } => Some(call),
        _ => None,
    };
    events.iter().filter_map(request).collect()
}

/// The results that a rewind of this history takes back.
#[must_use]
pub fn failures(failed: &[Event]) -> Vec<CallNumber> {
    let requested = requested(failed);
    let failure = |event: &Event| match event.is {
        EventKind::ActivityFailed { call, .. } | EventKind::ChildFailed { call, .. } => Some(call),
        _ => None,
    };
    failed.iter().filter_map(failure).filter(|call| !requested.contains(call)).collect()
}

/// The events that have to fit the code: those in front of the first failure, or of the turn in which the code
/// itself failed.
#[must_use]
pub fn must_fit(failed: &[Event]) -> &[Event] {
    let requested = requested(failed);
    let failure = |event: &Event| match &event.is {
        EventKind::ActivityFailed { call, .. } | EventKind::ChildFailed { call, .. } => {
            !requested.contains(call)
        }
        _ => false,
    };
    let last_turn = failed.iter().rposition(|event| !event.is.is_decision());
    let end = failed.iter().position(failure).or(last_turn).unwrap_or_default();
    &failed[..end]
}

impl Orchestration {
    /// Repeats a failed execution, from this start on. What is asked for anew happens `now`.
    pub fn rewind(&mut self, start: Event, failed: &[Event], now: Timestamp) -> Rewound {
        let decided = Decided::in_history(failed);
        let second = failed.get(1).map(|event| &event.is);
        let never_ran = second.is_some_and(|is| ended_before_its_first_turn(EventSeq(1), is));
        {
            let mut state = self.context.state();
            state.set_replaying(!never_ran);
            state.set_markers(decided.markers.clone());
        }
        let mut rewound = Rewound::default();
        // Calls that are the failed execution's, and have no result yet.
        let mut open = BTreeSet::new();
        let mut anew = never_ran;
        // Calls whose end the code waits for, as it did then.
        let mut asked_to_end = BTreeSet::new();
        let fitting = must_fit(failed).len();
        let arrivals = failed.iter().enumerate().skip(1);
        let arrivals = arrivals.filter(|(_, event)| !event.is.is_decision());
        for (at, event) in std::iter::once((0, &start)).chain(arrivals) {
            let exact = at >= fitting;
            let taken = match &event.is {
                EventKind::ExecutionStarted(_) => true,
                EventKind::ActivityFailed { call, .. } if planted!(FailureKept) => {
                    open.remove(call)
                }
                EventKind::ActivityFailed { call, .. } | EventKind::ChildFailed { call, .. }
                    if asked_to_end.contains(call) =>
                {
                    open.remove(call)
                }
                EventKind::EventRaised { name, input, id } if self.ended() => {
                    let (name, input, id) = (name.clone(), input.clone(), id.clone());
                    rewound.left.push(UnconsumedEvent { name, input, id });
                    false
                }
                EventKind::EventRaised { .. } => true,
                EventKind::ActivityCompleted { call, .. }
                | EventKind::ChildCompleted { call, .. }
                | EventKind::TimerFired { call } => {
                    open.remove(call) && !planted!(SuccessTakenBack)
                }
                EventKind::ExecutionSuspended { .. } | EventKind::ExecutionResumed { .. } => true,
                _ => false,
            };
            if !taken || self.ended() {
                continue;
            }
            let at = if anew { now.max(event.at) } else { event.at };
            let event = Event { at, is: event.is.clone() };
            let actions = self.advance(&event);
            rewound.steps.push(Step::Kept(event));
            for action in actions {
                match decided.recorded(&action, exact) {
                    Some(is) => {
                        match &is {
                            EventKind::CallCancelled { call } => drop(open.remove(call)),
                            EventKind::CancelRequested { call } => drop(asked_to_end.insert(*call)),
                            other => open.extend(number(other)),
                        }
                        rewound.steps.push(Step::Kept(Event { at, is }));
                    }
                    None => {
                        if let Action::Cancel { call } = &action {
                            open.remove(call);
                        }
                        anew |= !matches!(action, Action::SetCustomStatus(_));
                        rewound.steps.push(Step::Asked { at, action });
                    }
                }
            }
        }
        self.context.state().set_replaying(false);
        rewound.remember(failed, &decided);
        rewound
    }
}

impl Rewound {
    /// Notes at the start what succeeded and could not be given to the code yet, because it stands behind a failure:
    /// also what an earlier rewind noted, and nobody asked for.
    fn remember(&mut self, failed: &[Event], decided: &Decided<'_>) {
        let kept = self.steps.iter().filter_map(|step| match step {
            Step::Kept(event) => settled(&event.is).map(|(call, ..)| call),
            Step::Asked { .. } => None,
        });
        let kept: BTreeSet<_> = kept.collect();
        let results = failed.iter().filter_map(|event| settled(&event.is));
        let behind = results.filter(|(call, ..)| !kept.contains(call)).filter_map(
            |(call, output, execution)| {
                let asked = (*decided.numbered.get(&call)?).clone();
                Some(Succeeded { asked, output: output.clone(), execution })
            },
        );
        let before = failed.first().and_then(|event| match &event.is {
            EventKind::ExecutionStarted(start) => start.rewind.as_ref(),
            _ => None,
        });
        let unasked = before.into_iter().flat_map(|rewind| &rewind.succeeded).filter(|noted| {
            number(&noted.asked).is_some_and(|call| !decided.numbered.contains_key(&call))
        });
        let mut succeeded: Vec<_> = unasked.cloned().collect();
        succeeded.extend(behind);
        let children = self.unsucceeded(failed);
        if planted!(SuccessTakenBack) {
            return;
        }
        if let Some(Step::Kept(Event { is: EventKind::ExecutionStarted(start), .. })) =
            self.steps.first_mut()
            && let Some(rewind) = &mut start.rewind
        {
            rewind.succeeded = succeeded;
            rewind.children = children;
        }
    }

    /// The children that did not succeed in the failed execution, and are not kept.
    fn unsucceeded(&self, failed: &[Event]) -> Vec<ChildCreated> {
        let asked = |event: &Event| match &event.is {
            EventKind::ChildCreated(created) if !created.detached => Some((**created).clone()),
            _ => None,
        };
        let kept = self.steps.iter().filter_map(|step| match step {
            Step::Kept(event) => number(&event.is),
            Step::Asked { .. } => None,
        });
        let succeeded = failed.iter().filter_map(|event| Some(settled(&event.is)?.0));
        let others: BTreeSet<_> = kept.chain(succeeded).collect();
        failed.iter().filter_map(asked).filter(|child| !others.contains(&child.call)).collect()
    }
}

/// A success: its call, its result, and the execution of the child that gave it.
fn settled(kind: &EventKind) -> Option<(CallNumber, &Payload, ExecutionNumber)> {
    match kind {
        EventKind::ActivityCompleted { call, output } => Some((*call, output, ExecutionNumber(0))),
        EventKind::ChildCompleted { call, execution, output } => Some((*call, output, *execution)),
        _ => None,
    }
}
