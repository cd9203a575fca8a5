//! What a person or a program sees of the work: bars, lines or JSON.
//!
//! The driver tells what happens, [`Reporter`] decides how it looks. All methods take `&self` and may be called from any
//! thread. Output that nobody reads any more is dropped silently, as by other programs in a pipe.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::analyze::ColorName;
use crate::folder::PictureId;
use crate::picture::PictureError;
use crate::record::PictureRecord;

/// How the work is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A moving bar for each picture in work, for a terminal.
    Bars,
    /// A line for each finished picture.
    Lines,
    /// A JSON object a line for each file, for programs.
    Json,
}

impl Mode {
    /// Bars if both outputs are terminals, else lines; JSON if it is asked for.
    pub fn choose(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stdout().is_terminal() && io::stderr().is_terminal() {
            Self::Bars
        } else {
            Self::Lines
        }
    }
}

/// A step of the work on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Copying the original into the data folder.
    Upload,
    /// Looking at type, dimensions and structure.
    Validate,
    /// Making thumbnails.
    Resize,
    /// Analyzing the pixels.
    Analyze,
    /// Writing the record.
    Persist,
    /// Telling that it is done.
    Notify,
    /// Removing the files of a picture that is rejected.
    Discard,
}

impl Step {
    const COUNT: u64 = 6;

    fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Validate => "validate",
            Self::Resize => "resize",
            Self::Analyze => "analyze",
            Self::Persist => "persist",
            Self::Notify => "notify",
            Self::Discard => "discard",
        }
    }
}

/// How the work on a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is in the gallery.
    Done,
    /// Its content can not be accepted; nothing of it is kept.
    Rejected,
    /// Something else went wrong; it may be tried again.
    Failed,
}

/// The end of the work on one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The identity of the content, if it could be read.
    pub id: Option<PictureId>,
    /// How it ended.
    pub status: Status,
    /// Why, unless it is done.
    pub reason: Option<String>,
    /// Pixels across and down, upright, if it is done.
    pub size: Option<(u32, u32)>,
    /// Commonest first.
    pub colors: Vec<ColorName>,
    /// Paths that can be opened from the working folder of the program, smallest first.
    pub thumbnails: Vec<String>,
    /// How often the step that was tried most was tried, also if that was in an earlier run of the program.
    pub attempts: u32,
    /// From the start of its orchestration to the end of it, whenever that was; without one, in this run.
    pub duration: Duration,
}

impl Outcome {
    /// The picture is in the gallery, whose data folder is at `root`.
    pub fn done(record: &PictureRecord, root: &Path) -> Self {
        Self {
            id: Some(record.id.clone()),
            status: Status::Done,
            reason: None,
            size: Some((record.width, record.height)),
            colors: record.colors.clone(),
            thumbnails: record
                .thumbnails
                .iter()
                .map(|thumbnail| root.join(&thumbnail.path).display().to_string())
                .collect(),
            attempts: 0,
            duration: Duration::ZERO,
        }
    }

    /// The content can not be accepted.
    pub fn rejected(id: Option<PictureId>, reason: impl Into<String>) -> Self {
        Self::undone(id, Status::Rejected, reason.into())
    }

    /// Something else went wrong.
    pub fn failed(id: Option<PictureId>, reason: impl Into<String>) -> Self {
        Self::undone(id, Status::Failed, reason.into())
    }

    /// Rejected or failed, as the error says.
    pub fn refused(id: Option<PictureId>, error: &PictureError) -> Self {
        if error.is_rejection() {
            Self::rejected(id, error.to_string())
        } else {
            Self::failed(id, error.to_string())
        }
    }

    /// The same with what it took.
    #[must_use]
    pub fn after(mut self, attempts: u32, duration: Duration) -> Self {
        self.attempts = attempts;
        self.duration = duration;
        self
    }

    fn undone(id: Option<PictureId>, status: Status, reason: String) -> Self {
        Self {
            id,
            status,
            reason: Some(reason),
            size: None,
            colors: Vec::new(),
            thumbnails: Vec::new(),
            attempts: 0,
            duration: Duration::ZERO,
        }
    }
}

/// Stands for one file in the calls to a [`Reporter`], so the same name may be given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(usize);

/// How often each end was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that are in the gallery.
    pub done: usize,
    /// Files whose content was not acceptable.
    pub rejected: usize,
    /// Files that something else went wrong with.
    pub failed: usize,
    /// Whether the work was stopped before its end.
    pub is_interrupted: bool,
    /// Whether an answer could not be written out, for another reason than that nobody reads it.
    pub is_output_lost: bool,
}

impl Summary {
    /// What the process ends with, see `--help`.
    pub fn exit_code(&self) -> u8 {
        if self.is_interrupted { 130 } else { u8::from(self.failed > 0 || self.is_output_lost) }
    }
}

/// Shows the work on any number of files.
pub struct Reporter {
    mode: Mode,
    state: Mutex<State>,
}

struct State {
    files: Vec<Shown>,
    summary: Summary,
    out: Output,
    messages: Output,
    bars: MultiProgress,
    total: Option<ProgressBar>,
}

struct Shown {
    name: String,
    bar: Option<ProgressBar>,
    is_finished: bool,
}

impl Reporter {
    /// Shows the work on the terminal, or whatever standard output and standard error are.
    pub fn new(mode: Mode) -> Self {
        let target = match mode {
            Mode::Bars => ProgressDrawTarget::stderr(),
            Mode::Lines | Mode::Json => ProgressDrawTarget::hidden(),
        };
        Self::build(mode, Box::new(io::stdout()), Box::new(io::stderr()), target)
    }

    /// Writes answers to `out` and messages to `messages`. Bars are not shown, what finishes is.
    pub fn with_outputs(
        mode: Mode,
        out: Box<dyn Write + Send>,
        messages: Box<dyn Write + Send>,
    ) -> Self {
        Self::build(mode, out, messages, ProgressDrawTarget::hidden())
    }

    fn build(
        mode: Mode,
        out: Box<dyn Write + Send>,
        messages: Box<dyn Write + Send>,
        target: ProgressDrawTarget,
    ) -> Self {
        let state = State {
            files: Vec::new(),
            summary: Summary::default(),
            out: Output::new(out),
            messages: Output::new(messages),
            bars: MultiProgress::with_draw_target(target),
            total: None,
        };
        Self { mode, state: Mutex::new(state) }
    }

    /// A file is going to be worked on.
    pub fn queued(&self, file: &str) -> Ticket {
        let mut state = self.lock();
        state.files.push(Shown { name: file.to_owned(), bar: None, is_finished: false });
        let count = state.files.len();
        if self.mode == Mode::Bars && count > 1 {
            let State { bars, total, .. } = &mut *state;
            let total = total.get_or_insert_with(|| bars.add(total_bar()));
            total.set_length(count as u64);
        }
        Ticket(count - 1)
    }

    /// A step begins, or begins again after `error`. Steps may overlap and come in any order.
    pub fn step(&self, file: Ticket, step: Step, attempt: u32, error: Option<&str>) {
        let mut state = self.lock();
        let State { files, bars, total, messages, .. } = &mut *state;
        let Some(shown) = files.get_mut(file.0).filter(|shown| !shown.is_finished) else { return };
        let name = printable(&shown.name);
        match self.mode {
            Mode::Bars => {
                let bar = shown.bar.get_or_insert_with(|| {
                    let bar = picture_bar(&name);
                    match total {
                        Some(total) => bars.insert_before(total, bar),
                        None => bars.add(bar),
                    }
                });
                bar.set_position(bar.position().max(step as u64));
                bar.set_message(match error {
                    None if attempt <= 1 => step.name().to_owned(),
                    None => format!("{}, attempt {attempt}", step.name()),
                    Some(error) => {
                        format!("{}, attempt {attempt}: {}", step.name(), printable(error))
                    }
                });
            }
            Mode::Lines | Mode::Json => {
                if let Some(error) = error {
                    let error = printable(error);
                    messages.line(&format!(
                        "{name}: {}, attempt {attempt}, after: {error}",
                        step.name()
                    ));
                }
            }
        }
    }

    /// The work on a file has ended. Only the first end of a file counts.
    pub fn finished(&self, file: Ticket, outcome: &Outcome) {
        let mut state = self.lock();
        let Some(shown) = state.files.get_mut(file.0).filter(|shown| !shown.is_finished) else {
            return;
        };
        shown.is_finished = true;
        let name = shown.name.clone();
        let bar = shown.bar.take();
        match outcome.status {
            Status::Done => state.summary.done += 1,
            Status::Rejected => state.summary.rejected += 1,
            Status::Failed => state.summary.failed += 1,
        }
        match self.mode {
            Mode::Json => state.out.line(&json_line(&name, outcome)),
            Mode::Lines => state.out.line(&human_line(&name, outcome)),
            Mode::Bars => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                    state.bars.remove(&bar);
                }
                if let Some(total) = &state.total {
                    total.inc(1);
                }
                let State { bars, out, .. } = &mut *state;
                bars.suspend(|| out.line(&human_line(&name, outcome)));
            }
        }
    }

    /// Something to tell the person that belongs to no file, such as what to do about a problem.
    pub fn message(&self, text: &str) {
        let mut state = self.lock();
        let State { bars, messages, .. } = &mut *state;
        bars.suspend(|| messages.line(text));
    }

    /// The work was stopped: what has not finished fails, and the exit code becomes that of an interruption.
    pub fn interrupted(&self) {
        self.lock().summary.is_interrupted = true;
        self.given_up("interrupted; run the same command again to go on where it stopped");
    }

    /// The work cannot go on: what has not finished fails for this reason.
    pub fn given_up(&self, reason: &str) {
        let count = self.lock().files.len();
        for index in 0..count {
            self.finished(Ticket(index), &Outcome::failed(None, reason));
        }
    }

    /// Ends the display, with a line that sums up where a person reads it.
    pub fn end(&self) -> Summary {
        let mut state = self.lock();
        if let Some(total) = state.total.take() {
            total.finish_and_clear();
        }
        if self.mode != Mode::Json {
            let Summary { done, rejected, failed, .. } = state.summary;
            let total = done + rejected + failed;
            let pictures = if total == 1 { "picture" } else { "pictures" };
            let line =
                format!("{total} {pictures}: {done} done, {rejected} rejected, {failed} failed");
            state.out.line(&line);
        }
        if let Some(error) = state.out.error.take() {
            state.summary.is_output_lost = true;
            state.messages.line(&format!("cannot write the answers: {error}"));
        }
        state.summary
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while writing a line leaves nothing behind that the next line would depend on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that lines are written to until it fails.
struct Output {
    writer: Box<dyn Write + Send>,
    is_closed: bool,
    error: Option<io::Error>,
}

impl Output {
    fn new(writer: Box<dyn Write + Send>) -> Self {
        Self { writer, is_closed: false, error: None }
    }

    fn line(&mut self, line: &str) {
        if self.is_closed {
            return;
        }
        // In one piece, so that lines of other processes on the same terminal do not get in between.
        let written = self
            .writer
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| self.writer.flush());
        if let Err(error) = written {
            self.is_closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.error = Some(error);
            }
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    file: &'a str,
    id: Option<&'a PictureId>,
    status: Status,
    reason: Option<&'a str>,
    width: Option<u32>,
    height: Option<u32>,
    colors: &'a [ColorName],
    thumbnails: &'a [String],
    attempts: u32,
    milliseconds: u64,
}

fn json_line(file: &str, outcome: &Outcome) -> String {
    let line = JsonLine {
        file,
        id: outcome.id.as_ref(),
        status: outcome.status,
        reason: outcome.reason.as_deref(),
        width: outcome.size.map(|(width, _)| width),
        height: outcome.size.map(|(_, height)| height),
        colors: &outcome.colors,
        thumbnails: &outcome.thumbnails,
        attempts: outcome.attempts,
        milliseconds: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
    };
    // Nothing in it can fail to be written: no map with odd keys, no foreign serializer.
    serde_json::to_string(&line).unwrap_or_else(|error| format!(r#"{{"error":"{error}"}}"#))
}

fn human_line(name: &str, outcome: &Outcome) -> String {
    let mut line = printable(name);
    match outcome.status {
        Status::Done => line.push_str(": done"),
        Status::Rejected => line.push_str(": rejected"),
        Status::Failed => line.push_str(": failed"),
    }
    if let Some(reason) = &outcome.reason {
        line.push_str(": ");
        line.push_str(&printable(reason));
        return line;
    }
    if let Some((width, height)) = outcome.size {
        line.push_str(&format!(", {width} x {height} px"));
    }
    if !outcome.colors.is_empty() {
        let names: Vec<_> =
            outcome.colors.iter().map(|name| name.to_string().to_lowercase()).collect();
        line.push_str(&format!(", {}", names.join("/")));
    }
    let thumbnails = outcome.thumbnails.len();
    line.push_str(&format!(", {thumbnails} thumbnail{}", if thumbnails == 1 { "" } else { "s" }));
    if outcome.attempts > 1 {
        line.push_str(&format!(", {} attempts", outcome.attempts));
    }
    line.push_str(&format!(", {:.1} s", outcome.duration.as_secs_f32()));
    line
}

/// A file may have any name; it must not move the cursor or fake a line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn picture_bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(Step::COUNT).with_prefix(name.to_owned());
    bar.set_style(style("{prefix:<28!} [{bar:12}] {wide_msg}"));
    bar
}

fn total_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(style("{pos} of {len} pictures [{bar:24}] {elapsed}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A writer whose content can be looked at afterwards.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reporter(mode: Mode) -> (Reporter, Paper, Paper) {
        let (out, messages) = (Paper::default(), Paper::default());
        (
            Reporter::with_outputs(mode, Box::new(out.clone()), Box::new(messages.clone())),
            out,
            messages,
        )
    }

    fn done() -> Outcome {
        Outcome {
            id: Some(PictureId::of(b"")),
            status: Status::Done,
            reason: None,
            size: Some((451, 300)),
            colors: vec![ColorName::Brown, ColorName::Black],
            thumbnails: vec!["data/thumbnails/x/320.jpg".to_owned()],
            attempts: 1,
            duration: Duration::from_millis(1234),
        }
    }

    #[test]
    fn a_json_line_has_its_fields_in_order() {
        let (reporter, out, messages) = reporter(Mode::Json);
        let good = reporter.queued("cat.png");
        let bad = reporter.queued("no\n\"picture\".png");
        reporter.step(good, Step::Resize, 2, Some("disk full"));
        reporter
            .finished(bad, &Outcome::rejected(None, "the file is empty").after(1, Duration::ZERO));
        reporter.finished(good, &done());
        reporter.end();
        let id = PictureId::of(b"");
        assert_eq!(
            out.text(),
            format!(
                "{}\n{}\n",
                r#"{"file":"no\n\"picture\".png","id":null,"status":"rejected","reason":"the file is empty","width":null,"height":null,"colors":[],"thumbnails":[],"attempts":1,"milliseconds":0}"#,
                format_args!(
                    r#"{{"file":"cat.png","id":"{id}","status":"done","reason":null,"width":451,"height":300,"colors":["Brown","Black"],"thumbnails":["data/thumbnails/x/320.jpg"],"attempts":1,"milliseconds":1234}}"#
                )
            )
        );
        assert_eq!(messages.text(), "cat.png: resize, attempt 2, after: disk full\n");
    }

    #[test]
    fn every_file_gets_exactly_one_line_whatever_happens() {
        let (reporter, out, _) = reporter(Mode::Json);
        let tickets: Vec<_> = (0..3).map(|_| reporter.queued("same.png")).collect();
        reporter.finished(tickets[0], &done());
        reporter.finished(tickets[0], &Outcome::failed(None, "late"));
        reporter.interrupted();
        reporter.finished(tickets[1], &done());
        assert_eq!(out.text().lines().count(), 3);
        let summary = reporter.end();
        assert_eq!((summary.done, summary.failed, summary.exit_code()), (1, 2, 130));
    }

    #[test]
    fn lines_are_for_people_and_end_with_a_sum() {
        for mode in [Mode::Lines, Mode::Bars] {
            let (reporter, out, _) = reporter(mode);
            let good = reporter.queued("cat\x1b[2J.png");
            let bad = reporter.queued("b.png");
            reporter.step(good, Step::Upload, 1, None);
            reporter.finished(good, &done());
            reporter.finished(bad, &Outcome::failed(None, "disk full"));
            assert_eq!(reporter.end().exit_code(), 1);
            assert_eq!(
                out.text(),
                "cat\u{fffd}[2J.png: done, 451 x 300 px, brown/black, 1 thumbnail, 1.2 s\n\
                 b.png: failed: disk full\n\
                 2 pictures: 1 done, 0 rejected, 1 failed\n"
            );
        }
    }

    #[test]
    fn a_closed_pipe_is_silent_and_a_full_disk_is_not() {
        for (kind, exit_code) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            let messages = Paper::default();
            let reporter = Reporter::with_outputs(
                Mode::Json,
                Box::new(Broken(kind)),
                Box::new(messages.clone()),
            );
            let file = reporter.queued("a.png");
            reporter.finished(file, &done());
            assert_eq!(reporter.end().exit_code(), exit_code);
            assert_eq!(messages.text().is_empty(), exit_code == 0, "{}", messages.text());
        }
    }

    #[test]
    fn rejected_pictures_are_no_failure() {
        let (reporter, _, _) = reporter(Mode::Lines);
        let file = reporter.queued("a.png");
        reporter.finished(file, &Outcome::refused(None, &PictureError::Empty));
        assert_eq!(reporter.end(), Summary { rejected: 1, ..Summary::default() });
    }
}
