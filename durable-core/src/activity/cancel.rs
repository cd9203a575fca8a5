//! Telling an attempt that its result is no longer wanted.

use tokio::sync::watch;

/// Cancels one attempt. Dropping it does not.
///
/// ```
/// use durable_core::prelude::*;
///
/// /// Adds up until somebody says stop.
/// #[activity]
/// async fn add_up(ctx: ActivityContext) -> Result<u64, ActivityError> {
///     let mut sum = 0;
///     while !ctx.is_cancelled() {
///         sum += 1;
///         tokio::task::yield_now().await;
///     }
///     Ok(sum)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (context, handle) = ActivityContext::for_test_cancellable(1);
/// let added = tokio::spawn(add_up.run(context));
/// handle.cancel();
/// assert!(added.await?.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CancelHandle(watch::Sender<bool>);

impl CancelHandle {
    /// Tells the attempt. The second time changes nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }
}

/// The attempt's side.
#[derive(Debug, Clone)]
pub(super) struct Cancelled(watch::Receiver<bool>);

pub(super) fn channel() -> (CancelHandle, Cancelled) {
    let (sender, receiver) = watch::channel(false);
    (CancelHandle(sender), Cancelled(receiver))
}

impl Cancelled {
    pub(super) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(super) async fn wait(&self) {
        let waited = self.0.clone().wait_for(|cancelled| *cancelled).await.map(|_| ());
        if waited.is_err() {
            // Whoever could cancel is gone, so nobody will.
            std::future::pending::<()>().await;
        }
    }
}
