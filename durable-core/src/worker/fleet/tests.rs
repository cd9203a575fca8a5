//! Single decisions of `balance`, and hubs whose workers decide again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use durable_machine::model::{PartitionId, WorkerId};
use uuid::Uuid;

use super::balance::{GiveBack, Moves, Names, Other, Situation};

fn id(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

fn set(partitions: impl IntoIterator<Item = u16>) -> BTreeSet<PartitionId> {
    partitions.into_iter().map(PartitionId).collect()
}

fn other(n: u128, owns: impl IntoIterator<Item = u16>) -> Other {
    Other { worker: id(n), owns: set(owns), has: Names::new(), leaving: false }
}

fn alone(partitions: u16, mine: impl IntoIterator<Item = u16>) -> Situation {
    Situation {
        me: id(5),
        partitions,
        mine: set(mine),
        has: Names::new(),
        others: Vec::new(),
        given: None,
        needs: BTreeMap::new(),
    }
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
    assert_eq!(situation.decide().give_back, Some(GiveBack::Surplus(PartitionId(3))));
    situation.mine = set(0..3);
    situation.given = Some(PartitionId(3));
    assert_eq!(situation.decide(), Moves::default());
    situation.others = vec![other(3, [3])];
    assert_eq!(situation.decide().give_back, Some(GiveBack::Surplus(PartitionId(2))));
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

fn names(names: &str) -> Names {
    names.split_whitespace().map(Arc::from).collect()
}

/// Two workers: this one owns what is left by the other.
fn two_of(
    partitions: u16,
    mine: &str,
    others: &str,
    owns: impl IntoIterator<Item = u16>,
) -> Situation {
    let other = Other { has: names(others), ..other(8, owns) };
    let left = (0..partitions).filter(|n| !other.owns.contains(&PartitionId(*n)));
    Situation { has: names(mine), others: vec![other.clone()], ..alone(partitions, left) }
}

#[test]
fn a_partition_is_given_to_whoever_has_what_it_needs() {
    let mut situation = two_of(4, "a", "a b", [0, 1]);
    assert_eq!(situation.decide(), Moves::default());
    situation.needs.insert(PartitionId(2), names("b"));
    assert_eq!(situation.decide().give_back, Some(GiveBack::Needs(PartitionId(2))));
    situation.needs.insert(PartitionId(3), names("a b"));
    assert_eq!(situation.decide().give_back, Some(GiveBack::Needs(PartitionId(3))));
    situation.others[0].leaving = true;
    assert_eq!(situation.decide(), Moves::default(), "it takes nothing more");
}

#[test]
fn nothing_moves_for_what_nobody_has_or_the_other_has_no_more_of() {
    for (mine, theirs, needs) in [
        ("a", "a", "b"),
        ("a b", "a b", "a b"),
        ("a b", "b c", "a b c"),
        ("a", "b", "a b"),
        ("a b", "a", "b"),
    ] {
        let mut situation = two_of(4, mine, theirs, [0, 1]);
        for mine in [2, 3] {
            situation.needs.insert(PartitionId(mine), names(needs));
        }
        assert_eq!(situation.decide(), Moves::default(), "{mine} | {theirs} | {needs}");
    }
}

#[test]
fn one_partition_at_a_time_is_given_for_its_needs() {
    let mut situation = two_of(4, "a", "a b", [0, 1, 3]);
    situation.needs.insert(PartitionId(2), names("b"));
    situation.others[0].owns = set([0, 1]);
    situation.given = Some(PartitionId(3));
    assert_eq!(situation.decide().give_back, None);
    situation.others[0].owns = set([0, 1, 3]);
    assert_eq!(situation.decide().give_back, Some(GiveBack::Needs(PartitionId(2))));
}

#[test]
fn who_has_too_many_keeps_those_that_the_others_cannot_serve() {
    let mut situation = two_of(4, "a b", "a", [0]);
    situation.needs.insert(PartitionId(3), names("b"));
    assert_eq!(situation.decide().give_back, Some(GiveBack::Surplus(PartitionId(2))));
    for pinned in [1, 2] {
        situation.needs.insert(PartitionId(pinned), names("b"));
    }
    assert_eq!(situation.decide(), Moves::default(), "rather too many than moved to and fro");
}

#[test]
fn what_is_free_goes_to_whoever_has_what_it_needs_even_above_the_share() {
    // Ids count only among those that fit.
    let mut situation = two_of(4, "a b", "a", [0]);
    situation.others[0].worker = id(1);
    situation.mine = set([2, 3]);
    situation.needs.insert(PartitionId(1), names("b"));
    assert_eq!(claims(&situation.decide()), [1]);
    situation.has = names("a");
    situation.others[0].has = names("a b");
    assert!(claims(&situation.decide()).is_empty());
    // Its owner died on the way: better one that lacks something than none.
    situation.others.clear();
    assert_eq!(claims(&situation.decide()), [0, 1]);
}

#[test]
fn of_several_that_have_it_the_one_with_room_gets_it_and_then_the_one_with_the_fewest() {
    let mut situation = alone(6, [2]);
    situation.has = names("a b");
    let old = other(1, [0]);
    let new = Other { has: names("a b"), ..other(9, [3, 4]) };
    situation.others = vec![old, new];
    for free in [1, 5] {
        situation.needs.insert(PartitionId(free), names("b"));
    }
    // A share is two: this one has room for one, and the next is as good here as there.
    assert_eq!(claims(&situation.decide()), [1, 5]);
    situation.others[1].owns = set([3]);
    situation.others[0].owns = set([0, 4]);
    assert_eq!(claims(&situation.decide()), [1]);
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
    has: BTreeMap<WorkerId, Names>,
    /// Of which orchestrators its instances are, and which of them are known: an owner learns that bit by bit.
    needs: BTreeMap<PartitionId, Names>,
    known: BTreeMap<PartitionId, Names>,
}

impl Hub {
    fn new(partitions: u16) -> Self {
        Self {
            partitions,
            owns: BTreeMap::new(),
            given: BTreeMap::new(),
            owner: BTreeMap::new(),
            moved: 0,
            has: BTreeMap::new(),
            needs: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }

    fn join(&mut self, n: u128) {
        self.owns.insert(id(n), BTreeSet::new());
        self.given.insert(id(n), None);
    }

    fn join_with(&mut self, n: u128, has: Names) {
        self.join(n);
        self.has.insert(id(n), has);
    }

    /// Some instance of a partition is seen that runs, or cannot run.
    fn meet(&mut self, numbers: &mut Numbers) {
        let chosen = PartitionId(u16::try_from(numbers.below(self.partitions.into())).unwrap());
        let needs = self.needs.get(&chosen).cloned().unwrap_or_default();
        if let Some(name) = needs.iter().nth(numbers.below(needs.len().max(1))) {
            self.known.entry(chosen).or_default().insert(name.clone());
        }
    }

    fn has(&self, worker: WorkerId) -> Names {
        self.has.get(&worker).cloned().unwrap_or_default()
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
            has: self.has(me),
            others: self
                .owns
                .iter()
                .filter(|(worker, _)| **worker != me)
                .map(|(worker, owns)| Other {
                    worker: *worker,
                    owns: owns.clone(),
                    has: self.has(*worker),
                    leaving: false,
                })
                .collect(),
            given: self.given[&me],
            needs: self.known.clone(),
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
        if let Some(GiveBack::Needs(partition) | GiveBack::Surplus(partition)) = moves.give_back {
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
            self.meet(numbers);
            let views: Vec<_> = workers.iter().map(|worker| self.seen_by(*worker)).collect();
            if self.needs == self.known
                && views.iter().all(|seen| seen.decide() == Moves::default())
            {
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
        let fits = workers.iter().all(|worker| hub.seen_by(*worker).decide().give_back.is_none());
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

/// Every partition is with a worker that has as much of what it needs as any. Who has more than its share has
/// no more than one above another that has the same orchestrators.
fn assert_served(hub: &Hub) {
    let share = usize::from(hub.partitions).div_ceil(hub.owns.len());
    let fit = |worker: &WorkerId, needs: &Names| hub.has(*worker).intersection(needs).count();
    for (worker, owns) in &hub.owns {
        for partition in owns {
            let Some(needs) = hub.needs.get(partition) else { continue };
            let most = hub.owns.keys().map(|worker| fit(worker, needs)).max();
            assert_eq!(Some(fit(worker, needs)), most, "{partition} of {worker}: {needs:?}");
        }
        for (other, theirs) in &hub.owns {
            let alike = hub.has(*worker) == hub.has(*other);
            assert!(!alike || owns.len() <= share.max(theirs.len() + 1), "{:?}", hub.owns);
        }
    }
    let owned: usize = hub.owns.values().map(BTreeSet::len).sum();
    assert_eq!(owned, usize::from(hub.partitions));
}

fn some_of(numbers: &mut Numbers, all: &str) -> Names {
    names(all).into_iter().filter(|_| numbers.below(2) == 0).collect()
}

#[test]
fn whatever_the_workers_have_and_the_partitions_need_it_comes_to_rest() {
    for seed in 0..150 {
        let mut numbers = Numbers(seed);
        let mut hub = hub_of(&mut numbers);
        for n in 0..=numbers.below(5) {
            let has = some_of(&mut numbers, "a b c d");
            hub.join_with((numbers.below(1 << 20) as u128) << 32 | n as u128, has);
        }
        hub.settle(&mut numbers);
        for partition in (0..hub.partitions).map(PartitionId) {
            let needs = some_of(&mut numbers, "a b c d");
            if !needs.is_empty() {
                hub.needs.insert(partition, needs);
            }
        }
        hub.moved = 0;
        hub.settle(&mut numbers);
        assert_served(&hub);
        // What is learned moves a partition once for each name, and each move one more for the balance.
        let bound = usize::from(hub.partitions) * 4 * 2;
        assert!(hub.moved <= bound, "{} moves", hub.moved);
    }
}

#[test]
fn an_upgrade_and_the_way_back_move_each_partition_a_few_times() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let mut hub = hub_of(&mut numbers);
        let workers = 1 + numbers.below(4);
        for n in 0..workers {
            hub.join_with(n as u128 * 2 + 10, names("a b"));
        }
        hub.settle(&mut numbers);
        for partition in (0..hub.partitions).map(PartitionId) {
            hub.needs.insert(partition, some_of(&mut numbers, "a b c"));
        }
        hub.needs.retain(|_, needs| !needs.is_empty());
        hub.settle(&mut numbers);
        hub.moved = 0;
        for versions in [["a b", "a b c"], ["a b c", "a b"]] {
            let old: Vec<_> = hub
                .workers()
                .into_iter()
                .filter(|one| hub.has(*one) == names(versions[0]))
                .collect();
            for one in old {
                hub.join_with(
                    (numbers.below(1 << 20) as u128) << 32 | one.0.as_u128(),
                    names(versions[1]),
                );
                hub.settle(&mut numbers);
                assert_served(&hub);
                hub.lose(one);
                hub.settle(&mut numbers);
                assert_served(&hub);
            }
        }
        // Each worker that comes and each that goes may move all of them, and no more than that.
        let bound = 2 * workers * 3 * usize::from(hub.partitions);
        assert!(hub.moved <= bound, "{} moves, {workers} workers, {}", hub.moved, hub.partitions);
    }
}
