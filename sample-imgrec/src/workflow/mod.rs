//! The way of a picture: one durable orchestration, whose steps are activities.
//!
//! ```text
//! validate ─┬─ resize 320 ──┬─ persist ── notify
//!           ├─ resize 640 ──┤
//!           ├─ resize 1280 ─┤
//!           └─ analyze ─────┘
//! ```
//!
//! The instance id is the picture's id, so the same content is never worked on twice. A step that fails is tried again
//! as its policy says; one that fails because of what the picture *is* ends the work as [`Processed::Rejected`].

pub mod activities;
mod attempts;

use durable_core::WorkerBuilder;
use durable_core::prelude::*;
use futures::future::join;
use serde::{Deserialize, Serialize};

pub use attempts::{Attempts, Progress};

use crate::folder::{DataFolder, PictureId};
use crate::record::PictureRecord;
use crate::report::Step;
use activities::{REJECTED, analyze, discard, notify, persist, resize, validate};

/// A picture whose original is in the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The identity of the content.
    pub id: PictureId,
    /// The name the file came with, without its folder.
    pub file_name: String,
    /// Bytes of the original.
    pub size: u64,
}

/// How the work on a picture ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Processed {
    /// It is in the gallery.
    Done {
        /// How often the step that was tried most was tried.
        attempts: u32,
    },
    /// Its content can not be accepted; nothing of it is kept.
    Rejected {
        /// A sentence for whoever chose the file.
        reason: String,
        /// How often the step that was tried most was tried.
        attempts: u32,
    },
}

/// Takes a picture into the gallery, or turns it away.
#[orchestrator]
pub async fn process_image(
    ctx: OrchestrationContext,
    upload: Upload,
) -> Result<Processed, OrchestrationError> {
    let attempts = Attempts::new(&ctx);
    match take_in(&ctx, &attempts, &upload).await {
        Ok(()) => Ok(Processed::Done { attempts: attempts.most() }),
        Err(error) if error.is(REJECTED) => {
            let remove = || ctx.call(discard, &upload.id).timeout(secs(30));
            attempts.of(Step::Discard, disk(), remove).await?;
            let reason = error.message().to_owned();
            Ok(Processed::Rejected { reason, attempts: attempts.most() })
        }
        Err(error) => Err(OrchestrationError::from(error).details(&attempts.most())),
    }
}

async fn take_in(
    ctx: &OrchestrationContext,
    attempts: &Attempts,
    upload: &Upload,
) -> Result<(), CallError> {
    let id = &upload.id;
    let sizes =
        attempts.of(Step::Validate, disk(), || ctx.call(validate, id).timeout(secs(10))).await?;

    let thumbnails = ctx.join_all(sizes.iter().map(|&size| {
        let call = move || ctx.call(resize, &(id.clone(), size)).timeout(secs(30));
        attempts.of(Step::Resize, pixels(), call)
    }));
    let analysis = attempts.of(Step::Analyze, pixels(), || ctx.call(analyze, id).timeout(secs(30)));
    // All of them to their ends, also when one fails: after a rejection nothing may write any more.
    let (thumbnails, analysis) = join(thumbnails, analysis).await;
    let thumbnails = thumbnails.into_iter().collect::<Result<_, _>>()?;

    let record =
        PictureRecord::new(id.clone(), &*upload.file_name, upload.size, thumbnails, analysis?);
    attempts.of(Step::Persist, disk(), || ctx.call(persist, &record).timeout(secs(30))).await?;
    attempts.of(Step::Notify, disk(), || ctx.call(notify, upload).timeout(secs(30))).await
}

/// For steps that read and write: what is in their way is often gone a moment later.
fn disk() -> RetryPolicy {
    RetryPolicy::exponential(millis(200)).attempts(5)
}

/// For steps that compute: they run out of time on a busy machine, so they leave it more of it.
fn pixels() -> RetryPolicy {
    RetryPolicy::exponential(secs(1)).attempts(4)
}

/// Adds the orchestrator and its activities to a worker.
pub fn register(worker: WorkerBuilder, folder: DataFolder) -> WorkerBuilder {
    worker
        .register(process_image)
        .register(validate)
        .register(resize)
        .register(analyze)
        .register(persist)
        .register(notify)
        .register(discard)
        .state(folder)
        .max_blocking_activities(decoders())
}

/// How many pictures are decoded at once. Each may take 430 MB, so many cores do not mean many of them.
fn decoders() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4)
}
