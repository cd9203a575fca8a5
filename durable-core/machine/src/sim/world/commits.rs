//! Commits on their way to the store and back: applied, refused, lost, ambiguous, late.

use std::fmt;
use std::sync::Arc;

use super::{Happening, MILLI, Outcome, SECOND, Verdict, World};
use crate::codec;
use crate::model::{CommitNumber, Fence};
use crate::sim::checker;
use crate::sim::faults::Fault;
use crate::sim::planted::{Planted, is_planted};
use crate::store::{Commit, Refusal};

use super::owners::OwnerId;

impl World {
    /// Takes the next commit of an owner and sends it to the store.
    pub(super) fn commit(&mut self, id: OwnerId) -> Result<bool, String> {
        let Some(owner) = self.owners.get_mut(&id) else { return Ok(false) };
        let (worker, fence) = (owner.worker, owner.fence);
        let Some(commit) = owner.machine.take_commit() else { return Ok(false) };
        if commit.rows() + 6 > self.limits.commit_rows_max {
            self.counts.note(Fault::Cut);
        }
        self.tell(format_args!("{id} commits {}: {}", commit.number, Told(&commit)));
        let delay = self.latency();
        if self.fault(Fault::CrashCommitLost) {
            self.tell(format_args!("worker of {id} crashes, commit {} is lost", commit.number));
            self.kill(worker);
            return Ok(true);
        }
        let crash = self.fault(Fault::CrashCommitApplied);
        self.after(delay, Happening::Commit { owner: id, fence, commit, late: false });
        if crash {
            self.tell(format_args!("worker of {id} crashes, its commit is on its way"));
            self.kill(worker);
        }
        Ok(true)
    }

    pub(super) fn commit_reaches_store(
        &mut self,
        id: OwnerId,
        fence: Fence,
        commit: Arc<Commit>,
        late: bool,
    ) -> Verdict {
        let number = commit.number;
        if !late && self.owners.contains_key(&id) {
            if self.fault(Fault::Busy) {
                self.tell(format_args!("store busy for {id}, commit {number}"));
                let delay = self.rng.within(MILLI, 2 * SECOND);
                self.after(delay, Happening::Commit { owner: id, fence, commit, late });
                return Ok(());
            }
            if self.fault(Fault::CommitLost) {
                self.tell(format_args!("commit {number} of {id} is lost, nobody knows"));
                if self.fault(Fault::CommitLate) {
                    let delay = self.transit();
                    let late =
                        Happening::Commit { owner: id, fence, commit: commit.clone(), late: true };
                    self.after(delay, late);
                }
                self.resend(id, fence, commit);
                return Ok(());
            }
        }
        let answer_lost = !late && self.fault(Fault::AnswerLost);
        let outcome = self.apply(fence, &commit)?;
        if late {
            self.tell(format_args!("late commit {number} of {id}: {outcome:?}"));
            return Ok(());
        }
        if answer_lost {
            self.tell(format_args!("the answer to commit {number} of {id} is lost ({outcome:?})"));
            self.resend(id, fence, commit);
            return Ok(());
        }
        let delay = self.latency();
        self.after(delay, Happening::CommitAnswered(id, number, outcome));
        Ok(())
    }

    /// The store's side. A commit is conditional on the one before it (an ETag, on Azure), so that the
    /// same request cannot take effect twice, nor after its successor.
    fn apply(&mut self, fence: Fence, commit: &Arc<Commit>) -> Result<Outcome, String> {
        let partition = commit.partition;
        match self.store.last_commit(partition, fence) {
            Ok(last) if last.next() != commit.number => return Ok(Outcome::Unknown),
            Ok(_) | Err(_) => {}
        }
        let taken = checker::taken(commit, &self.store);
        match self.store.commit(fence, commit) {
            Ok(()) => {
                self.checker.results_are_kept(&taken, &self.store)?;
                let rows_max = self.limits.commit_rows_max;
                self.checker.committed(fence, commit, rows_max, &self.store, &mut self.journal)?;
                self.counters_sampled()?;
                Ok(Outcome::Applied)
            }
            Err(Refusal::Fenced { .. }) => Ok(Outcome::Fenced),
            Err(Refusal::Outdated(_)) => Ok(Outcome::Outdated),
            Err(Refusal::Contradiction(what)) => Err(format!("I3: the store refuses: {what}")),
        }
    }

    /// Nobody knows what became of a commit. The store's side asks its head row, and makes the same commit
    /// again where it did not take effect; or the owner gives up and opens again.
    fn resend(&mut self, id: OwnerId, fence: Fence, commit: Arc<Commit>) {
        if !self.owners.contains_key(&id) {
            return;
        }
        if self.rng.chance(250) {
            let delay = self.latency();
            self.after(delay, Happening::CommitAnswered(id, commit.number, Outcome::Unknown));
            return;
        }
        let delay = self.transit();
        if is_planted(Planted::UnknownTakenForApplied) {
            let answered = Happening::CommitAnswered(id, commit.number, Outcome::Applied);
            self.after(delay, answered);
            return;
        }
        if is_planted(Planted::UnknownCommittedAgain) {
            let again = Commit { number: commit.number.next(), ..(*commit).clone() };
            let again =
                Happening::Commit { owner: id, fence, commit: Arc::new(again), late: false };
            self.after(delay, again);
            return;
        }
        let outcome = match self.store.last_commit(commit.partition, fence) {
            Ok(last) if last == commit.number => Outcome::Applied,
            Ok(_) => {
                self.after(delay, Happening::Commit { owner: id, fence, commit, late: false });
                return;
            }
            Err(_) => Outcome::Fenced,
        };
        self.after(delay, Happening::CommitAnswered(id, commit.number, outcome));
    }

    pub(super) fn commit_answered(
        &mut self,
        id: OwnerId,
        number: CommitNumber,
        outcome: Outcome,
    ) -> Verdict {
        let Some(owner) = self.owners.get_mut(&id) else { return Ok(()) };
        match outcome {
            Outcome::Applied => {
                self.story.tell(self.micros, format_args!("{id}: commit {number} is durable"));
                let effects = owner.machine.committed(number);
                for effect in effects {
                    self.carry_out(id, effect)?;
                }
                self.schedule_step(id);
            }
            Outcome::Fenced | Outcome::Unknown | Outcome::Outdated => {
                if outcome == Outcome::Outdated {
                    self.outdated.extend(self.owners.get(&id).map(|owner| owner.partition));
                }
                self.tell(format_args!("{id}: commit {number} is {outcome:?}"));
                self.drop_owner(id, SECOND);
            }
        }
        Ok(())
    }
}

/// What a commit writes, as the story tells it.
struct Told<'a>(&'a Commit);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, write) in self.0.instances.iter().enumerate() {
            let (comma, begins) =
                (if n > 0 { ", " } else { "" }, if write.begins.a_run() { " begins" } else { "" });
            write!(f, "{comma}{}{begins}", write.key)?;
            let Some(history) = &write.history else { continue };
            write!(f, " from {}:", history.first)?;
            for event in codec::decode_events(&history.body).unwrap_or_default() {
                write!(f, " [{}]", event.is.summary())?;
            }
        }
        for consumed in &self.0.consumed {
            write!(f, " -{}", consumed.id)?;
        }
        Ok(())
    }
}
