//! What one worker knows of the others: who lives, judged by beats and its own clock.

use std::collections::BTreeMap;
use std::time::Duration;

use durable_machine::model::WorkerId;

use crate::store::Member;

/// Leases after which the row of a dead worker is removed.
const REMOVED_AFTER: u32 = 10;

/// The other workers, as they were seen.
#[derive(Debug)]
pub(super) struct View {
    lease: Duration,
    seen: BTreeMap<WorkerId, Seen>,
}

/// One other worker.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) member: Member,
    /// For how long its beat has not risen while somebody looked.
    silent: Duration,
    /// Its process is known to be gone.
    gone: bool,
    lease: Duration,
}

impl Seen {
    pub(super) fn is_alive(&self) -> bool {
        !self.gone && self.silent < self.lease
    }

    /// Whether its row is of no use to anybody.
    pub(super) fn is_forgotten(&self) -> bool {
        self.silent >= self.lease * REMOVED_AFTER
    }
}

impl View {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, seen: BTreeMap::new() }
    }

    /// Takes in the rows of the others as they are now, `passed` after the last time. Time in which nobody
    /// looked counts in part only: whoever slept so long may have been paused together with all others.
    pub(super) fn observe(
        &mut self,
        rows: Vec<Member>,
        passed: Duration,
        is_gone: impl Fn(&Member) -> bool,
    ) {
        let counted = passed.min(self.lease / 3);
        let mut before = std::mem::take(&mut self.seen);
        self.seen = rows
            .into_iter()
            .map(|member| {
                let silent = match before.remove(&member.worker) {
                    Some(seen) if seen.member.beat == member.beat => seen.silent + counted,
                    Some(_) | None => Duration::ZERO,
                };
                let gone = is_gone(&member);
                let seen = Seen { silent, gone, lease: self.lease, member };
                (seen.member.worker, seen)
            })
            .collect();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values()
    }

    /// Whether there is no other worker, not even a dead one that may wake up.
    pub(super) fn is_alone(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether another worker lives that will stay.
    pub(super) fn has_company(&self) -> bool {
        self.seen.values().any(|seen| seen.is_alive() && !seen.member.leaving)
    }
}

/// Whether a worker's process is known to have ended: it ran on this boot of this host, and no process has
/// its number.
pub(super) fn process_is_gone(me: &Member, other: &Member) -> bool {
    let here = !me.boot.is_empty() && me.boot == other.boot && me.host == other.host;
    here && other.pid != me.pid && no_such_process(other.pid)
}

#[cfg(target_os = "linux")]
fn no_such_process(pid: u32) -> bool {
    // Where the first process cannot be seen, others may be hidden, too.
    if !std::path::Path::new("/proc/1").exists() {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // Its name may hold anything; behind it stands its state. What ended and was not waited for is dead.
        Ok(stat) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X'))),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(not(target_os = "linux"))]
fn no_such_process(_pid: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);
    const STEP: Duration = Duration::from_secs(3);

    fn member(n: u128, beat: u64) -> Member {
        Member {
            worker: WorkerId(Uuid::from_u128(n)),
            beat,
            pid: std::process::id(),
            host: "host".into(),
            orchestrators: Vec::new(),
            build: None,
            boot: "boot".into(),
            owns: Vec::new(),
            needs: BTreeMap::new(),
            leaving: false,
        }
    }

    fn alive(view: &View) -> usize {
        view.iter().filter(|seen| seen.is_alive()).count()
    }

    #[test]
    fn a_worker_is_dead_when_its_beat_did_not_rise_for_a_lease() {
        let mut view = View::new(LEASE);
        view.observe(vec![member(1, 7), member(2, 7)], STEP, |_| false);
        for beat in 0..9 {
            view.observe(vec![member(1, 7), member(2, 8 + beat)], STEP, |_| false);
            assert_eq!(alive(&view), 2);
        }
        view.observe(vec![member(1, 7), member(2, 30)], STEP, |_| false);
        assert_eq!(alive(&view), 1);
        assert!(view.has_company() && !view.is_alone());
        // It wakes up.
        view.observe(vec![member(1, 8), member(2, 31)], STEP, |_| false);
        assert_eq!(alive(&view), 2);
    }

    #[test]
    fn a_row_is_forgotten_after_ten_leases() {
        let mut view = View::new(LEASE);
        view.observe(vec![member(1, 7)], STEP, |_| false);
        for _ in 0..99 {
            view.observe(vec![member(1, 7)], STEP, |_| false);
            assert!(view.iter().all(|seen| !seen.is_forgotten()));
        }
        view.observe(vec![member(1, 7)], STEP, |_| false);
        assert!(view.iter().all(Seen::is_forgotten));
    }

    #[test]
    fn a_long_sleep_of_ones_own_does_not_make_the_others_dead() {
        let mut view = View::new(LEASE);
        view.observe(vec![member(1, 7)], STEP, |_| false);
        view.observe(vec![member(1, 7)], LEASE * 20, |_| false);
        assert_eq!(alive(&view), 1);
    }

    #[test]
    fn one_that_leaves_is_alive_but_no_company() {
        let mut view = View::new(LEASE);
        let leaving = Member { leaving: true, ..member(1, 7) };
        view.observe(vec![leaving], STEP, |_| false);
        assert_eq!(alive(&view), 1);
        assert!(!view.has_company() && !view.is_alone());
    }

    #[test]
    fn one_whose_process_is_gone_is_dead_at_once() {
        let mut view = View::new(LEASE);
        view.observe(vec![member(1, 7)], STEP, |_| true);
        assert_eq!(alive(&view), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_a_process_of_this_boot_of_this_host_can_be_seen_to_be_gone() {
        let me = member(1, 1);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let other = Member { pid: child.id(), ..member(2, 1) };
        // Not waited for: there is a row in /proc, of a process that is dead.
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !process_is_gone(&me, &other) && std::path::Path::new("/proc/1").exists() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        for elsewhere in [
            Member { boot: "another".into(), ..other.clone() },
            Member { host: "another".into(), ..other.clone() },
            Member { pid: me.pid, ..other.clone() },
        ] {
            assert!(!process_is_gone(&me, &elsewhere));
        }
        let unknown = Member { boot: String::new(), ..me };
        assert!(!process_is_gone(&unknown, &Member { boot: String::new(), ..other }));
    }
}
