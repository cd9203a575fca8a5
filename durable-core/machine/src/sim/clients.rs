//! What clients want: starts of few ids over and over, events, suspends, resumes, terminates, drawn in
//! advance from the seed.

use std::sync::Arc;
use std::time::Duration;

use super::code::{EventToken, RARE, SCRIPTED};
use super::journal::{Journal, Raised, Start};
use super::rng::Rng;
use super::script::{Author, EVENTS};
use crate::model::{
    Acceptance, Command, Deadline, Envelope, EnvelopeId, InstanceId, Payload, ReusePolicy,
    RunNumber, StartNonce, StatusRow, Timestamp, UnconsumedEvent,
};

const SECOND: i64 = 1_000_000;

/// Tokens of events that come with starts.
pub(super) const WITH_START: u64 = 1 << 40;

/// How a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Into the store first, as another process does it.
    Stored,
    /// To the owner in its own process.
    Direct,
    /// The same, under an id of the caller's that has to be recognised.
    Remembered,
}

#[derive(Debug)]
pub(super) enum Wish {
    Start {
        token: u64,
        acceptance: Box<Acceptance>,
        way: Way,
    },
    /// With the token of the event, if it is one.
    /// Some mean the run that the client sees at that time, and no other.
    Command {
        token: Option<u64>,
        envelope: Box<Envelope>,
        way: Way,
        this_run: bool,
    },
    /// A start under the id that is made for a later child of an instance that runs, if that can be.
    UseChildsId {
        token: u64,
        acceptance: Box<Acceptance>,
        /// After those that it has asked for by then.
        call: u32,
    },
    /// Those of them that are there, if their partition is that of the first.
    Purge {
        instances: Vec<InstanceId>,
        way: Way,
    },
    /// Repeats what failed, if it has by then.
    Rewind(InstanceId, Way),
    Damage(InstanceId),
    WakeOutside,
}

pub(super) struct Clients {
    rng: Rng,
    /// For what starts are given beside their script: drawing it shifts nothing else.
    extra: Rng,
    author: Author,
    /// Ids that starts use again and again.
    ids: Vec<InstanceId>,
    /// Ids that were made for one start each.
    made: Vec<InstanceId>,
    envelopes: u64,
    direct: u64,
    crowd: usize,
}

impl Clients {
    pub(super) fn new(mut rng: Rng) -> Self {
        // Few instances meet each other more often; now and then a crowd.
        let crowd = if rng.chance(80) { 6 } else { 1 };
        let count = crowd * (3 + rng.index(8));
        let ids: Vec<_> = (0..count)
            .map(|n| InstanceId::new(format!("i{n}")).expect("letters and digits"))
            .collect();
        let extra = rng.clone().fork();
        let author = Author::new(rng.fork(), ids.clone());
        Self { rng, extra, author, ids, made: Vec::new(), envelopes: 0, direct: 0, crowd }
    }

    /// All wishes of a seed, with their times.
    pub(super) fn plan(&mut self, journal: &mut Journal) -> Vec<(i64, Wish)> {
        let span = *self.rng.pick(&[SECOND, 20 * SECOND, 600 * SECOND]);
        let mut wishes = Vec::new();
        for id in self.ids.clone() {
            let at = self.rng.within(0, span / 4);
            wishes.push((at, self.start(id, journal)));
        }
        for _ in 0..self.crowd * (10 + self.rng.index(50)) {
            let at = self.rng.within(0, span);
            let wish = self.wish(journal);
            if let Wish::Start { acceptance, .. } = &wish
                && self.rng.chance(400)
            {
                // Who starts an instance often tells it something at once.
                let instance = acceptance.instance.clone();
                wishes.push((at + self.rng.within(1, 20_000), self.raise(instance, journal)));
            }
            if let Wish::Start { acceptance, .. } = &wish
                && self.extra.chance(300)
            {
                // And means the run it started, which its owner may not know yet.
                let instance = acceptance.instance.clone();
                let soon = at + self.extra.within(1, 20_000);
                wishes.push((soon, self.raise_to_run(instance, journal)));
            }
            wishes.push((at, wish));
        }
        if self.extra.chance(200) {
            for _ in 0..6 {
                let at = self.extra.within(0, span);
                let instance = self.extra.pick(&self.ids).clone();
                let terminate = Command::Terminate { reason: Some("all".into()), tree: true };
                wishes.push((at, self.command(instance, terminate)));
            }
        }
        if self.extra.chance(150) {
            for _ in 0..20 {
                let at = self.extra.within(0, span);
                let any = self.extra.pick(&self.ids).clone();
                let (token, acceptance) = self.acceptance(any, journal);
                let call = u32::try_from(self.extra.below(2)).expect("below two");
                let acceptance = Box::new(acceptance);
                wishes.push((at, Wish::UseChildsId { token, acceptance, call }));
            }
        }
        if self.extra.chance(200) {
            let at = self.extra.within(0, span);
            wishes.push((at, Wish::Damage(self.extra.pick(&self.ids).clone())));
        }
        if self.extra.chance(500) {
            for _ in 0..1 + self.extra.index(3 * self.ids.len()) {
                // Most are asked for when there is something to purge, and while there is more to come.
                wishes.push((self.extra.within(span / 8, 2 * span), self.purge()));
            }
        }
        if self.extra.chance(700) {
            for _ in 0..self.crowd * self.extra.index(100) {
                let at = self.extra.within(0, 2 * span);
                let made = !self.made.is_empty() && self.extra.chance(400);
                let instance = self.extra.pick(if made { &self.made } else { &self.ids }).clone();
                let way = *self.extra.pick(&[Way::Stored, Way::Direct, Way::Remembered]);
                wishes.push((at, Wish::Rewind(instance, way)));
            }
        }
        wishes
    }

    fn purge(&mut self) -> Wish {
        let mut instances = vec![self.extra.pick(&self.ids).clone()];
        while self.extra.chance(500) {
            let from = if self.extra.chance(300) { &self.made } else { &self.ids };
            if !from.is_empty() {
                instances.push(self.extra.pick(from).clone());
            }
        }
        Wish::Purge { instances, way: *self.extra.pick(&[Way::Stored, Way::Direct]) }
    }

    fn wish(&mut self, journal: &mut Journal) -> Wish {
        let used_again = self.rng.pick(&self.ids).clone();
        let instance = if !self.made.is_empty() && self.rng.chance(400) {
            self.rng.pick(&self.made).clone()
        } else {
            used_again.clone()
        };
        match self.rng.below(100) {
            0..=19 => self.start(used_again, journal),
            20..=34 => self.start_direct(journal),
            35..=79 => self.raise(instance, journal),
            80..=84 => self.command(instance, Command::Suspend { reason: Some("wait".into()) }),
            85..=89 => self.command(instance, Command::Resume { reason: None }),
            90..=92 => self.command(
                instance,
                Command::Terminate { reason: Some("enough".into()), tree: false },
            ),
            93..=97 => Wish::WakeOutside,
            _ => Wish::Damage(instance),
        }
    }

    /// What brings a waiting instance on: a resume, or an event of each name.
    pub(super) fn help(
        &mut self,
        row: &StatusRow,
        resume: bool,
        journal: &mut Journal,
    ) -> Vec<Wish> {
        let instance = row.instance.clone();
        if resume {
            let envelope = self.envelope(instance, Command::Resume { reason: None });
            return vec![Wish::Command {
                token: None,
                envelope,
                way: Way::Stored,
                this_run: false,
            }];
        }
        EVENTS
            .iter()
            .map(|name| {
                let (token, command) = self.event(name);
                self.note(token, &instance, journal);
                let envelope = self.envelope(instance.clone(), command);
                Wish::Command { token: Some(token), envelope, way: Way::Stored, this_run: false }
            })
            .collect()
    }

    fn acceptance(&mut self, instance: InstanceId, journal: &mut Journal) -> (u64, Acceptance) {
        let script = self.author.script();
        let token = script.token;
        let input = Payload::of(&script).expect("a script is JSON");
        let start = Start { instance: instance.clone(), input: input.clone(), told: None };
        journal.starts.insert(token, start);
        let acceptance = Acceptance::new(
            instance,
            RunNumber(0),
            StartNonce(uuid::Uuid::from_u64_pair(self.rng.bits(), self.rng.bits())),
            if self.rng.chance(150) { RARE } else { SCRIPTED }.into(),
            input,
            Timestamp::MIN,
        );
        let reuse = *self.rng.pick(&[
            ReusePolicy::RefuseActive,
            ReusePolicy::UseActive,
            ReusePolicy::ReplaceActive,
        ]);
        // From when the client asks on, or from the time it is to start.
        let within = self.author.within(token).map(Duration::from_micros);
        let deadline = within.map(|limit| Deadline::after(Timestamp::MIN, limit));
        (token, Acceptance { reuse, deadline, ..acceptance })
    }

    fn start(&mut self, instance: InstanceId, journal: &mut Journal) -> Wish {
        let (token, mut acceptance) = self.acceptance(instance, journal);
        if self.extra.chance(150) {
            let span = *self.extra.pick(&[20 * SECOND, 600 * SECOND, 86_400 * SECOND]);
            let due = self.extra.within(0, span);
            acceptance.scheduled_for = Some(Timestamp::from_micros(super::world::EPOCH + due));
        }
        if self.extra.chance(150) {
            // Beyond the numbers that the author gives out.
            let event = WITH_START + token;
            let name = *self.extra.pick(&EVENTS);
            let input = Payload::of(&EventToken { event }).expect("a number is JSON");
            let id = Some(EnvelopeId(Arc::from(format!("with start {token}"))));
            self.note(event, &acceptance.instance, journal);
            acceptance.raised.push(UnconsumedEvent { name: name.into(), input, id });
        }
        Wish::Start { token, acceptance: Box::new(acceptance), way: Way::Stored }
    }

    /// Under an id that was made for it.
    fn start_direct(&mut self, journal: &mut Journal) -> Wish {
        self.direct += 1;
        let instance = InstanceId::new(format!("d{}", self.direct)).expect("letters and digits");
        self.made.push(instance.clone());
        let (token, acceptance) = self.acceptance(instance, journal);
        Wish::Start { token, acceptance: Box::new(acceptance), way: Way::Direct }
    }

    fn event(&mut self, name: &str) -> (u64, Command) {
        let token = self.author.token();
        let input = Payload::of(&EventToken { event: token }).expect("a number is JSON");
        (token, Command::Raise { name: name.into(), input })
    }

    fn note(&mut self, token: u64, instance: &InstanceId, journal: &mut Journal) {
        let raised = Raised {
            instance: instance.clone(),
            meant: None,
            with_run: None,
            accepted: false,
            runs_before: None,
        };
        journal.raised.insert(token, raised);
    }

    fn raise(&mut self, instance: InstanceId, journal: &mut Journal) -> Wish {
        let name = *self.rng.pick(&EVENTS);
        let (token, command) = self.event(name);
        self.note(token, &instance, journal);
        let envelope = self.envelope(instance, command);
        let way = *self.rng.pick(&[Way::Stored, Way::Direct, Way::Remembered]);
        Wish::Command { token: Some(token), envelope, way, this_run: self.rng.chance(400) }
    }

    /// Of the failure that the client sees.
    pub(super) fn rewind(&mut self, row: &StatusRow) -> Box<Envelope> {
        let execution = row.execution;
        let command = Command::Rewind { execution, reason: Some("again".into()) };
        self.envelope(row.instance.clone(), command)
    }

    /// Through the store, to the run that the client sees then.
    fn raise_to_run(&mut self, instance: InstanceId, journal: &mut Journal) -> Wish {
        let name = *self.extra.pick(&EVENTS);
        let (token, command) = self.event(name);
        self.note(token, &instance, journal);
        let envelope = self.envelope(instance, command);
        Wish::Command { token: Some(token), envelope, way: Way::Stored, this_run: true }
    }

    fn command(&mut self, instance: InstanceId, command: Command) -> Wish {
        let envelope = self.envelope(instance, command);
        let way = *self.rng.pick(&[Way::Stored, Way::Direct, Way::Remembered]);
        Wish::Command { token: None, envelope, way, this_run: self.rng.chance(300) }
    }

    fn envelope(&mut self, instance: InstanceId, command: Command) -> Box<Envelope> {
        self.envelopes += 1;
        let id = EnvelopeId(Arc::from(format!("e{}", self.envelopes)));
        Box::new(Envelope { id, instance, run: None, command })
    }
}
