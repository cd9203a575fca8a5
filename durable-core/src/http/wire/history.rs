//! `historyEvents`: results in the place of what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use durable_machine::model::{
    ActivityScheduled, CallNumber, ChildCreated, Event, EventKind, ExecutionStarted, Failure,
    Payload, Timestamp, TraceContext,
};
use serde::Serialize;

use super::super::time::ticks;
use super::Shown;
use crate::time::to_utc;

/// A member that is left out, or there and perhaps null.
type Optional<T> = Option<Option<T>>;

/// One event; members in the order of the wire.
#[derive(Serialize)]
#[serde(tag = "EventType", rename_all_fields = "PascalCase")]
pub(in super::super) enum HistoryEvent<'a> {
    ExecutionStarted {
        timestamp: String,
        function_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Optional<&'a str>,
        correlation: Option<&'a str>,
        scheduled_start_time: Option<String>,
        generation: u32,
        parent_trace_context: Option<ParentTrace<'a>>,
    },
    TaskScheduled {
        timestamp: String,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Optional<&'a str>,
        parent_trace_context: Option<ParentTrace<'a>>,
        tags: Option<&'a str>,
    },
    TaskCompleted(Completed<'a>),
    TaskFailed(Failed<'a>),
    SubOrchestrationInstanceCreated {
        timestamp: String,
        name: &'a str,
        instance_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Optional<&'a str>,
    },
    SubOrchestrationInstanceCompleted(Completed<'a>),
    SubOrchestrationInstanceFailed(Failed<'a>),
    TimerCreated(Timer),
    TimerFired(Timer),
    EventRaised {
        timestamp: String,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<&'a str>,
    },
    EventSent {
        timestamp: String,
        instance_id: &'a str,
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<&'a str>,
    },
    ExecutionCompleted {
        timestamp: String,
        orchestration_status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Optional<ResultText<'a>>,
        failure_details: Option<FailureDetails<'a>>,
    },
    ExecutionTerminated {
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Optional<&'a str>,
    },
    ExecutionSuspended(Commanded<'a>),
    ExecutionResumed(Commanded<'a>),
    ExecutionRewound(Commanded<'a>),
    ContinueAsNew {
        timestamp: String,
        orchestration_status: &'static str,
        result: Option<&'a Payload>,
    },
    GenericEvent {
        timestamp: String,
        data: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct Timer {
    timestamp: String,
    fire_at: String,
}

/// What somebody did with the instance.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct Commanded<'a> {
    timestamp: String,
    reason: Option<&'a str>,
}

/// The result of an activity or a child, with what was asked for.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct Completed<'a> {
    timestamp: String,
    scheduled_time: Option<String>,
    function_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Optional<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Payload>,
}

/// The failure of an activity or a child, with what was asked for.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct Failed<'a> {
    timestamp: String,
    scheduled_time: Option<String>,
    function_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Optional<&'a str>,
    reason: String,
    details: Option<&'a str>,
    failure_details: FailureDetails<'a>,
}

/// A value, or a text of the engine's.
#[derive(Serialize)]
#[serde(untagged)]
pub(in super::super) enum ResultText<'a> {
    Value(&'a Payload),
    Text(String),
    Reason(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct FailureDetails<'a> {
    error_type: &'a str,
    error_message: &'a str,
    stack_trace: Option<&'a str>,
    inner_failure: Option<Box<FailureDetails<'a>>>,
    is_non_retriable: bool,
    properties: Option<&'a str>,
}

impl<'a> FailureDetails<'a> {
    fn of(failure: &'a Failure) -> Self {
        Self {
            error_type: &failure.kind,
            error_message: &failure.message,
            stack_trace: None,
            inner_failure: failure.cause.as_deref().map(|cause| Box::new(Self::of(cause))),
            is_non_retriable: failure.permanent,
            properties: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in super::super) struct ParentTrace<'a> {
    trace_parent: &'a str,
    trace_state: Option<&'a str>,
}

impl<'a> ParentTrace<'a> {
    fn of(trace: &'a TraceContext) -> Self {
        Self { trace_parent: &trace.traceparent, trace_state: trace.tracestate.as_deref() }
    }
}

/// What a call asked for, and when.
struct Asked<'a> {
    at: Timestamp,
    name: &'a str,
    input: Option<&'a str>,
}

/// The events of an execution as the wire shows them.
pub(in super::super) fn history(events: &[Event], shown: Shown) -> Vec<HistoryEvent<'_>> {
    Translation::of(events, shown).translate(events)
}

struct Translation<'a> {
    shown: Shown,
    asked: BTreeMap<CallNumber, Asked<'a>>,
    due: BTreeMap<CallNumber, Timestamp>,
    answered: BTreeSet<CallNumber>,
}

impl<'a> Translation<'a> {
    fn of(events: &'a [Event], shown: Shown) -> Self {
        let (mut asked, mut due, mut answered) =
            (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for Event { at, is } in events {
            match is {
                EventKind::ActivityScheduled(of) => {
                    let input = shown.activity_inputs.then(|| of.input.json());
                    asked.insert(of.call, Asked { at: *at, name: &of.name, input });
                }
                EventKind::ChildCreated(of) => {
                    let input = Some(of.input.json());
                    asked.insert(of.call, Asked { at: *at, name: &of.name, input });
                }
                EventKind::TimerCreated { call, due: at } => {
                    due.insert(*call, *at);
                }
                EventKind::ActivityCompleted { call, .. }
                | EventKind::ActivityFailed { call, .. }
                | EventKind::ChildCompleted { call, .. }
                | EventKind::ChildFailed { call, .. } => {
                    answered.insert(*call);
                }
                _ => {}
            }
        }
        Self { shown, asked, due, answered }
    }

    fn translate(&self, events: &'a [Event]) -> Vec<HistoryEvent<'a>> {
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let timestamp = wire_time(event.at);
            if let EventKind::ExecutionTerminated { reason, .. } = &event.is {
                let input = self.input(reason.as_deref());
                shown.push(HistoryEvent::ExecutionTerminated {
                    timestamp: timestamp.clone(),
                    input,
                });
            }
            shown.extend(self.event(timestamp.clone(), event));
            if let EventKind::ExecutionStarted(started) = &event.is
                && let Some(rewind) = &started.rewind
            {
                let reason = rewind.reason.as_deref();
                shown.push(HistoryEvent::ExecutionRewound(Commanded { timestamp, reason }));
            }
        }
        shown
    }

    /// The event of the wire; `None` where the wire has none, or has it with its result.
    fn event(&self, timestamp: String, event: &'a Event) -> Option<HistoryEvent<'a>> {
        Some(match &event.is {
            EventKind::ExecutionStarted(of) => self.started(timestamp, of),
            EventKind::ActivityScheduled(of) => self.scheduled(timestamp, of)?,
            EventKind::ChildCreated(of) => self.child_created(timestamp, of)?,
            EventKind::ActivityCompleted { call, output } => {
                HistoryEvent::TaskCompleted(self.completed(timestamp, *call, output))
            }
            EventKind::ChildCompleted { call, output, .. } => {
                let completed = self.completed(timestamp, *call, output);
                HistoryEvent::SubOrchestrationInstanceCompleted(completed)
            }
            EventKind::ActivityFailed { call, failure, .. } => {
                HistoryEvent::TaskFailed(self.failed(timestamp, *call, failure))
            }
            EventKind::ChildFailed { call, failure, .. } => {
                let failed = self.failed(timestamp, *call, failure);
                HistoryEvent::SubOrchestrationInstanceFailed(failed)
            }
            EventKind::TimerCreated { due, .. } => {
                HistoryEvent::TimerCreated(Timer { timestamp, fire_at: wire_time(*due) })
            }
            EventKind::TimerFired { call } => {
                let due = self.due.get(call).copied().unwrap_or(event.at);
                HistoryEvent::TimerFired(Timer { timestamp, fire_at: wire_time(due) })
            }
            EventKind::EventRaised { name, input, .. } => {
                let input = self.shown.inputs.then(|| input.json());
                HistoryEvent::EventRaised { timestamp, name, input }
            }
            EventKind::EventSent { instance, name, input, .. } => {
                let input = self.shown.inputs.then(|| input.json());
                let instance_id = instance.as_str();
                HistoryEvent::EventSent { timestamp, instance_id, name, input }
            }
            EventKind::ExecutionSuspended { reason } => {
                HistoryEvent::ExecutionSuspended(Commanded { timestamp, reason: reason.as_deref() })
            }
            EventKind::ExecutionResumed { reason } => {
                HistoryEvent::ExecutionResumed(Commanded { timestamp, reason: reason.as_deref() })
            }
            EventKind::ExecutionTerminated { reason, .. } => {
                let result = reason.as_deref().map(ResultText::Reason);
                self.ended(timestamp, "Terminated", result, None)
            }
            EventKind::ExecutionCompleted { output } => {
                self.ended(timestamp, "Completed", Some(ResultText::Value(output)), None)
            }
            EventKind::ExecutionFailed { failure } => {
                let text = Some(ResultText::Text(failure.to_string()));
                self.ended(timestamp, "Failed", text, Some(failure))
            }
            EventKind::ContinuedAsNew { input } => HistoryEvent::ContinueAsNew {
                timestamp,
                orchestration_status: "ContinuedAsNew",
                result: self.shown.inputs.then_some(input),
            },
            EventKind::Patched { id, deprecated } => {
                let what = if *deprecated { "deprecated patch" } else { "patch" };
                HistoryEvent::GenericEvent { timestamp, data: format!("{what} {id}") }
            }
            // A call that nobody waits for any more stays as it was asked for, a timer never fires.
            EventKind::CallCancelled { .. } | EventKind::CancelRequested { .. } => return None,
        })
    }

    fn started(&self, timestamp: String, of: &'a ExecutionStarted) -> HistoryEvent<'a> {
        HistoryEvent::ExecutionStarted {
            timestamp,
            function_name: &of.name,
            input: self.input(Some(of.input.json())),
            correlation: None,
            scheduled_start_time: of.scheduled_for.map(wire_time),
            generation: of.continues.map_or(0, |before| before.next().0),
            parent_trace_context: of.trace.as_ref().map(ParentTrace::of),
        }
    }

    fn scheduled(&self, timestamp: String, of: &'a ActivityScheduled) -> Option<HistoryEvent<'a>> {
        let open = !self.answered.contains(&of.call);
        open.then(|| HistoryEvent::TaskScheduled {
            timestamp,
            name: &of.name,
            input: self.input(self.shown.activity_inputs.then(|| of.input.json())),
            parent_trace_context: None,
            tags: None,
        })
    }

    fn child_created(&self, timestamp: String, of: &'a ChildCreated) -> Option<HistoryEvent<'a>> {
        let open = !self.answered.contains(&of.call);
        open.then(|| HistoryEvent::SubOrchestrationInstanceCreated {
            timestamp,
            name: &of.name,
            instance_id: of.instance.as_str(),
            input: self.input(Some(of.input.json())),
        })
    }

    fn completed(&self, timestamp: String, call: CallNumber, output: &'a Payload) -> Completed<'a> {
        let asked = self.asked.get(&call);
        Completed {
            timestamp,
            scheduled_time: asked.map(|asked| wire_time(asked.at)),
            function_name: asked.map(|asked| asked.name),
            input: self.input(asked.and_then(|asked| asked.input)),
            result: self.shown.results.then_some(output),
        }
    }

    fn failed(&self, timestamp: String, call: CallNumber, failure: &'a Failure) -> Failed<'a> {
        let asked = self.asked.get(&call);
        Failed {
            timestamp,
            scheduled_time: asked.map(|asked| wire_time(asked.at)),
            function_name: asked.map(|asked| asked.name),
            input: self.input(asked.and_then(|asked| asked.input)),
            reason: failure.to_string(),
            details: failure.details.as_ref().map(Payload::json),
            failure_details: FailureDetails::of(failure),
        }
    }

    fn ended(
        &self,
        timestamp: String,
        orchestration_status: &'static str,
        result: Option<ResultText<'a>>,
        failure: Option<&'a Failure>,
    ) -> HistoryEvent<'a> {
        HistoryEvent::ExecutionCompleted {
            timestamp,
            orchestration_status,
            result: self.shown.results.then_some(result),
            failure_details: failure.map(FailureDetails::of),
        }
    }

    fn input(&self, input: Option<&'a str>) -> Optional<&'a str> {
        self.shown.inputs.then_some(input)
    }
}

fn wire_time(at: Timestamp) -> String {
    ticks(to_utc(at))
}
