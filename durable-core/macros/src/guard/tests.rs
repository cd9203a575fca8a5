//! Bodies, and what is refused in them: the key and the code, in order.

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Ident, ItemFn, Token};

use super::Key;
use crate::problems::Problems;

fn sentences(function: &str, allowed: &str) -> Vec<String> {
    let function: ItemFn = syn::parse_str(function).expect("a function");
    let allowed = Punctuated::<Ident, Token![,]>::parse_terminated.parse_str(allowed);
    let allowed: Vec<_> = allowed
        .expect("keys")
        .into_iter()
        .map(|ident| (Key::named(&ident.to_string()).expect("a key"), ident))
        .collect();
    let mut problems = Problems::default();
    super::check(&function, &allowed, &mut problems);
    problems.sentences()
}

/// `clock Instant::now` for each refusal.
fn refused(body: &str) -> Vec<String> {
    let function =
        format!("async fn f(ctx: OrchestrationContext, input: Vec<u8>) -> R {{ {body} }}");
    let short = |sentence: String| {
        let code = sentence.split('`').nth(1).expect("code in quotes").to_owned();
        let key = sentence.split("allow(").nth(1).and_then(|rest| rest.split(',').next());
        format!("{} {code}", key.expect("the key that allows it"))
    };
    sentences(&function, "").into_iter().map(short).collect()
}

#[track_caller]
fn check(body: &str, expected: &[&str]) {
    assert_eq!(refused(body), expected, "{body}");
}

#[test]
fn functions_of_a_process_and_its_machine_are_refused_by_their_paths() {
    for (code, key) in [
        ("std::time::Instant::now()", "clock"),
        ("::std::time::SystemTime::now()", "clock"),
        ("Instant::now()", "clock"),
        ("tokio::time::Instant::now()", "clock"),
        ("Utc::now()", "clock"),
        ("chrono::Local::now()", "clock"),
        ("time::OffsetDateTime::now_utc()", "clock"),
        ("jiff::Timestamp::now()", "clock"),
        ("rand::random::<u8>()", "random"),
        ("rand::thread_rng()", "random"),
        ("thread_rng()", "random"),
        ("random::<u8>()", "random"),
        ("Uuid::new_v4()", "random"),
        ("uuid::Uuid::now_v7()", "random"),
        ("fastrand::u32(..)", "random"),
        ("getrandom::fill(&mut bytes)", "random"),
        ("std::hash::RandomState::new()", "random"),
        ("tokio::time::sleep(d)", "sleep"),
        ("time::sleep(d)", "sleep"),
        ("sleep(d)", "sleep"),
        ("std::thread::sleep(d)", "sleep"),
        ("thread::park()", "sleep"),
        ("tokio::time::timeout(d, call)", "sleep"),
        ("timeout(d, call)", "sleep"),
        ("tokio::time::interval(d)", "sleep"),
        ("tokio::spawn(work)", "spawn"),
        ("spawn(work)", "spawn"),
        ("tokio::task::spawn_blocking(work)", "spawn"),
        ("task::spawn_local(work)", "spawn"),
        ("std::thread::spawn(work)", "spawn"),
        ("thread::scope(work)", "spawn"),
        ("rayon::join(a, b)", "spawn"),
        ("tokio::task::JoinSet::<u8>::new()", "spawn"),
        ("futures::executor::block_on(call)", "spawn"),
        ("tokio::runtime::Handle::current()", "spawn"),
        ("std::fs::read(path)", "io"),
        ("fs::read_to_string(path)", "io"),
        ("tokio::fs::File::open(path)", "io"),
        ("File::create(path)", "io"),
        ("std::net::TcpStream::connect(to)", "io"),
        ("tokio::net::lookup_host(to)", "io"),
        ("std::io::stdin()", "io"),
        ("reqwest::get(url)", "io"),
        ("reqwest::Client::new()", "io"),
        ("ureq::get(url)", "io"),
        ("std::env::var(name)", "env"),
        ("env::args()", "env"),
        ("std::thread::available_parallelism()", "env"),
        ("std::process::exit(1)", "process"),
        ("std::process::Command::new(name)", "process"),
        ("futures_lite::future::race(a, b)", "select"),
    ] {
        let shown = code.trim_start_matches("::").split('(').next().expect("a path");
        let shown = shown.replace("::<u8>", "");
        check(&format!("let x = {code};"), &[&format!("{key} {shown}")]);
    }
}

#[test]
fn imports_and_aliases_of_the_body_are_followed() {
    check("use std::time::Instant as Clock; Clock::now()", &["clock Clock::now"]);
    check("use std::time::{self, Duration}; time::Instant::now()", &["clock time::Instant::now"]);
    check("use std::{env as e, fs}; e::var(n); fs::read(p)", &["env e::var", "io fs::read"]);
    check("use tokio::time::sleep as wait; wait(d).await", &["sleep wait"]);
    check("use tokio::time as t; use t::sleep; sleep(d)", &["sleep sleep"]);
    check("use tokio::time::*; interval(d)", &["sleep interval"]);
    check("use rand::prelude::*; let x = f(g(x)); h::i(x)", &[]);
    check("type Clock = std::time::Instant; Clock::now()", &["clock Clock::now"]);
    check("extern crate rand as dice; dice::random()", &["random dice::random"]);
    check("<std::time::Instant>::now()", &["clock std::time::Instant::now"]);
    check("<Utc as Clock>::now()", &["clock Utc::now"]);
    // The nearest one counts, and one in another block does not.
    check("use tokio::time; { use mine::time; time::sleep(d) } ", &[]);
    check("{ use std::time::Instant as Mine; } Mine::now()", &[]);
    check("sleep(d); use tokio::time::sleep;", &["sleep sleep"]);
}

#[test]
fn it_is_found_wherever_it_is() {
    check("a(|| Instant::now())", &["clock Instant::now"]);
    check("helper(&ctx, Utc::now())", &["clock Utc::now"]);
    check("a.unwrap_or_else(Utc::now)", &["clock Utc::now"]);
    check("async move { if x { loop { Utc::now(); } } }.await", &["clock Utc::now"]);
    check(
        "match x { A if Utc::now() > t => 1, B => fs::read(p) }",
        &["clock Utc::now", "io fs::read"],
    );
    check("let Some(x) = y else { std::process::exit(1) };", &["process std::process::exit"]);
    check("fn helper() -> u8 { rand::random() } helper()", &["random rand::random"]);
    check("mod m { use std::fs as f; fn g() { f::read(p) } }", &["io f::read"]);
    check("struct S; impl S { fn t(&self) { Utc::now(); } }", &["clock Utc::now"]);
    check("Utc::now(); Utc::now();", &["clock Utc::now", "clock Utc::now"]);
    check(
        "tokio::time::timeout(d, tokio::spawn(x))",
        &["sleep tokio::time::timeout", "spawn tokio::spawn"],
    );
    check("std::time::UNIX_EPOCH.elapsed()", &["clock .elapsed()"]);
    check("Handle::current().block_on(x)", &["spawn .block_on()", "spawn Handle::current"]);
    check("x.into_par_iter().map(f)", &["spawn .into_par_iter()"]);
}

#[test]
fn arguments_of_macros_are_looked_at() {
    check(
        "format!(\"{} {x}\", Utc::now(), x = rand::random())",
        &["clock Utc::now", "random rand::random"],
    );
    check("vec![Instant::now(); 3]", &["clock Instant::now"]);
    check("futures::join!(a, tokio::spawn(b))", &["spawn tokio::spawn"]);
    check(
        "json!({ \"at\": Utc::now(), \"n\": [random()], random: x.now() })",
        &["clock Utc::now", "random random"],
    );
    check(
        "json!({ \"at\": ::std::time::SystemTime::now() })",
        &["clock std::time::SystemTime::now"],
    );
    check("json!({ \"x\": format!(\"{}\", Utc::now()) })", &["clock Utc::now"]);
    check("tracing::info!(at = %Utc::now(), \"x\")", &["clock Utc::now"]);
    check("stringify!(Utc::now())", &[]);
    check("macro_rules! m { () => { Utc::now() } }", &[]);
    check("env!(\"HOME\"); concat!(\"a\", \"b\"); include_str!(\"x\");", &[]);
}

#[test]
fn printing_and_unbiased_selects_are_refused() {
    check(
        "println!(\"{}\", x); std::eprintln!(\"y\"); dbg!(z);",
        &["print println!", "print std::eprintln!", "print dbg!"],
    );
    check(
        "tokio::select! { biased; x = a => 1, y = tokio::time::sleep(d) => 2 }",
        &["sleep tokio::time::sleep"],
    );
    check("tokio::select! { x = a => 1, y = b => 2 }", &["select tokio::select!"]);
    check("select! { x = a => 1, y = b => 2 }", &["select select!"]);
    check("futures::select! { x = a => 1 }", &["select futures::select!"]);
    check("use futures::select as pick; pick! { x = a => 1 }", &["select pick!"]);
    check("futures::select_biased! { x = a => 1 }", &[]);
    check("json!({ \"x\": tokio::select! { x = a => 1 } })", &["select tokio::select!"]);
    check("crate::select! { x = a => 1 }", &[]);
}

#[test]
fn what_outlives_the_code_is_refused() {
    check("static mut N: u8 = 0;", &["global static N"]);
    check("static N: AtomicU8 = AtomicU8::new(0);", &["global static N"]);
    check("static N: LazyLock<Mutex<u8>> = X;", &["global static N"]);
    check("static N: LazyLock<Regex> = X; static M: [&str; 2] = [\"a\", \"b\"];", &[]);
    check("thread_local! { static X: u8 = 0; }", &["global thread_local!"]);
    check(
        "COUNTER.fetch_add(1, o); self::COUNTER.fetch_max(1, o)",
        &["global COUNTER", "global COUNTER"],
    );
    check("counter.fetch_add(1, o)", &[]);
}

#[test]
fn going_through_a_hash_collection_is_refused() {
    check("let m = HashMap::new(); for x in &m { }", &["hash_order for"]);
    check("let m: HashMap<u8, u8> = ctx.call(a, &b).await?; m.keys()", &["hash_order .keys()"]);
    check("let s = x.collect::<HashSet<_>>(); s.into_iter()", &["hash_order .into_iter()"]);
    check(
        "use std::collections::HashMap as M; let m = M::from(x); m.values().sum()",
        &["hash_order .values()"],
    );
    check("let m: HashMap<u8, u8> = x; let n = &m.clone(); n.iter()", &["hash_order .iter()"]);
    // Looking something up is harmless.
    check("let mut m = HashMap::new(); m.insert(1, 2); m.get(&1); m.len();", &[]);
    check("let m: HashMap<u8, u8, Fixed> = x; m.iter()", &[]);
    check("let m: BTreeMap<u8, u8> = x; m.iter(); other.iter()", &[]);
    // So is what does not depend on the order.
    check("let m = HashMap::new(); m.values().any(|v| v > 1); m.iter().map(f).count()", &[]);
    check("let m = HashMap::new(); let m: BTreeMap<_, _> = m.into_iter().collect(); m.iter()", &[]);
    check("let m = HashMap::new(); m.into_iter().collect::<BTreeMap<_, _>>().iter()", &[]);
    check("let m = HashMap::new(); let mut k: Vec<_> = m.keys().collect(); k.sort();", &[]);
    check(
        "let m = HashMap::new(); let mut k: Vec<_> = m.keys().collect(); g(k);",
        &["hash_order .keys()"],
    );
    check("let m = HashMap::new(); x(m.keys()).count()", &["hash_order .keys()"]);
}

#[test]
fn what_merely_has_such_a_name_is_left_alone() {
    for body in [
        "ctx.now(); ctx.sleep(d).await; ctx.random(); ctx.new_uuid(); ctx.call(sleep, &1)",
        "fn now() -> u8 { 1 } now(); fn random() -> u8 { 4 } random(); fn sleep(d: u8) { } sleep(1)",
        "let sleep = |d| d; sleep(1); let spawn = x; spawn(1)",
        "struct Instant; impl Instant { fn now() { } } Instant::now()",
        "use crate::model::Instant; Instant::now()",
        "mod fs { fn read(x: u8) { } } fs::read(1)",
        "self::sleep(d); super::time::sleep(d); crate::env::var(x); Self::random()",
        "time::sleep(&ctx, d); sleep(&ctx, d); sleep(ctx.clone(), d); spawn(&ctx); random(1); timeout(ctx, d)",
        "self.clock.now(); x.spawn(y); x.timeout(d); y.elapsed(); sleep; random",
        "mine::thread::spawn(x); mine::env::var(x); mine::sleep(d)",
        "StdRng::seed_from_u64(7); fastrand::Rng::with_seed(7); rand::distr::Uniform::new(1, 2)",
        "Instant::from(x); Utc.timestamp_opt(1, 0); Uuid::new_v5(&n, b); Duration::from_secs(1)",
        "tokio::join!(a, b); tokio::sync::mpsc::channel(1); futures::future::join_all(x)",
        "Command::new(x); process::handle(x); time::Duration::seconds(1); io::Error::other(x)",
        "#[activity] async fn a() -> R { Utc::now() } ctx.call(a, &()).await",
        "if let Some(random) = x { random() } while let Some(sleep) = y { sleep(1) }",
    ] {
        check(body, &[]);
    }
}

#[test]
fn a_key_that_is_allowed_is_not_refused_and_one_without_use_is() {
    let function = "async fn f(c: C) -> R { Utc::now(); rand::random() }";
    assert!(sentences(function, "clock, random").is_empty());
    let sentences = sentences(function, "clock, io");
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    assert!(sentences[0].contains("use `c.random()`"), "the author's name: {}", sentences[0]);
    assert!(sentences[1].starts_with("`io` allows nothing here"), "{}", sentences[1]);
}

#[test]
fn a_sentence_names_the_code_the_reason_and_the_way_out() {
    let function = "async fn f(ctx: C) -> R { use std::time::Instant as Clock; Clock::now() }";
    assert_eq!(
        sentences(function, ""),
        [
            "`Clock::now` (`std::time::Instant::now`) reads a clock, which shows another time in each \
          replay: use `ctx.now()`\nif it cannot change what a replay does: \
          `#[orchestrator(allow(clock, reason = \"…\"))]`"
        ]
    );
    let bare = sentences("async fn f(ctx: C) -> R { sleep(d) }", "");
    assert!(
        bare[0].contains("if it is a function of your own: write `self::sleep(…)`"),
        "{bare:?}"
    );
}
