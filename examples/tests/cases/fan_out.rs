//! An import that is killed again and again imports each row once.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::program::{Ran, run, spawn, wait};

const ROWS: u64 = 6_000;

/// Ids that were imported, a line for each.
fn imported(folder: &Path) -> Vec<u64> {
    let target = folder.join("fan_out-data/imported/import-1");
    let files = std::fs::read_dir(target).expect("something was imported");
    let files = files.map(|entry| entry.expect("readable").path());
    let finished = files.filter(|path| path.extension().is_some_and(|e| e == "csv"));
    finished
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("readable");
            let ids = text.lines().map(|line| line.split(',').next().expect("an id").parse());
            ids.map(|id| id.expect("a number")).collect::<Vec<u64>>()
        })
        .collect()
}

fn arguments(more: &[&str]) -> Vec<String> {
    let rows = ROWS.to_string();
    let fixed = ["--rows", &rows, "--chunk", "100", "--parallel", "4", "--pace", "10"];
    fixed.iter().chain(more).map(|&argument| argument.to_owned()).collect()
}

fn check(folder: &Path, ran: &Ran) {
    assert!(ran.status.success(), "{ran}");
    let good = ROWS - ROWS / 1000;
    let cents: u64 = (1..=ROWS).filter(|id| id % 1000 != 0).map(|id| id % 997).sum();
    for line in [
        format!("{good} rows imported, {cents} cents"),
        "6 bad rows".to_owned(),
        r#"  line 1001: "a lot" is no number of cents"#.to_owned(),
    ] {
        assert!(ran.stdout.lines().any(|said| said == line), "{line:?} is missing: {ran}");
    }
    let ids = imported(folder);
    assert_eq!(ids.len() as u64, good, "a row is missing, or there twice");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len() as u64, good);
}

#[test]
fn an_import_that_is_killed_at_any_moment_has_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    for round in 0..6 {
        let mut child = spawn("fan_out", folder.path(), &arguments(&[]));
        std::thread::sleep(Duration::from_millis(40 + 45 * round));
        child.kill().unwrap();
        killed += u32::from(wait(child).status.code().is_none());
    }
    assert!(killed >= 3, "it ended before it was killed");
    check(folder.path(), &run("fan_out", folder.path(), &arguments(&[])));
}

#[test]
fn an_import_that_dies_around_a_write_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for crash in [["--crash-before-write", "4"], ["--crash-after-write", "7"]] {
        let ran = run("fan_out", folder.path(), &arguments(&crash));
        assert!(ran.stderr.contains("crashing on purpose"), "{ran}");
    }
    check(folder.path(), &run("fan_out", folder.path(), &arguments(&[])));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run("fan_out", folder.path(), &["--file", "nowhere.csv"]);
    assert!(!ran.status.success() && ran.stderr.contains("fan_out: nowhere.csv: "), "{ran}");
}
