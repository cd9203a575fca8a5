//! A clean-up that goes on after its process died, and never twice at a time.

use super::program::{run, spawn, wait};

#[test]
fn it_cleans_up_turn_by_turn_and_goes_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("schedule-data");
    std::fs::create_dir_all(&data).unwrap();
    let arguments = ["--cron", "* * * * * *", "--turns", "4"];
    let mut first = spawn("schedule", folder.path(), &arguments);
    std::fs::write(data.join("old.tmp"), "x").unwrap();
    // Until the first turn.
    while data.join("old.tmp").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    first.kill().unwrap();
    wait(first);
    std::fs::write(data.join("new.tmp"), "x").unwrap();
    std::fs::write(data.join("kept.txt"), "x").unwrap();
    let ran = run("schedule", folder.path(), &arguments);
    assert!(ran.status.success() && ran.stdout.contains("4 turns are done"), "{ran}");
    assert!(!data.join("new.tmp").exists() && data.join("kept.txt").exists(), "{ran}");
}

#[test]
fn a_bad_expression_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    for (argument, value) in [("--cron", "every day"), ("--zone", "Mars")] {
        let ran = run("schedule", folder.path(), &[argument, value]);
        assert!(!ran.status.success() && ran.stderr.contains(value), "{ran}");
    }
}
