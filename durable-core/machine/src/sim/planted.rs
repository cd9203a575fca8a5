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
    /// A store takes commits of an owner that was fenced off.
    StaleFenceAccepted,
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
