//! Worker and client, end to end, on every store of this package.
//!
//! Each test is a story told with the public interface alone. [`on_every_store!`] runs it on hubs in
//! memory and on one in a file.

mod blocking;
mod calls;
mod children;
mod client;
mod deadlines;
mod eviction;
mod faults;
pub(crate) mod faulty;
mod fleet;
mod generations;
mod handover;
mod hub;
mod looking;
mod neighbours;
mod offers;
mod operations;
mod partitions;
mod progress;
mod purging;
mod restarting;
mod rewinding;
mod scopes;
mod several;
mod starting;
mod telemetry;
mod turns;
mod until;
mod waiting;
mod worker;

/// A test on memory and one on SQLite for each named function, which is given an empty [`hub::Hub`] that one
/// worker at a time holds.
macro_rules! on_stores_of_one_worker {
    ($($story:ident,)*) => {
        $(
            mod $story {
                #[test]
                fn memory() {
                    $crate::engine::hub::tell($crate::engine::hub::Hub::in_memory(), super::$story);
                }

                #[test]
                fn sqlite() {
                    $crate::engine::hub::tell($crate::engine::hub::Hub::in_a_file(), super::$story);
                }
            }
        )*
    };
}
use on_stores_of_one_worker;

/// The same, and one on a hub that workers share: with one alone on it, everything is as usual.
macro_rules! on_every_store {
    ($($story:ident,)*) => {
        $(
            mod $story {
                #[test]
                fn memory() {
                    $crate::engine::hub::tell($crate::engine::hub::Hub::in_memory(), super::$story);
                }

                #[test]
                fn shared() {
                    let hub = $crate::engine::hub::Hub::shared(1, $crate::engine::several::USUAL);
                    $crate::engine::hub::tell(hub, super::$story);
                }

                #[test]
                fn sqlite() {
                    $crate::engine::hub::tell($crate::engine::hub::Hub::in_a_file(), super::$story);
                }
            }
        )*
    };
}
use on_every_store;
