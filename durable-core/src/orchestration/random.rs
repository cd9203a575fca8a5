//! Random values that are the same on every replay.

use std::ops::{Bound, RangeBounds};

use uuid::Uuid;

use super::OrchestrationContext;

impl OrchestrationContext {
    /// A UUID that is given out once, and again to the same place of the code on every replay.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn pay(key: String) -> Result<String, ActivityError> { Ok(key) }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let key = ctx.new_uuid().to_string();
    ///     let paid = ctx.call(pay, &key).await?; // the same key, also after a crash
    ///     Ok(paid == key && key != ctx.new_uuid().to_string())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(pay);
    /// assert!(hub.start(place_order, ()).output().unwrap());
    /// # }
    /// ```
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.context().new_uuid()
    }

    /// A number from 0 to below 1, the same on every replay. Not for secrets.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn sample(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let one_in_ten = ctx.random() < 0.1;
    ///     Ok(one_in_ten)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// TestHub::new().register(sample).start(sample, ()).output().unwrap();
    /// # }
    /// ```
    #[must_use]
    pub fn random(&self) -> f64 {
        // The 53 bits of an f64's precision.
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.context().random() >> 11) as f64 * SCALE
    }

    /// A whole number of a range, the same on every replay. Not for secrets.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn dice(ctx: OrchestrationContext) -> Result<u8, OrchestrationError> {
    ///     let index: usize = ctx.random_range(..10);
    ///     assert!(index < 10);
    ///     Ok(ctx.random_range(1..=6))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let rolled = TestHub::new().register(dice).start(dice, ()).output().unwrap();
    /// assert!((1..=6).contains(&rolled));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Where the range is empty.
    #[must_use]
    pub fn random_range<T: RandomInteger>(&self, range: impl RangeBounds<T>) -> T {
        let low = match range.start_bound() {
            Bound::Included(low) => low.widen(),
            Bound::Excluded(low) => low.widen() + 1,
            Bound::Unbounded => T::MIN.widen(),
        };
        let high = match range.end_bound() {
            Bound::Included(high) => high.widen(),
            Bound::Excluded(high) => high.widen() - 1,
            Bound::Unbounded => T::MAX.widen(),
        };
        assert!(low <= high, "random_range of an empty range");
        let values = (high - low + 1).unsigned_abs();
        // Multiply and shift: no value is preferred by more than `values` in 2^64.
        let offset = (u128::from(self.context().random()) * values) >> 64;
        T::narrow(low + i128::try_from(offset).expect("below 2^64"))
    }
}

/// The integers that [`OrchestrationContext::random_range`] gives.
///
/// ```
/// # use durable_core::prelude::*;
/// use durable_core::RandomInteger;
///
/// /// One of two, by a coin that falls the same way on every replay.
/// fn either<T: RandomInteger>(ctx: &OrchestrationContext, heads: T, tails: T) -> T {
///     if ctx.random_range(0..2_u8) == 0 { heads } else { tails }
/// }
///
/// #[orchestrator]
/// async fn toss(ctx: OrchestrationContext) -> Result<i64, OrchestrationError> {
///     Ok(either(&ctx, -1, 1))
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// assert_eq!(TestHub::new().register(toss).start(toss, ()).output().unwrap().abs(), 1);
/// # }
/// ```
pub trait RandomInteger: sealed::Integer {}

mod sealed {
    pub trait Integer: Copy {
        const MIN: Self;
        const MAX: Self;
        fn widen(self) -> i128;
        /// Of a value within the type's range.
        fn narrow(value: i128) -> Self;
    }
}

macro_rules! random_integers {
    ($($integer:ty),*) => {
        $(
            impl RandomInteger for $integer {}

            impl sealed::Integer for $integer {
                const MIN: Self = <$integer>::MIN;
                const MAX: Self = <$integer>::MAX;
                fn widen(self) -> i128 {
                    i128::try_from(self).expect("at most 64 bits fit 128")
                }
                fn narrow(value: i128) -> Self {
                    Self::try_from(value).expect("between two values of the type")
                }
            }
        )*
    };
}

random_integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
