//! The world outside the engine: warehouse, payment service and carrier, as one file of JSON lines.
//!
//! Each service does a thing once for each idempotency key, and answers a second request of the same key
//! with what it did the first time. That is what makes "at least once" harmless.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use durable_core::ActivityContext;
use serde::{Deserialize, Serialize};

use crate::workflow::Order;

/// A step of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Reserve,
    Charge,
    Ship,
    Refund,
    Release,
}

/// Where the process is to end: after a step's effect, when the engine does not know of it yet, or after
/// its result was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CrashAfter {
    Reserve,
    ReserveRecorded,
    Charge,
    ChargeRecorded,
    Ship,
    ShipRecorded,
    Refund,
    RefundRecorded,
    Release,
    ReleaseRecorded,
}

impl CrashAfter {
    fn effect(step: Step) -> Self {
        match step {
            Step::Reserve => Self::Reserve,
            Step::Charge => Self::Charge,
            Step::Ship => Self::Ship,
            Step::Refund => Self::Refund,
            Step::Release => Self::Release,
        }
    }

    fn recorded(step: Step) -> Self {
        match step {
            Step::Reserve => Self::ReserveRecorded,
            Step::Charge => Self::ChargeRecorded,
            Step::Ship => Self::ShipRecorded,
            Step::Refund => Self::RefundRecorded,
            Step::Release => Self::ReleaseRecorded,
        }
    }
}

/// One line of the ledger: something that happened, once.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    number: u64,
    step: Step,
    order: String,
    cents: u32,
    key: String,
}

/// The services, as the activities see them.
#[derive(Clone)]
pub(crate) struct World {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: PathBuf,
    pace: Duration,
    crash: Option<CrashAfter>,
    /// The last step of this process. Held while a step works: one at a time.
    last: Mutex<Option<Step>>,
}

impl World {
    pub(crate) fn new(ledger: PathBuf, pace: Duration, crash: Option<CrashAfter>) -> Self {
        Self { shared: Arc::new(Shared { ledger, pace, crash, last: Mutex::new(None) }) }
    }

    /// Does a step once for the call's idempotency key; returns the number of its line.
    pub(crate) fn once(&self, step: Step, ctx: &ActivityContext, order: &Order) -> io::Result<u64> {
        self.crash_if_recorded();
        std::thread::sleep(self.shared.pace);
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, lines) = self.read()?;
        let key = ctx.idempotency_key();
        let number = match lines.iter().find(|line| line.key == key) {
            Some(line) => {
                println!("  {}", again(step, line));
                line.number
            }
            None => {
                let number = lines.len() as u64 + 1;
                let line = Line { number, step, order: order.id.clone(), cents: order.cents, key };
                let mut text = serde_json::to_vec(&line)?;
                text.push(b'\n');
                file.write_all(&text)?;
                file.sync_data()?;
                println!("  {}", told(step, order, number));
                number
            }
        };
        *last = Some(step);
        self.crash_if(CrashAfter::effect(step));
        Ok(number)
    }

    /// A step that the outside refuses for good.
    pub(crate) fn refuse(&self, step: Step) {
        self.crash_if_recorded();
        std::thread::sleep(self.shared.pace);
        println!("  the carrier refuses it");
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        self.crash_if(CrashAfter::effect(step));
    }

    /// Whether a step of the order had its effect.
    pub(crate) fn has(&self, step: Step, order: &Order) -> io::Result<bool> {
        let (_, lines) = self.read()?;
        Ok(lines.iter().any(|line| line.step == step && line.order == order.id))
    }

    /// The engine asks for the next step, or tells the end, only when the result of the one before is
    /// durable. So this is the moment after that.
    pub(crate) fn crash_if_recorded(&self) {
        let last = *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = last {
            self.crash_if(CrashAfter::recorded(step));
        }
    }

    fn crash_if(&self, here: CrashAfter) {
        if self.shared.crash == Some(here) {
            eprintln!("crashing on purpose after {here:?}");
            std::process::abort();
        }
    }

    /// All lines, and the file, to append to. A line without its end was told to nobody: it goes.
    fn read(&self) -> io::Result<(File, Vec<Line>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.shared.ledger)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let lines = text[..whole].lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((file, lines))
    }
}

fn told(step: Step, order: &Order, number: u64) -> String {
    let Order { item, cents, .. } = order;
    match step {
        Step::Reserve => format!("reserved one {item}"),
        Step::Charge => format!("charged {cents} cents (receipt {number})"),
        Step::Ship => format!("shipped (parcel {number})"),
        Step::Refund => format!("refunded {cents} cents"),
        Step::Release => format!("released the {item}"),
    }
}

fn again(step: Step, line: &Line) -> String {
    let number = line.number;
    match step {
        Step::Reserve => "stock was already reserved".to_owned(),
        Step::Charge => format!("payment was already made: same receipt {number}"),
        Step::Ship => format!("it was already shipped: same parcel {number}"),
        Step::Refund => "payment was already refunded".to_owned(),
        Step::Release => "stock was already released".to_owned(),
    }
}
