//! Rows that cannot be read: named, kept, and in nobody's way.

use durable_core::machine::codec::{DecodeError, decode_history};
use durable_core::machine::model::RuntimeStatus;
use durable_core::machine::store::{ArrivalPosition, ListQuery};
use durable_core::store::StoreError;

use super::{Place, now, number};
use crate::store_contract::make::{Owner, P0, at, begin, id, raise, start};

#[test]
fn a_flipped_byte_in_a_history_is_found_and_the_neighbours_run_on() {
    let place = Place::new();
    let store = place.open();
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1)), begin("b", 1, at(1))]).await;
    });
    let flipped = place
        .sql()
        .execute("UPDATE history SET body = replace(body, '1001', '1101') WHERE row = 1", []);
    assert_eq!(flipped.expect("damaged"), 1);
    let stored = |text| now(store.load(&id(text))).expect("whole rows").expect("stored");
    let error = decode_history(&stored("a").history).expect_err("the checksum does not fit");
    assert!(matches!(error, DecodeError::Damaged(_)));
    assert!(decode_history(&stored("b").history).is_ok());
}

#[test]
fn an_unreadable_status_row_is_named_and_hides_no_other() {
    let place = Place::new();
    let store = place.open();
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(1), ["a", "b", "c"].map(|text| begin(text, 1, at(1))).into()).await;
    });
    let damage = "UPDATE instances SET body = replace(body, 'input', 'imput') WHERE id = 'b'";
    place.sql().execute(damage, []).expect("damaged");
    for answer in [now(store.status(&id("b"))).err(), now(store.load(&id("b"))).err()] {
        match answer {
            Some(StoreError::Corrupt { key, source: DecodeError::Damaged(_) }) => {
                assert_eq!(key, "status row of \"b\"");
            }
            other => panic!("{other:?}"),
        }
    }
    let page = now(store.list(&ListQuery::default(), None, 10)).expect("a list");
    let ids: Vec<_> = page.rows.iter().map(|row| row.instance.to_string()).collect();
    assert_eq!(ids, ["c", "b", "a"]);
    assert!(page.rows[1].hold.is_some() && page.rows[0].hold.is_none());
    assert_eq!(page.rows[1].status, RuntimeStatus::Running);
    assert!(now(store.status(&id("c"))).expect("no fault").is_some());
}

#[test]
fn an_unreadable_command_becomes_a_dead_letter_with_its_reason() {
    let place = Place::new();
    let store = place.open();
    now(store.accept(&start("a", 1))).expect("no fault");
    for n in 0..5 {
        now(store.send(&raise("a", &format!("e{n}")))).expect("no fault");
    }
    let damage =
        "UPDATE inbox SET body = replace(body, 'approved', 'approwed') WHERE seq IN (1, 3)";
    assert_eq!(place.sql().execute(damage, []).expect("damaged"), 2);
    let ids = || {
        let arrivals = now(store.arrivals(P0, ArrivalPosition::default(), 10)).expect("no fault");
        arrivals.envelopes.iter().map(|envelope| envelope.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ["e1", "e3", "e4"]);
    assert_eq!(ids(), ["e1", "e3", "e4"]);
    let conn = place.sql();
    assert_eq!(number(&conn, "SELECT count(*) FROM inbox"), 3);
    let letter: (String, String, String) = conn
        .query_row("SELECT came_from, reason, body FROM dead_letters ORDER BY number", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("a dead letter");
    assert_eq!(letter.0, "inbox 1, envelope e0");
    assert!(letter.1.contains("checksum"), "{}", letter.1);
    assert!(letter.2.contains("approwed"));
}

#[test]
fn an_unreadable_start_is_kept_and_blocks_nobody() {
    let place = Place::new();
    let store = place.open();
    for (n, text) in ["a", "b", "c"].into_iter().enumerate() {
        now(store.accept(&start(text, n as u128 + 1))).expect("no fault");
    }
    let damage = "UPDATE acceptances SET body = replace(body, 'chain', 'chaim') WHERE id = 'b'";
    assert_eq!(place.sql().execute(damage, []).expect("damaged"), 1);
    let arrivals = now(store.arrivals(P0, ArrivalPosition::default(), 2)).expect("no fault");
    let ids: Vec<_> =
        arrivals.acceptances.iter().map(|a| a.acceptance.instance.to_string()).collect();
    assert_eq!((ids, arrivals.more), (vec!["a".to_owned()], true));
    let arrivals = now(store.arrivals(P0, arrivals.position, 2)).expect("no fault");
    assert_eq!((arrivals.acceptances.len(), arrivals.more), (1, false));
    match now(store.load(&id("b"))) {
        Err(StoreError::Corrupt { key, .. }) => assert_eq!(key, "acceptance of \"b\""),
        other => panic!("{other:?}"),
    }
    assert_eq!(number(&place.sql(), "SELECT count(*) FROM acceptances"), 3);
}
