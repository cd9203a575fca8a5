//! Hubs in Azure Storage, and what its calls are compared with.

use std::collections::BTreeMap;

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::HubName;
use durable_emulator::Emulator;

type Error = Box<dyn std::error::Error>;

/// Calls that a hub makes anyway, whether there is work or not: not counted to the work.
const IDLE: &[&str] = &["queue_get_empty"];

/// A hub of a run of its own, removed afterwards.
pub(crate) struct AzureHub {
    pub(crate) store: AzureStore,
    /// `None` where the account is a real one, or somebody else's emulator.
    emulator: Option<Emulator>,
}

impl AzureHub {
    pub(crate) async fn make(connection: Option<&str>, partitions: u16) -> Result<Self, Error> {
        let (connection, emulator) = match connection {
            Some(connection) => (Connection::parse(connection)?, None),
            None => {
                let emulator = Emulator::start()?;
                (Connection::parse(&emulator.connection_string())?, Some(emulator))
            }
        };
        let hub = HubName::new(format!("bench{}", std::process::id()))?;
        let options = AzureOptions { hub, partitions, ..AzureOptions::default() };
        let store = AzureStore::open(&connection, options).await?;
        Ok(Self { store, emulator })
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.emulator.is_some() { "azure emulator" } else { "azure" }
    }

    pub(crate) fn transactions(&self) -> BTreeMap<String, u64> {
        let counted = self.store.transactions();
        counted.iter().map(|(kind, n)| (kind.to_owned(), n)).collect()
    }

    pub(crate) async fn remove(self) -> Result<(), Error> {
        Ok(self.store.delete_hub().await?)
    }
}

/// What was counted in between.
pub(crate) fn between(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let earlier = |kind: &String| before.get(kind).copied().unwrap_or_default();
    after
        .iter()
        .map(|(kind, n)| (kind.clone(), n - earlier(kind)))
        .filter(|(_, n)| *n > 0)
        .collect()
}

fn counted(transactions: &BTreeMap<String, u64>) -> f64 {
    let of_work = transactions.iter().filter(|(kind, _)| !IDLE.contains(&kind.as_str()));
    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
    of_work.map(|(_, n)| *n as f64).sum()
}

/// Chains of five activities, beside the budgets of the design.
#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(crate) fn chains(
    transactions: &BTreeMap<String, u64>,
    instances: usize,
    sequential: bool,
) -> String {
    let each = counted(transactions) / instances as f64;
    if sequential {
        format!("{each:.2} transactions for each chain (budget 7; Durable Functions 54)")
    } else {
        let activity = each / 5.0;
        format!(
            "{activity:.3} transactions for each activity (budget 0.1; Durable Functions about 9)"
        )
    }
}

/// Fan-outs of a hundred instant activities, beside the budget of the design.
#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(crate) fn fan_outs(transactions: &BTreeMap<String, u64>, instances: usize) -> String {
    format!(
        "{:.2} transactions for each fan-out (budget 10; Durable Functions 518 to 910)",
        counted(transactions) / instances as f64
    )
}
