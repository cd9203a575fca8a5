//! Instances that stand still until a person or another worker looks at them.

use super::Core;
use super::attempt::restart_backoffs;
use super::begin::Start;
use super::effect::Effect;
use super::entry::{Arrival, Entry, Life, set_status};
use crate::model::{Hold, HoldReason, InstanceId, RuntimeStatus};

impl Core {
    /// Stops running an instance, for a reason that a person can read. Its history is left alone.
    pub(super) fn hold(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        reason: HoldReason,
        message: String,
    ) {
        let now = self.now;
        self.drop_code(entry);
        let Life::Active(run) = &mut entry.life else { return };
        let hold = Hold { reason, message: message.clone() };
        if run.hold.as_ref() == Some(&hold) && run.row.hold.as_ref() == Some(&hold) {
            return;
        }
        run.row.hold = Some(hold.clone());
        run.hold = Some(hold);
        entry.writes.in_flight = true;
        set_status(entry, RuntimeStatus::Suspended, now);
        self.effects.push(Effect::Held { instance: instance.clone(), message });
        self.queue(instance, entry);
        self.sync_wheel(instance, entry);
    }

    /// Tries again to run a held instance.
    pub(super) fn unhold(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        run.hold = None;
        run.row.hold = None;
        entry.writes.in_flight = true;
        if let Some(acceptance) = run.unbegun.clone() {
            self.begin(instance, entry, acceptance, Start::Stored);
            return;
        }
        let status = if run.suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
        let stash = std::mem::take(&mut run.stash);
        set_status(entry, status, now);
        for stashed in stash.into_iter().rev() {
            entry.arrivals.push_front(Arrival::Stashed(stashed));
        }
        entry.look_at_due = true;
        restart_backoffs(entry, now);
        self.request_load(instance, entry);
    }
}
