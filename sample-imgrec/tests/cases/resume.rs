//! What a run finds of earlier ones, and of others at the same time.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use durable_core::prelude::*;
use sample_imgrec::folder::PictureId;
use sample_imgrec::workflow::Upload;

use crate::support::generate::*;
use crate::support::program::*;

#[test]
fn what_is_done_is_told_again_and_not_done_again() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    fs::write(place.path().join("a.jpg"), jpeg(&drawing(400, 300))).unwrap();
    fs::write(place.path().join("b.png"), png(drawing(30, 20))).unwrap();
    fs::write(place.path().join("text.png"), "no picture").unwrap();
    let command = ["process", "--json", "a.jpg", "b.png", "text.png"];
    let first = run(place.path(), &command);
    let (files, log) = (written(&data), log_lines(&data));
    assert_eq!((files.len(), log.len()), (3 + 4, 2), "{files:#?}");
    for _ in 0..2 {
        let again = run(place.path(), &command);
        assert_eq!(sorted_lines(&again), sorted_lines(&first));
        assert_eq!((written(&data), log_lines(&data)), (files.clone(), log.clone()));
    }
}

#[test]
fn one_content_under_two_names_is_one_picture() {
    let place = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png", "c.png"] {
        fs::write(place.path().join(name), png(drawing(30, 20))).unwrap();
    }
    let files = ["a.png", "b.png", "c.png", "a.png"];
    let output = run(place.path(), &[&["process", "--json"][..], &files].concat());
    let mut lines = json_lines(&output);
    assert_eq!(lines.len(), 4);
    for line in &mut lines {
        line["file"].take();
    }
    lines.dedup();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(log_lines(&place.path().join("data")).len(), 1);
}

#[test]
fn what_somebody_deleted_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    fs::write(place.path().join("a.jpg"), jpeg(&drawing(400, 300))).unwrap();
    let command = ["process", "a.jpg"];
    assert!(run(place.path(), &command).status.success());
    let whole = contents(&data);
    for path in whole.keys() {
        fs::remove_file(data.join(path)).unwrap();
        assert!(run(place.path(), &command).status.success());
        assert_eq!(contents(&data), whole, "without {path}");
    }
    for file in ["imgrec.sqlite", "imgrec.sqlite-wal", "imgrec.sqlite-shm"] {
        let _ = fs::remove_file(data.join(file));
    }
    assert!(run(place.path(), &command).status.success());
    assert_eq!(contents(&data), whole);
}

#[test]
fn a_step_that_keeps_failing_fails_its_picture_and_the_next_run_tries_again() {
    let place = tempfile::tempdir().unwrap();
    let picture = png(drawing(30, 20));
    fs::write(place.path().join("a.png"), &picture).unwrap();
    let record = place.path().join(format!("data/records/{}.json", PictureId::of(&picture)));
    fs::create_dir_all(&record).unwrap();
    let failed = run(place.path(), &["process", "--json", "a.png"]);
    assert_eq!(failed.status.code(), Some(1));
    let line = &json_lines(&failed)[0];
    assert_eq!((&line["status"], &line["attempts"]), (&"failed".into(), &5.into()), "{line}");
    assert!(line["reason"].as_str().unwrap().contains("cannot write"), "{line}");
    let messages = String::from_utf8(failed.stderr).unwrap();
    assert!(messages.contains("a.png: persist, attempt 5, after: cannot write"), "{messages}");

    fs::remove_dir(&record).unwrap();
    let output = run(place.path(), &["process", "--json", "a.png"]);
    assert_eq!(json_lines(&output)[0]["status"], "done");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn leftovers_of_a_run_that_died_early_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let originals = place.path().join("data/originals");
    fs::create_dir_all(&originals).unwrap();
    fs::write(place.path().join("a.png"), png(drawing(30, 20))).unwrap();
    let refused = "refused before, came back when the program died";
    fs::write(place.path().join("refused.png"), refused).unwrap();
    let command = ["process", "a.png", "refused.png"];
    assert!(run(place.path(), &command).status.success());
    let whole = contents(&place.path().join("data"));

    fs::write(originals.join(PictureId::of(b"never begun").as_str()), "never begun").unwrap();
    fs::write(originals.join(PictureId::of(refused.as_bytes()).as_str()), refused).unwrap();
    fs::write(originals.join(".writing-1-1"), "half").unwrap();
    assert!(run(place.path(), &["process", "a.png"]).status.success());
    assert_eq!(contents(&place.path().join("data")), whole);
}

#[orchestrator(name = "process_image")]
async fn of_another_version(
    ctx: OrchestrationContext,
    _upload: Upload,
) -> Result<(), OrchestrationError> {
    Ok(ctx.call(step_of_another_version, &()).await?)
}

#[activity]
async fn step_of_another_version(ctx: ActivityContext) -> Result<(), ActivityError> {
    ctx.cancelled().await;
    ctx.check_cancelled()
}

#[test]
fn work_begun_by_a_version_with_other_steps_is_given_up_and_begun_anew() {
    let place = tempfile::tempdir().unwrap();
    let picture = png(drawing(30, 20));
    fs::write(place.path().join("a.png"), &picture).unwrap();
    fs::create_dir(place.path().join("data")).unwrap();
    let id = PictureId::of(&picture);
    let upload = Upload { id: id.clone(), file_name: "a.png".to_owned(), size: 1 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(place.path().join("data/imgrec.sqlite")).unwrap();
        let worker = Worker::builder(store)
            .register(of_another_version)
            .register(step_of_another_version)
            .shutdown_timeout(millis(10))
            .start()
            .await
            .unwrap();
        let start = worker.client().start(of_another_version, upload).id(id.as_str());
        let handle = start.await.unwrap();
        while handle.status().await.unwrap().runtime_status() != RuntimeStatus::Running {
            tokio::time::sleep(millis(10)).await;
        }
        worker.shutdown().await.unwrap();
    });
    drop(runtime);

    let output = run(place.path(), &["process", "--json", "a.png"]);
    assert_eq!(output.status.code(), Some(1));
    let line = &json_lines(&output)[0];
    assert!(line["reason"].as_str().unwrap().contains("step_of_another_version"), "{line}");
    assert!(run(place.path(), &["process", "a.png"]).status.success());
}

#[test]
fn a_second_process_on_the_folder_is_told_who_uses_it() {
    let (place, names) = much_to_do();
    let mut first = begun(place.path(), &names);
    let second = run(place.path(), &["process", &names[0]]);
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains(&format!("process ({})", first.id())), "{message}");
    assert!(message.contains("--data"), "{message}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(run(place.path(), &["process", &names[0]]).status.success());
}

#[cfg(unix)]
#[test]
fn an_interrupted_program_ends_soon_and_goes_on_later() {
    use std::io::Read;
    for signal in ["-INT", "-TERM"] {
        let (place, names) = much_to_do();
        let mut child = begun(place.path(), &names);
        let mut rest = child.stdout.take().unwrap();
        let sent = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        let mut lines = String::new();
        rest.read_to_string(&mut lines).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        // `begun` took the first.
        assert_eq!(lines.lines().count(), names.len() - 1, "one for each file, as ever");
        assert!(lines.contains("interrupted; run the same command again"), "{lines}");

        let mut command = vec!["process", "--json"];
        command.extend(names.iter().map(String::as_str));
        let output = run(place.path(), &command);
        assert_eq!(output.status.code(), Some(0));
        assert!(json_lines(&output).iter().all(|line| line["status"] == "done"));
        assert_eq!(log_lines(&place.path().join("data")).len(), names.len());
    }
}

#[test]
fn a_hub_that_cannot_be_used_is_named() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.png"), png(drawing(30, 20))).unwrap();
    fs::create_dir(place.path().join("data")).unwrap();
    fs::write(place.path().join("data/imgrec.sqlite"), "no database ".repeat(500)).unwrap();
    let output = run(place.path(), &["process", "a.png"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("cannot use data/imgrec.sqlite: "), "{message}");
}

/// Work for a few seconds.
fn much_to_do() -> (tempfile::TempDir, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (name, bytes) in numbered_of(40, 200, 150) {
        fs::write(place.path().join(&name), bytes).unwrap();
        names.push(name);
    }
    (place, names)
}

/// The program at work, with a first picture done.
fn begun(place: &Path, names: &[String]) -> Child {
    let mut child = program(place)
        .args(["process", "--json"])
        .args(names)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::with_capacity(1, child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"done\""), "{line}");
    child.stdout = Some(out.into_inner());
    child
}
