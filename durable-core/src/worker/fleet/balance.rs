//! Which partitions a worker claims and which it gives up: decided from what it sees, without any talk.
//!
//! From one view all workers decide alike, so no two of them claim the same partition. Where views differ
//! for a moment two may, and the fence lets one of them win. A partition is with a worker that has as many of
//! the orchestrators it needs as any; apart from that, partitions stay where they are as far as the shares
//! allow: a share is the number of partitions by the number of workers, rounded down or up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use durable_machine::model::{PartitionId, WorkerId};

/// Names of orchestrators.
pub(super) type Names = BTreeSet<Arc<str>>;

/// The hub as one worker sees it.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) me: WorkerId,
    pub(super) partitions: u16,
    /// What this worker owns and is not about to give back.
    pub(super) mine: BTreeSet<PartitionId>,
    /// The orchestrators that it has.
    pub(super) has: Names,
    /// The other workers that live.
    pub(super) others: Vec<Other>,
    /// What this worker gave back last, until another one has it.
    pub(super) given: Option<PartitionId>,
    /// What its partitions, and those that nobody owns, need as far as that is known and any worker lacks it.
    pub(super) needs: BTreeMap<PartitionId, Names>,
}

/// Another worker that lives.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) worker: WorkerId,
    pub(super) owns: BTreeSet<PartitionId>,
    pub(super) has: Names,
    /// It takes nothing more.
    pub(super) leaving: bool,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Moves {
    /// To be claimed now: nobody who lives has them, and they are this worker's share.
    pub(super) claim: Vec<PartitionId>,
    pub(super) give_back: Option<GiveBack>,
}

/// To be given back, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveBack {
    /// For a worker that has orchestrators which it needs and this one lacks.
    Needs(PartitionId),
    /// For a worker that has less than its share.
    Surplus(PartitionId),
}

impl Situation {
    pub(super) fn decide(&self) -> Moves {
        let shares = self.shares();
        // One at a time: the hub never waits for more than one partition because of this worker.
        let waits = self.given.is_some_and(|given| !self.is_owned(given));
        let give_back = if waits { None } else { self.give_back(&shares) };
        Moves { claim: self.claims(&shares), give_back }
    }

    /// What is free is shared out in the order of ids: first what not every worker can serve.
    fn claims(&self, shares: &BTreeMap<WorkerId, usize>) -> Vec<PartitionId> {
        let free = (0..self.partitions).map(PartitionId).filter(|free| !self.is_owned(*free));
        let (needy, rest): (Vec<_>, Vec<_>) =
            free.partition(|partition| self.needs.contains_key(partition));
        let mut held: BTreeMap<WorkerId, usize> =
            shares.keys().map(|worker| (*worker, self.held_by(*worker))).collect();
        let mut claims = Vec::new();
        for partition in needy.into_iter().chain(rest) {
            let best = self.best_for(partition);
            let fits = |worker: &WorkerId| best.as_ref().is_none_or(|best| best.contains(worker));
            let fitting = || held.iter().filter(|(worker, _)| fits(worker));
            let chosen = match fitting().find(|(worker, held)| Some(*held) < shares.get(worker)) {
                // Better too many than one whose instances nobody runs.
                None if best.is_some() => fitting().min_by_key(|(_, held)| **held),
                chosen => chosen,
            };
            let Some(worker) = chosen.map(|(worker, _)| *worker) else { continue };
            *held.entry(worker).or_default() += 1;
            if worker == self.me {
                claims.push(partition);
            }
        }
        claims.sort_unstable();
        claims
    }

    fn give_back(&self, shares: &BTreeMap<WorkerId, usize>) -> Option<GiveBack> {
        let mine = || self.mine.iter().rev().map(|mine| (*mine, self.best_for(*mine)));
        if !self.needs.is_empty() {
            let lacks = |best: &BTreeSet<WorkerId>| !best.contains(&self.me);
            if let Some((partition, _)) = mine().find(|(_, best)| best.as_ref().is_some_and(lacks))
            {
                return Some(GiveBack::Needs(partition));
            }
        }
        if Some(&self.mine.len()) <= shares.get(&self.me) {
            return None;
        }
        let has_less: BTreeSet<WorkerId> = shares
            .iter()
            .map(|(worker, share)| (*worker, *share, self.held_by(*worker)))
            .filter(|(_, share, held)| held < share || held + 1 < self.mine.len())
            .map(|(worker, ..)| worker)
            .collect();
        let goes = |best: &Option<BTreeSet<WorkerId>>| {
            best.as_ref().map_or(!has_less.is_empty(), |best| !best.is_disjoint(&has_less))
        };
        mine().find(|(_, best)| goes(best)).map(|(partition, _)| GiveBack::Surplus(partition))
    }

    /// The staying workers that have the most of what a partition needs; `None` where all have the same of it.
    fn best_for(&self, partition: PartitionId) -> Option<BTreeSet<WorkerId>> {
        let needs = self.needs.get(&partition)?;
        let staying = self.others.iter().filter(|other| !other.leaving);
        let staying = staying.map(|other| (other.worker, &other.has)).chain([(self.me, &self.has)]);
        let fits: Vec<_> =
            staying.map(|(worker, has)| (worker, needs.intersection(has).count())).collect();
        let most = fits.iter().map(|(_, fit)| *fit).max();
        let all = fits.len();
        let best: BTreeSet<_> = fits
            .into_iter()
            .filter(|(_, fit)| Some(*fit) == most)
            .map(|(worker, _)| worker)
            .collect();
        (best.len() < all).then_some(best)
    }

    /// How many partitions each worker shall have. Those that have more than the rest keep the odd ones, so
    /// that nothing moves without need.
    fn shares(&self) -> BTreeMap<WorkerId, usize> {
        let staying = self.others.iter().filter(|other| !other.leaving).map(|other| other.worker);
        let workers: BTreeSet<WorkerId> = staying.chain([self.me]).collect();
        let each = usize::from(self.partitions) / workers.len();
        let odd = usize::from(self.partitions) % workers.len();
        let mut order: Vec<WorkerId> = workers.into_iter().collect();
        order.sort_by_key(|worker| self.held_by(*worker) <= each);
        order
            .into_iter()
            .enumerate()
            .map(|(place, worker)| (worker, each + usize::from(place < odd)))
            .collect()
    }

    fn held_by(&self, worker: WorkerId) -> usize {
        if worker == self.me {
            return self.mine.len();
        }
        let other = self.others.iter().find(|other| other.worker == worker);
        other.map_or(0, |other| other.owns.len())
    }

    /// Whether a worker that lives has it.
    pub(super) fn is_owned(&self, partition: PartitionId) -> bool {
        self.mine.contains(&partition)
            || self.others.iter().any(|other| other.owns.contains(&partition))
    }
}
