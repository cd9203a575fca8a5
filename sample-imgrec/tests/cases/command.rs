//! The program as it is called.

use std::collections::HashSet;
use std::fs;
use std::process::Stdio;

use crate::support::generate::*;
use crate::support::program::*;

#[test]
fn one_json_line_for_each_file_in_good_and_bad() {
    let place = tempfile::tempdir().unwrap();
    let picture = jpeg(&drawing(700, 400));
    fs::write(place.path().join("good.jpg"), &picture).unwrap();
    fs::write(place.path().join("twin.png"), &picture).unwrap();
    fs::write(place.path().join("text.png"), "no picture").unwrap();
    fs::write(place.path().join("cut.jpg"), &picture[..picture.len() / 2]).unwrap();
    fs::write(place.path().join("empty.gif"), "").unwrap();
    let files = ["good.jpg", "twin.png", "text.png", "cut.jpg", "empty.gif", "good.jpg"];
    for run_number in 0..2 {
        let output = run(place.path(), &[&["process", "--json"][..], &files].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let lines = json_lines(&output);
        assert_eq!(lines.len(), files.len(), "run {run_number}");
        let mut named: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(named, ["cut.jpg", "empty.gif", "good.jpg", "good.jpg", "text.png", "twin.png"]);
        for line in &lines {
            let is_good = ["good.jpg", "twin.png"].contains(&line["file"].as_str().unwrap());
            assert_eq!(line["status"], if is_good { "done" } else { "rejected" });
            assert_eq!(line["reason"].is_null(), is_good);
            assert_eq!(line["id"].as_str().unwrap().len(), 64);
            if is_good {
                assert_eq!((&line["width"], &line["height"]), (&700.into(), &400.into()));
                let thumbnails = line["thumbnails"].as_array().unwrap();
                assert_eq!(thumbnails.len(), 3);
                for path in thumbnails {
                    assert!(place.path().join(path.as_str().unwrap()).is_file());
                }
            }
        }
    }
    let kept: Vec<String> = ["originals", "thumbnails", "records"]
        .iter()
        .flat_map(|part| files_under(&place.path().join("data").join(part)))
        .collect();
    assert_eq!(kept.len(), 5, "an original, three thumbnails and a record: {kept:#?}");
}

#[test]
fn a_missing_file_fails_and_the_others_are_done() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.png"), png(drawing(20, 20))).unwrap();
    let output = run(place.path(), &["process", "nothing.png", "a.png", "--data", "elsewhere"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("nothing.png: failed") && text.contains("no such file"), "{text}");
    assert!(text.contains("1 done, 0 rejected, 1 failed"), "{text}");
    assert!(place.path().join("elsewhere/records").is_dir());
}

#[test]
fn without_a_command_its_own_pictures_are_processed() {
    let place = tempfile::tempdir().unwrap();
    let output = run(place.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("4 done"));
    assert_eq!(files_under(&place.path().join("data/records")).len(), 4);
}

#[test]
fn the_data_folder_may_come_from_the_environment() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.png"), png(drawing(20, 20))).unwrap();
    let status = program(place.path())
        .args(["process", "a.png"])
        .env("IMGREC_DATA", "by-environment")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() && place.path().join("by-environment/records").is_dir());
}

#[test]
fn a_wrong_command_line_and_an_impossible_folder_are_told_apart() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(run(place.path(), &["process"]).status.code(), Some(2));
    assert_eq!(run(place.path(), &["proces", "a.png"]).status.code(), Some(2));
    fs::write(place.path().join("data"), "a file").unwrap();
    let output = run(place.path(), &["process", "a.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--data"));
}

#[test]
fn a_reader_that_goes_away_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.png"), png(drawing(20, 20))).unwrap();
    let mut child = program(place.path())
        .args(["process", "--json", "a.png", "a.png"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn many_different_pictures_are_many_records() {
    let pictures: Vec<_> = numbered(500).collect();
    assert_eq!(pictures.iter().map(|(_, bytes)| bytes).collect::<HashSet<_>>().len(), 500);

    let place = tempfile::tempdir().unwrap();
    let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
    for (name, bytes) in &pictures {
        fs::write(place.path().join(name), bytes).unwrap();
    }
    let output = run(place.path(), &[&["process", "--json"][..], &names].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json_lines(&output).len(), 500);
    assert_eq!(files_under(&place.path().join("data/records")).len(), 500);
}
