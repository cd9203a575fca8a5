//! The way of a picture, step by step.
//!
//! For now the steps simply run one after the other in this process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::analyze::{AnalyzeOptions, analyze_bytes};
use crate::cli::{Cli, Command};
use crate::folder::{DataFolder, Ingested, PictureId};
use crate::picture::{Deadline, PictureError, plan, thumbnail_from_bytes, validate};
use crate::record::PictureRecord;
use crate::report::{Mode, Outcome, Reporter, Step, Ticket};
use crate::samples::SAMPLES;

/// Carries out a command line.
pub fn run(cli: Cli) -> ExitCode {
    let reporter = Reporter::new(Mode::choose(cli.options.json));
    let folder = match DataFolder::open(&cli.options.data) {
        Ok(folder) => folder,
        Err(error) => {
            reporter.message(&format!("{error}; choose another folder with --data"));
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = folder.sweep_temporary() {
        reporter.message(&error.to_string());
    }
    let sources: Vec<Source> = match cli.command {
        Some(Command::Process { files }) => files.into_iter().map(Source::File).collect(),
        None => SAMPLES.iter().map(|sample| Source::Bytes(sample.name, sample.bytes)).collect(),
    };
    let queued: Vec<_> =
        sources.iter().map(|source| (reporter.queued(&source.shown()), source)).collect();
    for (ticket, source) in queued {
        let start = Instant::now();
        let outcome = process(&folder, &reporter, ticket, source);
        reporter.finished(ticket, &outcome.after(1, start.elapsed()));
    }
    ExitCode::from(reporter.end().exit_code())
}

enum Source {
    File(PathBuf),
    Bytes(&'static str, &'static [u8]),
}

impl Source {
    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes(name, _) => (*name).to_owned(),
        }
    }

    fn file_name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Bytes(name, _) => (*name).to_owned(),
        }
    }
}

fn process(folder: &DataFolder, reporter: &Reporter, ticket: Ticket, source: &Source) -> Outcome {
    reporter.step(ticket, Step::Upload, 1, None);
    let ingested = match source {
        Source::File(path) => folder.ingest(path),
        Source::Bytes(_, bytes) => folder.ingest_bytes(bytes),
    };
    let (id, size) = match ingested {
        Ok(Ingested::Stored { id, size }) => (id, size),
        Ok(Ingested::Refused { id, why }) => return Outcome::refused(id, &why),
        Err(error) => return Outcome::refused(None, &error),
    };
    match steps(folder, reporter, ticket, &id, size, &source.file_name()) {
        Ok(record) => Outcome::done(&record, folder.root()),
        Err(error) => {
            let removed = if error.is_rejection() { folder.remove(&id) } else { Ok(()) };
            Outcome::refused(Some(id), removed.as_ref().err().unwrap_or(&error))
        }
    }
}

fn steps(
    folder: &DataFolder,
    reporter: &Reporter,
    ticket: Ticket,
    id: &PictureId,
    size: u64,
    file_name: &str,
) -> Result<PictureRecord, PictureError> {
    let step = |step| reporter.step(ticket, step, 1, None);
    let bytes = folder.original(id)?;
    step(Step::Validate);
    let header = validate(&bytes)?;
    step(Step::Resize);
    let mut thumbnails = Vec::new();
    for side in plan(header.width, header.height) {
        let picture = thumbnail_from_bytes(&bytes, side, Deadline::standard())?;
        thumbnails.push(folder.write_thumbnail(id, &picture)?);
    }
    step(Step::Analyze);
    let analysis = analyze_bytes(&bytes, AnalyzeOptions::default(), Deadline::standard())?;
    step(Step::Persist);
    let record = PictureRecord::new(id.clone(), file_name, size, thumbnails, analysis);
    folder.write_record(&record)?;
    Ok(record)
}
