//! Stories of the engine that `durable-core` tells on its own stores, told on this one.

#[path = "../../../durable-core/tests/engine/children.rs"]
mod children;
#[path = "../../../durable-core/tests/engine/deadlines.rs"]
mod deadlines;
mod handover;
mod hub;
#[path = "../../../durable-core/tests/engine/looking.rs"]
mod looking;
#[path = "../../../durable-core/tests/engine/operations.rs"]
mod operations;
#[path = "../../../durable-core/tests/engine/restarting.rs"]
mod restarting;
#[path = "../../../durable-core/tests/engine/rewinding.rs"]
mod rewinding;
#[path = "../../../durable-core/tests/engine/scopes.rs"]
mod scopes;
#[path = "../../../durable-core/tests/engine/starting.rs"]
mod starting;
#[path = "../../../durable-core/tests/engine/until.rs"]
mod until;

/// A test for each named function, which is given an empty [`hub::Hub`].
macro_rules! on_every_store {
    ($($story:ident,)*) => {
        $(
            mod $story {
                #[test]
                fn azure() {
                    $crate::engine::hub::tell(super::$story);
                }
            }
        )*
    };
}
use on_every_store;
