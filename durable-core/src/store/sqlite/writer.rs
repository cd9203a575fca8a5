//! Everything that writes goes through here: one connection, one transaction at a time.
//!
//! Two ways lead to the connection. Work that is small, while nothing waits and nothing runs, is done on
//! the caller's thread: a wake-up of another thread would cost a good part of the commit. Everything else
//! queues for the writer thread, which folds all that waits into one transaction, so that one flush of the
//! disk serves many.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use rusqlite::{Connection, OptionalExtension as _};

use durable_machine::model::{CommitNumber, Fence, InstanceId, PartitionId, Timestamp};

use super::super::StoreError;
use super::failure::{Failure, Trouble};
use super::keys::{Entry, Keys};
use super::rows::{int, number};
use super::{SqliteOptions, chores, file};

/// Jobs that one transaction folds at the most.
const GROUP_JOBS_MAX: usize = 4096;

/// Bytes of bodies in one transaction, roughly: more gains nothing and makes the others wait.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How the writer treats a piece of work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// May run on the caller's thread.
    pub(super) inline: bool,
    /// May be refused after it wrote something: it gets a savepoint. Other work checks first.
    pub(super) isolated: bool,
    /// Bytes that it writes, roughly.
    pub(super) bytes: usize,
}

/// The open transaction, for the work in it.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) state: &'a mut State,
}

/// What the writer remembers between transactions.
#[derive(Default)]
pub(super) struct State {
    pub(super) keys: Keys,
    next_key: Option<i64>,
    evidence: Evidence,
    /// The latest time that a commit brought.
    pub(super) latest: Option<Timestamp>,
    /// Rows were left for [`chores`].
    pub(super) chores: bool,
}

/// What shows, after an I/O error at COMMIT, whether the transaction is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Evidence {
    /// No commit of a partition is in the transaction.
    #[default]
    None,
    /// The last history row that it appended.
    History { row: i64, log: i64, first: u64 },
    /// A commit that appended none; its number is written into the partition's row before COMMIT.
    Number { partition: PartitionId, fence: Fence, commit: CommitNumber },
}

impl Tx<'_> {
    pub(super) fn entry(&mut self, id: &InstanceId) -> Result<Option<Entry>, Failure> {
        self.state.keys.get(self.conn, id)
    }

    /// A key above all that are or were in use: keys of instances and logs share one sequence.
    pub(super) fn new_key(&mut self) -> Result<i64, Failure> {
        let key = match self.state.next_key {
            Some(key) => key,
            None => self.conn.query_row(
                "SELECT 1 + max(
                     coalesce((SELECT max(key) FROM instances), 0),
                     coalesce((SELECT max(log) FROM history), 0),
                     coalesce((SELECT max(log) FROM garbage), 0))",
                [],
                |row| row.get(0),
            )?,
        };
        self.state.next_key = Some(key + 1);
        Ok(key)
    }

    /// Rows with the highest keys may go in this transaction: no key or log in it is one of theirs. Whether it is in
    /// the file shows by the last log that it appended to.
    pub(super) fn keep_keys_growing(&mut self) -> Result<(), Failure> {
        let next = self.new_key()?;
        self.state.next_key = Some(next);
        Ok(())
    }

    pub(super) fn appended(&mut self, row: i64, log: i64, first: u64) {
        self.state.evidence = Evidence::History { row, log, first };
    }

    pub(super) fn applied(&mut self, partition: PartitionId, fence: Fence, commit: CommitNumber) {
        if !matches!(self.state.evidence, Evidence::History { .. }) {
            self.state.evidence = Evidence::Number { partition, fence, commit };
        }
    }
}

/// How a transaction ended without being applied.
enum Stop {
    /// It did not begin.
    NotBegun(Trouble),
    /// The work refused.
    Refused(StoreError),
    Trouble(Trouble),
}

/// The connection and what belongs to it.
pub(super) struct Writer {
    path: PathBuf,
    options: SqliteOptions,
    /// `None` after an I/O error, until it can be opened again.
    conn: Option<Connection>,
    generation: u64,
    data_version: i64,
    transactions: u64,
    state: State,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

/// What tests can make the next transaction do.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// COMMIT fails, and did nothing.
    CommitLost,
    /// COMMIT fails, and was done.
    CommitDone,
    /// COMMIT fails, and then the file cannot be asked.
    CommitUnknown,
    /// A panic.
    Panic,
}

impl Writer {
    pub(super) fn new(path: PathBuf, options: SqliteOptions, conn: Connection) -> Self {
        Self {
            path,
            options,
            conn: Some(conn),
            generation: 0,
            data_version: 0,
            transactions: 0,
            state: State::default(),
            #[cfg(test)]
            fault: None,
        }
    }

    /// The connection outside of a transaction.
    pub(super) fn conn(&mut self) -> Result<&Connection, Trouble> {
        if self.conn.is_none() {
            let conn =
                file::reopen(&self.path, &self.options).map_err(|error| Trouble::of(&error))?;
            self.generation += 1;
            self.state.keys.clear();
            self.state.next_key = None;
            self.conn = Some(conn);
        }
        self.conn.as_ref().ok_or_else(|| Trouble::Io("no connection".into()))
    }

    /// Changes whenever another connection wrote.
    pub(super) fn version(&mut self) -> Result<u64, Trouble> {
        let version = data_version(self.conn()?).map_err(|error| Trouble::of(&error))?;
        Ok(self.generation << 32 | version.cast_unsigned())
    }

    /// Runs `work` in one transaction and commits it.
    fn transaction(
        &mut self,
        wait: Duration,
        work: &mut dyn FnMut(&mut Tx<'_>) -> Result<(), Failure>,
    ) -> Result<(), Stop> {
        self.conn().map_err(Stop::NotBegun)?;
        let Some(conn) = &self.conn else {
            return Err(Stop::NotBegun(Trouble::Io("no connection".into())));
        };
        let sql = |error: rusqlite::Error| Trouble::of(&error);
        conn.busy_timeout(wait).map_err(|error| Stop::NotBegun(sql(error)))?;
        run(conn, "BEGIN IMMEDIATE").map_err(|error| Stop::NotBegun(sql(error)))?;
        let state = &mut self.state;
        state.evidence = Evidence::None;
        let worked = data_version(conn).map_err(Failure::Sql).and_then(|version| {
            if version != self.data_version {
                // Another process wrote: it may have replaced rows, and taken keys.
                self.data_version = version;
                state.keys.clear();
                state.next_key = None;
                state.chores = true;
            }
            #[cfg(test)]
            assert!(self.fault != Some(Fault::Panic), "a fault of the test");
            work(&mut Tx { conn, state })?;
            if let Evidence::Number { partition, commit, .. } = state.evidence {
                conn.prepare_cached("UPDATE partitions SET last_commit = ?2 WHERE partition = ?1")?
                    .execute((partition.0, int(commit.0)))?;
            }
            Ok(())
        });
        match worked {
            Ok(()) => {}
            Err(failure) => {
                state.keys.roll_back(0);
                if run(conn, "ROLLBACK").is_err() && !conn.is_autocommit() {
                    self.conn = None;
                }
                return Err(match failure {
                    Failure::Refused(error) => Stop::Refused(error),
                    Failure::Sql(error) => {
                        let trouble = Trouble::of(&error);
                        if matches!(trouble, Trouble::Io(_)) {
                            self.conn = None;
                        }
                        Stop::Trouble(trouble)
                    }
                });
            }
        }
        match self.finish() {
            Ok(()) => {
                self.state.keys.keep();
                self.transactions += 1;
                if self.transactions.is_multiple_of(chores::WAL_CHECK_EVERY)
                    && let Some(conn) = &self.conn
                {
                    chores::bound_wal(conn, &self.path);
                }
                Ok(())
            }
            Err(trouble) => {
                self.state.keys.clear();
                self.state.next_key = None;
                match trouble {
                    Trouble::Io(what) => self.settle(what),
                    other @ (Trouble::Busy { .. }
                    | Trouble::Unknown(_)
                    | Trouble::Damaged(_)
                    | Trouble::Unusable(_)) => {
                        if let Some(conn) = &self.conn
                            && !conn.is_autocommit()
                            && run(conn, "ROLLBACK").is_err()
                        {
                            self.conn = None;
                        }
                        Err(Stop::Trouble(other))
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Result<(), Trouble> {
        let Some(conn) = &self.conn else { return Err(Trouble::Io("no connection".into())) };
        #[cfg(test)]
        if let Some(fault) = self.fault {
            let statement = if fault == Fault::CommitDone { "COMMIT" } else { "ROLLBACK" };
            run(conn, statement).expect("no real fault beside the test's");
            return Err(Trouble::Io("a fault of the test".into()));
        }
        run(conn, "COMMIT").map_err(|error| Trouble::of(&error))
    }

    /// Finds out on a new connection whether the transaction is in the file.
    fn settle(&mut self, what: String) -> Result<(), Stop> {
        let evidence = self.state.evidence;
        self.conn = None;
        #[cfg(test)]
        let lost = self.fault.take() == Some(Fault::CommitUnknown);
        #[cfg(not(test))]
        let lost = false;
        let found = if lost {
            Err(Trouble::Io("a fault of the test".into()))
        } else {
            self.conn()
                .and_then(|conn| evidence.is_stored(conn).map_err(|error| Trouble::of(&error)))
        };
        match found {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(Stop::Trouble(Trouble::Io(what))),
            Ok(None) => Err(Stop::Trouble(Trouble::Unknown(what))),
            Err(again) => {
                self.conn = None;
                Err(Stop::Trouble(Trouble::Unknown(format!("{what}; then: {again:?}"))))
            }
        }
    }

    /// Runs one piece of work in a transaction of its own.
    fn alone<T>(
        &mut self,
        wait: Duration,
        work: &mut impl FnMut(&mut Tx<'_>) -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let mut value = None;
        self.transaction(wait, &mut |tx| {
            value = Some(work(tx)?);
            Ok(())
        })?;
        value.ok_or_else(|| Stop::Trouble(Trouble::Unusable("the work did not run".into())))
    }

    /// Runs a chore, which may fail.
    pub(super) fn chore(
        &mut self,
        work: &mut dyn FnMut(&mut Tx<'_>) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        self.transaction(Duration::ZERO, work).map_err(|stop| match stop {
            Stop::Refused(error) => error,
            Stop::NotBegun(trouble) | Stop::Trouble(trouble) => trouble.into(),
        })
    }

    /// Runs all jobs in one transaction; each learns what became of it.
    fn group(&mut self, mut jobs: Vec<Box<dyn Job>>, wait: Duration) {
        let several = jobs.len() > 1;
        let stop = self.transaction(wait, &mut |tx| {
            for job in &mut jobs {
                if several && job.kind().isolated {
                    isolated(tx, &mut **job)?;
                } else if several {
                    job.work(tx)?;
                } else {
                    // The transaction is its savepoint.
                    job.work(tx)?;
                    if let Some(refusal) = job.refusal() {
                        return Err(Failure::Refused(refusal));
                    }
                }
            }
            Ok(())
        });
        match stop {
            Ok(()) => jobs.into_iter().for_each(|mut job| job.answer(Ok(()))),
            Err(Stop::Refused(error)) => {
                // Only a job alone stops its transaction.
                if let Some(job) = jobs.first_mut() {
                    job.answer(Err(Refused::It(error)));
                }
            }
            Err(Stop::Trouble(Trouble::Damaged(_) | Trouble::Unusable(_))) if several => {
                // One of them met it. Alone, the others do not.
                for job in jobs {
                    self.group(vec![job], wait);
                }
            }
            Err(Stop::NotBegun(trouble) | Stop::Trouble(trouble)) => {
                for mut job in jobs {
                    job.answer(Err(Refused::All(trouble.clone())));
                }
            }
        }
    }
}

impl Evidence {
    fn is_stored(self, conn: &Connection) -> rusqlite::Result<Option<bool>> {
        Ok(match self {
            Self::None => None,
            Self::History { row, log, first } => Some(
                conn.query_row(
                    "SELECT 1 FROM history WHERE row = ?1 AND log = ?2 AND first = ?3",
                    (row, log, int(first)),
                    |_| Ok(()),
                )
                .optional()?
                .is_some(),
            ),
            Self::Number { partition, fence, commit } => Some(
                conn.query_row(
                    "SELECT 1 FROM partitions WHERE partition = ?1 AND fence = ?2 AND last_commit = ?3",
                    (partition.0, int(fence.0), int(commit.0)),
                    |_| Ok(()),
                )
                .optional()?
                .is_some(),
            ),
        })
    }
}

fn isolated(tx: &mut Tx<'_>, job: &mut dyn Job) -> Result<(), Failure> {
    run(tx.conn, "SAVEPOINT job")?;
    let (mark, evidence) = (tx.state.keys.mark(), tx.state.evidence);
    job.work(tx)?;
    if job.refused() {
        run(tx.conn, "ROLLBACK TO job")?;
        tx.state.keys.roll_back(mark);
        tx.state.evidence = evidence;
    }
    run(tx.conn, "RELEASE job")?;
    Ok(())
}

/// Runs a statement that gives no rows, prepared once.
pub(super) fn run(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn data_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// Waiting work.
trait Job: Send {
    fn kind(&self) -> Kind;
    /// Does the work and keeps its value or its refusal. `Err` is for the whole transaction.
    fn work(&mut self, tx: &mut Tx<'_>) -> Result<(), Failure>;
    fn refused(&self) -> bool;
    fn refusal(&mut self) -> Option<StoreError>;
    fn answer(&mut self, outcome: Result<(), Refused>);
}

enum Refused {
    It(StoreError),
    All(Trouble),
}

struct Task<T, F> {
    kind: Kind,
    work: F,
    value: Option<Result<T, StoreError>>,
    reply: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send,
{
    fn kind(&self) -> Kind {
        self.kind
    }

    fn work(&mut self, tx: &mut Tx<'_>) -> Result<(), Failure> {
        self.value = Some(match (self.work)(tx) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Sql(error)) => return Err(Failure::Sql(error)),
        });
        Ok(())
    }

    fn refused(&self) -> bool {
        matches!(self.value, Some(Err(_)))
    }

    fn refusal(&mut self) -> Option<StoreError> {
        match self.value.take() {
            Some(Err(error)) => Some(error),
            kept => {
                self.value = kept;
                None
            }
        }
    }

    fn answer(&mut self, outcome: Result<(), Refused>) {
        let value = match outcome {
            Ok(()) => self
                .value
                .take()
                .unwrap_or_else(|| Err(StoreError::Unusable("the work did not run".into()))),
            Err(Refused::It(error)) => Err(error),
            Err(Refused::All(trouble)) => Err(trouble.into()),
        };
        if let Some(reply) = self.reply.take() {
            // Whoever asked may be gone; the work stands.
            let _ = reply.send(value);
        }
    }
}

/// The way to the writer, shared by all clones of a store.
pub(super) struct Lane {
    writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    wake: Condvar,
    version: AtomicU64,
    chores: AtomicBool,
    busy_timeout: Duration,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// The last group held more than one job: another alone would only split the next one.
    crowded: bool,
    stop: bool,
    /// Why the writer is no more.
    dead: Option<String>,
}

enum Begun<T> {
    Done(Result<T, StoreError>),
    Waits(oneshot::Receiver<Result<T, StoreError>>),
}

impl Lane {
    pub(super) fn new(mut writer: Writer) -> Self {
        // From here on it only changes when somebody else writes, also where the first to ask finds the
        // writer busy. What cannot be read now is read then.
        let version = writer.version().unwrap_or_default();
        Self {
            busy_timeout: writer.options.busy_timeout,
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            wake: Condvar::new(),
            version: AtomicU64::new(version),
            chores: AtomicBool::new(false),
        }
    }

    /// Does the work in a transaction, perhaps together with other work. Needs no runtime.
    pub(super) async fn write<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        match self.begin(kind, work) {
            Begun::Done(result) => result,
            Begun::Waits(answer) => answer.await.unwrap_or_else(|_| Err(self.death())),
        }
    }

    fn begin<T, F>(&self, kind: Kind, mut work: F) -> Begun<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let mut queue = self.queue();
        if let Some(dead) = &queue.dead {
            return Begun::Done(Err(StoreError::Unusable(dead.clone())));
        }
        if kind.inline && !queue.crowded && queue.jobs.is_empty() {
            match self.writer.try_lock() {
                Ok(mut writer) => {
                    drop(queue);
                    match writer.alone(Duration::ZERO, &mut work) {
                        Ok(value) => {
                            self.note_chores(&mut writer);
                            return Begun::Done(Ok(value));
                        }
                        Err(Stop::Refused(error)) => return Begun::Done(Err(error)),
                        Err(Stop::Trouble(trouble)) => return Begun::Done(Err(trouble.into())),
                        // Another process writes: the writer thread can wait for it.
                        Err(Stop::NotBegun(_)) => {}
                    }
                    drop(writer);
                    queue = self.queue();
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Poisoned(_)) => {
                    drop(queue);
                    self.die("a write panicked");
                    return Begun::Done(Err(self.death()));
                }
            }
        }
        if let Some(dead) = &queue.dead {
            return Begun::Done(Err(StoreError::Unusable(dead.clone())));
        }
        let (reply, answer) = oneshot::channel();
        queue.jobs.push_back(Box::new(Task { kind, work, value: None, reply: Some(reply) }));
        drop(queue);
        self.wake.notify_one();
        Begun::Waits(answer)
    }

    /// Changes whenever another connection wrote. While the writer is busy, the answer is as of its
    /// last look.
    pub(super) fn version(&self) -> Result<u64, StoreError> {
        match self.writer.try_lock() {
            Ok(mut writer) => {
                let version = writer.version()?;
                self.version.fetch_max(version, Ordering::Relaxed);
                Ok(version)
            }
            Err(TryLockError::WouldBlock) => Ok(self.version.load(Ordering::Relaxed)),
            Err(TryLockError::Poisoned(_)) => {
                self.die("a write panicked");
                Err(self.death())
            }
        }
    }

    /// The writer between two transactions; waits for the one that runs.
    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        self.writer.lock().map_err(|_| {
            self.die("a write panicked");
            self.death()
        })
    }

    /// Lets the writer thread look for rows that can go.
    pub(super) fn wake_for_chores(&self) {
        if !self.chores.swap(true, Ordering::Relaxed) {
            // Under the lock, so that the thread cannot miss it between its look and its sleep.
            let _queue = self.queue();
            self.wake.notify_one();
        }
    }

    /// Ends the writer thread after what already waits.
    pub(super) fn stop(&self) {
        self.queue().stop = true;
        self.wake.notify_one();
    }

    /// The writer thread.
    pub(super) fn serve(self: &Arc<Self>) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve_until_stopped()));
        if let Err(panic) = ended {
            let what = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic".into());
            self.die(&what);
        }
    }

    fn serve_until_stopped(&self) {
        let mut chores_after = Instant::now();
        while let Some(jobs) = self.next_jobs(chores_after) {
            let crowded = jobs.len() > 1;
            if !jobs.is_empty() {
                let Ok(mut writer) = self.writer() else { return };
                writer.group(jobs, self.busy_timeout);
                self.version.fetch_max(
                    writer.generation << 32 | writer.data_version.cast_unsigned(),
                    Ordering::Relaxed,
                );
                self.note_chores(&mut writer);
                drop(writer);
                self.queue().crowded = crowded;
            }
            if self.chores.load(Ordering::Relaxed) && Instant::now() >= chores_after {
                let Ok(mut writer) = self.writer() else { return };
                let pause = match chores::portion(&mut writer) {
                    Ok(chores::Left::More) => chores::PAUSE,
                    Ok(chores::Left::Nothing) => {
                        self.chores.store(false, Ordering::Relaxed);
                        chores::PAUSE
                    }
                    Err(error) => {
                        tracing::debug!(%error, "old rows are removed later");
                        chores::PAUSE_AFTER_ERROR
                    }
                };
                chores_after = Instant::now() + pause;
            }
        }
    }

    /// Waits for work. Empty: it is time for chores. `None`: the end.
    fn next_jobs(&self, chores_after: Instant) -> Option<Vec<Box<dyn Job>>> {
        let mut queue = self.queue();
        while queue.jobs.is_empty() {
            if queue.stop {
                return None;
            }
            if self.chores.load(Ordering::Relaxed) {
                let left = chores_after.saturating_duration_since(Instant::now());
                // At least a pause from now, so that they wait for a quiet moment.
                let (back, timeout) = self
                    .wake
                    .wait_timeout(queue, left.max(chores::PAUSE))
                    .unwrap_or_else(PoisonError::into_inner);
                queue = back;
                if timeout.timed_out() {
                    break;
                }
            } else {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let mut bytes = 0;
        let fitting = queue.jobs.iter().take(GROUP_JOBS_MAX).take_while(|job| {
            let fits = bytes == 0 || bytes + job.kind().bytes <= GROUP_BYTES_MAX;
            bytes += job.kind().bytes;
            fits
        });
        let count = fitting.count();
        Some(queue.jobs.drain(..count).collect())
    }

    fn note_chores(&self, writer: &mut Writer) {
        if std::mem::take(&mut writer.state.chores) {
            self.wake_for_chores();
        }
    }

    /// Every later call fails at once, and so do those that wait.
    fn die(&self, why: &str) {
        let mut queue = self.queue();
        queue.dead.get_or_insert_with(|| {
            format!(
                "the writer of the SQLite store has stopped: {why}; the process must be restarted"
            )
        });
        // Their callers see that nobody will answer.
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
    }

    fn death(&self) -> StoreError {
        let dead = self.queue().dead.clone();
        StoreError::Unusable(dead.unwrap_or_else(|| "the SQLite store is closed".into()))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fence of a partition, 0 before its first opening.
pub(super) fn fence(conn: &Connection, partition: PartitionId) -> Result<Fence, Failure> {
    let mut statement = conn.prepare_cached("SELECT fence FROM partitions WHERE partition = ?1")?;
    Ok(Fence(statement.query_row([partition.0], |row| number(row, 0)).optional()?.unwrap_or(0)))
}

/// Refuses every owner but the newest.
pub(super) fn owned(conn: &Connection, partition: PartitionId, held: Fence) -> Result<(), Failure> {
    let newest = fence(conn, partition)?;
    if newest == held { Ok(()) } else { Err(StoreError::Fenced { newest }.into()) }
}
