//! Telling an attempt that its result is no longer wanted.

use tokio::sync::watch;

/// Cancels one attempt. Dropping it does not.
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
