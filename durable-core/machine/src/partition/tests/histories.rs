//! Histories that earlier builds stored, byte for byte: replayed by today's code, and written by it again.
//!
//! `durable-core/machine/tests/golden/README.md` says how one is added.

use super::book::book;
use super::golden::same;
use super::story::{id, told};
use crate::codec;
use crate::model::{EventSeq, ExecutionKey, ExecutionNumber, RunNumber};
use crate::replay::Orchestration;
use crate::store::HistoryRow;

/// One history: the file that keeps it, the story that it was told by, and whose it is.
struct Kept {
    file: &'static str,
    story: &'static str,
    /// The instance, its run and the execution: what is drawn depends on them.
    instance: &'static str,
    run: u64,
    execution: u32,
    /// Its orchestrator, in the book.
    code: &'static str,
    /// Events that it has not consumed.
    unconsumed: usize,
}

macro_rules! kept {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/", $name, ".jsonl"))
    };
}

/// The number of the first run that a story begins.
const FIRST_RUN: u64 = 1_700_000_000_000_001;

const KEPT: &[Kept] = &[
    Kept {
        file: kept!("replayed"),
        instance: "order-7",
        run: FIRST_RUN,
        execution: 0,
        code: "golden",
        unconsumed: 1,
        story: r#"
            start   order-7 golden {"n":7}
            expect  call reserve
            answer  reserve ok {"at":"shelf 3"}
            event   order-7 unasked 1
            suspend order-7
            event   order-7 approved {"by":"x"} as event-1
            resume  order-7
            expect  call charge
            answer  charge failed CardDeclined
            expect  call notify
            time    +1m
            expect  cancel notify
            time    +5s
            expect  completed
        "#,
    },
    // The second execution of a run.
    Kept {
        file: kept!("replayed-again"),
        instance: "order-7",
        run: FIRST_RUN,
        execution: 1,
        code: "golden_again",
        unconsumed: 1,
        story: r#"
            start   order-7 golden_again {"n":7}
            expect  call new
            event   order-7 next "for the first"
            event   order-7 unasked 1 as event-1
            event   order-7 next "for the second" as event-2
            answer  new ok {"at":"shelf 3"}
            expect  execution 1
            expect  call new
            answer  new ok 4
            time    +5s
            expect  completed
        "#,
    },
    // A parent with children of every kind.
    Kept {
        file: kept!("replayed-family"),
        instance: "order-7",
        run: FIRST_RUN,
        execution: 0,
        code: "golden_family",
        unconsumed: 0,
        story: FAMILY,
    },
    // One that failed over its child and was rewound with it, and failed again and was rewound alone.
    Kept {
        file: kept!("replayed-rewound"),
        instance: "order-7",
        run: FIRST_RUN,
        execution: 2,
        code: "golden_rewound",
        unconsumed: 1,
        story: REWOUND,
    },
    // Its child.
    Kept {
        file: kept!("replayed-rewound-child"),
        instance: "heir",
        run: 1_700_000_005_000_000,
        execution: 1,
        code: "golden_heir",
        unconsumed: 0,
        story: REWOUND,
    },
    // A second life of an id whose first one was purged.
    Kept {
        file: kept!("replayed-purged"),
        instance: "order-7",
        run: FIRST_RUN + 4,
        execution: 1,
        code: "golden_again",
        unconsumed: 0,
        story: r#"
            start   order-7 golden_again {"n":1}
            expect  call new
            event   order-7 next "for the first"
            terminate order-7 "enough"
            expect  terminated
            purge   order-7
            expect  absent order-7
            start   order-7 golden_again {"n":7}
            expect  call new
            event   order-7 next "for the first"
            answer  new ok {"at":"shelf 3"}
            expect  call new
            answer  new ok 4
            event   order-7 next "for the second"
            time    +5s
            expect  completed
        "#,
    },
];

const FAMILY: &str = r#"
    start   order-7 golden_family {"n":7}
    time    +60s
    expect  running heir
    event   heir go "now"
    expect  completed order-7
"#;

const REWOUND: &str = r#"
    start   order-7 golden_rewound {"n":7}
    expect  call reserve
    answer  reserve ok {"at":"shelf 3"}
    event   order-7 unasked 1 as event-1
    event   order-7 approved {"by":"x"} as event-2
    time    +5s
    expect  call carve
    answer  carve failed Broken
    expect  failed heir Broken
    expect  failed order-7 Broken
    rewind  order-7
    expect  call carve
    answer  carve ok "a spoon"
    expect  completed heir
    expect  call charge
    answer  charge failed CardDeclined
    expect  failed order-7 CardDeclined
    rewind  order-7
    expect  call charge
    answer  charge ok 4200
    expect  completed order-7
"#;

impl Kept {
    /// Replays it with today's code. Drawn numbers are inputs of calls: a build that draws otherwise differs here.
    fn replay(&self) {
        let mut first = EventSeq(0);
        let mut rows = Vec::new();
        for line in self.file.lines() {
            let row = HistoryRow { first, body: line.as_bytes().to_vec() };
            first.0 += codec::decode_events(&row.body).expect("decodes").len() as u64;
            rows.push(row);
        }
        let events = codec::decode_history(&rows).expect("decodes");
        let key = ExecutionKey {
            instance: id(self.instance),
            run: RunNumber(self.run),
            execution: ExecutionNumber(self.execution),
        };
        let code = book().remove(self.code).expect("in the book");
        let mut replayed = Orchestration::new(key, code, None);
        let report = replayed.replay(&events).expect("today's engine replays it");
        assert_eq!(report.input_differences, 0, "{}", self.story);
        assert_eq!(replayed.unconsumed().len(), self.unconsumed, "{}", self.story);
    }

    /// Tells its story again.
    fn write(&self) -> Vec<Vec<u8>> {
        let world = told(self.story);
        let instance = id(self.instance);
        let status = world.store.status(&instance).expect("it is there");
        assert_eq!(
            (status.run.0, status.execution.0),
            (self.run, self.execution),
            "{}",
            self.story
        );
        let stored = world.store.history(&instance).expect("a history");
        stored.into_iter().map(|row| row.body).collect()
    }
}

#[test]
fn histories_that_an_earlier_build_stored_are_replayed() {
    KEPT.iter().for_each(Kept::replay);
}

#[test]
fn the_same_stories_still_write_the_same_histories() {
    for kept in KEPT {
        same(kept.file, &kept.write());
    }
}
