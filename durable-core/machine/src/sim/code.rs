//! The workload's orchestrator: one async function that does what its script says, through the same
//! context as any user's code; and the bodies of its activities.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::combine::{Child, Winner, glance, join_all, race, unordered};
use super::script::{self, Script, Step, Work};
use crate::model::{Attempt, CallNumber, Failure, FailureClass, ParentClose, Payload};
use crate::replay::{ChildOptions, Context, EndedCall, OrchestratorFn};

/// Registered by every worker.
pub(super) const SCRIPTED: &str = "scripted";
/// Registered by some workers only.
pub(super) const RARE: &str = "rare";

/// Payload of every external event: a number that no other event of the seed has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct EventToken {
    pub(super) event: u64,
}

/// What the code saw, told to the checker while it replays a history.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) consumed: Vec<u64>,
    /// For waiters that began to wait together: what each got, in the order of their first polls.
    pub(super) served: Vec<Vec<u64>>,
    pub(super) uuids: Vec<uuid::Uuid>,
    /// Calls that were cancelled, and of which the code was told that they have ended.
    pub(super) ended: Vec<CallNumber>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
    /// Wakers that something outside every turn holds.
    static OUTSIDE: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// What was seen since the last call.
pub(super) fn take_seen() -> Seen {
    SEEN.take()
}

/// Calls of whose end the code was told since what was seen was taken last.
pub(super) fn ended_so_far() -> Vec<CallNumber> {
    SEEN.with_borrow(|seen| seen.ended.clone())
}

/// Wakers left with another runtime since the last call.
pub(super) fn take_outside() -> Vec<Waker> {
    OUTSIDE.take()
}

/// Leaves wakers outside again.
pub(super) fn put_outside(wakers: Vec<Waker>) {
    OUTSIDE.with_borrow_mut(|outside| outside.extend(wakers));
}

/// The code that a worker registers. Code of the wrong version is right until it has to repeat a turn.
pub(super) fn orchestrator(wrong_version: bool) -> OrchestratorFn {
    Arc::new(move |ctx, input| {
        Box::pin(async move {
            if wrong_version && ctx.is_replaying() {
                let _ = ctx.activity("renamed", Payload::null(), Default::default()).await;
            }
            let script: Script = input
                .to()
                .map_err(|error| Failure::new(FailureClass::Payload, "Input", error.to_string()))?;
            let mut output = Vec::new();
            for step in script.steps {
                output.push(run(ctx.clone(), step).await?);
            }
            Ok(Payload::of(&output).expect("texts are JSON"))
        })
    })
}

fn run(ctx: Context, step: Step) -> Child {
    Box::pin(async move {
        match step {
            Step::Call { work, options, must } => {
                let input = Payload::of(&work).expect("work is JSON");
                match ctx.activity("work", input, *options).await {
                    Ok(output) => Ok(output.json().to_owned()),
                    Err(failure) if must => Err(failure),
                    Err(failure) => Ok(format!("failed: {failure}")),
                }
            }
            Step::Sleep(micros) => {
                sleep(&ctx, micros).await;
                Ok(format!("slept {micros}"))
            }
            Step::Wait(name) => Ok(wait(&ctx, &name).await),
            Step::WaitFor { name, micros } => {
                let (one, other) = (ctx.clone(), ctx);
                let event: Child = Box::pin(async move { Ok(wait(&one, &name).await) });
                let timeout: Child = Box::pin(async move {
                    sleep(&other, micros).await;
                    Ok("timed out".into())
                });
                match race(event, timeout).await {
                    Winner::Left(value) | Winner::Right(value) => value,
                }
            }
            Step::Waiters { name, count, dropped } => {
                Ok(waiters(&ctx, &name, count, dropped).await)
            }
            Step::Race(left, right) => {
                match race(run(ctx.clone(), *left), run(ctx, *right)).await {
                    Winner::Left(value) => Ok(format!("left {}", value?)),
                    Winner::Right(value) => Ok(format!("right {}", value?)),
                }
            }
            Step::Scope(left, right) => {
                let scope = ctx.scope();
                let winner = race(run(scope.clone(), *left), run(ctx, *right)).await;
                let ended = scope.cancel().await;
                SEEN.with_borrow_mut(|seen| seen.ended.extend(ended.iter().map(|end| end.call)));
                let ended: Vec<_> = ended.iter().map(told).collect();
                let value = match winner {
                    Winner::Left(value) => format!("left {}", value?),
                    Winner::Right(value) => format!("right {}", value?),
                };
                Ok(format!("{value}, ended {ended:?}"))
            }
            Step::Join(steps) => {
                let children = steps.into_iter().map(|step| run(ctx.clone(), step)).collect();
                let values: Result<Vec<_>, _> = join_all(children).await.into_iter().collect();
                Ok(format!("[{}]", values?.join(",")))
            }
            Step::Unordered { steps, take } => {
                let children = steps.into_iter().map(|step| run(ctx.clone(), step)).collect();
                let mut set = unordered(children);
                let mut values = Vec::new();
                while values.len() < take
                    && let Some((index, value)) = set.next().await
                {
                    values.push(format!("{index}:{}", value?));
                }
                Ok(values.join(";"))
            }
            Step::Seq(steps) => {
                let mut values = Vec::new();
                for step in steps {
                    values.push(run(ctx.clone(), step).await?);
                }
                Ok(values.join(" "))
            }
            Step::Glance(step) => match glance(run(ctx, *step)).await {
                Some(value) => Ok(format!("at once {}", value?)),
                None => Ok("dropped".into()),
            },
            Step::Status { token, characters } => {
                let status = format!("status {token} {}", "x".repeat(characters));
                ctx.set_custom_status(Payload::of(&status).expect("a text is JSON"));
                Ok("status".into())
            }
            Step::Uuid => {
                let uuid = ctx.new_uuid();
                SEEN.with_borrow_mut(|seen| seen.uuids.push(uuid));
                Ok(uuid.to_string())
            }
            Step::Random => Ok(ctx.random().to_string()),
            Step::Now => Ok(ctx.now().to_string()),
            Step::Send { to, name, token } => {
                let payload = Payload::of(&EventToken { event: token }).expect("a number is JSON");
                ctx.raise_event(to, name, payload);
                Ok("sent".into())
            }
            Step::Child(child) => {
                let must = child.must;
                let (name, input, options) = child_of(*child);
                match ctx.child(name, input, options).await {
                    Ok(output) => Ok(format!("child {}", output.json())),
                    Err(failure) if must => Err(failure),
                    Err(failure) => Ok(format!("child failed: {failure}")),
                }
            }
            Step::Detach(child) => {
                let (name, input, options) = child_of(*child);
                ctx.start_child(name, input, options).map(|id| format!("began {id}"))
            }
            Step::Foreign => {
                Foreign.await;
                Ok("never".into())
            }
            Step::Panic => panic!("the workload panics here on purpose"),
            Step::Patched { id, new, old } => {
                let step = if ctx.patched(id) { new } else { old };
                run(ctx, *step).await
            }
            Step::Continue(script) => {
                let input = Payload::of(&script).expect("a script is JSON");
                Err(ctx.continue_as_new(input))
            }
            Step::Fail(kind) => {
                Err(Failure::new(FailureClass::Application, kind, "as the script says"))
            }
        }
    })
}

fn told(end: &EndedCall) -> String {
    match &end.result {
        Ok(output) => format!("{} {}", end.call, output.json()),
        Err(failure) => format!("{} {failure}", end.call),
    }
}

fn child_of(child: script::Child) -> (&'static str, Payload, ChildOptions) {
    let name = if child.rare { RARE } else { SCRIPTED };
    let close = if child.abandon { ParentClose::Abandon } else { ParentClose::Terminate };
    let time_limit = child.within.map(Duration::from_micros);
    let input = Payload::of(&child.script).expect("a script is JSON");
    (name, input, ChildOptions { id: child.id, close, time_limit })
}

async fn sleep(ctx: &Context, micros: i64) {
    let due = ctx.now().as_micros().saturating_add(micros);
    ctx.timer(crate::model::Timestamp::from_micros(due)).await;
}

async fn wait(ctx: &Context, name: &str) -> String {
    Consuming(ctx.event(name)).await
}

async fn waiters(ctx: &Context, name: &str, count: u32, dropped: Vec<u32>) -> String {
    let mut waits: Vec<_> = (0..count).map(|_| Some(Consuming(ctx.event(name)))).collect();
    let mut values = vec![String::new(); waits.len()];
    let mut first = true;
    std::future::poll_fn(|cx| {
        for (index, slot) in waits.iter_mut().enumerate() {
            let Some(wait) = slot else { continue };
            if let Poll::Ready(value) = Pin::new(wait).poll(cx) {
                values[index] = value;
                *slot = None;
            }
        }
        if std::mem::take(&mut first) {
            for index in &dropped {
                waits[*index as usize] = None;
            }
        }
        if waits.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let served = values.iter().filter_map(|value| {
        serde_json::from_str::<EventToken>(value).ok().map(|token| token.event)
    });
    SEEN.with_borrow_mut(|seen| seen.served.push(served.collect()));
    values.join("|")
}

/// Tells what it consumed at the moment it is ready: from then on the event belongs to the code.
struct Consuming(crate::replay::EventWait);

impl Future for Consuming {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<String> {
        Pin::new(&mut self.0).poll(cx).map(|payload| {
            if let Ok(EventToken { event }) = payload.to() {
                SEEN.with_borrow_mut(|seen| seen.consumed.push(event));
            }
            payload.json().to_owned()
        })
    }
}

/// A future of another runtime: it leaves its waker with somebody outside.
struct Foreign;

impl Future for Foreign {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        OUTSIDE.with_borrow_mut(|wakers| wakers.push(cx.waker().clone()));
        Poll::Pending
    }
}

/// What the body of an activity does in this attempt; `None`: it never answers.
pub(super) fn body(work: &Work, attempt: Attempt) -> Option<Result<Payload, Box<Failure>>> {
    if attempt.0 <= work.hangs {
        return None;
    }
    if attempt.0 <= work.hangs + work.fails {
        let mut failure = Failure::new(
            FailureClass::Application,
            work.kind.clone(),
            format!("work {} attempt {attempt}", work.token),
        );
        failure.permanent = work.permanent;
        return Some(Err(Box::new(failure)));
    }
    let result = format!("work {} attempt {attempt} {}", work.token, "y".repeat(work.size));
    Some(Ok(Payload::of(&result).expect("a text is JSON")))
}
