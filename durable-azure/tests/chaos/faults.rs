//! What the proxy does to requests, for a while each.

use durable_core::prelude::*;
use durable_emulator::proxy::{Fault, Plan, Rule};

use super::random::Random;

#[derive(Debug, Clone, Copy)]
pub(super) enum Weather {
    Slow,
    Throttled,
    Cut,
    Hanging,
    Doubled,
    Down,
    Mixed,
    Drawn,
}

impl Weather {
    pub(super) const ALL: [Self; 8] = [
        Self::Slow,
        Self::Throttled,
        Self::Cut,
        Self::Hanging,
        Self::Doubled,
        Self::Down,
        Self::Mixed,
        Self::Drawn,
    ];

    pub(super) fn plan(self, random: &mut Random) -> Plan {
        let seed = random.bits();
        let often = random.within(50, 200);
        let rarely = random.within(10, 60);
        let plan = Plan::seeded(seed);
        match self {
            Self::Slow => plan
                .rule(Rule::new(Fault::Delay).per_mille(2 * often))
                .rule(Rule::new(Fault::DelayedAnswer).per_mille(often)),
            Self::Throttled => plan
                .rule(Rule::new(Fault::Busy).per_mille(rarely))
                .rule(Rule::new(Fault::BusyRetryAfter).per_mille(rarely))
                .rule(Rule::new(Fault::BusyInTransaction).per_mille(often))
                .rule(Rule::new(Fault::TooManyRequests).per_mille(rarely)),
            Self::Cut => plan
                .rule(Rule::new(Fault::CutBefore).per_mille(rarely))
                .rule(Rule::new(Fault::CutAfter).per_mille(often))
                .rule(Rule::new(Fault::TimedOut).per_mille(rarely)),
            Self::Hanging => plan
                .rule(Rule::new(Fault::Hang).per_mille(rarely / 3 + 5).lasts(secs(1), secs(4)))
                .rule(Rule::new(Fault::Delay).per_mille(rarely).lasts(millis(500), secs(4))),
            Self::Doubled => plan.rule(Rule::new(Fault::Duplicate).per_mille(500)),
            Self::Down => Plan::down(),
            Self::Mixed => Fault::ALL
                .into_iter()
                .filter(|fault| *fault != Fault::Down)
                .fold(plan, |plan, fault| plan.rule(Rule::new(fault).per_mille(rarely / 5 + 5))),
            Self::Drawn => Plan::drawn(seed),
        }
    }

    /// How long it stays.
    pub(super) fn lasts(self, random: &mut Random) -> Duration {
        millis(match self {
            Self::Down => random.within(500, 1500),
            Self::Slow
            | Self::Throttled
            | Self::Cut
            | Self::Hanging
            | Self::Doubled
            | Self::Mixed
            | Self::Drawn => random.within(2000, 4500),
        })
    }
}
