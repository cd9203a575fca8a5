//! Which faults a seed injects, how often, and the proof that they were injected.

use super::rng::Rng;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)+) => {
        /// A kind of fault. `docs/design/simulation.md` says why the engine must survive each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The kind in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)+ }
            }
        }
    };
}

faults! {
    /// A worker dies between two steps: its memory is gone.
    Crash: "worker crashed",
    /// A worker dies with a commit under way that takes effect.
    CrashCommitApplied: "worker crashed, its commit took effect",
    /// A worker dies with a commit under way that is lost.
    CrashCommitLost: "worker crashed, its commit was lost",
    /// Another worker takes a partition over while its owner lives on as a zombie.
    Takeover: "partition taken over from a living owner",
    /// A turn does not return: its owner is given up, its instance is held by the next.
    Stuck: "turn that did not return",
    /// An owner leaves in good order.
    Leave: "partition given up in good order",
    /// A commit took effect and its answer was lost.
    AnswerLost: "commit took effect, answer lost",
    /// A commit did not take effect, and nobody can say so.
    CommitLost: "commit lost without an answer",
    /// The request of a lost commit arrives after it was made again.
    CommitLate: "lost commit arrived late",
    /// The store refuses commits for a while.
    Busy: "store busy",
    /// A delivery comes late, and so out of order.
    Delay: "delivery delayed",
    /// A delivery comes twice.
    Duplicate: "delivery duplicated",
    /// A delivery is lost that something else repeats.
    Loss: "delivery lost",
    /// An attempt's answer comes twice, or to another owner.
    AnswerTwice: "attempt answered twice",
    /// An attempt is offered to other workers instead of running with the owner.
    Offer: "attempt offered to other workers",
    /// A taken offer is taken again before its result is there.
    TakenTwice: "offer taken twice",
    /// A new owner's clock differs by up to five minutes.
    ClockJump: "clock jumped between owners",
    /// A client does not hear what became of its request and asks again.
    ClientRetry: "client asked again",
    /// A partition is owned by code that does not know an orchestrator.
    CodeMissing: "owner without the code",
    /// A partition is owned by code that diverges.
    CodeWrong: "owner with diverging code",
    /// A stored history is damaged.
    Damage: "history damaged",
    /// An idle orchestration left memory.
    Eviction: "orchestration evicted",
    /// A commit was cut to what the store takes.
    Cut: "commit cut",
    /// Something outside a turn wakes an orchestration.
    ForeignWake: "woken from outside",
}

/// How often each kind was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// Notes one more.
    pub(super) fn note(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(super) fn add(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] += count;
    }

    /// How often this kind was injected.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// The rates of one seed: so many in a thousand chances.
#[derive(Debug, Clone)]
pub(super) struct Rates([u32; Fault::ALL.len()]);

impl Rates {
    pub(super) fn none() -> Self {
        Self([0; Fault::ALL.len()])
    }

    /// Some seeds have no faults, some one kind only, most several kinds at rates of their own.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut rates = Self::none();
        match rng.below(10) {
            0 => {}
            1..=3 => {
                let kind = rng.index(Fault::ALL.len());
                rates.0[kind] = Self::ceiling(Fault::ALL[kind]);
            }
            _ => {
                for (rate, kind) in rates.0.iter_mut().zip(Fault::ALL) {
                    if rng.chance(450) {
                        *rate = rng.small(Self::ceiling(*kind) + 1);
                    }
                }
            }
        }
        rates
    }

    /// The highest rate at which a seed still gets work done. The chances are taken per step of an owner
    /// (crash, takeover), commit, delivery, request or opening.
    fn ceiling(fault: Fault) -> u32 {
        match fault {
            Fault::Crash | Fault::Takeover | Fault::Stuck => 15,
            Fault::Leave => 60,
            Fault::CrashCommitApplied | Fault::CrashCommitLost => 60,
            Fault::AnswerLost | Fault::CommitLost => 150,
            Fault::Busy => 300,
            Fault::CommitLate => 500,
            Fault::Delay | Fault::Duplicate | Fault::Loss | Fault::AnswerTwice => 250,
            Fault::ClockJump | Fault::ClientRetry | Fault::Offer | Fault::TakenTwice => 500,
            Fault::CodeMissing | Fault::CodeWrong => 300,
            Fault::Damage => 300,
            Fault::ForeignWake => 800,
            // Not by chance: they follow from a tiny cache and tiny limits.
            Fault::Eviction | Fault::Cut => 1000,
        }
    }

    pub(super) fn of(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }
}
