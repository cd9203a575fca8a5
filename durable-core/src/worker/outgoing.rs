//! What the loop of a partition sends to other workers through the store.

use std::collections::BTreeMap;

use durable_machine::model::{PartitionId, Post};
use durable_machine::partition::AttemptKey;

/// Posts and withdrawals that wait to be sent: in batches, and to each partition one batch at a time, so
/// that a store which does not answer is not asked ever more.
#[derive(Default)]
pub(super) struct Outgoing {
    posts: BTreeMap<PartitionId, Posts>,
    withdrawals: Vec<AttemptKey>,
    /// Something has come since the last time that all was taken.
    fresh: bool,
}

#[derive(Default)]
struct Posts {
    waiting: Vec<Post>,
    under_way: bool,
}

impl Outgoing {
    pub(super) fn post(&mut self, to: PartitionId, post: Post) {
        self.posts.entry(to).or_default().waiting.push(post);
        self.fresh = true;
    }

    /// Nobody waits for this attempt, which others were offered.
    pub(super) fn withdraw(&mut self, attempt: AttemptKey) {
        self.withdrawals.push(attempt);
        self.fresh = true;
    }

    /// The batch to this partition has been sent, or has failed.
    pub(super) fn posted(&mut self, to: PartitionId) {
        if let Some(posts) = self.posts.get_mut(&to) {
            posts.under_way = false;
            self.fresh = true;
        }
    }

    /// Whether there may be something to send.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The batches that can be sent now.
    pub(super) fn take(&mut self) -> (Vec<(PartitionId, Vec<Post>)>, Vec<AttemptKey>) {
        self.fresh = false;
        let mut batches = Vec::new();
        for (to, posts) in &mut self.posts {
            if !posts.under_way && !posts.waiting.is_empty() {
                posts.under_way = true;
                batches.push((*to, std::mem::take(&mut posts.waiting)));
            }
        }
        (batches, std::mem::take(&mut self.withdrawals))
    }
}

#[cfg(test)]
mod tests {
    use durable_machine::model::MessageNumber;

    use super::*;

    fn post(n: u64) -> Post {
        Post::Confirmation { by: PartitionId(9), upto: MessageNumber(n) }
    }

    #[test]
    fn each_partition_gets_one_batch_at_a_time() {
        let (one, two) = (PartitionId(1), PartitionId(2));
        let mut outgoing = Outgoing::default();
        assert!(!outgoing.is_fresh());
        outgoing.post(one, post(1));
        outgoing.post(one, post(2));
        outgoing.post(two, post(3));
        assert!(outgoing.is_fresh());
        let (batches, _) = outgoing.take();
        assert_eq!(batches, [(one, vec![post(1), post(2)]), (two, vec![post(3)])]);
        outgoing.post(one, post(4));
        outgoing.post(two, post(5));
        assert!(outgoing.take().0.is_empty(), "both are under way");
        outgoing.posted(two);
        assert!(outgoing.is_fresh());
        assert_eq!(outgoing.take().0, [(two, vec![post(5)])]);
        outgoing.posted(one);
        assert_eq!(outgoing.take().0, [(one, vec![post(4)])]);
        assert!(!outgoing.is_fresh());
    }
}
