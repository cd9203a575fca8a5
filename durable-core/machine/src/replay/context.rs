//! What an orchestrator's code sees of the engine, and the durable futures it awaits.
//!
//! Every future here is lazy: it asks for something at its first poll and is numbered then. It keeps
//! the waker of its last poll and wakes it when its event is applied, so that combinators which poll
//! only woken children work. All of it is driven inside a turn; nothing here blocks or does IO.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::action::Action;
use super::call::{ActivityCall, Numbered, Timer};
use super::child::{self, ChildCall, ChildOptions};
use super::scope::{CancelScope, Dropped, ScopeId, Scopes};
use crate::model::{
    ActivityOptions, CallNumber, EnvelopeId, ExecutionKey, ExecutionNumber, ExecutionStarted,
    Failure, FailureClass, InstanceId, ParentLink, Payload, Timestamp, UnconsumedEvent, limits,
};

/// Kind of the failure by which code asks for the next execution.
const CONTINUE_AS_NEW: &str = "ContinueAsNew";

/// The orchestrator's side of its orchestration. Cheap to clone; valid in every part of the code.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
    /// The scope that calls made by this one belong to.
    scope: Option<ScopeId>,
}

pub(super) struct Shared {
    key: ExecutionKey,
    state: Mutex<State>,
}

pub(super) struct State {
    now: Timestamp,
    started_at: Timestamp,
    version: Option<Arc<str>>,
    tags: Tags,
    parent: Option<ParentLink>,
    deadline: Option<Timestamp>,
    /// The execution that this one repeats, whose derived values it has.
    origin: Option<ExecutionNumber>,
    replaying: bool,
    /// The engine polls the code right now. Only then does a drop ask for a cancel.
    polling: bool,
    next_call: CallNumber,
    calls: BTreeMap<CallNumber, Slot>,
    queues: BTreeMap<Arc<str>, EventQueue>,
    next_waiter: u64,
    /// Futures that wait for an event the engine can bring.
    waiting: usize,
    buffered: usize,
    /// External events that came so far: their order across names.
    arrived: u64,
    /// The code has asked for the next execution.
    continues: bool,
    /// Version markers in the history that is replayed.
    markers: BTreeSet<Arc<str>>,
    /// What was answered for each marker that the code asked for: it stays for the whole execution.
    patches: BTreeMap<Arc<str>, bool>,
    actions: Vec<Action>,
    /// With whether their end is waited for.
    cancels: BTreeMap<CallNumber, bool>,
    pub(super) scopes: Scopes,
    custom_status: Option<Payload>,
    broken: Option<Failure>,
    uuids: u64,
    randoms: u64,
}

/// Keys and values.
type Tags = Vec<(Arc<str>, Arc<str>)>;

enum Slot {
    Waiting(Waker),
    Ready(Result<Payload, Failure>),
}

#[derive(Default)]
struct EventQueue {
    arrived: VecDeque<Arrived>,
    /// In the order of their first polls. The first `arrived.len()` of them have been woken.
    waiters: VecDeque<(u64, Waker)>,
}

#[derive(Clone)]
struct Arrived {
    number: u64,
    input: Payload,
    id: Option<EnvelopeId>,
}

impl Context {
    pub(super) fn new(key: ExecutionKey) -> Self {
        let state = State {
            now: Timestamp::MIN,
            started_at: Timestamp::MIN,
            version: None,
            tags: Tags::new(),
            parent: None,
            deadline: None,
            origin: None,
            replaying: false,
            polling: false,
            next_call: CallNumber(0),
            calls: BTreeMap::new(),
            queues: BTreeMap::new(),
            next_waiter: 0,
            waiting: 0,
            buffered: 0,
            arrived: 0,
            continues: false,
            markers: BTreeSet::new(),
            patches: BTreeMap::new(),
            actions: Vec::new(),
            cancels: BTreeMap::new(),
            scopes: Scopes::default(),
            custom_status: None,
            broken: None,
            uuids: 0,
            randoms: 0,
        };
        Self { shared: Arc::new(Shared { key, state: Mutex::new(state) }), scope: None }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Instance, run and execution of this orchestration.
    #[must_use]
    pub fn key(&self) -> &ExecutionKey {
        &self.shared.key
    }

    /// The time of the event that this turn applies: the same on every replay.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let state = self.state();
        if planted!(NowDiffersOnReplay) && state.replaying {
            return state.started_at;
        }
        state.now
    }

    /// The time at which the execution began.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.state().started_at
    }

    /// The version that its start asked for.
    #[must_use]
    pub fn version(&self) -> Option<Arc<str>> {
        self.state().version.clone()
    }

    /// The tags that its start gave it, in that order.
    #[must_use]
    pub fn tags(&self) -> Tags {
        self.state().tags.clone()
    }

    /// When the run has to have ended.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.state().deadline
    }

    /// Who started this instance as a child.
    #[must_use]
    pub fn parent(&self) -> Option<ParentLink> {
        self.state().parent.clone()
    }

    /// Whether this poll repeats one that was recorded. For logging only: code that decides by it
    /// diverges.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.state().replaying
    }

    /// A UUID that no other call of any execution gets, and every replay gets again.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        let number = {
            let mut state = self.state();
            state.uuids += 1;
            state.uuids
        };
        let hash = self.derive("uuid", number);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// 64 random bits, the same on every replay. Not for secrets: whoever knows the ids can compute them.
    #[must_use]
    pub fn random(&self) -> u64 {
        let number = {
            let mut state = self.state();
            state.randoms += 1;
            state.randoms
        };
        let hash = self.derive("random", number);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(bytes)
    }

    fn derive(&self, purpose: &str, number: u64) -> [u8; 32] {
        let key = self.shared.origin(&self.state());
        let mut hasher = Sha256::new();
        hasher.update(purpose.as_bytes());
        hasher.update([0]);
        hasher.update(key.instance.as_str().as_bytes());
        hasher.update([0]);
        if !planted!(UuidForgetsRun) {
            hasher.update(key.run.0.to_le_bytes());
        }
        hasher.update(key.execution.0.to_le_bytes());
        hasher.update(number.to_le_bytes());
        hasher.finalize().into()
    }

    /// Calls an activity: scheduled at the first poll, cancelled when dropped before its result.
    pub fn activity(
        &self,
        name: impl Into<Arc<str>>,
        input: Payload,
        options: ActivityOptions,
    ) -> ActivityCall {
        ActivityCall(Numbered::new(self.shared.clone(), self.scope, (name.into(), input, options)))
    }

    /// Starts a child orchestration: created at the first poll, given up when dropped before its result.
    pub fn child(
        &self,
        name: impl Into<Arc<str>>,
        input: Payload,
        options: ChildOptions,
    ) -> ChildCall {
        ChildCall(Numbered::new(self.shared.clone(), self.scope, (name.into(), input, options)))
    }

    /// Starts a child orchestration that nobody waits for, when this turn is committed.
    ///
    /// # Errors
    ///
    /// Where the input is too large.
    pub fn start_child(
        &self,
        name: impl Into<Arc<str>>,
        input: Payload,
        options: ChildOptions,
    ) -> Result<InstanceId, Failure> {
        child::start(&self.shared, name.into(), input, options)
    }

    /// A scope within this one: what its context asks for is cancelled together, by
    /// [`cancel`](Self::cancel).
    #[must_use]
    pub fn scope(&self) -> Self {
        let scope = self.state().scopes.make(self.scope);
        Self { shared: self.shared.clone(), scope: Some(scope) }
    }

    /// Cancels what is open in this scope and in those within it, and resolves to what it came to, in the order of
    /// call numbers, when all of it has ended. What is asked for in them from now on fails.
    ///
    /// Where this is no scope but the context of the whole execution, it never resolves.
    pub fn cancel(&self) -> CancelScope {
        CancelScope::new(self.shared.clone(), self.scope)
    }

    /// Whether this scope was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.scope.is_some_and(|scope| self.state().scopes.is_cancelled(scope))
    }

    /// A timer that fires at or after `due`: set at the first poll, cancelled when dropped before.
    pub fn timer(&self, due: Timestamp) -> Timer {
        Timer(Numbered::new(self.shared.clone(), self.scope, due))
    }

    /// A timer that fires this long after now.
    pub fn sleep(&self, duration: Duration) -> Timer {
        let due = self.now().after(duration);
        self.timer(due)
    }

    /// Waits for an external event of that name. Events are kept until somebody waits; several waiters
    /// of one name are served in the order of their first polls.
    pub fn event(&self, name: impl Into<Arc<str>>) -> EventWait {
        EventWait { shared: self.shared.clone(), name: name.into(), waiter: None, done: false }
    }

    /// Sends an event to another instance. It is delivered once, after this turn is committed.
    pub fn raise_event(&self, instance: InstanceId, name: impl Into<Arc<str>>, input: Payload) {
        let mut state = self.state();
        if oversized(&input) {
            state.break_with(Failure::limit(payload_sentence("the payload of a sent event")));
            return;
        }
        let call = state.number();
        state.ask(Action::SendEvent { call, instance, name: name.into(), input });
    }

    /// Asks for the next execution with this input. The code ends by returning what this gives, as it is;
    /// the events that it has not consumed are the next execution's.
    #[must_use]
    pub fn continue_as_new(&self, input: Payload) -> Failure {
        if oversized(&input) {
            return Failure::limit(payload_sentence("the input of the next execution"));
        }
        self.state().continues = true;
        let mut failure = Failure::new(
            FailureClass::Application,
            CONTINUE_AS_NEW,
            "the orchestrator asked to continue as new; it has to return this error as it is",
        );
        failure.details = Some(input);
        failure
    }

    /// The input of the next execution, where code that returns this failure continues as new.
    #[must_use]
    pub fn continues_with<'a>(&self, failure: &'a Failure) -> Option<&'a Payload> {
        let asked = self.state().continues && failure.kind == CONTINUE_AS_NEW;
        failure.details.as_ref().filter(|_| asked)
    }

    /// Whether the code takes its new path: where it is for the first time, which records a marker, and on
    /// every replay of a history that has the marker; not where a history without it is repeated. The first
    /// answer for an id stays for the whole execution.
    #[must_use]
    pub fn patched(&self, id: impl Into<Arc<str>>) -> bool {
        self.state().patched(id.into(), false)
    }

    /// Says that the code has the new path only. Histories with the marker fit, and those that it records
    /// from now on fit code without the marker, too.
    pub fn deprecate_patch(&self, id: impl Into<Arc<str>>) {
        let _ = self.state().patched(id.into(), true);
    }

    /// Shows a value to whoever looks at the instance's status. At most 16 KiB: more fails the turn.
    pub fn set_custom_status(&self, status: Payload) {
        let mut state = self.state();
        if status.bytes() > limits::CUSTOM_STATUS_BYTES_MAX {
            let bytes = status.bytes();
            state.break_with(Failure::limit(format!(
                "the custom status has {bytes} bytes; at most {} fit. Keep large data in an \
                 activity's result and show a summary",
                limits::CUSTOM_STATUS_BYTES_MAX
            )));
        } else {
            state.custom_status = Some(status);
        }
    }
}

impl Shared {
    /// The execution whose derived values this one has.
    pub(super) fn origin(&self, state: &State) -> ExecutionKey {
        let origin = state.origin.filter(|_| !planted!(OriginForgotten));
        ExecutionKey { execution: origin.unwrap_or(self.key.execution), ..self.key.clone() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held ends the orchestration; its state is only read after that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn begin_turn(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
    }

    pub(super) fn set_started(&mut self, at: Timestamp, started: &ExecutionStarted) {
        self.started_at = at;
        self.version.clone_from(&started.version);
        self.tags.clone_from(&started.tags);
        self.parent.clone_from(&started.parent);
        self.deadline = started.deadline.map(|deadline| deadline.at);
        self.origin = started.rewind.as_ref().map(|rewind| rewind.origin);
    }

    pub(super) fn set_replaying(&mut self, replaying: bool) {
        self.replaying = replaying;
    }

    pub(super) fn set_polling(&mut self, polling: bool) {
        self.polling = polling;
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn take_broken(&mut self) -> Option<Failure> {
        self.broken.take()
    }

    /// What the polls since the last call asked for: actions in order, then cancels by call number,
    /// then the custom status.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.actions);
        let cancels = std::mem::take(&mut self.cancels).into_iter();
        actions.extend(cancels.map(|(call, awaited)| match awaited {
            true => Action::RequestCancel { call },
            false => Action::Cancel { call },
        }));
        actions.extend(self.custom_status.take().map(Action::SetCustomStatus));
        actions
    }

    /// Like [`take_actions`](Self::take_actions) for an execution that has ended: no cancels.
    pub(super) fn take_last_actions(&mut self) -> Vec<Action> {
        self.cancels.clear();
        self.take_actions()
    }

    /// Gives a call its result. The returned wakers are to be woken without the lock; there are none where
    /// nobody waits: cancelled before.
    #[must_use]
    pub(super) fn settle(
        &mut self,
        call: CallNumber,
        result: Result<Payload, Failure>,
    ) -> Vec<Waker> {
        let of_scopes = self.scopes.settled(call, &result);
        self.settle_slot(call, result).into_iter().chain(of_scopes).collect()
    }

    /// The same, for the future of the call alone.
    #[must_use]
    pub(super) fn settle_slot(
        &mut self,
        call: CallNumber,
        result: Result<Payload, Failure>,
    ) -> Option<Waker> {
        let slot = self.calls.get_mut(&call)?;
        match std::mem::replace(slot, Slot::Ready(result)) {
            Slot::Waiting(waker) => {
                self.waiting -= 1;
                (!planted!(LateChildNotWoken) || call.0 < 30).then_some(waker)
            }
            Slot::Ready(first) => {
                *slot = Slot::Ready(first);
                None
            }
        }
    }

    /// Keeps an external event for its waiter. The returned waker is to be woken without the lock.
    #[must_use]
    pub(super) fn raise(
        &mut self,
        name: &Arc<str>,
        input: Payload,
        id: Option<EnvelopeId>,
    ) -> Option<Waker> {
        self.buffered += 1;
        self.arrived += 1;
        let event = Arrived { number: self.arrived, input, id };
        let queue = self.queues.entry(name.clone()).or_default();
        if planted!(EventGivenTwice) {
            self.buffered += 1;
            queue.arrived.push_back(event.clone());
        }
        queue.arrived.push_back(event);
        queue.waiters.get(queue.arrived.len() - 1).map(|(_, waker)| waker.clone())
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Markers of the history that is replayed next.
    pub(super) fn set_markers(&mut self, markers: BTreeSet<Arc<str>>) {
        self.markers = markers;
    }

    fn patched(&mut self, id: Arc<str>, deprecated: bool) -> bool {
        if let Some(answer) = self.patches.get(&id) {
            return *answer;
        }
        if id.is_empty() || id.len() > limits::NAME_BYTES_MAX {
            self.break_with(Failure::limit(format!(
                "the id of a patch has 1 to {} bytes, this one has {}",
                limits::NAME_BYTES_MAX,
                id.len()
            )));
            return true;
        }
        let known = self.markers.contains(&id) && !planted!(PatchForgotten);
        let answer = !self.replaying || known;
        if answer {
            self.ask(Action::Patched { id: id.clone(), deprecated });
        }
        self.patches.insert(id, answer);
        answer
    }

    /// Whether the code asked for the next execution.
    pub(super) fn continues(&self) -> bool {
        self.continues
    }

    pub(super) fn awaited_events(&self) -> Vec<Arc<str>> {
        let awaited = self.queues.iter().filter(|(_, queue)| !queue.waiters.is_empty());
        awaited.map(|(name, _)| name.clone()).collect()
    }

    /// In the order in which they came.
    pub(super) fn unconsumed(&self) -> Vec<UnconsumedEvent> {
        let queues = self.queues.iter();
        let mut kept: Vec<_> = queues
            .flat_map(|(name, queue)| queue.arrived.iter().map(move |event| (name, event)))
            .collect();
        kept.sort_by_key(|(_, event)| event.number);
        kept.into_iter()
            .map(|(name, event)| UnconsumedEvent {
                name: name.clone(),
                input: event.input.clone(),
                id: event.id.clone(),
            })
            .collect()
    }

    pub(super) fn number(&mut self) -> CallNumber {
        let call = self.next_call;
        self.next_call = call.next();
        call
    }

    pub(super) fn ask(&mut self, action: Action) {
        if self.actions.len() >= limits::TURN_ACTIONS_MAX {
            self.break_with(Failure::limit(format!(
                "one turn asked for more than {} actions; work in batches, or use buffer_unordered \
                 with a bound",
                limits::TURN_ACTIONS_MAX
            )));
            return;
        }
        self.actions.push(action);
    }

    pub(super) fn open(&mut self, call: CallNumber, waker: &Waker) {
        if self.calls.len() >= limits::OPEN_CALLS_MAX {
            self.break_with(Failure::limit(format!(
                "more than {} calls are open at once; work in batches",
                limits::OPEN_CALLS_MAX
            )));
        }
        self.calls.insert(call, Slot::Waiting(waker.clone()));
        self.waiting += 1;
    }

    /// Takes the result of a call, or keeps the newest waker.
    pub(super) fn poll(
        &mut self,
        call: CallNumber,
        waker: &Waker,
    ) -> Poll<Result<Payload, Failure>> {
        match self.calls.get_mut(&call) {
            Some(Slot::Waiting(kept)) => {
                kept.clone_from(waker);
                Poll::Pending
            }
            Some(Slot::Ready(_)) => match self.calls.remove(&call) {
                Some(Slot::Ready(result)) => Poll::Ready(result),
                Some(Slot::Waiting(_)) | None => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }

    pub(super) fn drop_call(&mut self, call: CallNumber) {
        if let Some(Slot::Waiting(_)) = self.calls.remove(&call) {
            self.waiting -= 1;
            if self.polling {
                match self.scopes.dropped(call) {
                    None => self.give_up(call),
                    Some(Dropped::Ends) => self.request_cancel(call),
                    Some(Dropped::Known) => {}
                }
            }
        }
    }

    /// Nobody waits for a call any more, nor for its end.
    pub(super) fn give_up(&mut self, call: CallNumber) {
        self.cancels.insert(call, false);
    }

    /// A call is to be ended, and says so.
    pub(super) fn request_cancel(&mut self, call: CallNumber) {
        self.cancels.insert(call, true);
    }

    /// Something waits beside the futures of calls.
    pub(super) fn begin_to_wait(&mut self) {
        self.waiting += 1;
    }

    pub(super) fn stop_waiting(&mut self) {
        self.waiting -= 1;
    }

    /// The first rule that the code broke ends the execution when the poll returns.
    fn break_with(&mut self, failure: Failure) {
        self.broken.get_or_insert(failure);
    }
}

pub(super) fn oversized(payload: &Payload) -> bool {
    payload.bytes() > limits::PAYLOAD_BYTES_MAX
}

pub(super) fn payload_sentence(what: &str) -> String {
    format!(
        "{what} is larger than {} MiB; store the data elsewhere and pass a reference",
        limits::PAYLOAD_BYTES_MAX / (1024 * 1024)
    )
}

/// A wait for one external event; resolves to its payload.
#[must_use = "futures do nothing unless awaited"]
pub struct EventWait {
    shared: Arc<Shared>,
    name: Arc<str>,
    waiter: Option<u64>,
    done: bool,
}

impl Future for EventWait {
    type Output = Payload;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Payload> {
        let this = &mut *self;
        if this.done {
            return Poll::Pending;
        }
        let mut guard = this.shared.lock();
        let state = &mut *guard;
        let queue = state.queues.entry(this.name.clone()).or_default();
        let waiter = match this.waiter {
            Some(waiter) => waiter,
            None => {
                let waiter = state.next_waiter;
                state.next_waiter += 1;
                queue.waiters.push_back((waiter, cx.waker().clone()));
                if planted!(WaitersLastInFirstOut) {
                    queue.waiters.rotate_right(1);
                }
                state.waiting += 1;
                this.waiter = Some(waiter);
                waiter
            }
        };
        let Some(place) = queue.waiters.iter().position(|(id, _)| *id == waiter) else {
            return Poll::Pending;
        };
        // The waiter at place n is served by the event at place n, whoever is polled first.
        let Some(event) = queue.arrived.remove(place) else {
            queue.waiters[place].1.clone_from(cx.waker());
            return Poll::Pending;
        };
        queue.waiters.remove(place);
        if queue.arrived.is_empty() && queue.waiters.is_empty() {
            state.queues.remove(&this.name);
        }
        state.waiting -= 1;
        state.buffered -= 1;
        this.done = true;
        Poll::Ready(event.input)
    }
}

impl Drop for EventWait {
    fn drop(&mut self) {
        let (false, Some(waiter)) = (self.done, self.waiter) else { return };
        if planted!(DroppedWaiterStays) {
            return;
        }
        let woken = {
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            state.waiting -= 1;
            let Some(queue) = state.queues.get_mut(&self.name) else { return };
            let Some(place) = queue.waiters.iter().position(|(id, _)| *id == waiter) else {
                return;
            };
            queue.waiters.remove(place);
            // The event that was this waiter's goes to the one that moved up to the last served place.
            let moved_up = queue
                .arrived
                .len()
                .checked_sub(1)
                .filter(|last| *last >= place)
                .and_then(|last| queue.waiters.get(last))
                .map(|(_, waker)| waker.clone());
            if queue.arrived.is_empty() && queue.waiters.is_empty() {
                state.queues.remove(&self.name);
            }
            moved_up.filter(|_| state.polling)
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}
