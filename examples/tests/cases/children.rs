//! An order of several parcels: all of them are sent or none, whenever the process of the whole tree dies.

use durable_emulator::Emulator;

use super::program::{run, spawn, wait};

const WAREHOUSES: [&str; 3] = ["north", "south", "east"];
const STEPS: [&str; 3] = ["reserve", "pack", "load"];

/// What was printed of the steps of a warehouse, in that order.
fn steps<'a>(stdout: &'a str, warehouse: &str) -> Vec<&'a str> {
    let start = format!("  {warehouse}: ");
    stdout.lines().filter_map(|line| line.strip_prefix(&*start)).collect()
}

/// Everything was done, and nothing undone.
fn sent(stdout: &str) {
    for warehouse in WAREHOUSES {
        let steps = steps(stdout, warehouse);
        for step in STEPS {
            assert!(steps.contains(&step), "{warehouse} lacks {step}: {stdout}");
        }
        assert!(!steps.iter().any(|step| step.starts_with("undo")), "{warehouse}: {stdout}");
    }
}

/// Whatever was done was undone after it, and all was tried to be undone.
fn taken_back(stdout: &str) {
    for warehouse in WAREHOUSES {
        let steps = steps(stdout, warehouse);
        for step in STEPS {
            let done = steps.iter().rposition(|said| *said == step);
            let undone = steps.iter().rposition(|said| *said == format!("undo {step}"));
            assert!(undone > done, "{warehouse} keeps {step}: {stdout}");
        }
    }
}

#[test]
fn parcels_are_sent_or_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run::<&str>("children", folder.path(), &[]);
    assert!(
        ran.status.success() && ran.stdout.contains("on their way: parcel from north"),
        "{ran}"
    );
    sent(&ran.stdout);

    let folder = tempfile::tempdir().unwrap();
    let ran = run("children", folder.path(), &["--lost", "south"]);
    assert!(!ran.status.success() && ran.stderr.contains("Lost"), "{ran}");
    taken_back(&ran.stdout);
}

#[test]
fn a_tree_whose_process_dies_at_any_write_comes_to_its_end() {
    for (how, well) in [(&[][..], true), (&["--lost", "east"][..], false)] {
        for write in 1..60 {
            let folder = tempfile::tempdir().unwrap();
            let number = write.to_string();
            let crash: Vec<&str> =
                how.iter().copied().chain(["--crash-after-write", &number]).collect();
            let first = run("children", folder.path(), &crash);
            if !first.stderr.contains("crashing on purpose") {
                assert!(write > 4, "it wrote less than expected: {first}");
                break;
            }
            let second = run("children", folder.path(), how);
            let said = first.stdout.clone() + &second.stdout;
            assert_eq!(second.status.success(), well, "at {write}: {first}{second}");
            if well { sent(&said) } else { taken_back(&said) }
        }
    }
}

#[test]
fn a_tree_that_is_killed_at_any_moment_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let lost = ["--lost", "north"];
    let mut said = String::new();
    for round in 0..6 {
        let mut child = spawn("children", folder.path(), &lost);
        std::thread::sleep(std::time::Duration::from_millis(15 * round));
        // It may have ended.
        let _ = child.kill();
        said += &wait(child).stdout;
    }
    let ran = run("children", folder.path(), &lost);
    assert!(!ran.status.success() && ran.stderr.contains("Lost"), "{ran}");
    taken_back(&(said + &ran.stdout));
}

#[test]
fn a_tree_in_azure_storage_is_taken_over_by_the_next_process() {
    let emulator = Emulator::shared().unwrap();
    let connection = emulator.connection_string();
    let folder = tempfile::tempdir().unwrap();
    let tree = ["--azure", &connection, "--hub", "childrenSouth", "--lost", "south"];
    let mut said = String::new();
    for write in ["2", "4"] {
        let crash: Vec<&str> = tree.into_iter().chain(["--crash-after-write", write]).collect();
        let ran = run("children", folder.path(), &crash);
        assert!(ran.stderr.contains("crashing on purpose"), "{ran}");
        said += &ran.stdout;
    }
    let ran = run("children", folder.path(), &tree);
    assert!(!ran.status.success() && ran.stderr.contains("Lost"), "{ran}");
    taken_back(&(said + &ran.stdout));
}
