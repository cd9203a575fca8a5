//! Stored histories, replayed against the code as it is now.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use durable_machine::model::EventSeq;
use durable_machine::replay::Orchestration;

use super::story;
use crate::client::HistoryFile;
use crate::orchestration::silenced;
use crate::registry::Registry;

/// What a replay that went through says.
///
/// ```
/// use durable_core::HistoryFile;
/// use durable_core::prelude::*;
/// use durable_core::testing::{TestHub, replay};
/// # #[orchestrator]
/// # async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(hours(1)).await; Ok(()) }
///
/// # let hub = TestHub::new().register(nap);
/// # let instance = hub.start(nap, ());
/// # instance.output().unwrap();
/// # let recorded = HistoryFile::new(instance.status().row().key(), instance.history());
/// let mut registry = Registry::new();
/// registry.register(nap);
/// let replayed = replay(&recorded, &registry).unwrap();
/// assert_eq!((replayed.events, replayed.input_differences), (recorded.events().len(), 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Events that were replayed.
    pub events: usize,
    /// Calls whose input differs from the recorded one. The recorded one stands, so the engine goes on, with a
    /// warning; it is worth a look.
    pub input_differences: u32,
}

/// The code does not fit a history. Displays as the history with a mark where they part.
///
/// ```
/// use durable_core::HistoryFile;
/// use durable_core::prelude::*;
/// use durable_core::testing::{TestHub, replay};
///
/// #[orchestrator(name = "nap")]
/// async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
///     ctx.sleep(hours(1)).await;
///     Ok(())
/// }
///
/// /// Changed code, that asks for something else.
/// #[orchestrator(name = "nap")]
/// async fn new_nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
///     Ok(ctx.call_by_name("lie_down", &()).await?)
/// }
///
/// # let hub = TestHub::new().register(nap);
/// # let instance = hub.start(nap, ());
/// # instance.output().unwrap();
/// # let recorded = HistoryFile::new(instance.status().row().key(), instance.history());
/// let mut registry = Registry::new();
/// registry.register(new_nap);
/// let failed = replay(&recorded, &registry).unwrap_err();
/// assert_eq!(failed.event(), Some(1));
/// assert!(failed.to_string().contains("does not fit the code"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayFailed {
    at: Option<EventSeq>,
    text: String,
}

impl ReplayFailed {
    /// Position of the event at which code and history part; `None` where the code is not there.
    #[must_use]
    pub fn event(&self) -> Option<usize> {
        self.at.and_then(|seq| usize::try_from(seq.0).ok())
    }
}

impl fmt::Display for ReplayFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ReplayFailed {}

/// Replays a history against the orchestrator of its name. Activities are not called.
///
/// ```
/// use durable_core::HistoryFile;
/// use durable_core::prelude::*;
/// use durable_core::testing::{TestHub, replay};
///
/// #[orchestrator]
/// async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
///     ctx.sleep(hours(1)).await;
///     Ok(())
/// }
///
/// // Recorded some time ago, and kept beside the tests: `client.export_history(id)`.
/// # let hub = TestHub::new().register(nap);
/// # let instance = hub.start(nap, ());
/// # instance.output().unwrap();
/// # let key = instance.status().row().key();
/// # let recorded = HistoryFile::new(key, instance.history());
/// let mut registry = Registry::new();
/// registry.register(nap);
/// replay(&recorded, &registry).unwrap();
/// ```
///
/// # Errors
///
/// [`ReplayFailed`] where the code asks for something else than was recorded, or is not registered.
pub fn replay(history: &HistoryFile, registry: &Registry) -> Result<Replayed, ReplayFailed> {
    let instance = &history.execution().instance;
    let events = history.events();
    let Some(name) = history.orchestrator() else {
        let text =
            format!("the history of {instance} is empty: it had not run when it was exported");
        return Err(ReplayFailed { at: None, text });
    };
    let Some(code) = registry.orchestrator_functions().get(name).cloned() else {
        let known: Vec<_> = registry.orchestrators().collect();
        let text = format!(
            "{instance} is of orchestrator {name:?}, which is not registered; registered are: {}",
            known.join(", ")
        );
        return Err(ReplayFailed { at: None, text });
    };
    let key = history.execution().clone();
    match silenced(|| Orchestration::new(key, code, None).replay(events)) {
        Ok(report) => {
            Ok(Replayed { events: events.len(), input_differences: report.input_differences })
        }
        Err(divergence) => {
            let begin = events.first().map(|event| event.at).unwrap_or_default();
            let place = usize::try_from(divergence.seq.0).ok();
            let text = format!(
                "{instance} of orchestrator {name:?} does not fit the code: {divergence}\n{}{}",
                story::told(events, begin, place),
                if place.is_some_and(|place| place >= events.len()) {
                    "->       the code goes on here\n"
                } else {
                    ""
                }
            );
            Err(ReplayFailed { at: Some(divergence.seq), text })
        }
    }
}

/// The `main` of a program that replays the files, and all `.json` files of the folders, named on its command line:
/// says of each whether it fits, and fails if one does not.
///
/// As `examples/replay.rs` of a crate it is `cargo run --example replay -- histories/`:
///
/// ```no_run
/// use durable_core::prelude::*;
///
/// # #[orchestrator]
/// # async fn place_order(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { Ok(()) }
/// fn main() -> std::process::ExitCode {
///     let mut registry = Registry::new();
///     registry.register(place_order);
///     durable_core::testing::replay_main(&registry)
/// }
/// ```
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is the main of a program")]
pub fn replay_main(registry: &Registry) -> ExitCode {
    let named: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if named.is_empty() || named.iter().any(|path| path == Path::new("--help")) {
        eprintln!("Replays exported histories against this code.\n\nUsage: … FILE-OR-FOLDER…");
        return if named.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let (mut fit, mut failed) = (0_usize, 0_usize);
    for path in files(&named) {
        let said = path.and_then(|path| {
            let history =
                HistoryFile::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let replayed = replay(&history, registry)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((path, replayed))
        });
        match said {
            Ok((path, Replayed { events, input_differences })) => {
                fit += 1;
                let differ = match input_differences {
                    0 => String::new(),
                    n => format!("; {n} calls have another input than recorded"),
                };
                println!("{}: fits, {events} events{differ}", path.display());
            }
            Err(text) => {
                failed += 1;
                eprintln!("{text}");
            }
        }
    }
    println!("{fit} fit, {failed} do not");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files that are named, and those of the folders that are, in order.
fn files(named: &[PathBuf]) -> Vec<Result<PathBuf, String>> {
    let mut found = Vec::new();
    for path in named {
        if !path.is_dir() {
            found.push(Ok(path.clone()));
            continue;
        }
        let mut inside: Vec<PathBuf> = match std::fs::read_dir(path) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) => {
                found.push(Err(format!("{}: {error}", path.display())));
                continue;
            }
        };
        inside.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        inside.sort();
        found.extend(inside.into_iter().map(Ok));
    }
    found
}
