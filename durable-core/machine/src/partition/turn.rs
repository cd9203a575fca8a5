//! Turns, handed out to be polled: the partition itself never runs user code.

use crate::model::{Event, EventKind, InstanceId, Timestamp, UnconsumedEvent};
use crate::replay::{Action, Divergence, Orchestration, ReplayReport, Rewound, must_fit};

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
    Rewind(Box<Repetition>),
}

/// What it takes to repeat a failed execution.
pub(super) struct Repetition {
    pub(super) start: Event,
    pub(super) failed: Vec<Event>,
    pub(super) now: Timestamp,
    /// For the failed execution: whether the code still fits it.
    pub(super) fits: Box<Orchestration>,
    /// The failed execution, where it has to be known which events it left.
    pub(super) before: Option<Box<Orchestration>>,
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
    /// With the number of events that the failed execution left in its history, where that is known.
    Rewound(Result<(Rewound, Option<usize>), Divergence>),
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

    pub(super) fn rewind(
        instance: InstanceId,
        orchestration: Box<Orchestration>,
        repetition: Repetition,
    ) -> Self {
        Self { instance, orchestration, work: Work::Rewind(Box::new(repetition)) }
    }

    /// The instance whose code is polled.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Whether recorded turns are repeated, so that nothing should be logged.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        matches!(self.work, Work::Replay(_) | Work::Rewind(_))
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
            Work::Rewind(repetition) => {
                let Repetition { start, failed, now, mut fits, before } = *repetition;
                Outcome::Rewound(fits.replay(must_fit(&failed)).map(|_| {
                    let logged = before.and_then(|mut before| {
                        before.replay(&failed).ok().map(|_| before.unconsumed().len())
                    });
                    (self.orchestration.rewind(start, &failed, now), logged)
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
