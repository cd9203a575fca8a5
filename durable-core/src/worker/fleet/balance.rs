//! Which partitions a worker claims and which it gives up: decided from what it sees, without any talk.
//!
//! From one view all workers decide alike, so no two of them claim the same partition. Where views differ
//! for a moment two may, and the fence lets one of them win. Partitions stay where they are as far as the
//! shares allow: a share is the number of partitions by the number of workers, rounded down or up.

use std::collections::{BTreeMap, BTreeSet};

use durable_machine::model::{PartitionId, WorkerId};

/// The hub as one worker sees it.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) me: WorkerId,
    pub(super) partitions: u16,
    /// What this worker owns and is not about to give back.
    pub(super) mine: BTreeSet<PartitionId>,
    /// The other workers that live.
    pub(super) others: Vec<Other>,
    /// What this worker gave back last, until another one has it.
    pub(super) given: Option<PartitionId>,
}

/// Another worker that lives.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) worker: WorkerId,
    pub(super) owns: BTreeSet<PartitionId>,
    /// It takes nothing more.
    pub(super) leaving: bool,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Moves {
    /// To be claimed now: nobody who lives has them, and they are this worker's share.
    pub(super) claim: Vec<PartitionId>,
    /// To be given back, for a worker that has less.
    pub(super) give_back: Option<PartitionId>,
}

impl Situation {
    pub(super) fn decide(&self) -> Moves {
        let shares = self.shares();
        let mut room: BTreeMap<WorkerId, usize> = shares
            .iter()
            .map(|(worker, share)| (*worker, share.saturating_sub(self.held_by(*worker))))
            .collect();
        let mut claim = Vec::new();
        for partition in (0..self.partitions).map(PartitionId) {
            if self.is_owned(partition) {
                continue;
            }
            let Some((worker, left)) = room.iter_mut().find(|(_, left)| **left > 0) else { break };
            *left -= 1;
            if *worker == self.me {
                claim.push(partition);
            }
        }
        let share = shares.get(&self.me).copied().unwrap_or_default();
        let too_many = self.mine.len() > share;
        // One at a time: the hub never waits for more than one partition because of this worker.
        let waits = self.given.is_some_and(|given| !self.is_owned(given));
        let give_back = if too_many && !waits { self.mine.last().copied() } else { None };
        Moves { claim, give_back }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> WorkerId {
        WorkerId(Uuid::from_u128(n))
    }

    fn set(partitions: impl IntoIterator<Item = u16>) -> BTreeSet<PartitionId> {
        partitions.into_iter().map(PartitionId).collect()
    }

    fn other(n: u128, owns: impl IntoIterator<Item = u16>) -> Other {
        Other { worker: id(n), owns: set(owns), leaving: false }
    }

    fn alone(partitions: u16, mine: impl IntoIterator<Item = u16>) -> Situation {
        Situation { me: id(5), partitions, mine: set(mine), others: Vec::new(), given: None }
    }

    fn claims(moves: &Moves) -> Vec<u16> {
        moves.claim.iter().map(|partition| partition.0).collect()
    }

    #[test]
    fn who_is_alone_claims_all_that_is_free() {
        assert_eq!(claims(&alone(4, []).decide()), [0, 1, 2, 3]);
        assert_eq!(claims(&alone(4, [1, 3]).decide()), [0, 2]);
        assert_eq!(alone(4, 0..4).decide(), Moves::default());
        assert_eq!(alone(0, []).decide(), Moves::default());
    }

    #[test]
    fn what_is_free_is_shared_out_by_the_order_of_ids() {
        let mut situation = alone(5, []);
        situation.others = vec![other(3, [])];
        assert_eq!(claims(&situation.decide()), [3, 4]);
        situation.others = vec![other(8, [])];
        assert_eq!(claims(&situation.decide()), [0, 1, 2]);
    }

    #[test]
    fn one_that_has_too_many_gives_back_one_and_waits_until_it_is_taken() {
        let mut situation = alone(4, 0..4);
        situation.others = vec![other(3, [])];
        assert_eq!(situation.decide().give_back, Some(PartitionId(3)));
        situation.mine = set(0..3);
        situation.given = Some(PartitionId(3));
        assert_eq!(situation.decide(), Moves::default());
        situation.others = vec![other(3, [3])];
        assert_eq!(situation.decide().give_back, Some(PartitionId(2)));
        situation.mine = set(0..2);
        situation.others = vec![other(3, [2, 3])];
        assert_eq!(situation.decide(), Moves::default());
    }

    #[test]
    fn the_odd_one_stays_where_it_is() {
        for n in [3, 8] {
            let mut situation = alone(5, 0..3);
            situation.others = vec![other(n, [3, 4])];
            assert_eq!(situation.decide(), Moves::default());
            let mut situation = alone(5, 0..2);
            situation.others = vec![other(n, [2, 3, 4])];
            assert_eq!(situation.decide(), Moves::default());
        }
    }

    #[test]
    fn with_more_workers_than_partitions_some_have_none() {
        let mut situation = alone(2, []);
        situation.others = vec![other(1, [0]), other(2, [1]), other(3, [])];
        assert_eq!(situation.decide(), Moves::default());
        situation.others = vec![other(1, [0]), other(8, []), other(9, [])];
        assert_eq!(claims(&situation.decide()), [1]);
    }

    #[test]
    fn one_that_leaves_gets_nothing_and_keeps_what_it_still_has() {
        let mut situation = alone(4, [0]);
        situation.others = vec![Other { leaving: true, ..other(1, [2]) }];
        assert_eq!(claims(&situation.decide()), [1, 3]);
    }

    /// SplitMix64: the tests need numbers, not chance.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
        }
    }

    /// A hub with its workers, each of which acts on what it sees.
    struct Hub {
        partitions: u16,
        owns: BTreeMap<WorkerId, BTreeSet<PartitionId>>,
        given: BTreeMap<WorkerId, Option<PartitionId>>,
        /// The fence: whoever opened it last.
        owner: BTreeMap<PartitionId, WorkerId>,
        moved: usize,
    }

    impl Hub {
        fn new(partitions: u16) -> Self {
            Self {
                partitions,
                owns: BTreeMap::new(),
                given: BTreeMap::new(),
                owner: BTreeMap::new(),
                moved: 0,
            }
        }

        fn join(&mut self, n: u128) {
            self.owns.insert(id(n), BTreeSet::new());
            self.given.insert(id(n), None);
        }

        /// Dead, or gone: either way nobody who lives has its partitions.
        fn lose(&mut self, worker: WorkerId) {
            self.owns.remove(&worker);
            self.given.remove(&worker);
        }

        fn seen_by(&self, me: WorkerId) -> Situation {
            Situation {
                me,
                partitions: self.partitions,
                mine: self.owns[&me].clone(),
                others: self
                    .owns
                    .iter()
                    .filter(|(worker, _)| **worker != me)
                    .map(|(worker, owns)| Other {
                        worker: *worker,
                        owns: owns.clone(),
                        leaving: false,
                    })
                    .collect(),
                given: self.given[&me],
            }
        }

        /// One worker acts on what it saw, perhaps a while ago. Returns whether it did anything.
        fn act(&mut self, seen: &Situation) -> bool {
            let (me, moves) = (seen.me, seen.decide());
            let acted = moves != Moves::default();
            for partition in moves.claim {
                if let Some(before) = self.owner.insert(partition, me)
                    && let Some(owns) = self.owns.get_mut(&before)
                {
                    owns.remove(&partition);
                }
                self.owns.get_mut(&me).unwrap().insert(partition);
                self.moved += 1;
            }
            if let Some(partition) = moves.give_back {
                // It may have lost it meanwhile.
                self.owns.get_mut(&me).unwrap().remove(&partition);
                self.given.insert(me, Some(partition));
            }
            acted
        }

        fn workers(&self) -> Vec<WorkerId> {
            self.owns.keys().copied().collect()
        }

        fn settle(&mut self, numbers: &mut Numbers) {
            for _ in 0..10_000 {
                let workers = self.workers();
                let views: Vec<_> = workers.iter().map(|worker| self.seen_by(*worker)).collect();
                if views.iter().all(|seen| seen.decide() == Moves::default()) {
                    return;
                }
                let chosen = numbers.below(views.len());
                self.act(&views[chosen]);
            }
            panic!("it does not come to rest: {:?}", self.owns);
        }

        fn assert_balanced(&self) {
            let workers = self.owns.len();
            let each = usize::from(self.partitions) / workers;
            let mut of = BTreeMap::new();
            for (worker, owns) in &self.owns {
                let most = each + usize::from(usize::from(self.partitions) % workers > 0);
                assert!((each..=most).contains(&owns.len()), "{:?}", self.owns);
                for partition in owns {
                    assert_eq!(of.insert(*partition, *worker), None, "{partition} has two owners");
                }
            }
            assert_eq!(of.len(), usize::from(self.partitions), "all are owned");
        }
    }

    fn hub_of(numbers: &mut Numbers) -> Hub {
        let partitions = [1, 2, 3, 4, 7, 16, 64][numbers.below(7)];
        Hub::new(partitions)
    }

    #[test]
    fn from_one_view_no_two_claim_the_same_and_all_that_is_free_is_claimed() {
        let mut numbers = Numbers(1);
        for _ in 0..2000 {
            let mut hub = hub_of(&mut numbers);
            for n in 0..=numbers.below(6) {
                hub.join(n as u128);
            }
            let workers = hub.workers();
            for partition in 0..hub.partitions {
                if let Some(worker) = workers.get(numbers.below(workers.len() + 2)) {
                    hub.owns.get_mut(worker).unwrap().insert(PartitionId(partition));
                }
            }
            let mut claimed = BTreeSet::new();
            let owned: usize = hub.owns.values().map(BTreeSet::len).sum();
            for worker in &workers {
                for partition in hub.seen_by(*worker).decide().claim {
                    assert!(claimed.insert(partition), "{partition} is claimed twice");
                    assert!(hub.owns.values().all(|owns| !owns.contains(&partition)));
                }
            }
            let fits =
                workers.iter().all(|worker| hub.seen_by(*worker).decide().give_back.is_none());
            let all = usize::from(hub.partitions);
            assert!(!fits || owned + claimed.len() == all, "something stays free: {:?}", hub.owns);
        }
    }

    #[test]
    fn whoever_comes_and_goes_it_comes_to_rest_in_balance() {
        for seed in 0..400 {
            let mut numbers = Numbers(seed);
            let mut hub = hub_of(&mut numbers);
            let mut next = 0;
            for _ in 0..20 {
                let workers = hub.workers();
                if workers.is_empty() || numbers.below(3) > 0 {
                    // Ids are random, so that the new one may come before or behind those that are there.
                    hub.join((numbers.below(1 << 20) as u128) << 32 | next);
                    next += 1;
                } else {
                    let chosen = numbers.below(workers.len());
                    hub.lose(workers[chosen]);
                }
                // Now and then the next one comes before it has come to rest.
                for _ in 0..numbers.below(4) {
                    let workers = hub.workers();
                    if !workers.is_empty() {
                        let seen = hub.seen_by(workers[numbers.below(workers.len())]);
                        hub.act(&seen);
                    }
                }
            }
            if hub.owns.is_empty() {
                hub.join(1);
            }
            hub.settle(&mut numbers);
            hub.assert_balanced();
        }
    }

    #[test]
    fn workers_that_act_on_old_views_come_to_rest_in_balance_too() {
        for seed in 0..400 {
            let mut numbers = Numbers(seed);
            let mut hub = hub_of(&mut numbers);
            for n in 0..=numbers.below(5) {
                hub.join(n as u128);
            }
            for _ in 0..30 {
                // All look, then some of them act.
                let views: Vec<_> = hub.workers().into_iter().map(|me| hub.seen_by(me)).collect();
                for seen in views {
                    if numbers.below(2) == 0 {
                        hub.act(&seen);
                    }
                }
            }
            hub.settle(&mut numbers);
            hub.assert_balanced();
        }
    }

    #[test]
    fn a_join_moves_no_more_than_the_share_of_the_new_one() {
        for seed in 0..200 {
            let mut numbers = Numbers(seed);
            let mut hub = hub_of(&mut numbers);
            for n in 0..=numbers.below(5) {
                hub.join(2 * n as u128 + 10);
                hub.settle(&mut numbers);
            }
            hub.moved = 0;
            let before = hub.owns.clone();
            hub.join(numbers.below(30) as u128 * 2 + 1);
            hub.settle(&mut numbers);
            hub.assert_balanced();
            let workers = hub.owns.len();
            let each = usize::from(hub.partitions) / workers;
            assert!(hub.moved <= each.max(1), "{} moves: {before:?} to {:?}", hub.moved, hub.owns);
        }
    }

    #[test]
    fn a_loss_moves_only_what_was_lost() {
        for seed in 0..200 {
            let mut numbers = Numbers(seed);
            let mut hub = hub_of(&mut numbers);
            for n in 0..=numbers.below(5) + 1 {
                hub.join(n as u128);
            }
            hub.settle(&mut numbers);
            let workers = hub.workers();
            let lost = workers[numbers.below(workers.len())];
            let owned = hub.owns[&lost].len();
            hub.moved = 0;
            hub.lose(lost);
            hub.settle(&mut numbers);
            hub.assert_balanced();
            assert_eq!(hub.moved, owned);
        }
    }

    #[test]
    fn at_most_one_partition_is_on_its_way_from_each_worker() {
        for seed in 0..200 {
            let mut numbers = Numbers(seed);
            let mut hub = Hub::new(64);
            hub.join(50);
            hub.settle(&mut numbers);
            for n in 0..=numbers.below(7) {
                hub.join(n as u128 * 20);
            }
            for _ in 0..500 {
                let workers = hub.workers();
                let seen = hub.seen_by(workers[numbers.below(workers.len())]);
                hub.act(&seen);
                let owned: usize = hub.owns.values().map(BTreeSet::len).sum();
                assert!(owned + 1 >= 64, "only one worker has too many: {:?}", hub.owns);
            }
            hub.settle(&mut numbers);
            hub.assert_balanced();
        }
    }
}
