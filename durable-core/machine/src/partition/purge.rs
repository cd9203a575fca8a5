//! Purging: an instance that has ended goes, with one commit for what may be seen of it. The store removes the
//! rest of its rows afterwards.
//!
//! ```text
//! asked ──loaded──▶ ended, its end stored, no start accepted ──commit──▶ nobody sees it ──store──▶ nothing left
//!            │
//!            └────▶ active, another run, not there: dropped, and answered so
//! ```

use super::effect::{Answer, Effect};
use super::entry::{Arrival, Entry, Life, Source};
use super::{Core, Partition};
use crate::model::{Command, Envelope, RunNumber};

impl Partition {
    /// Takes in what a command says of other instances than its own.
    pub(super) fn arrive_along(&mut self, envelope: &Envelope) {
        let Command::Purge { also } = &envelope.command else { return };
        for (instance, run) in also.iter().filter(|_| !planted!(PurgeAlongForgotten)) {
            if instance.partition(self.core.config.partitions) != self.core.config.partition {
                let message = "a purge named it that was sent to another partition".into();
                self.core.effects.push(Effect::Warn { instance: instance.clone(), message });
                continue;
            }
            let source = Source::Along { id: envelope.id.clone() };
            let command = Command::Purge { also: Vec::new() };
            let arrival = Arrival::Command { command, run: Some(*run), source };
            self.arrive(instance.clone(), arrival);
        }
    }
}

impl Core {
    /// The instance was read with all that had arrived before: a start that was accepted meanwhile has begun, or
    /// is in front of this.
    pub(super) fn purge(&mut self, entry: &mut Entry, meant: Option<RunNumber>, source: &Source) {
        let other =
            |run: RunNumber| meant.is_some_and(|meant| meant != run) && !planted!(PurgeTakesAnyRun);
        let answer = match &entry.life {
            Life::Unknown | Life::Absent => Answer::NotFound,
            Life::Unreadable(why) => Answer::Refused(format!("the instance cannot be read: {why}")),
            Life::Active(run) if other(run.key.run) => Answer::NotFound,
            Life::Active(run) => Answer::Unfinished(run.row.status),
            Life::Ended(row) if other(row.run) => Answer::NotFound,
            Life::Ended(row) => {
                if !planted!(PurgeForgotten) {
                    entry.writes.purge = Some(row.key());
                    entry.writes.touch();
                }
                self.stats.purged += 1;
                entry.life = Life::Absent;
                // What comes behind it may be a start of long ago: only a read tells.
                entry.covered = 0;
                Answer::Accepted
            }
        };
        if answer != Answer::Accepted {
            self.stats.dropped += 1;
        }
        match source {
            // Taken again it meets nothing, or another run.
            Source::Stored { id } => entry.writes.consume_unremembered(id.clone()),
            Source::Direct { .. } => self.reply(entry, source, answer),
            Source::Along { .. } => {}
        }
    }
}
