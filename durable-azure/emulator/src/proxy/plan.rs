//! Which requests meet which fault.

use std::time::Duration;

use super::rng::Rng;
use crate::service::Service;

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It is held before it is forwarded. It takes effect late, also when the client has given up by
    /// then. The only fault that another one may follow.
    Delay,
    /// It takes effect at once and is answered late.
    DelayedAnswer,
    /// Refused: 503 `ServerBusy`.
    Busy,
    /// Refused: 503 `ServerBusy` that says when to come back.
    BusyRetryAfter,
    /// Refused: 503 `ServerBusy` as the answer to the one operation of a table transaction that an
    /// answer of 202 is about. Meets transactions only.
    BusyInTransaction,
    /// Refused: 429 `TooManyRequests` that says when to come back.
    TooManyRequests,
    /// It takes effect and is answered with 500 `OperationTimedOut`.
    TimedOut,
    /// The connection closes before it takes effect.
    CutBefore,
    /// The connection closes after it took effect.
    CutAfter,
    /// No answer for long, then the connection closes. It never takes effect.
    Hang,
    /// It takes effect twice. Meets only what puts a message into a queue.
    Duplicate,
    /// The service is not there: the connection closes, nothing takes effect.
    Down,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Delay,
        Self::DelayedAnswer,
        Self::Busy,
        Self::BusyRetryAfter,
        Self::BusyInTransaction,
        Self::TooManyRequests,
        Self::TimedOut,
        Self::CutBefore,
        Self::CutAfter,
        Self::Hang,
        Self::Duplicate,
        Self::Down,
    ];

    /// Whether a request is of a kind that this can happen to.
    fn fits(self, request: &Described<'_>) -> bool {
        let posts = request.method == "POST";
        match self {
            Self::Duplicate => {
                posts && request.service == Service::Queue && request.path.ends_with("/messages")
            }
            Self::BusyInTransaction => {
                posts && request.service == Service::Table && request.path.ends_with("/$batch")
            }
            _ => true,
        }
    }

    fn lasts(self) -> (Duration, Duration) {
        match self {
            Self::Hang => (Duration::from_secs(1), Duration::from_secs(5)),
            _ => (Duration::from_millis(10), Duration::from_millis(200)),
        }
    }
}

/// One fault, and which requests meet it: all, until narrowed.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    per_mille: u64,
    service: Option<Service>,
    method: Option<String>,
    path: Option<String>,
    skip: u64,
    at_most: u64,
    lasts: (Duration, Duration),
    retry_after: u32,
}

impl Rule {
    /// Every request that the fault can happen to meets it.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            per_mille: 1000,
            service: None,
            method: None,
            path: None,
            skip: 0,
            at_most: u64::MAX,
            lasts: fault.lasts(),
            retry_after: 1,
        }
    }

    /// Only so many in a thousand, drawn from the plan's seed.
    #[must_use]
    pub fn per_mille(mut self, per_mille: u64) -> Self {
        self.per_mille = per_mille;
        self
    }

    /// Only requests to this service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.service = Some(service);
        self
    }

    /// Only requests with this method, such as `POST`.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests whose path, without the query, contains this.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_owned());
        self
    }

    /// Not the first ones: so many that the rule would have been for go by.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Only so often.
    #[must_use]
    pub fn at_most(mut self, times: u64) -> Self {
        self.at_most = times;
        self
    }

    /// How long a delay lasts, or a hang: drawn between the two. A delay lasts 10 to 200 ms and a hang 1
    /// to 5 s where nothing is said.
    #[must_use]
    pub fn lasts(mut self, least: Duration, most: Duration) -> Self {
        self.lasts = (least, most);
        self
    }

    /// What `Retry-After` says, where the fault has it: 1 second where nothing is said.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    fn is_for(&self, request: &Described<'_>) -> bool {
        self.fault.fits(request)
            && self.service.is_none_or(|service| service == request.service)
            && self.method.as_deref().is_none_or(|method| method == request.method)
            && self.path.as_deref().is_none_or(|part| request.path.contains(part))
    }
}

/// What a proxy does to the requests that pass: each meets the first rule that applies, or none.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    seed: u64,
    rules: Vec<Rule>,
}

impl Plan {
    /// Everything passes unharmed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// No rules yet. The same seed and rules choose the same requests, if these come in the same order.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seed, rules: Vec::new() }
    }

    /// Nothing passes.
    #[must_use]
    pub fn down() -> Self {
        Self::none().rule(Rule::new(Fault::Down))
    }

    /// Rates drawn from the seed. One seed in four has a single kind of fault, often; the others have
    /// many, rarely. None has [`Fault::Down`].
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let kinds = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Down);
        let alone = rng.chance(250).then(|| rng.within(0, Fault::ALL.len() as u64 - 2));
        let mut plan = Self::seeded(rng.bits());
        for (number, fault) in (0_u64..).zip(kinds) {
            let (applies, rate) = match alone {
                Some(only) => (only == number, rng.within(50, 300)),
                None => (rng.chance(500), rng.within(5, 40)),
            };
            if applies {
                plan = plan.rule(Rule::new(fault).per_mille(rate));
            }
        }
        plan
    }

    /// With one more rule, to be asked after the others.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }
}

/// What a rule can see of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    pub(super) service: Service,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
}

/// What is to be done to a request.
#[derive(Debug, Default)]
pub(super) struct Injection {
    pub(super) delay: Option<Duration>,
    pub(super) fault: Option<Injected>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Injected {
    pub(super) fault: Fault,
    pub(super) lasts: Duration,
    pub(super) retry_after: u32,
}

/// A plan at work.
#[derive(Debug)]
pub(super) struct Injector(Vec<Active>);

#[derive(Debug)]
struct Active {
    rule: Rule,
    /// Of this rule alone, so that one more rule changes nothing for the others.
    rng: Rng,
    seen: u64,
    injected: u64,
}

impl Injector {
    pub(super) fn new(plan: Plan) -> Self {
        let mut seeds = Rng::new(plan.seed);
        let active = |rule| Active { rule, rng: Rng::new(seeds.bits()), seen: 0, injected: 0 };
        Self(plan.rules.into_iter().map(active).collect())
    }

    pub(super) fn draw(&mut self, request: &Described<'_>) -> Injection {
        let mut injection = Injection::default();
        for active in &mut self.0 {
            let Some(injected) = active.draw(request) else { continue };
            if injected.fault == Fault::Delay {
                injection.delay = Some(injection.delay.unwrap_or_default() + injected.lasts);
            } else {
                injection.fault = Some(injected);
                break;
            }
        }
        injection
    }
}

impl Active {
    fn draw(&mut self, request: &Described<'_>) -> Option<Injected> {
        if !self.rule.is_for(request) {
            return None;
        }
        self.seen += 1;
        let passed_by = self.seen <= self.rule.skip || self.injected >= self.rule.at_most;
        if passed_by || !self.rng.chance(self.rule.per_mille) {
            return None;
        }
        self.injected += 1;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (least, most) = self.rule.lasts;
        let lasts = Duration::from_micros(self.rng.within(micros(least), micros(most)));
        let Rule { fault, retry_after, .. } = self.rule;
        Some(Injected { fault, lasts, retry_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT_MESSAGE: Described<'static> =
        Described { service: Service::Queue, method: "POST", path: "/account/work/messages" };
    const TRANSACTION: Described<'static> =
        Described { service: Service::Table, method: "POST", path: "/account/$batch" };

    fn drawn(plan: Plan, request: Described<'static>, times: usize) -> Vec<Option<Fault>> {
        let mut injector = Injector::new(plan);
        (0..times).map(|_| injector.draw(&request).fault.map(|injected| injected.fault)).collect()
    }

    #[test]
    fn a_seed_chooses_the_same_requests_again_and_another_seed_others() {
        let plan = |seed| Plan::seeded(seed).rule(Rule::new(Fault::Busy).per_mille(300));
        let chosen = drawn(plan(7), TRANSACTION, 1000);
        assert_eq!(chosen, drawn(plan(7), TRANSACTION, 1000));
        assert_ne!(chosen, drawn(plan(8), TRANSACTION, 1000));
        let busy = chosen.iter().flatten().count();
        assert!((200..400).contains(&busy), "{busy}");
    }

    #[test]
    fn a_rule_lets_the_first_ones_pass_and_ends() {
        let plan = Plan::none().rule(Rule::new(Fault::CutAfter).skip(2).at_most(1));
        let cut = Some(Fault::CutAfter);
        assert_eq!(drawn(plan, TRANSACTION, 5), [None, None, cut, None, None]);
    }

    #[test]
    fn a_rule_is_only_for_what_it_names() {
        for (rule, messages, transactions) in [
            (Rule::new(Fault::Duplicate), true, false),
            (Rule::new(Fault::BusyInTransaction), false, true),
            (Rule::new(Fault::Busy).service(Service::Queue), true, false),
            (Rule::new(Fault::Busy).service(Service::Blob), false, false),
            (Rule::new(Fault::Busy).method("POST"), true, true),
            (Rule::new(Fault::Busy).method("PUT"), false, false),
            (Rule::new(Fault::Busy).path("$batch"), false, true),
        ] {
            let plan = Plan::none().rule(rule);
            assert_eq!(drawn(plan.clone(), PUT_MESSAGE, 1)[0].is_some(), messages, "{plan:?}");
            assert_eq!(drawn(plan.clone(), TRANSACTION, 1)[0].is_some(), transactions, "{plan:?}");
        }
    }

    #[test]
    fn a_delay_goes_before_another_fault() {
        let second = Duration::from_secs(1);
        let plan = Plan::none()
            .rule(Rule::new(Fault::Delay).lasts(second, second))
            .rule(Rule::new(Fault::Busy))
            .rule(Rule::new(Fault::Hang));
        let injection = Injector::new(plan).draw(&TRANSACTION);
        assert_eq!(injection.delay, Some(second));
        assert_eq!(injection.fault.map(|injected| injected.fault), Some(Fault::Busy));
    }

    #[test]
    fn drawn_plans_have_every_kind_but_down_alone_and_with_others() {
        let plans: Vec<Plan> = (0..500).map(Plan::drawn).collect();
        for fault in Fault::ALL {
            let with = |plan: &&Plan| plan.rules.iter().any(|rule| rule.fault == fault);
            let alone = plans.iter().filter(with).filter(|plan| plan.rules.len() == 1).count();
            let mixed = plans.iter().filter(with).filter(|plan| plan.rules.len() > 1).count();
            assert_eq!(alone > 0, fault != Fault::Down, "{fault:?}");
            assert_eq!(mixed > 0, fault != Fault::Down, "{fault:?}");
        }
    }
}
