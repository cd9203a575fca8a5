//! What every store has to do, as tests: a store passes by giving a [`Subject`] to [`contract_tests!`].
//!
//! [`scripted`] has a test for each line of the traits' documentation, [`purges`] those about purges, [`fleet`] those about workers that
//! share a hub; [`random`] compares a store with the
//! [`StoreModel`](durable_core::machine::store::StoreModel) after seeded sequences of operations.

pub(crate) mod fleet;
pub(crate) mod make;
pub(crate) mod purges;
pub(crate) mod random;
pub(crate) mod scripted;

use std::sync::Arc;

use async_trait::async_trait;
use durable_core::store::Store;

/// A hub under test, empty at first.
#[async_trait]
pub(crate) trait Subject: Send {
    /// The store of the worker's process.
    fn store(&self) -> Arc<dyn Store>;

    /// A store of another process that is a client of the same hub; the same store where there is no other
    /// process.
    async fn client(&self) -> Arc<dyn Store>;

    /// Ends the worker's process in good order and starts the next. What cannot be ended does nothing.
    async fn reopen(&mut self);
}

/// All tests of the contract, for subjects made by `$make` (partitions → subject), each run by `$block_on`.
macro_rules! contract_tests {
    ($make:path, $block_on:path) => {
        $crate::store_contract::contract_tests! {
            $make, $block_on, scripted:
            a_fresh_hub_is_empty,
            a_start_is_visible_once_it_was_accepted,
            an_accept_with_the_same_nonce_is_answered_again_also_after_the_run_began,
            a_second_start_of_an_active_id_gets_the_active_instance,
            a_start_replaces_an_instance_that_has_ended,
            a_child_begins_where_no_start_was_accepted,
            a_fresh_run_begins_only_under_a_fresh_id,
            a_start_that_cannot_begin_waits_in_place_of_the_ended_run,
            what_a_pending_start_was_sent_goes_when_it_begins,
            an_active_instance_is_replaced_only_on_request_and_by_its_owner,
            a_command_for_nobody_or_for_an_ended_instance_is_told_apart,
            a_command_arrives_once_however_often_it_is_sent,
            a_consumed_id_is_remembered_for_an_hour,
            arrivals_are_read_in_order_and_in_portions,
            an_opening_fences_earlier_owners_off,
            a_fenced_commit_changes_nothing,
            a_refused_commit_changes_nothing,
            a_commit_is_seen_by_every_other_connection,
            an_unclean_end_is_counted_and_a_release_is_not,
            a_run_of_a_fresh_id_is_written_like_any_other,
            history_comes_back_to_the_letter_and_in_order,
            an_ended_instance_is_loaded_without_its_history,
            continue_as_new_shows_only_the_newest_execution,
            a_run_may_begin_and_continue_in_one_commit,
            a_rewind_begins_the_next_execution_of_an_ended_run,
            a_new_run_hides_every_row_of_the_old_one,
            timers_come_in_order_of_time_and_id,
            work_in_flight_is_what_a_new_owner_gets,
            the_outbox_keeps_what_was_not_confirmed,
            lists_are_newest_first_filtered_and_paged,
            counts_follow_starts_and_commits,
            large_payloads_come_back_to_the_letter,
            as_many_instances_fit_one_commit_as_the_limits_say,
            odd_ids_are_ids_like_any_other,
        }
        $crate::store_contract::contract_tests! {
            $make, $block_on, purges:
            what_was_purged_is_seen_by_nobody_and_leaves_nothing,
            a_long_history_goes_with_its_purge,
            only_the_run_that_is_meant_is_purged_and_only_after_its_end,
            a_purged_id_begins_anew_at_once,
            a_start_that_was_accepted_before_the_purge_stays,
            a_purge_reaches_the_owner_of_what_has_ended,
            as_many_purges_fit_one_commit_as_the_limits_say,
        }
        $crate::store_contract::contract_tests! {
            $make, $block_on, random:
            random_operations_agree_with_the_model,
        }
    };
    ($make:path, $block_on:path, $module:ident: $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                $block_on(async {
                    $crate::store_contract::$module::$name(&|partitions| $make(partitions)).await;
                });
            }
        )*
    };
}
pub(crate) use contract_tests;

/// What holds beside that for a hub that one worker at a time has for itself.
macro_rules! unshared_contract_tests {
    ($make:path, $block_on:path) => {
        $crate::store_contract::contract_tests! {
            $make, $block_on, scripted:
            one_worker_claims_the_hub_until_it_leaves,
        }
    };
}
#[allow(unused_imports, reason = "the packages of shared stores leave it out")]
pub(crate) use unshared_contract_tests;

/// What holds beside that for a hub that several workers share.
macro_rules! shared_contract_tests {
    ($make:path, $block_on:path) => {
        $crate::store_contract::contract_tests! {
            $make, $block_on, fleet:
            an_offer_is_taken_by_one_renewed_and_finished,
            what_an_attempt_reported_is_told_to_whoever_takes_it_next,
            who_works_on_what_nobody_waits_for_learns_of_it,
            a_worker_learns_when_another_comes_or_goes,
            posts_reach_the_owner_of_the_other_partition,
        }
    };
}
#[allow(unused_imports, reason = "the packages of shared stores use it")]
pub(crate) use shared_contract_tests;

/// Makes a subject with this many partitions.
pub(crate) type Make<'a> = &'a (dyn Fn(u16) -> Box<dyn Subject> + Sync);

mod memory {
    use std::time::Duration;

    use durable_core::store::{Fleet as _, MemoryStore, Sharing};

    use super::make::{P0, member, worker};
    use super::*;

    struct Memory(MemoryStore);

    #[async_trait]
    impl Subject for Memory {
        fn store(&self) -> Arc<dyn Store> {
            Arc::new(self.0.clone())
        }

        async fn client(&self) -> Arc<dyn Store> {
            self.store()
        }

        async fn reopen(&mut self) {}
    }

    fn make(partitions: u16) -> Box<dyn Subject> {
        Box::new(Memory(MemoryStore::new().with_partitions(partitions)))
    }

    fn make_shared(partitions: u16) -> Box<dyn Subject> {
        let second = Duration::from_secs(1);
        let sharing = Sharing { lease: second, visibility: second };
        Box::new(Memory(MemoryStore::new().with_partitions(partitions).shared(sharing)))
    }

    contract_tests!(make, futures::executor::block_on);
    unshared_contract_tests!(make, futures::executor::block_on);
    shared_contract_tests!(make_shared, futures::executor::block_on);

    #[test]
    fn an_evicted_worker_is_dead_and_its_claim_is_free() {
        futures::executor::block_on(async {
            let store = MemoryStore::new();
            let (dead, next) = (worker(1), worker(2));
            store.claim(dead, P0).await.expect("free");
            store.heartbeat(&member(dead)).await.expect("no fault");
            store.evict(dead);
            assert_eq!(store.members().await.expect("no fault"), vec![]);
            store.claim(next, P0).await.expect("free again");
        });
    }
}
