//! Watching the other workers, and acting on what is seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use durable_machine::model::{PartitionId, WorkerId};
use durable_machine::partition::Needs;

use super::balance::{GiveBack, Moves, Names, Other, Situation};
use super::view::{View, process_is_gone};
use super::{Fleet, claim, give_back};
use crate::store::Member;
use crate::worker::shared::Shared;

/// How often a worker looks that has seen no other.
const ALONE: Duration = Duration::from_secs(300);

/// Looks until the worker stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(fleet) = &shared.fleet else { return };
    let me = fleet.membership.lock().await.member.clone();
    let mut look = Look {
        shared: &shared,
        fleet,
        me,
        view: View::new(fleet.sharing.lease),
        looked: Instant::now(),
        given: None,
        contested: BTreeMap::new(),
    };
    while shared.is_serving() {
        let pause = look.look().await;
        let _ = tokio::time::timeout(pause, fleet.look.notified()).await;
    }
}

struct Look<'a> {
    shared: &'a Arc<Shared>,
    fleet: &'a Fleet,
    me: Member,
    view: View,
    looked: Instant,
    /// What was given back for others to take.
    given: Option<PartitionId>,
    /// Partitions that another worker says it owns, too, and since when.
    contested: BTreeMap<PartitionId, Instant>,
}

impl Look<'_> {
    /// One look, and what follows from it. Returns when the next one is due.
    async fn look(&mut self) -> Duration {
        let step = self.fleet.step();
        let members = self.shared.store.members();
        let rows = match tokio::time::timeout(self.fleet.sharing.lease / 3, members).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the other workers cannot be seen");
                return step;
            }
            Err(_) => {
                tracing::warn!("the other workers cannot be seen in time");
                return step;
            }
        };
        let others = rows.into_iter().filter(|member| member.worker != self.me.worker).collect();
        let passed = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        self.view.observe(others, passed, |other| process_is_gone(&self.me, other));
        let company = self.view.has_company();
        self.fleet.company.send_if_modified(|known| std::mem::replace(known, company) != company);
        self.remove_forgotten().await;
        self.fleet.own().avoided.retain(|_, until| *until > Instant::now());
        // Whoever may be taken for dead claims nothing.
        if self.fleet.lease.holds() && self.shared.is_serving() {
            self.give_back_contested();
            self.move_partitions().await;
        }
        let avoided = self.fleet.own().avoided.values().min().copied();
        let avoided = avoided.map(|until| until.saturating_duration_since(Instant::now()));
        let usual = if self.view.is_alone() && self.fleet.lease.holds() { ALONE } else { step };
        avoided.map_or(usual, |avoided| avoided.clamp(Duration::from_millis(1), usual))
    }

    async fn remove_forgotten(&self) {
        for seen in self.view.iter().filter(|seen| seen.is_forgotten()) {
            let dead = seen.member.worker;
            let left = self.shared.store.leave(dead);
            match tokio::time::timeout(self.fleet.sharing.lease / 3, left).await {
                Ok(Ok(())) => tracing::info!(%dead, "a worker that died was removed"),
                Ok(Err(error)) => tracing::debug!(%dead, %error, "a dead worker stays listed"),
                Err(_) => tracing::debug!(%dead, "a dead worker stays listed"),
            }
        }
    }

    /// Two workers count on one partition, and the fence of one of them is stale. As long as neither commits
    /// they cannot know which; so both give it back, and it is claimed anew.
    fn give_back_contested(&mut self) {
        let mut contested = BTreeMap::new();
        for opening in self.shared.present().filter(|opening| !opening.is_leaving()) {
            let partition = opening.partition;
            let owned = |member: &Member| member.owns.contains(&partition);
            if !self.view.iter().any(|seen| seen.is_alive() && owned(&seen.member)) {
                continue;
            }
            let since = self.contested.get(&partition).copied().unwrap_or_else(Instant::now);
            if since.elapsed() < self.fleet.sharing.lease {
                contested.insert(partition, since);
            } else {
                give_back(&opening, "another worker says that it owns it, too");
            }
        }
        self.contested = contested;
    }

    async fn move_partitions(&mut self) {
        let situation = self.situation();
        let Moves { claim: claims, give_back: surplus } = situation.decide();
        self.given = situation.given;
        let to_give = surplus.map(|give_back| match give_back {
            GiveBack::Needs(partition) => {
                (partition, "another worker has orchestrators that it needs")
            }
            GiveBack::Surplus(partition) => (partition, "another worker has less than its share"),
        });
        if let Some((partition, why)) = to_give
            && let Some(opening) = self.shared.opening(partition).filter(|o| o.is_served())
        {
            give_back(&opening, why);
            self.given = Some(partition);
        }
        let mut all = true;
        let mut claimed = false;
        for partition in claims {
            // Whoever owned it last knew what it needs.
            if let Some(needs) = situation.needs.get(&partition) {
                self.fleet.own().needs.insert(partition, needs.clone());
            }
            let is_free = self.shared.opening(partition).is_none() && self.may_claim(partition);
            let done = is_free
                && claim(self.shared, self.fleet, partition, self.last_owner(partition)).await;
            claimed |= done;
            all &= done;
        }
        self.fleet.settled.store(all, Ordering::Release);
        self.fleet.changes.send_modify(|changes| *changes += 1);
        if claimed {
            self.fleet.beat.notify_one();
        }
    }

    fn situation(&self) -> Situation {
        let openings = self.shared.present().filter(|opening| !opening.is_leaving());
        let others = self.view.iter().filter(|seen| seen.is_alive()).map(|seen| Other {
            worker: seen.member.worker,
            owns: seen.member.owns.iter().copied().collect(),
            has: names_of(&seen.member),
            leaving: seen.member.leaving,
        });
        let mut situation = Situation {
            me: self.me.worker,
            partitions: self.shared.partitions,
            mine: openings.map(|opening| opening.partition).collect(),
            has: names_of(&self.me),
            others: others.collect(),
            given: None,
            needs: BTreeMap::new(),
        };
        situation.given = self.given.filter(|given| !situation.is_owned(*given));
        situation.needs = self.needs(&situation);
        situation
    }

    /// What this worker's partitions, and those that nobody owns, need: as far as some workers have it and others
    /// do not. Kept, so that the others see it, and the next owner takes it over.
    fn needs(&self, situation: &Situation) -> BTreeMap<PartitionId, Names> {
        let staying = situation.others.iter().filter(|other| !other.leaving);
        let lists: Vec<_> = staying.map(|other| &other.has).chain([&situation.has]).collect();
        let tells_apart = |name: &Arc<str>| {
            let having = lists.iter().filter(|list| list.contains(name)).count();
            (1..lists.len()).contains(&having)
        };
        let mut own = self.fleet.own();
        let mut needs = std::mem::take(&mut own.needs);
        for opening in self.shared.present().filter(|opening| !opening.is_leaving()) {
            let Needs { registered, missing } = opening.needs();
            // Where nothing is missing and nothing ever was, nobody else has to know.
            if !missing.is_empty() || needs.contains_key(&opening.partition) {
                let needs = needs.entry(opening.partition).or_default();
                needs.extend(missing.into_iter().chain(registered));
            }
        }
        needs.retain(|partition, names| {
            names.retain(tells_apart);
            let theirs = situation.others.iter().any(|other| other.owns.contains(partition));
            !names.is_empty() && (situation.mine.contains(partition) || !theirs)
        });
        own.needs = needs.clone();
        for seen in self.view.iter() {
            for (partition, names) in &seen.member.needs {
                if !situation.is_owned(*partition) {
                    let names = names.iter().map(|name| Arc::from(&**name)).filter(tells_apart);
                    needs.entry(*partition).or_default().extend(names);
                }
            }
        }
        needs
    }

    fn may_claim(&self, partition: PartitionId) -> bool {
        !self.fleet.own().avoided.contains_key(&partition)
    }

    /// The dead worker that still says it owns the partition.
    fn last_owner(&self, partition: PartitionId) -> Option<WorkerId> {
        let mut dead = self.view.iter().filter(|seen| !seen.is_alive());
        let owner = dead.find(|seen| seen.member.owns.contains(&partition));
        owner.map(|seen| seen.member.worker)
    }
}

fn names_of(member: &Member) -> Names {
    member.orchestrators.iter().map(|name| Arc::from(&**name)).collect()
}
