//! A person decides, or does not.

use std::time::Duration;

use super::program::{run, spawn, wait};

#[test]
fn nobody_decides() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run("approval", folder.path(), &["--day", "0.1"]);
    assert!(ran.status.success(), "{ran}");
    let mails: Vec<_> = ran.stdout.lines().filter(|line| line.contains("mail to")).collect();
    assert_eq!(mails.len(), 4, "{ran}");
    assert!(mails[3].contains("mail to grace: ada has not decided for three days"), "{ran}");
    assert!(ran.stdout.contains("nobody decided; given up"), "{ran}");
}

#[test]
fn a_decision_that_is_made_while_the_program_is_dead_is_there_when_it_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run("approval", folder.path(), &["decide", "approve"]);
    assert!(!refused.status.success() && refused.stderr.contains("request-1"), "{refused}");
    let mut asking = spawn("approval", folder.path(), &["--day", "600"]);
    let decide =
        |verdict: &str| run("approval", folder.path(), &["decide", verdict, "--by", "grace"]);
    // As soon as the request is there, from another process.
    while !decide("reject").status.success() {
        assert!(asking.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    asking.kill().unwrap();
    wait(asking);
    let ran = run("approval", folder.path(), &["--day", "600"]);
    assert!(ran.status.success() && ran.stdout.contains("request-1: Reject by grace"), "{ran}");
    let late = decide("approve");
    assert!(!late.status.success() && late.stderr.contains("ended"), "{late}");
}
