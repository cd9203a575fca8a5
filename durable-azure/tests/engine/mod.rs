//! Stories of the engine that `durable-core` tells on its own stores, told on this one.

#[path = "../../../durable-core/tests/engine/children.rs"]
mod children;
mod handover;
mod hub;
#[path = "../../../durable-core/tests/engine/rewinding.rs"]
mod rewinding;

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
