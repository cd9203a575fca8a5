//! Child orchestrations, as the code that asks for them sees them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::action::Action;
use super::call::Numbered;
use super::context::{Shared, State, oversized, payload_sentence};
use crate::model::{CallNumber, ChildCreated, Failure, InstanceId, ParentClose, Payload};

/// What a start of a child asks for beside name and input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChildOptions {
    /// The child's id; without one it gets an id that no other child has.
    pub id: Option<InstanceId>,
    /// What becomes of it when nobody waits for it any more.
    pub close: ParentClose,
    /// How long its run may take.
    pub time_limit: Option<Duration>,
}

/// A child orchestration; resolves to its result.
#[must_use = "futures do nothing unless awaited"]
pub struct ChildCall(pub(super) Numbered<(Arc<str>, Payload, ChildOptions)>);

impl Future for ChildCall {
    type Output = Result<Payload, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, |(name, input, options), state, shared| {
            fits(&name, &input)?;
            let created = created(state, shared, name, input, options, Waits::Yes);
            Ok((created.call, Action::StartChild(Box::new(created))))
        })
    }
}

/// Asks for a child that nobody waits for.
pub(super) fn start(
    shared: &Shared,
    name: Arc<str>,
    input: Payload,
    options: ChildOptions,
) -> Result<InstanceId, Failure> {
    fits(&name, &input)?;
    let mut state = shared.lock();
    let created = created(&mut state, shared, name, input, options, Waits::No);
    let instance = created.instance.clone();
    state.ask(Action::StartChild(Box::new(created)));
    Ok(instance)
}

#[derive(PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

fn fits(name: &str, input: &Payload) -> Result<(), Failure> {
    if oversized(input) {
        return Err(Failure::limit(payload_sentence(&format!("the input of child {name:?}"))));
    }
    Ok(())
}

fn created(
    state: &mut State,
    shared: &Shared,
    name: Arc<str>,
    input: Payload,
    options: ChildOptions,
    waits: Waits,
) -> ChildCreated {
    let call: CallNumber = state.number();
    ChildCreated {
        call,
        name,
        instance: options.id.unwrap_or_else(|| shared.origin(state).child_id(call)),
        input,
        detached: waits == Waits::No,
        close: options.close,
        time_limit: options.time_limit,
    }
}
