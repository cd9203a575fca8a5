//! Queues.

use std::time::Duration;

use azure_core::base64;
use azure_storage_queues::{PopReceipt, QueueClient};

use super::call::{Caller, Tries};
use super::fault::{Fault, created, deleted};
use super::transactions::Kind;

/// Bytes that a message may have before it is turned into base64.
const MESSAGE_BYTES_MAX: usize = 48 * 1024;
/// Messages that one get may return.
const MESSAGES_MAX: u32 = 32;
/// The service knows no "never"; unset, messages vanish after a week.
const TIME_TO_LIVE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The longest that a message can be hidden.
const VISIBILITY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Codes that say: this receipt is not, or no longer, good for this message.
const NOT_OURS: [&str; 2] = ["MessageNotFound", "PopReceiptMismatch"];

/// A queue.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    client: QueueClient,
    caller: Caller,
}

/// A message that was got, hidden from others until its visibility ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// Which message it is.
    pub(crate) id: String,
    /// Shows that it is ours, until someone gets or updates it again.
    pub(crate) receipt: String,
    /// As it was put; as it is stored where it was not put by this crate.
    pub(crate) text: String,
    /// How often it was got, this time counted.
    pub(crate) dequeue_count: i64,
}

impl Queue {
    pub(super) fn new(client: QueueClient, caller: Caller) -> Self {
        Self { client, caller }
    }

    /// Creates it. That it exists already is success.
    pub(crate) async fn create(&self) -> Result<(), Fault> {
        let request = |context| self.client.create().context(context).into_future();
        let answer = self.caller.call(Kind::Create, Tries::Several, request).await;
        created(answer, "QueueAlreadyExists")
    }

    /// Deletes it with all its messages. That it is missing is success.
    pub(crate) async fn delete(&self) -> Result<(), Fault> {
        let request = |context| self.client.delete().context(context).into_future();
        deleted(self.caller.call(Kind::Delete, Tries::Several, request).await)
    }

    /// Appends a message: any text, at most 48 KiB.
    pub(crate) async fn put(&self, text: &str) -> Result<(), Fault> {
        self.put_later(text, Duration::ZERO).await
    }

    /// The same, to be seen after `pause`, in whole seconds, rounded up.
    pub(crate) async fn put_later(&self, text: &str, pause: Duration) -> Result<(), Fault> {
        let body = encode(text)?;
        let pause = whole_seconds(pause);
        let request = |context| {
            let mut message = self.client.put_message(body.clone()).ttl(TIME_TO_LIVE);
            if !pause.is_zero() {
                message = message.visibility_timeout(pause);
            }
            message.context(context).into_future()
        };
        self.caller.call(Kind::QueuePut, Tries::One, request).await.map(|_| ())
    }

    /// At most `max` messages (32 are the most), hidden from others for `visibility` in whole seconds,
    /// rounded up.
    pub(crate) async fn get(&self, max: u32, visibility: Duration) -> Result<Vec<Received>, Fault> {
        let max = u8::try_from(max.clamp(1, MESSAGES_MAX)).unwrap_or(1);
        let visibility = whole_seconds(visibility).max(Duration::from_secs(1));
        let request = |context| {
            let messages = self.client.get_messages().number_of_messages(max);
            messages.visibility_timeout(visibility).context(context).into_future()
        };
        // A get hides what it finds, but what a lost answer hid comes back by itself.
        let answer = self.caller.call(Kind::QueueGet, Tries::Several, request).await?;
        let messages = answer.read()?.messages.into_iter().map(|message| Received {
            id: message.message_id,
            receipt: message.pop_receipt,
            text: decode(message.message_text),
            dequeue_count: i64::try_from(message.dequeue_count).unwrap_or(i64::MAX),
        });
        Ok(messages.collect())
    }

    /// Removes a message that was got. `false`: it is no longer ours, or gone.
    pub(crate) async fn remove(&self, id: &str, receipt: &str) -> Result<bool, Fault> {
        let client = self.client.pop_receipt_client(PopReceipt::new(id, receipt));
        let request = |context| client.delete().context(context).into_future();
        match self.caller.call(Kind::QueueDelete, Tries::One, request).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is_refused_as(&NOT_OURS) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Sets text and visibility of a message that was got, and returns its new receipt. `None`: it is no
    /// longer ours, or gone.
    pub(crate) async fn update(
        &self,
        id: &str,
        receipt: &str,
        text: &str,
        visibility: Duration,
    ) -> Result<Option<String>, Fault> {
        let body = encode(text)?;
        let client = self.client.pop_receipt_client(PopReceipt::new(id, receipt));
        let visibility = whole_seconds(visibility);
        let request =
            |context| client.update(body.clone(), visibility).context(context).into_future();
        match self.caller.call(Kind::QueueUpdate, Tries::One, request).await {
            Ok(answer) => Ok(Some(answer.read()?.pop_receipt)),
            Err(fault) if fault.is_refused_as(&NOT_OURS) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Removes all messages.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests empty queues"))]
    pub(crate) async fn clear(&self) -> Result<(), Fault> {
        let request = |context| self.client.clear_messages().context(context).into_future();
        self.caller.call(Kind::QueueClear, Tries::One, request).await.map(|_| ())
    }
}

/// The service loses white space at the ends, and chokes on characters that XML forbids.
fn encode(text: &str) -> Result<String, Fault> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(Fault::malformed(format!(
            "a message of {} bytes, more than {MESSAGE_BYTES_MAX}",
            text.len()
        )));
    }
    Ok(base64::encode(text))
}

/// What cannot be decoded was put by someone else: one such message must not hide its neighbours.
fn decode(stored: String) -> String {
    let bytes = base64::decode(&stored).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(stored)
}

fn whole_seconds(duration: Duration) -> Duration {
    let up = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(up)).min(VISIBILITY_MAX)
}
