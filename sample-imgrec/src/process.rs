//! The command that takes pictures in: one orchestration for each, run by a worker in this process.
//!
//! What a picture is known by is its content, so before anything is done the hub is asked about it. What an earlier run
//! finished is reported again, what it was killed in goes on, what failed is tried anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use durable_core::prelude::*;
use durable_core::{Failure, InstanceStatus, StartError, StoreError};
use futures::{StreamExt, stream};
use tokio::sync::OnceCell;

use crate::cli::{Cli, Command};
use crate::folder::{DataFolder, Identified, PictureId};
use crate::log::show_warnings;
use crate::picture::PictureError;
use crate::report::{Mode, Outcome, Reporter, Step, Ticket};
use crate::samples::SAMPLES;
use crate::workflow::{Processed, Progress, Upload, process_image, register};

/// Pictures in work at once. Enough to keep the processors busy and to share disk flushes; more would only make those
/// at the front wait for those behind.
const IN_WORK_MAX: usize = 16;

/// How often an orchestration that the engine holds is resumed before it is given up.
const RESUMES_MAX: u32 = 3;

/// How long an interrupted program waits for the steps that run.
const DRAIN: Duration = Duration::from_secs(3);

/// How long the program waits at its end for its threads, which close the hub.
const CLOSE: Duration = Duration::from_millis(200);

/// Carries out a command line.
pub fn run(cli: Cli) -> ExitCode {
    let reporter = Arc::new(Reporter::new(Mode::choose(cli.options.json)));
    show_warnings(&reporter);
    let sources: Vec<Source> = match cli.command {
        Some(Command::Process { files }) => files.into_iter().map(Source::File).collect(),
        None => SAMPLES.iter().map(|sample| Source::Bytes(sample.name, sample.bytes)).collect(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            reporter.message(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let processed = runtime.block_on(process(&cli.options.data, sources, &reporter));
    // A step that did not end in time is not waited for much longer: it is taken up by the next run.
    runtime.shutdown_timeout(CLOSE);
    match processed {
        Ok(()) => ExitCode::from(reporter.end().exit_code()),
        Err(problem) => {
            reporter.message(&problem);
            ExitCode::FAILURE
        }
    }
}

/// Takes in pictures and reports about each. The error is a sentence about why nothing could be begun.
async fn process(data: &Path, sources: Vec<Source>, reporter: &Reporter) -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot start: {error}"))?;
    let folder = DataFolder::open(data)
        .map_err(|error| format!("{error}; choose another folder with --data"))?;
    let worker = start_worker(&folder).await?;
    let client = worker.client();
    if let Err(error) = sweep(&folder, &client).await {
        reporter.message(&error.to_string());
    }
    let work =
        Work { folder, client, reporter, known: Mutex::default(), stops: AtomicBool::new(false) };
    let queued: Vec<_> =
        sources.into_iter().map(|source| (reporter.queued(&source.shown()), source)).collect();
    let mut all = pin!(
        stream::iter(queued)
            .for_each_concurrent(IN_WORK_MAX, |(ticket, source)| { work.file(ticket, source) })
    );
    let interrupted = tokio::select! {
        () = &mut all => false,
        () = signals.next() => true,
        ended = worker.ended() => {
            let why = ended.err().map_or_else(|| "the worker ended".to_owned(), |e| e.to_string());
            reporter.given_up(&format!("{why}; run the same command again to go on"));
            false
        }
    };
    if interrupted {
        work.stops.store(true, Ordering::Relaxed);
    }
    let mut shutdown = pin!(worker.shutdown());
    // What ends meanwhile is still reported.
    let finish = async {
        all.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // An end in disorder has been told already, or changes nothing any more.
        _ = &mut shutdown => {}
        () = finish, if interrupted => {}
        () = signals.next() => work.stops.store(true, Ordering::Relaxed),
    }
    if interrupted {
        reporter.interrupted();
    }
    Ok(())
}

async fn start_worker(folder: &DataFolder) -> Result<Worker, String> {
    let path = folder.root().join("imgrec.sqlite");
    let start = async {
        let worker = Worker::builder(SqliteStore::open(&path)?).shutdown_timeout(DRAIN);
        register(worker, folder.clone()).start().await
    };
    start.await.map_err(|error| match error {
        StartError::Store(StoreError::HubInUse { pid }) => format!(
            "the folder {} is in use by another process{}; wait for its end, or choose another folder with --data",
            folder.root().display(),
            pid.map(|pid| format!(" ({pid})")).unwrap_or_default()
        ),
        error => format!("cannot use {}: {error}", path.display()),
    })
}

/// Removes what a dead run left behind that no later step would: half-written files, and originals that were taken in but
/// whose work was never begun, or had ended with their refusal.
async fn sweep(folder: &DataFolder, client: &Client) -> Result<(), Trouble> {
    let unrecorded = {
        let folder = folder.clone();
        blocking(move || {
            folder.sweep_temporary()?;
            folder.unrecorded()
        })
        .await?
    };
    for id in unrecorded {
        let status = client.status(&InstanceId::new(id.as_str())?).await?;
        let is_leftover = match &status {
            None => true,
            Some(status) => matches!(status.output(), Ok(Some(Processed::Rejected { .. }))),
        };
        if is_leftover {
            let folder = folder.clone();
            blocking(move || folder.remove(&id)).await?;
        }
    }
    Ok(())
}

/// Why a picture got no answer from its orchestration.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Id(#[from] durable_core::InvalidName),
}

/// Where a picture comes from.
#[derive(Clone)]
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

    fn identify(&self) -> Result<Identified, PictureError> {
        match self {
            Self::File(path) => DataFolder::identify(path),
            Self::Bytes(_, bytes) => {
                Ok(Identified::Fit { id: PictureId::of(bytes), size: bytes.len() as u64 })
            }
        }
    }

    fn ingest(&self, folder: &DataFolder, id: &PictureId) -> Result<(), PictureError> {
        match self {
            Self::File(path) => folder.ingest(path, id),
            Self::Bytes(_, bytes) => folder.ingest_bytes(bytes, id),
        }
    }
}

/// All pictures of one run.
struct Work<'a> {
    folder: DataFolder,
    client: Client,
    reporter: &'a Reporter,
    /// The outcome of each content, so that what is given twice is worked on once.
    known: Mutex<HashMap<PictureId, Arc<OnceCell<Outcome>>>>,
    /// Nothing new is begun any more.
    stops: AtomicBool,
}

impl Work<'_> {
    async fn file(&self, ticket: Ticket, source: Source) {
        if self.stops.load(Ordering::Relaxed) {
            return;
        }
        let start = Instant::now();
        self.reporter.step(ticket, Step::Upload, 1, None);
        let identified = {
            let source = source.clone();
            blocking(move || source.identify()).await
        };
        let outcome = match identified {
            Ok(Identified::Fit { id, size }) => {
                let cell = {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.entry(id.clone()).or_default().clone()
                };
                let upload = Upload { id: id.clone(), file_name: source.file_name(), size };
                let outcome = cell.get_or_try_init(|| self.picture(ticket, upload, &source)).await;
                match outcome {
                    Ok(outcome) => outcome.clone(),
                    // Work that was begun goes on by itself, or in the next run.
                    Err(_) if self.stops.load(Ordering::Relaxed) => return,
                    Err(error) => {
                        Outcome::failed(Some(id), error.to_string()).after(1, start.elapsed())
                    }
                }
            }
            Ok(Identified::Refused { id, why }) => {
                Outcome::refused(id, &why).after(1, start.elapsed())
            }
            Err(error) => Outcome::refused(None, &error).after(1, start.elapsed()),
        };
        self.reporter.finished(ticket, &outcome);
    }

    /// Brings a picture to its end, from wherever it is.
    async fn picture(
        &self,
        ticket: Ticket,
        upload: Upload,
        source: &Source,
    ) -> Result<Outcome, Trouble> {
        let id = upload.id.clone();
        let handle = self.client.instance_of(process_image, id.as_str())?;
        let present = self.client.status(handle.id()).await?;
        let ended = match present {
            Some(status) if status.has_ended() => match self.result(&id, &status).await? {
                Some(outcome) => return Ok(outcome),
                None => self.start(ticket, upload, source).await?,
            },
            Some(_) => {
                self.ingest(&id, source).await?;
                let ended = self.follow(ticket, &handle).await?;
                if is_of_earlier_run(&ended) {
                    self.start(ticket, upload, source).await?
                } else {
                    ended
                }
            }
            None => self.start(ticket, upload, source).await?,
        };
        match self.result(&id, &ended).await? {
            Some(outcome) => {
                // Its steps removed it; taken in meanwhile, it came back.
                if outcome.size.is_none() && self.folder.has_original(&id) {
                    let folder = self.folder.clone();
                    blocking(move || folder.remove(&id)).await?;
                }
                Ok(outcome)
            }
            None => Ok(failed(&id, &ended)),
        }
    }

    async fn start(
        &self,
        ticket: Ticket,
        upload: Upload,
        source: &Source,
    ) -> Result<InstanceStatus, Trouble> {
        self.ingest(&upload.id, source).await?;
        let id = upload.id.clone();
        let handle =
            self.client.start(process_image, upload).id(id.as_str()).use_existing().await?;
        self.follow(ticket, &handle).await
    }

    async fn ingest(&self, id: &PictureId, source: &Source) -> Result<(), Trouble> {
        let (folder, id, source) = (self.folder.clone(), id.clone(), source.clone());
        Ok(blocking(move || source.ingest(&folder, &id)).await?)
    }

    /// Shows the steps of an orchestration up to its end.
    async fn follow(
        &self,
        ticket: Ticket,
        handle: &Handle<Processed>,
    ) -> Result<InstanceStatus, Trouble> {
        let mut shown = None;
        let mut resumes = 0;
        let mut changes = pin!(handle.watch());
        while let Some(status) = changes.next().await {
            let status = status?;
            if status.has_ended() {
                return Ok(status);
            }
            if let Some(hold) = status.hold() {
                if resumes < RESUMES_MAX {
                    // Most likely a run was killed while it read this picture's history.
                    handle.resume("the picture was asked for again").await?;
                    resumes += 1;
                } else {
                    // So that the next run begins it anew.
                    handle.terminate(&*hold.message).await?;
                }
            }
            let progress = status.custom_status::<Progress>().ok().flatten();
            if let Some(now) = &progress
                && progress != shown
            {
                let error = now.last_error.as_deref();
                self.reporter.step(ticket, now.step, now.attempt, error);
                shown = progress;
            }
        }
        Err(ClientError::NotFound(handle.id().clone()).into())
    }

    /// What an orchestration that has ended came to, if that still holds.
    async fn result(
        &self,
        id: &PictureId,
        status: &InstanceStatus,
    ) -> Result<Option<Outcome>, Trouble> {
        let duration = lasted(status);
        if status.runtime_status() != RuntimeStatus::Completed {
            return Ok(None);
        }
        Ok(match status.output() {
            Ok(Some(Processed::Done { attempts })) => {
                let (folder, id) = (self.folder.clone(), id.clone());
                let record = blocking(move || folder.whole_record(&id)).await?;
                record.map(|record| {
                    Outcome::done(&record, self.folder.root()).after(attempts, duration)
                })
            }
            Ok(Some(Processed::Rejected { reason, attempts })) => {
                Some(Outcome::rejected(Some(id.clone()), reason).after(attempts, duration))
            }
            // Of another version of this program.
            Ok(None) | Err(_) => None,
        })
    }
}

/// Whether work that an earlier run began failed of what was wrong then, such as a full disk. What takes the process down
/// is wrong still.
fn is_of_earlier_run(ended: &InstanceStatus) -> bool {
    ended.failure().is_some_and(|failure| failure.kind != "WorkerLost")
}

fn failed(id: &PictureId, status: &InstanceStatus) -> Outcome {
    let attempts = status.failure().and_then(|failure| failure.details.as_ref()?.to().ok());
    let reason = match status.failure() {
        Some(failure) => sentence(failure),
        None => match status.output::<String>() {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => "its files are gone already; process it again".to_owned(),
        },
    };
    Outcome::failed(Some(id.clone()), reason).after(attempts.unwrap_or(1), lasted(status))
}

fn sentence(failure: &Failure) -> String {
    match &failure.cause {
        Some(cause) => format!("{}: {}", failure.message, sentence(cause)),
        None => failure.message.clone(),
    }
}

fn lasted(status: &InstanceStatus) -> Duration {
    (status.updated_at() - status.created_at()).to_std().unwrap_or_default()
}

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PictureError> + Send + 'static,
) -> Result<T, PictureError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The wish of a person or the system that this program ends.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
