//! Combinators as users know them from `futures`, small and local: a race, a `join_all` and an unordered
//! set. The last two poll only children that were woken, which is what the engine's wakers have to bear.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::model::Failure;

pub(super) type Value = Result<String, Failure>;
pub(super) type Child = Pin<Box<dyn Future<Output = Value> + Send>>;

/// The left one wins where both are ready; the loser is dropped with the race.
pub(super) struct Race {
    sides: Option<(Child, Child)>,
}

pub(super) fn race(left: Child, right: Child) -> Race {
    Race { sides: Some((left, right)) }
}

pub(super) enum Winner {
    Left(Value),
    Right(Value),
}

impl Future for Race {
    type Output = Winner;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Winner> {
        let Some((left, right)) = &mut self.sides else { return Poll::Pending };
        let winner = match left.as_mut().poll(cx) {
            Poll::Ready(value) => Winner::Left(value),
            Poll::Pending => match right.as_mut().poll(cx) {
                Poll::Ready(value) => Winner::Right(value),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.sides = None;
        Poll::Ready(winner)
    }
}

/// Polled once; pending means dropped.
pub(super) struct Glance {
    child: Option<Child>,
}

pub(super) fn glance(child: Child) -> Glance {
    Glance { child: Some(child) }
}

impl Future for Glance {
    type Output = Option<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Value>> {
        let Some(mut child) = self.child.take() else { return Poll::Pending };
        match child.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        }
    }
}

/// Children that were woken and not polled since, in the order of their wake-ups.
#[derive(Default)]
struct Ready {
    indices: VecDeque<usize>,
    parent: Option<Waker>,
}

struct ChildWaker {
    ready: Arc<Mutex<Ready>>,
    index: usize,
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        let parent = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            if !ready.indices.contains(&self.index) {
                ready.indices.push_back(self.index);
            }
            ready.parent.clone()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// Yields children's values in the order of their completion, with their places.
pub(super) struct Unordered {
    children: Vec<Option<Child>>,
    wakers: Vec<Waker>,
    ready: Arc<Mutex<Ready>>,
}

pub(super) fn unordered(children: Vec<Child>) -> Unordered {
    let indices = (0..children.len()).collect();
    let ready = Arc::new(Mutex::new(Ready { indices, parent: None }));
    let wakers = (0..children.len())
        .map(|index| Waker::from(Arc::new(ChildWaker { ready: ready.clone(), index })))
        .collect();
    Unordered { children: children.into_iter().map(Some).collect(), wakers, ready }
}

impl Unordered {
    /// The next value, or `None` when all children are done.
    pub(super) fn next(&mut self) -> impl Future<Output = Option<(usize, Value)>> + Send {
        std::future::poll_fn(|cx| self.poll_next(cx))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Value)>> {
        if self.children.iter().all(Option::is_none) {
            return Poll::Ready(None);
        }
        self.lock().parent = Some(cx.waker().clone());
        while let Some(index) = self.pop() {
            let mut child_cx = Context::from_waker(&self.wakers[index]);
            let Some(child) = &mut self.children[index] else { continue };
            if let Poll::Ready(value) = child.as_mut().poll(&mut child_cx) {
                self.children[index] = None;
                return Poll::Ready(Some((index, value)));
            }
        }
        Poll::Pending
    }

    fn pop(&self) -> Option<usize> {
        self.lock().indices.pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All values, in the order of the children.
pub(super) async fn join_all(children: Vec<Child>) -> Vec<Value> {
    let mut values: Vec<Option<Value>> = children.iter().map(|_| None).collect();
    let mut set = unordered(children);
    while let Some((index, value)) = set.next().await {
        values[index] = Some(value);
    }
    values.into_iter().flatten().collect()
}
