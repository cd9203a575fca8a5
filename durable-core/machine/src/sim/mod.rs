//! The seeded simulation: machine and store model, driven through every fault from one number.
//!
//! A seed decides workload, faults and interleaving; nothing else does. First everything may fail and
//! nothing may be wrong; then faults stop, and everything has to finish. `docs/design/simulation.md` says
//! what is generated, what each check means, and how to add a primitive.

mod checker;
mod clients;
mod code;
mod combine;
mod faults;
mod journal;
mod planted;
mod rng;
mod script;
mod story;
#[cfg(test)]
mod tests;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use faults::{Fault, FaultCounts};
pub use planted::Planted;
pub(crate) use planted::is_planted;

/// What one seed came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Runs of instances that ended.
    pub instances: u64,
    /// Runs of instances that were purged.
    pub purged: u64,
    /// Faults that were injected.
    pub faults: FaultCounts,
    /// What was wrong, if anything was.
    pub violation: Option<Violation>,
}

/// Something that must not happen.
#[derive(Debug)]
pub struct Violation {
    /// What it is, in a sentence that begins with the property.
    pub what: String,
    /// The last things that happened before, oldest first.
    pub story: Vec<String>,
}

/// What does not belong to the seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// A bug to plant, so that the simulation can prove that it would notice.
    pub planted: Option<Planted>,
    /// Tell everything that happened in a violation's story, not only the end.
    pub whole_story: bool,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, settings: Settings) -> Report {
    let _planted = planted::plant(settings.planted);
    let mut world = world::World::new(seed, story::Story::new(settings.whole_story));
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    drop(code::take_outside());
    let what = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Some(format!("the engine panicked: {message}"))
        }
    };
    world.report(what)
}
