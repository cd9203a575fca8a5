//! The program as a process, and what it leaves on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;

/// The program, to be run in a folder of its own.
pub(crate) fn program(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample-imgrec"));
    command.current_dir(place).env_remove("IMGREC_DATA").stdin(Stdio::null());
    command
}

pub(crate) fn run(place: &Path, arguments: &[&str]) -> Output {
    program(place).args(arguments).output().unwrap()
}

pub(crate) fn json_lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn files_under(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The lines in an order that does not depend on which picture was faster.
pub(crate) fn sorted_lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<_> = json_lines(output).iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

/// The files of the pictures in a data folder, by their paths in it, with their content.
pub(crate) fn contents(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = PICTURE_FOLDERS.iter().flat_map(|part| files_under(&data.join(part)));
    paths
        .map(|path| {
            let inside = Path::new(&path).strip_prefix(data).unwrap().display().to_string();
            (inside, fs::read(&path).unwrap())
        })
        .collect()
}

/// When each of these files was written.
pub(crate) fn written(data: &Path) -> BTreeMap<String, SystemTime> {
    contents(data)
        .into_keys()
        .map(|path| {
            let time = fs::metadata(data.join(&path)).unwrap().modified().unwrap();
            (path, time)
        })
        .collect()
}

/// The lines of the log without their times, sorted.
pub(crate) fn log_lines(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("imgrec.log")).unwrap();
    let mut lines: Vec<_> =
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    lines.sort();
    lines
}

pub(crate) const PICTURE_FOLDERS: [&str; 3] = ["originals", "records", "thumbnails"];
