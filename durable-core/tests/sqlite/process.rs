//! Several processes at one file.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use durable_core::machine::model::RuntimeStatus;
use durable_core::machine::store::{ArrivalPosition, RowChange};
use durable_core::store::{
    Fleet as _, HubStore as _, PartitionStore as _, SqliteOptions, SqliteStore, StoreError,
};

use super::{Place, now};
use crate::store_contract::make::{
    Owner, P0, at, begin, id, key, member, raise, start, worker, write,
};

/// What a child process does, if this process is one.
fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var("STORE_TEST_ROLE").ok()?, std::env::var_os("STORE_TEST_FILE")?.into()))
}

/// Runs this binary again as a child in the given role, by way of `shell` where that is not empty.
fn child(place: &Place, role: &str, shell: &str) -> Child {
    let this = std::env::current_exe().expect("this binary");
    let mut command = if shell.is_empty() {
        Command::new(this)
    } else {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{shell} exec \"$0\" \"$@\"")).arg(this);
        command
    };
    command
        .args(["--exact", "sqlite::process::the_child", "--nocapture"])
        .env("STORE_TEST_ROLE", role)
        .env("STORE_TEST_FILE", place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child process")
}

/// The lines that the child says, behind their mark.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = child.stdout.take().expect("piped");
    BufReader::new(out)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("SAYS ").map(|(_, said)| said.to_owned()))
}

#[test]
fn the_child() {
    let Some((role, file)) = role() else { return };
    let store = SqliteStore::open(&file).expect("the hub opens");
    match role.as_str() {
        "worker" => now(async {
            store.claim(worker(7), P0).await.expect("nobody else is there");
            store.heartbeat(&member(worker(7))).await.expect("no fault");
            println!("SAYS claimed");
            std::thread::sleep(Duration::from_secs(60));
        }),
        "writer" => now(async {
            let store: std::sync::Arc<dyn durable_core::store::Store> = std::sync::Arc::new(store);
            let (mut owner, _) = Owner::open(&store, P0).await;
            for n in 0..1_000_000 {
                let mut write = begin(&format!("i{n}"), 1, at(n));
                // A page and more, so that limits are met soon.
                write.in_flight = RowChange::Set(vec![b'x'; 6000]);
                let commit = owner.group(at(n), vec![write]);
                match owner.give(commit).await {
                    Ok(()) => println!("SAYS {n}"),
                    Err(error) => {
                        println!("SAYS {n} {error:?}");
                        let read = store.status(&id("i0")).await;
                        println!("SAYS read {}", read.is_ok());
                        return;
                    }
                }
            }
        }),
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn after_a_kill_the_next_worker_serves_at_once() {
    let place = Place::new();
    let store = SqliteStore::open(place.path()).expect("the hub opens");
    let mut other = child(&place, "worker", "");
    let pid = other.id();
    assert_eq!(lines(&mut other).next().as_deref(), Some("claimed"));
    match now(store.claim(worker(8), P0)) {
        Err(StoreError::HubInUse { pid: found }) => assert_eq!(found, Some(pid)),
        answer => panic!("two workers: {answer:?}"),
    }
    let members = now(store.members()).expect("no fault");
    assert_eq!(members.iter().map(|member| member.worker).collect::<Vec<_>>(), [worker(7)]);
    other.kill().expect("killed");
    other.wait().expect("gone");
    assert_eq!(
        now(store.members()).expect("no fault"),
        vec![],
        "its row is there and does not count"
    );
    now(store.claim(worker(8), P0)).expect("free");
    now(store.leave(worker(8))).expect("no fault");
}

#[test]
fn what_was_answered_before_a_kill_is_there() {
    let place = Place::new();
    drop(place.open());
    let mut other = child(&place, "writer", "");
    let mut said = lines(&mut other);
    let first: Vec<_> = said.by_ref().take(200).collect();
    assert_eq!(first.len(), 200);
    other.kill().expect("killed");
    let last = said.last().map_or(199, |line| line.parse::<i64>().expect("a number"));
    other.wait().expect("gone");
    let store = SqliteStore::open(place.path()).expect("it opens");
    for n in 0..=last {
        assert!(now(store.status(&id(&format!("i{n}")))).expect("readable").is_some(), "i{n}");
    }
    assert_eq!(now(store.open(P0)).expect("opens").head.unclean_opens, 1, "it had committed");
}

/// A limit of the operating system on the size of files makes writes fail for real, at whichever of them.
#[cfg(unix)]
#[test]
fn an_io_error_loses_nothing_that_was_answered_and_invents_nothing() {
    for kib in [4_200_u32, 5_300] {
        let place = Place::new();
        drop(place.open());
        // `ulimit -f` counts 512-byte blocks in a POSIX shell.
        let mut other = child(&place, "writer", &format!("trap '' XFSZ; ulimit -f {};", kib * 2));
        let said: Vec<_> = lines(&mut other).collect();
        other.wait().expect("gone");
        let failed = said.iter().position(|line| line.contains(' ')).expect("it met the limit");
        assert!(
            said[failed].contains("Busy") || said[failed].contains("Unknown"),
            "{}",
            said[failed]
        );
        assert_eq!(said[failed + 1], "read true", "reading goes on");
        let store = SqliteStore::open(place.path()).expect("it opens");
        for n in 0..failed {
            assert!(now(store.status(&id(&format!("i{n}")))).expect("readable").is_some(), "i{n}");
        }
        let one_more = now(store.status(&id(&format!("i{}", failed + 1)))).expect("readable");
        assert_eq!(one_more, None);
    }
}

#[test]
fn a_write_waits_for_another_process_and_says_when_it_took_too_long() {
    let place = Place::new();
    let options =
        SqliteOptions { busy_timeout: Duration::from_millis(100), ..SqliteOptions::default() };
    let store = SqliteStore::open_with(place.path(), options).expect("the hub opens");
    let fence = now(store.open(P0)).expect("opens").fence;
    let other = place.sql();
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    match now(store.accept(&start("a", 1))) {
        Err(StoreError::Busy { retry_after, .. }) => assert!(retry_after < Duration::from_secs(1)),
        answer => panic!("{answer:?}"),
    }
    // Reading does not wait.
    let began = Instant::now();
    assert_eq!(now(store.status(&id("a"))).expect("no fault"), None);
    assert!(began.elapsed() < Duration::from_millis(80));
    other.execute_batch("ROLLBACK").expect("free");
    now(store.accept(&start("a", 1))).expect("free again");
    // One that ends in time is only waited for.
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            other.execute_batch("ROLLBACK").expect("free");
        });
        now(store.release(P0, fence)).expect("waited for");
    });
}

#[tokio::test]
async fn what_another_process_writes_is_a_change_and_own_commits_are_not() {
    let place = Place::new();
    let (store, other) = (place.open(), place.open());
    let (mut owner, _) = Owner::open(&store, P0).await;
    let known = Some(store.changed(None).await.expect("no fault"));
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    let own = tokio::time::timeout(Duration::from_millis(300), store.changed(known)).await;
    assert!(own.is_err(), "an own commit is no change");
    other.send(&raise("a", "e1")).await.expect("no fault");
    store.changed(known).await.expect("no fault");
    let arrivals = store.arrivals(P0, ArrivalPosition::default(), 9).await.expect("no fault");
    assert_eq!(arrivals.envelopes.len(), 1);
}

#[test]
fn a_row_that_another_process_replaced_is_looked_up_again() {
    let place = Place::new();
    let (store, other) = (place.open(), place.open());
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1)), begin("z", 1, at(1))]).await;
        // A savepoint that is rolled back: what it knew of the row is forgotten.
        let mut ends = write(key("a", 1, 0));
        ends.status = Some(Box::new(crate::store_contract::make::status_of(
            &ends.key,
            RuntimeStatus::Completed,
            at(2),
        )));
        let wrong = write(key("nobody", 1, 0));
        let refused = owner.group(at(2), vec![ends.clone(), wrong]);
        assert!(owner.give(refused).await.is_err());
        owner.commit(at(2), vec![ends]).await;
        other.accept(&start("a", 5)).await.expect("no fault");
        other.accept(&start("b", 6)).await.expect("no fault");
        owner.commit(at(3), vec![begin("a", 2, at(3)), begin("b", 1, at(3))]).await;
        for text in ["a", "b", "z"] {
            let rows = store.history(&id(text)).await.expect("no fault").expect("stored");
            assert_eq!(rows.len(), 1, "{text}");
        }
        let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
        assert_eq!(stored.status.map(|row| row.run.0), Some(2));
    });
}

#[test]
fn two_processes_write_at_once_and_nothing_is_lost() {
    let place = Place::new();
    let (store, other) = (place.open(), place.open());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300_u32 {
                let accepted = now(other.accept(&start(&format!("c{n}"), u128::from(n) + 1)));
                accepted.expect("no fault");
            }
        });
        now(async {
            let (mut owner, _) = Owner::open(&store, P0).await;
            for n in 0..300 {
                owner.commit(at(n), vec![begin(&format!("o{n}"), 1, at(n))]).await;
            }
        });
    });
    for n in 0..300 {
        for text in [format!("c{n}"), format!("o{n}")] {
            assert!(now(store.status(&id(&text))).expect("no fault").is_some(), "{text}");
        }
    }
}
