//! Turns, handed out to be polled: the partition itself never runs user code.

use crate::model::{Event, EventKind, InstanceId, UnconsumedEvent};
use crate::replay::{Action, Divergence, Orchestration, ReplayReport};

/// User code that has to be polled.
pub struct Turn {
    instance: InstanceId,
    orchestration: Box<Orchestration>,
    work: Work,
}

enum Work {
    Advance(Box<Event>),
    Begin(Box<Event>),
    Replay(Vec<Event>),
}

/// A turn that was polled.
pub struct Turned {
    pub(super) instance: InstanceId,
    pub(super) orchestration: Box<Orchestration>,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Advanced(Vec<Action>),
    /// The first turn of an execution that was loaded for it.
    Begun(Vec<Action>),
    /// With the external events behind the divergence, which the code never saw.
    Replayed(Result<ReplayReport, (Divergence, Vec<UnconsumedEvent>)>),
}

impl Turn {
    pub(super) fn advance(
        instance: InstanceId,
        orchestration: Box<Orchestration>,
        event: Event,
    ) -> Self {
        Self { instance, orchestration, work: Work::Advance(Box::new(event)) }
    }

    pub(super) fn begin(
        instance: InstanceId,
        orchestration: Box<Orchestration>,
        start: Event,
    ) -> Self {
        Self { instance, orchestration, work: Work::Begin(Box::new(start)) }
    }

    pub(super) fn replay(
        instance: InstanceId,
        orchestration: Box<Orchestration>,
        events: Vec<Event>,
    ) -> Self {
        Self { instance, orchestration, work: Work::Replay(events) }
    }

    /// The instance whose code is polled.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether recorded turns are repeated, so that nothing should be logged.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        matches!(self.work, Work::Replay(_))
    }

    /// Polls the code.
    #[must_use]
    pub fn run(mut self) -> Turned {
        let outcome = match self.work {
            Work::Advance(event) => Outcome::Advanced(self.orchestration.advance(&event)),
            Work::Begin(event) => Outcome::Begun(self.orchestration.advance(&event)),
            Work::Replay(events) => {
                Outcome::Replayed(self.orchestration.replay(&events).map_err(|divergence| {
                    let seen = usize::try_from(divergence.seq.0).unwrap_or(usize::MAX);
                    let unseen = events.into_iter().skip(seen).filter_map(raised).collect();
                    (divergence, unseen)
                }))
            }
        };
        Turned { instance: self.instance, orchestration: self.orchestration, outcome }
    }
}

fn raised(event: Event) -> Option<UnconsumedEvent> {
    match event.is {
        EventKind::EventRaised { name, input, id } => Some(UnconsumedEvent { name, input, id }),
        _ => None,
    }
}
