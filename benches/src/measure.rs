//! What a run comes to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The figures of one run, by the names of the design.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) peer: &'static str,
    pub(crate) workload: String,
    pub(crate) store: &'static str,
    pub(crate) instances: usize,
    pub(crate) concurrency: usize,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) activities_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) durability: &'static str,
    pub(crate) failed: usize,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_mib: f64,
    /// Calls of the storage service by kind, between the first start and the last completion.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) transactions: BTreeMap<String, u64>,
    /// Figures that only this workload has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<14} {:<7} {:>7} instances, {:>4} at once: {:>8.3} s, {:>9.0}/s, {:>9.0} activities/s, \
             p50 {:.3} ms, p99 {:.3} ms, {} failed, {:.2} s CPU, {:.0} MiB",
            self.workload,
            self.store,
            self.instances,
            self.concurrency,
            self.seconds,
            self.per_second,
            self.activities_per_second,
            self.p50_ms,
            self.p99_ms,
            self.failed,
            self.cpu_seconds,
            self.peak_rss_mib,
        )?;
        if !self.transactions.is_empty() {
            let kinds = self.transactions.iter().map(|(kind, n)| format!("{kind} {n}"));
            write!(f, "\n               {}", kinds.collect::<Vec<_>>().join(", "))?;
        }
        for note in &self.notes {
            write!(f, "\n               {note}")?;
        }
        Ok(())
    }
}

/// Measures from its making on.
pub(crate) struct Meter {
    began: Instant,
    cpu: f64,
}

/// What was done while a meter ran.
pub(crate) struct Done {
    pub(crate) workload: String,
    pub(crate) store: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) activities: usize,
    /// Latency of each instance, or of each step where there is one instance.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) failed: usize,
    pub(crate) notes: Vec<String>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_seconds() }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
    pub(crate) fn report(self, done: Done) -> Report {
        let seconds = self.began.elapsed().as_secs_f64();
        let Done { workload, store, concurrency, activities, mut latencies, failed, notes } = done;
        latencies.sort_unstable();
        Report {
            peer: "durable-core",
            workload,
            store,
            instances: latencies.len(),
            concurrency,
            seconds,
            per_second: latencies.len() as f64 / seconds,
            activities_per_second: activities as f64 / seconds,
            p50_ms: quantile_ms(&latencies, 50),
            p99_ms: quantile_ms(&latencies, 99),
            durability: match store {
                "sqlite" => "WAL, synchronous=FULL",
                "azure" => "that of the storage account",
                "azure emulator" => "none: the emulator keeps all in memory",
                _ => "none",
            },
            failed,
            cpu_seconds: cpu_seconds() - self.cpu,
            peak_rss_mib: peak_rss_mib(),
            transactions: BTreeMap::new(),
            notes,
        }
    }
}

/// A quantile of sorted latencies.
pub(crate) fn quantile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
}

/// CPU time of this process. Source: proc(5), `/proc/self/stat`, fields 14 and 15 in ticks of 1/100 s.
fn cpu_seconds() -> f64 {
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        // The command may hold blanks; what follows its closing parenthesis does not.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
    });
    f64::from(ticks.unwrap_or(0)) / 100.0
}

/// The most memory that this process held so far. Source: proc(5), `VmHWM` in `/proc/self/status`.
pub(crate) fn peak_rss_mib() -> f64 {
    memory_kib("VmHWM:") / 1024.0
}

fn memory_kib(key: &str) -> f64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned();
            line.split_whitespace().next()?.parse::<u32>().ok()
        })
        .map_or(0.0, f64::from)
}
