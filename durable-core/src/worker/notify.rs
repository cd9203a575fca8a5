//! Status changes, told to whoever in this process watches an instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use durable_machine::model::{InstanceId, StatusRow};
use tokio::sync::watch;

type Sender = watch::Sender<Option<Arc<StatusRow>>>;
type Receiver = watch::Receiver<Option<Arc<StatusRow>>>;

#[derive(Default)]
pub(crate) struct Notifier {
    watched: Mutex<HashMap<InstanceId, Sender>>,
}

/// One who watches an instance.
pub(crate) struct Watcher {
    notifier: Arc<Notifier>,
    instance: InstanceId,
    receiver: Receiver,
}

impl Notifier {
    pub(crate) fn watch(self: &Arc<Self>, instance: &InstanceId) -> Watcher {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver =
            watched.entry(instance.clone()).or_insert_with(|| watch::channel(None).0).subscribe();
        Watcher { notifier: self.clone(), instance: instance.clone(), receiver }
    }

    /// Changes of these may have been made that nobody published: whoever watches has to look.
    pub(super) fn doubt(&self, of: impl Fn(&InstanceId) -> bool) {
        // Each watcher sees that its sender is gone, and watches anew.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|instance, _| !of(instance));
    }

    /// A commit made this visible.
    pub(super) fn publish(&self, row: Arc<StatusRow>) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(&row.instance) {
            sender.send_replace(Some(row));
        }
    }
}

impl Watcher {
    /// The latest status that was published since somebody watches.
    pub(crate) fn latest(&mut self) -> Option<Arc<StatusRow>> {
        self.receiver.borrow_and_update().clone()
    }

    /// Returns when there is a newer one. `false` means that changes may have been missed.
    pub(crate) async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.notifier.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // This one is still counted, if it watches this sender.
        let last = |sender: &Sender| {
            sender.receiver_count() <= usize::from(self.receiver.same_channel(&sender.subscribe()))
        };
        if watched.get(&self.instance).is_some_and(last) {
            watched.remove(&self.instance);
        }
    }
}
