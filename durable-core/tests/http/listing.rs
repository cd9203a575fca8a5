//! Point 7: lists.

use std::collections::BTreeMap;

use axum::body::Body;
use chrono::{DateTime, Utc};
use durable_core::prelude::*;
use serde_json::{Value, json};

use super::server::{Answer, Server};

const TOKEN: &str = "x-ms-continuation-token";

/// The ids on a page.
fn ids(answer: &Answer) -> Vec<String> {
    let page = answer.is(200).json();
    let ids = page.as_array().expect("a list").iter().map(|status| status["instanceId"].clone());
    ids.map(|id| id.as_str().expect("a text").to_owned()).collect()
}

fn sorted(answer: &Answer) -> Vec<String> {
    let mut ids = ids(answer);
    ids.sort();
    ids
}

/// All pages of a list, as a client library reads them.
async fn pages(server: &Server, path: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = server.call_with("GET", path, &[(TOKEN, &token)], Body::empty()).await;
        pages.push(ids(&page));
        token = page.header(TOKEN).expect("always there").to_owned();
        if token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn point_7_pages_are_full_and_each_instance_is_on_one_of_them() {
    let server = Server::start().await;
    for number in 0..130 {
        server.begin("Sleeper", &format!("i-{number}"), json!(3_600_000)).await;
    }
    for (path, sizes) in [
        ("/instances", vec![100, 30]),
        ("/instances/?top=50", vec![50, 50, 30]),
        ("/instances?top=130", vec![130]),
        ("/instances?top=65&showInput=false&instanceIdPrefix=i", vec![65, 65]),
        ("/instances?top=0", vec![100, 30]),
        ("/instances?top=many", vec![100, 30]),
        ("/instances?top=99999999999", vec![130]),
    ] {
        let pages = pages(&server, path).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{path}");
        let mut seen = BTreeMap::<String, u32>::new();
        for id in pages.into_iter().flatten() {
            *seen.entry(id).or_default() += 1;
        }
        assert_eq!((seen.len(), seen.values().max()), (130, Some(&1)), "{path}");
    }
    let one_each = pages(&server, "/instances?top=1&instanceIdPrefix=i-12").await;
    assert!(one_each.iter().all(|page| page.len() == 1) && one_each.len() == 11, "{one_each:?}");
}

#[tokio::test]
async fn point_7_a_page_is_not_larger_than_the_server_allows() {
    let server = Server::with(|api| api.limits(|limits| limits.page = 3)).await;
    for id in ["a", "b", "c", "d"] {
        server.begin("Echo", id, json!(1)).await;
    }
    assert_eq!(pages(&server, "/instances?top=1000").await.concat(), ["d", "c", "b", "a"]);
    assert_eq!(pages(&server, "/instances").await.len(), 2);
}

#[tokio::test]
async fn point_7_a_page_of_large_instances_is_cut() {
    const MIB: usize = 1024 * 1024;
    let server = Server::start().await;
    let sizes = [9, 9, 1];
    for (number, mebibytes) in sizes.into_iter().enumerate() {
        let input = "x".repeat(mebibytes * MIB);
        server.begin("Sleeper", &format!("i-{number}"), json!(input)).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = server.call_with("GET", "/instances", &[(TOKEN, &token)], Body::empty()).await;
        assert!(page.body.len() < 17 * MIB, "{}", page.body.len());
        assert!(!ids(&page).is_empty(), "each page brings something");
        seen.extend(ids(&page));
        token = page.header(TOKEN).unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    let newest_first: Vec<_> = (0..sizes.len()).rev().map(|number| format!("i-{number}")).collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn point_7_an_empty_list_is_a_list() {
    let server = Server::start().await;
    let empty = server.get("/instances/?").await;
    assert_eq!((empty.is(200).json(), empty.header(TOKEN)), (json!([]), Some("")));
}

#[tokio::test]
async fn point_7_a_token_that_the_server_did_not_write_is_refused() {
    let server = Server::start().await;
    for id in ["a", "b"] {
        server.begin("Echo", id, json!(1)).await;
    }
    let token = server.get("/instances?top=1").await.header(TOKEN).unwrap().to_owned();
    for forged in ["x", "null", "0", "bnVsbA==", &format!("{token}0"), &token[1..]] {
        let headers = [(TOKEN, forged)];
        let answer = server.call_with("GET", "/instances", &headers, Body::empty()).await;
        answer.is_refused_for("continuation token");
    }
}

#[tokio::test]
async fn point_7_a_token_is_good_for_the_list_it_came_from() {
    let server = Server::start().await;
    for id in ["a1", "a2", "a3"] {
        server.begin("Sleeper", id, json!(3_600_000)).await;
        server.until_is(id, RuntimeStatus::Running).await;
    }
    let filters = "instanceIdPrefix=a&runtimeStatus=Running,Failed&createdTimeFrom=2020-01-01";
    let first = server.get(&format!("/instances?top=1&{filters}")).await;
    let token = first.is(200).header(TOKEN).unwrap().to_owned();
    let with = async |query: &str, tokens: &[&str]| {
        let headers: Vec<_> = tokens.iter().map(|token| (TOKEN, *token)).collect();
        server.call_with("GET", &format!("/instances?{query}"), &headers, Body::empty()).await
    };
    // The same filters in other words, another page size, other members shown.
    for same in [
        filters,
        "top=2&showInput=false&runtimeStatus=3,Running&RuntimeStatus=Nonsense&INSTANCEIDPREFIX=%61\
         &createdTimeFrom=2020-01-01T00:00:00.000Z&taskHub=default",
    ] {
        assert_eq!(ids(&with(same, &[&token]).await), ["a2", "a1"], "{same}");
    }
    for other in [
        "",
        "instanceIdPrefix=a",
        "instanceIdPrefix=a&runtimeStatus=Running,Failed&createdTimeFrom=2020-01-02",
        "instanceIdPrefix=a&runtimeStatus=Running&createdTimeFrom=2020-01-01",
        "instanceIdPrefix=b&runtimeStatus=Running,Failed&createdTimeFrom=2020-01-01",
        &format!("{filters}&createdTimeTo=2100-01-01"),
    ] {
        with(other, &[&token]).await.is_refused_for("continuation token");
    }
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).unwrap();
        with(filters, &[&altered]).await.is_refused_for("continuation token");
    }
    with(filters, &[&token, &token]).await.is_refused_for("continuation token");
    assert_eq!(ids(&with(filters, &["", &token]).await).len(), 2);
}

#[tokio::test]
async fn point_7_each_filter_leaves_fewer() {
    let server = Server::start().await;
    server.begin("Echo", "Order-1", json!(1)).await;
    server.begin("Failing", "order-1", json!(1)).await;
    server.begin("Sleeper", "order-2", json!(3_600_000)).await;
    server.until_ended("Order-1").await;
    server.until_ended("order-1").await;
    server.until_is("order-2", RuntimeStatus::Running).await;
    for (query, expected) in [
        ("", &["Order-1", "order-1", "order-2"][..]),
        ("runtimeStatus=Completed", &["Order-1"]),
        ("runtimeStatus=Completed,Failed", &["Order-1", "order-1"]),
        ("runtimeStatus=Running&RuntimeStatus=Failed", &["order-1", "order-2"]),
        ("runtimeStatus=3", &["order-1"]),
        ("runtimeStatus=Nonsense,Running", &["order-2"]),
        ("runtimeStatus=Nonsense", &["Order-1", "order-1", "order-2"]),
        ("runtimeStatus=completed", &["Order-1", "order-1", "order-2"]),
        ("runtimeStatus=Terminated", &[]),
        ("instanceIdPrefix=order", &["order-1", "order-2"]),
        ("instanceidprefix=Order-&runtimestatus=Completed", &["Order-1"]),
        ("instanceIdPrefix=%25", &[]),
        ("createdTimeFrom=2000-01-01T00:00:00Z", &["Order-1", "order-1", "order-2"]),
        ("createdTimeTo=2000-01-01T00:00:00.000Z", &[]),
        ("createdTimeTo=1-01-01T00:00:00.000000Z", &[]),
        ("createdTimeTo=yesterday", &["Order-1", "order-1", "order-2"]),
    ] {
        let listed = server.get(&format!("/instances?{query}")).await;
        assert_eq!(sorted(&listed), expected, "{query}");
    }
    let flags = "showInput=false&showHistory=true&showHistoryOutput=true";
    let listed = server.get(&format!("/instances?runtimeStatus=Failed&{flags}")).await.json();
    assert_eq!(listed[0]["input"], Value::Null);
    assert_eq!(
        (&listed[0]["output"], listed[0].get("historyEvents")),
        (&json!("Told: to fail"), None)
    );
}

#[tokio::test]
async fn point_7_creation_times_are_compared_in_full() {
    let server = Server::start().await;
    server.begin("Echo", "a", json!(1)).await;
    let created = server.client.status("a").await.unwrap().unwrap().created_at();
    let micro = chrono::TimeDelta::microseconds(1);
    let text = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    for (from, to, found) in [
        (created, created, true),
        (created - micro, created + micro, true),
        (created + micro, created + micro, false),
        (created - micro, created - micro, false),
    ] {
        let query = format!("createdTimeFrom={}&createdTimeTo={}", text(from), text(to));
        let listed = server.get(&format!("/instances?{query}")).await;
        assert_eq!(!ids(&listed).is_empty(), found, "{query}");
    }
    // Seven digits: a tenth of a microsecond before it is before it.
    let before = (created - micro).format("%Y-%m-%dT%H:%M:%S%.6f9Z");
    let listed = server.get(&format!("/instances?createdTimeTo={before}")).await;
    assert!(ids(&listed).is_empty());
}
