//! A monitor that is killed between its looks goes on with the next one.

use std::collections::BTreeMap;

use super::program::{run, spawn, wait};

#[test]
fn the_price_moves_at_the_eighth_look() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run("monitor", folder.path(), &["--every", "20"]);
    assert!(ran.status.success() && ran.stdout.contains("it moved from 4200 to 3690"), "{ran}");
    assert!(ran.stdout.contains("look 8: 3690 cents, 4200 at first"), "{ran}");
}

#[test]
fn a_monitor_that_is_killed_again_and_again_looks_eight_times() {
    let folder = tempfile::tempdir().unwrap();
    let mut looks: BTreeMap<String, u32> = BTreeMap::new();
    let mut runs: u64 = 0;
    let last = loop {
        runs += 1;
        let mut child = spawn("monitor", folder.path(), &["--every", "60"]);
        // Longer each time, so that a slow machine gets somewhere, too.
        std::thread::sleep(std::time::Duration::from_millis(60 + 10 * runs));
        child.kill().unwrap();
        let ran = wait(child);
        for line in ran.stdout.lines().filter(|line| line.contains("is at")) {
            *looks.entry(line.to_owned()).or_default() += 1;
        }
        if ran.status.success() {
            break ran;
        }
        assert!(runs < 100, "it does not end: {ran}");
    };
    assert!(last.stdout.contains("it moved from 4200 to 3690"), "{last}");
    assert!(runs > 2, "it was hardly killed");
    // The last output of a process that is killed may be lost, a look that was not recorded is repeated.
    assert!(looks.len() <= 8 && looks.keys().any(|line| line.ends_with("3690")), "{looks:?}");
}
