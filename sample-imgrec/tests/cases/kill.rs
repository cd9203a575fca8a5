//! The program is killed, over and over, and nothing is lost, done twice or left half done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use durable_core::prelude::*;

use crate::support::generate::*;
use crate::support::program::*;

#[test]
fn killed_a_few_times_it_ends_complete() {
    killed(12);
}

/// The full measure: `cargo nextest run -p sample-imgrec --run-ignored all -E 'test(killed_50_times)'`
#[test]
#[ignore = "takes a quarter of a minute; a dozen kills run every time"]
fn killed_50_times_it_ends_complete() {
    killed(50);
}

/// Kills the program this often, each time within 300 ms of its start, and looks at what it comes to in the end.
///
/// On a machine that is done sooner it is killed sooner, so that the kills find it at work.
fn killed(times: usize) {
    let place = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (name, bytes) in numbered_of(40, 160, 120) {
        fs::write(place.path().join(&name), &bytes).unwrap();
        // What is refused in the middle of the work leaves nothing either.
        if name == "0007.png" {
            fs::write(place.path().join("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
            let mut flipped = bytes;
            let middle = flipped.len() / 2;
            flipped[middle] ^= 1;
            fs::write(place.path().join("flipped.png"), flipped).unwrap();
        }
        names.push(name);
    }
    names.extend(["cut.png".to_owned(), "flipped.png".to_owned()]);
    let process = |data: &str| {
        let mut command = program(place.path());
        command.args(["process", "--json", "--data", data]).args(&names);
        command
    };

    let start = Instant::now();
    assert_eq!(process("undisturbed").output().unwrap().status.code(), Some(0));
    let longest = (6 * start.elapsed().as_millis() / times as u128).clamp(30, 300);

    let mut hits = 0;
    for random in noise(42).take(times) {
        let mut child =
            process("data").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random % u64::try_from(longest).unwrap()));
        hits += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(hits > 0, "no kill found it at work: it needs more to do");

    let output = process("data").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 42);
    for line in &lines {
        let is_good = line["file"].as_str().unwrap().starts_with('0');
        assert_eq!(line["status"], if is_good { "done" } else { "rejected" }, "{line}");
    }

    // Byte by byte what a run without any disturbance makes of it, and nothing else.
    let (data, undisturbed) = (place.path().join("data"), place.path().join("undisturbed"));
    let (made, expected) = (contents(&data), contents(&undisturbed));
    assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(made == expected, "the files differ");
    let log = |data: &Path| {
        let lines = log_lines(data);
        // Without the number of the run.
        lines.iter().map(|line| line[..69].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(log(&data), log(&undisturbed), "each picture is announced once");
    check_hub(&data);
}

/// One orchestration for each content, all of them completed, in a file that is whole.
fn check_hub(data: &Path) {
    let path = data.join("imgrec.sqlite");
    {
        let file = rusqlite::Connection::open(&path).unwrap();
        let verdict: String =
            file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counts = runtime
        .block_on(async { Client::new(SqliteStore::open(&path).unwrap()).counts().await.unwrap() });
    assert_eq!(counts, BTreeMap::from([(RuntimeStatus::Completed, 42)]));
}
