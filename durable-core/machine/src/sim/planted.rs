//! Bugs that are planted on purpose, to prove that the simulation notices them.
//!
//! A hook in the engine reads `if planted!(TimerEarly) { … }`; without the feature `sim` it is `false`.

use std::cell::Cell;

macro_rules! planted_bugs {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A planted bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted {
            $($(#[$doc])* $name,)+
        }

        impl Planted {
            /// Every planted bug.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

planted_bugs! {
    // Replay: what the code sees.
    /// An external event is handed to two waiters.
    EventGivenTwice,
    /// The last waiter of a name is served first.
    WaitersLastInFirstOut,
    /// A waiter that was dropped still takes its event.
    DroppedWaiterStays,
    /// The waker of a call behind the thirtieth is not woken.
    LateChildNotWoken,
    /// `new_uuid` gives two runs of an id the same.
    UuidForgetsRun,
    /// `now` says something else while a history is replayed.
    NowDiffersOnReplay,
    /// Awaiting what is not durable is not noticed.
    ForeignAwaitIgnored,
    /// A wake-up from outside a turn is not noticed.
    ForeignWakeIgnored,
    /// What arrives while suspended is applied at once.
    SuspendIgnored,
    /// Code that no longer fits its history goes on.
    DivergenceIgnored,

    /// A marker in the history is not known when it is replayed.
    PatchForgotten,

    // Rewind.
    /// A failure that is taken back is given to the code all the same.
    FailureKept,
    /// A success is not given to the code that is repeated.
    SuccessTakenBack,
    /// A success behind a failure is not given to the code that asks for it again.
    SuccessRunsAgain,
    /// The execution that repeats another makes UUIDs of its own.
    OriginForgotten,
    /// What has taken back what it did is rewound all the same.
    CompensatedRewound,
    /// What a rewind repeats is not begun.
    RewoundCallNotStarted,
    /// A child that the rewound parent waits for hears nothing.
    ChildNotRewound,

    // Activities: attempts and their results.
    /// One attempt too many, and at once.
    RetriesOffByOne,
    /// Kinds that are not retried, and permanent failures, are retried.
    NotRetriedIgnored,
    /// The next attempt begins without its delay.
    BackoffSkipped,
    /// The delay of an attempt is decided again by a new owner.
    JitterDecidedAgain,
    /// An attempt may take as long as it likes.
    TimeLimitIgnored,
    /// A heartbeat does not put off the limit on silence.
    HeartbeatIgnored,
    /// The next attempt does not learn what the one before it reported.
    DetailsForgottenAtRetry,
    /// An attempt is given what that of another call reported.
    DetailsOfAnotherCall,
    /// What attempts report is in memory only.
    DetailsNotStored,
    /// A new owner does not start what ran with the old one.
    RunningCallsForgotten,
    /// A new owner starts what is offered to other workers.
    OfferedStartedAgain,
    /// The result of an offered attempt stays in the store.
    ReportNotConsumed,
    /// The failure of an offered attempt goes from the store, and its next attempt is not written.
    ReportConsumedEarly,
    /// Results that may wait for more wait for ever.
    PatienceNeverEnds,
    /// A result reaches the run that took the place of the one that waits for it.
    ResultReachesNextRun,

    // Timers.
    /// A timer fires a second early.
    TimerEarly,
    /// A cancelled timer fires.
    CancelledTimerFires,
    /// Only the first page of due times is read.
    TimerPagesAfterFirstSkipped,
    /// An evicted instance's timer is forgotten.
    EvictedTimerForgotten,
    /// A timer that is due while suspended is lost.
    SuspendedTimerLost,
    /// The clock follows a worker's that is behind.
    ClockRunsBack,

    // Scopes.
    /// Who waits for the end of cancelled calls is answered at once.
    ScopeDoesNotWait,
    /// A call that was cancelled is tried again.
    CancelledCallTriedAgain,
    /// A new owner starts a call again that was cancelled.
    CancelledCallStartedAgain,

    // Deadlines.
    /// The timer row does not know the deadline.
    DeadlineNotStored,
    /// The next execution of a run has no deadline.
    DeadlineNotCarriedOver,
    /// A held instance outlives its deadline.
    DeadlineForgottenWhileHeld,

    // Purging.
    /// A purge removes whichever run is there.
    PurgeTakesAnyRun,
    /// A purge does not wait until the end of its run is stored.
    PurgeBeforeEnd,
    /// A purge is answered and never done.
    PurgeForgotten,
    /// A purged instance is still counted.
    PurgeNotCounted,
    /// The rows of a purged instance stay.
    PurgedRowsStay,
    /// A child gets a number below that of a purged run of its id.
    PurgedRunComesBack,
    /// A start that arrives again after its instance was purged begins once more.
    PurgedStartBegins,
    /// Of a purge of several instances only the first is looked at.
    PurgeAlongForgotten,

    // Events, commands, messages.
    /// A command that arrives again is taken again.
    EnvelopeTakenTwice,
    /// What was not consumed is not listed.
    UnconsumedNotListed,
    /// A sent event is recorded and never sent.
    SentEventForgotten,
    /// A new owner does not repeat what the old one sent.
    OutboxForgotten,
    /// Messages are applied as they come, again and in any order.
    MessagesOutOfOrder,
    /// The cursor of a sender does not move.
    CursorNotMoved,
    /// A message is confirmed before its effects are durable.
    ConfirmedBeforeCommit,
    /// A message is delivered before the commit that sends it.
    MessagesBeforeCommit,
    /// A terminate is answered and not done.
    TerminateForgotten,
    /// What arrives while held is in memory only.
    StashNotStored,

    /// An owner does not say which orchestrators it lacks.
    LackNotSaid,

    // Starts.
    /// An event that comes with a start is lost.
    StartEventForgotten,
    /// A start does not wait for its time.
    ScheduledStartEarly,
    /// An acceptance that comes again begins a run again.
    StartTakenTwice,
    /// The store does not recognise a start that is asked for again.
    NonceForgotten,
    /// A command that is read before its start finds nobody.
    AcceptanceBehindCommands,
    /// A command for a run that has not begun is dropped as one for another run.
    LaterRunForgotten,
    /// That an instance is not there is believed later, too.
    AbsenceCached,

    // Executions of a run.
    /// Continue-as-new forgets the events that were not consumed.
    EventsLostOnContinue,
    /// Continue-as-new hands each event that was not consumed over twice.
    EventsDoubledOnContinue,
    /// Continue-as-new hands the last event over first.
    EventsTurnedOnContinue,
    /// The result of a call reaches the execution after the one that made it.
    OldExecutionAnswers,
    /// A new owner takes an execution whose first turn has not run for one that ran it.
    FirstTurnForgotten,
    // Children.
    /// A parent sends the start of its child twice.
    ChildStartedTwice,
    /// The start of a child takes the place of an active instance.
    ChildReplacesActive,
    /// The end of a child is told to nobody.
    ChildEndForgotten,
    /// A child's result reaches a later run of its parent.
    ChildAnswersLaterRun,
    /// A child's result reaches a later execution of its parent's run.
    ChildAnswersLaterExecution,
    /// Children go on when their parent continues as new.
    ChildrenKeptOnContinue,
    /// Children go on when their parent has ended.
    TerminateNotPassedOn,
    /// Children that may go on by themselves are terminated with their parent.
    AbandonedEndsToo,
    /// A terminate with all children spares those that may go on by themselves.
    TreeSparesAbandoned,
    /// A terminate with all children is not passed on by the children.
    TreeEndsAtChildren,
    /// A parent's terminate reaches a later run of its child's id.
    TerminateReachesLaterRun,
    /// The store lets a child take the id of a start that was accepted.
    AcceptedStartIgnored,
    /// An owner whose commit was refused begins a child again without a look at its id.
    MadeIdNotLookedFor,

    // Commits and the store.
    /// A store takes commits of an owner that was fenced off.
    StaleFenceAccepted,
    /// A caller is answered before the commit.
    AnswerBeforeCommit,
    /// All effects of an instance come before the commit.
    EffectsBeforeCommit,
    /// A commit takes the arrival of a turn without its decisions.
    TurnSplit,
    /// A commit is not cut to what the store takes.
    CommitTooLarge,
    /// A counter keeps those that left a status.
    CountNotTakenOff,
    /// A custom status is not stored.
    CustomStatusForgotten,
    /// An instance leaves memory with something uncommitted.
    UncommittedEvicted,
    /// A commit whose outcome nobody knows is taken for applied.
    UnknownTakenForApplied,
    /// A commit whose outcome nobody knows is made again under a new number.
    UnknownCommittedAgain,
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Plants a bug in this thread until the guard is dropped.
pub(super) fn plant(bug: Option<Planted>) -> impl Drop {
    PLANTED.set(bug);
    Uproot
}

struct Uproot;

impl Drop for Uproot {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether this bug is planted in this thread.
pub(crate) fn is_planted(bug: Planted) -> bool {
    PLANTED.get() == Some(bug)
}
