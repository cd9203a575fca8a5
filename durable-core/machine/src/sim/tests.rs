//! The engine as it is passes; with any planted bug it does not.

use super::{Fault, FaultCounts, Planted, Settings, run};

/// Within so many seeds every planted bug is noticed. Most are within ten.
const SEEDS_MAX: u64 = 600;

/// Panics of the workload are part of it and would fill the output.
fn quiet() {
    std::panic::set_hook(Box::new(|_| {}));
}

#[test]
fn the_engine_as_it_is_passes_and_every_seed_does_work() {
    let mut faults = FaultCounts::default();
    let (mut instances, mut purged) = (0, 0);
    let hook = std::panic::take_hook();
    quiet();
    let mut violations = Vec::new();
    for seed in 0..300 {
        let report = run(seed, Settings::default());
        faults.merge(&report.faults);
        instances += report.instances;
        purged += report.purged;
        violations.extend(report.violation.map(|violation| (seed, violation)));
    }
    std::panic::set_hook(hook);
    if let Some((seed, violation)) = violations.first() {
        panic!("seed {seed}: {}\n{}", violation.what, violation.story.join("\n"));
    }
    assert!(instances > 300 * 5, "{instances} instances");
    assert!(purged > 300, "{purged} purged");
    for fault in Fault::ALL {
        assert!(faults.of(*fault) > 0, "never injected: {}", fault.words());
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    quiet();
    for seed in [1, 2, 3, 30, 300] {
        let (one, other) = (run(seed, Settings::default()), run(seed, Settings::default()));
        assert_eq!(one.instances, other.instances);
        assert_eq!(one.faults, other.faults);
    }
}

#[test]
fn every_planted_bug_is_noticed() {
    let hook = std::panic::take_hook();
    quiet();
    let unnoticed: Vec<_> = Planted::ALL
        .iter()
        .filter(|bug| {
            let settings = Settings { planted: Some(**bug), ..Settings::default() };
            (0..SEEDS_MAX).all(|seed| run(seed, settings).violation.is_none())
        })
        .collect();
    std::panic::set_hook(hook);
    assert!(unnoticed.is_empty(), "not noticed within {SEEDS_MAX} seeds: {unnoticed:?}");
}
