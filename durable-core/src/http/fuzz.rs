//! Random texts for everything that reads some: it never panics, what is written reads back, and a path means what it
//! means by rules that are written down twice.
//!
//! `make fuzz SECONDS=n` goes on for so long with each; without it a run is short and the same each time.

#[allow(dead_code, reason = "the tests of the whole API use the rest")]
#[path = "../../tests/http/fuzz/pieces.rs"]
mod pieces;

use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use durable_machine::store::ListQuery;

use super::host::{Hosts, Named, PublicUrl};
use super::key::Key;
use super::links::{Links, Opener};
use super::path::{encoded, segments};
use super::query::Query;
use super::redacted::redacted_url;
use super::route::{Operation, Route};
use super::signature::{Secret, granted};
use super::{json, time, token, trace};
use pieces::{Case, Meaning, Source, corpus, meaning, seeds};

/// Cases of a property in a short run.
const SHORT: u64 = 5_000;

fn route(verb: &str, path: &str) -> Meaning {
    let method = Method::from_bytes(verb.as_bytes()).unwrap();
    let Ok(segments) = segments(path) else { return Meaning::NotText };
    let Some((route, _)) = Route::of(&method, &segments) else { return Meaning::Nothing };
    match route {
        Route::Start { name, id } => Meaning::Start { name, id },
        Route::List => Meaning::Hub("list"),
        Route::PurgeMany => Meaning::Hub("purge"),
        Route::MakePrimary => Meaning::Hub("primary"),
        Route::OpenApi => Meaning::Hub("document"),
        Route::Instance { id, operation } => {
            let (what, event) = match operation {
                Operation::Status => ("status", None),
                Operation::Purge => ("purge", None),
                Operation::RaiseEvent(event) => ("raiseEvent", Some(event)),
                Operation::Terminate => ("terminate", None),
                Operation::Suspend => ("suspend", None),
                Operation::Resume => ("resume", None),
                Operation::Rewind => ("rewind", None),
                Operation::Restart => ("restart", None),
            };
            Meaning::One { what, id, event }
        }
    }
}

#[test]
fn a_path_means_what_it_means_and_nothing_else() {
    let corpus = corpus();
    let check = |verb: &str, target: &str| {
        let path = target.split('?').next().unwrap();
        assert_eq!(route(verb, path), meaning(verb, path), "{verb} {path}");
        // Once more decoded it may mean something else: it is not.
        let escaped = path.split('/').map(encoded).collect::<Vec<_>>().join("/");
        assert_eq!(segments(&escaped).unwrap().join("/"), segments_raw(path), "{path}");
    };
    corpus.iter().for_each(|(verb, target)| check(verb, target));
    for seed in seeds(SHORT) {
        let mut source = Source::new(seed);
        let id = source.id();
        let (verb, target) = match source.one_in(2) {
            true => source.altered(&corpus),
            false => source.request(&["there", &id]),
        };
        let _case = Case(seed, format!("{verb} {target}"));
        check(&verb, &target);
    }
}

/// A path without one slash at each end.
fn segments_raw(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path)
}

#[test]
fn every_id_name_and_value_comes_back_out_of_its_link() {
    for seed in seeds(SHORT) {
        let mut source = Source::new(seed);
        let (id, event, value) = (source.id(), source.text(5), source.text(5));
        let _case = Case(seed, format!("{id:?} {event:?} {value:?}"));
        for written in [encoded(&value), source.written(&value)] {
            let query = Query::parse(&format!("a=b&Reason={written}&c=d"));
            let expected = Some(&*value).filter(|value| !value.trim().is_empty());
            assert_eq!(query.text("reason"), expected, "{written}");
        }
        for written in [encoded(&id), source.written(&id)] {
            assert_eq!(segments(&format!("/x/{written}/y")).unwrap(), ["x", &id, "y"], "{written}");
        }
        let key = Key::new("a key".into());
        let links = Links::new("http://localhost/api".into(), "hub", Opener::of(Some(&key)));
        let links = links.of(&id);
        let raise = links.send_event_post_uri.replace("{eventName}", &encoded(&event));
        for (verb, link, what) in [
            ("GET", &links.status_query_get_uri, "status"),
            ("DELETE", &links.purge_history_delete_uri, "purge"),
            ("POST", &links.terminate_post_uri, "terminate"),
            ("POST", &links.suspend_post_uri, "suspend"),
            ("POST", &links.resume_post_uri, "resume"),
            ("POST", &links.rewind_post_uri, "rewind"),
            ("POST", &links.restart_post_uri, "restart"),
            ("POST", &raise, "raiseEvent"),
        ] {
            let link: Uri = link.replace("{text}", &encoded(&value)).parse().unwrap();
            let path = link.path().strip_prefix("/api").unwrap();
            let event = (what == "raiseEvent").then(|| event.clone());
            let expected = match event.as_deref() {
                Some("") => Meaning::Nothing,
                _ => Meaning::One { what, id: id.clone(), event },
            };
            assert_eq!(route(verb, path), expected, "{link}");
            let query = Query::parse(link.query().unwrap());
            assert_eq!(query.text("code"), Some("a key"), "{link}");
            assert_eq!(query.text("taskhub"), Some("hub"), "{link}");
        }
    }
}

#[test]
fn whatever_comes_is_read_without_a_panic() {
    let corpus = corpus();
    let secret = Secret::new(&[1; 32]).unwrap();
    for seed in seeds(SHORT) {
        let mut source = Source::new(seed);
        let text = match source.below(3) {
            0 => source.text(12),
            1 => source.query(),
            _ => source.altered(&corpus).1,
        };
        let _case = Case(seed, format!("{text:?}"));
        let query = Query::parse(&text);
        for name in ["top", "timeout", "createdtimefrom", "runtimestatus", "showinput", ""] {
            let _ = (query.flag(name), query.integer(name), query.seconds(name), query.time(name));
            let _ = query.statuses(name);
        }
        let _ = (time::parse_time(&text), PublicUrl::parse(&text), segments(&text));
        assert_eq!(token::read("hub", &ListQuery::default(), &text), None);
        let now = chrono::DateTime::UNIX_EPOCH;
        assert_eq!(granted(std::slice::from_ref(&secret), &text, "hub", "a", now), None);
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&text) {
            for name in
                [header::HOST, header::ORIGIN, header::HeaderName::from_static("traceparent")]
            {
                headers.insert(name, value.clone());
            }
        }
        let hosts = Hosts::default();
        let uri = Uri::from_static("/x");
        if let Named::Own(host) = hosts.named(&headers, &uri) {
            assert!(super::host::is_loopback(&host), "{host}");
        }
        let _ = hosts.is_cross_site(&Method::POST, &headers, &uri);
        assert!(trace::context(&headers).is_none());
        if let Ok(payload) = json::payload(text.as_bytes()) {
            assert!(serde_json::from_str::<serde_json::Value>(payload.json()).is_ok(), "{text}");
        }
    }
}

#[test]
fn no_way_to_write_a_parameter_gets_a_key_into_a_log() {
    const KEY: &str = "SESAME";
    for seed in seeds(SHORT) {
        let mut source = Source::new(seed);
        let name = source.pick(&["code", "token", "CODE", "Token"]);
        let (before, after) = (source.query(), source.query());
        let url = format!("/x?{before}{}={KEY}&{after}", source.written(name));
        let _case = Case(seed, url.clone());
        let Ok(url) = url.parse::<Uri>() else { continue };
        let query = Query::parse(url.query().unwrap());
        let is_read = ["code", "token"]
            .iter()
            .any(|name| query.text(name).is_some_and(|value| value.contains(KEY)));
        assert!(!is_read || !redacted_url(&url).contains(KEY), "{}", redacted_url(&url));
    }
}
