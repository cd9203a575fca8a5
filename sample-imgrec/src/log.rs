//! What the engine has to say to a person: its warnings, among the other messages.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::report::Reporter;

/// How long the same warning is not repeated. A disk that is full is noticed several times a second.
const QUIET: Duration = Duration::from_secs(30);

/// Shows warnings and errors of the whole process from now on.
pub fn show_warnings(reporter: &Arc<Reporter>) {
    let warnings = Warnings { reporter: reporter.clone(), last: Mutex::new(None) };
    // Somebody who set up more than this before gets what they set up.
    let _ = tracing::subscriber::set_global_default(warnings);
}

struct Warnings {
    reporter: Arc<Reporter>,
    last: Mutex<Option<(String, Instant)>>,
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields);
        let is_new = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let repeats =
                last.as_ref().is_some_and(|(said, at)| *said == text && at.elapsed() < QUIET);
            if !repeats {
                *last = Some((text.clone(), Instant::now()));
            }
            !repeats
        };
        if is_new {
            self.reporter.message(&text);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "error" | "reason" | "why" => self.fields.push_str(&format!(": {value:?}")),
            name => self.fields.push_str(&format!(", {name} {value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::report::Mode;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_is_said_once_and_the_rest_not_at_all() {
        let paper = Paper::default();
        let reporter =
            Reporter::with_outputs(Mode::Json, Box::new(std::io::sink()), Box::new(paper.clone()));
        let warnings = Warnings { reporter: Arc::new(reporter), last: Mutex::new(None) };
        tracing::subscriber::with_default(warnings, || {
            tracing::info!("started");
            for _ in 0..3 {
                tracing::warn!(partition = 0, reason = "disk full", "a commit has to wait");
            }
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "a commit has to wait, partition 0: disk full\n");
    }
}
