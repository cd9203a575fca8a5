//! What can be seen from outside: metrics by their documented names, and log lines that are not repeated.
//!
//! A recorder, and a subscriber, is one for all threads of a process. So these stories have a process each: other
//! tests neither write to it nor meet it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use durable_core::prelude::*;
use durable_core::telemetry as names;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

use super::hub::{Hub, PATIENCE, tell};

/// Says in the child which story it is for.
const STORY: &str = "TELEMETRY_STORY";

/// Runs a story of this file in a process of its own: this binary once more.
fn alone(story: &str, told: impl FnOnce()) {
    if std::env::var_os(STORY).is_some_and(|asked| asked == story) {
        told();
        return;
    }
    let (_, module) = module_path!().split_once("::").expect("a crate and its modules");
    let this = std::env::current_exe().expect("this binary has a path");
    let child = Command::new(this)
        .args(["--exact", &format!("{module}::{story}"), "--nocapture"])
        .env(STORY, story)
        .output()
        .expect("the child runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&child.stdout), text(&child.stderr));
    let passed = child.status.success() && said.contains("1 passed");
    assert!(passed, "{}\n{said}\n{complained}", child.status);
}

#[derive(Clone, Default)]
struct Touched(Arc<Mutex<BTreeSet<String>>>);

struct One(Touched, String);

impl One {
    fn touch(&self) {
        self.0.0.lock().expect("no panic here").insert(self.1.clone());
    }
}

impl CounterFn for One {
    fn increment(&self, _value: u64) {
        self.touch();
    }

    fn absolute(&self, _value: u64) {
        self.touch();
    }
}

impl GaugeFn for One {
    fn increment(&self, _value: f64) {
        self.touch();
    }

    fn decrement(&self, _value: f64) {
        self.touch();
    }

    fn set(&self, _value: f64) {
        self.touch();
    }
}

impl HistogramFn for One {
    fn record(&self, _value: f64) {
        self.touch();
    }
}

impl Recorder for Touched {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(One(self.clone(), key.name().to_owned())))
    }
}

/// Waits for an event between two calls, and logs at each step.
#[orchestrator]
async fn talks(ctx: OrchestrationContext, n: u32) -> Result<u32, OrchestrationError> {
    tracing::info!("begins {n}");
    ctx.call_by_name::<()>("work", &()).retry(RetryPolicy::fixed(millis(1)).attempts(2)).await?;
    tracing::info!("worked {n}");
    ctx.wait_event::<()>("go").await?;
    tracing::info!("goes {n}");
    ctx.sleep(millis(1)).await;
    tracing::info!("ends {n}");
    Ok(n)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(talks).register_activity_fn("work", |ctx, (): ()| async move {
        if ctx.attempt() == 1 { Err(ActivityError::new("Busy", "again")) } else { Ok(()) }
    });
    registry.register_orchestrator_fn("diverges", |_, (): ()| async { Ok(()) });
    registry
}

/// Runs 20 of them with room for none, so that each step is a replay.
async fn all_of_them(hub: &Hub) {
    let builder = hub.builder(registry()).cache_bytes(0).max_concurrent_activities(1);
    let worker = builder.start().await.expect("started");
    let mut handles = Vec::new();
    for n in 0..20 {
        handles.push(worker.client().start(talks, n).await.expect("started"));
    }
    for handle in &handles {
        handle.raise_event("go", &()).await.expect("accepted");
    }
    for handle in handles {
        handle.output_within(PATIENCE).await.expect("completed");
    }
    worker.shutdown().await.expect("a clean end");
}

#[test]
fn the_documented_metrics_appear() {
    alone("the_documented_metrics_appear", the_metrics_appear);
}

fn the_metrics_appear() {
    let touched = Touched::default();
    metrics::set_global_recorder(touched.clone()).expect("the first one of this process");
    tell(Hub::in_a_file(), |hub: Hub| async move { all_of_them(&hub).await });
    let touched = touched.0.lock().expect("no panic here").clone();
    for name in [
        names::INSTANCES_STARTED,
        names::INSTANCES_ENDED,
        names::INSTANCES_RESIDENT,
        names::CACHE_BYTES,
        names::EVICTIONS,
        names::REPLAYS,
        names::TURNS,
        names::COMMITS,
        names::COMMIT_SECONDS,
        names::ACTIVITY_RETRIES,
        names::ACTIVITIES_STARTED,
        names::ACTIVITIES_FAILED,
        names::ACTIVITIES_RUNNING,
        names::ACTIVITIES_WAITING,
    ] {
        assert!(touched.contains(name), "{name} is not among {touched:?}");
    }
    let documented = |name: &String| name.starts_with("durable_");
    assert!(touched.iter().all(documented), "{touched:?}");
}

/// Keeps the messages of all events, and the fields of all spans.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    messages: Vec<String>,
    spans: Vec<String>,
}

struct Written(Vec<u8>);

impl Visit for Written {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Written(span.metadata().name().as_bytes().to_vec());
        span.record(&mut text);
        let mut lines = self.0.lock().expect("no panic here");
        lines.spans.push(String::from_utf8_lossy(&text.0).into_owned());
        Id::from_u64(lines.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Written(Vec::new());
        event.record(&mut text);
        let text = String::from_utf8_lossy(&text.0).into_owned();
        self.0.lock().expect("no panic here").messages.push(text);
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_line_that_an_orchestrator_logs_appears_once_however_often_it_is_replayed() {
    alone(
        "a_line_that_an_orchestrator_logs_appears_once_however_often_it_is_replayed",
        each_line_appears_once,
    );
}

fn each_line_appears_once() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).expect("the first one of this process");
    tell(Hub::in_a_file(), |hub: Hub| async move { all_of_them(&hub).await });
    let lines = log.0.lock().expect("no panic here");
    for n in 0..20 {
        for step in ["begins", "worked", "goes", "ends"] {
            let line = format!("{step} {n}");
            let times = lines.messages.iter().filter(|message| **message == line).count();
            assert_eq!(times, 1, "{line:?}");
        }
    }
    let has = |parts: &[&str]| {
        lines.spans.iter().any(|span| parts.iter().all(|part| span.contains(part)))
    };
    assert!(has(&["orchestrator", "instance="]), "{:?}", lines.spans);
    assert!(has(&["activity", "instance=", "activity=work", "attempt=2"]), "{:?}", lines.spans);
}
