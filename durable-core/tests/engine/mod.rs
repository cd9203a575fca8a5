//! Worker and client, end to end, on every store of this package.
//!
//! Each test is a story told with the public interface alone. [`on_both_stores!`] runs it on a hub in
//! memory and on one in a file.

mod calls;
mod client;
mod eviction;
mod faults;
mod faulty;
mod fleet;
mod hub;
mod neighbours;
mod offers;
mod operations;
mod partitions;
mod several;
mod telemetry;
mod turns;
mod waiting;
mod worker;

/// A test on memory and one on SQLite for each named function, which is given an empty [`hub::Hub`].
macro_rules! on_both_stores {
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
use on_both_stores;
