//! Point 8: purges.

use axum::body::Body;
use durable_core::prelude::*;
use serde_json::json;

use super::server::{Answer, Server};

const ANY_TIME: &str = "createdTimeFrom=2000-01-01T00:00:00.000Z";

async fn delete(server: &Server, path: &str) -> Answer {
    server.call("DELETE", path, Body::empty()).await
}

/// Two that have completed, one that failed, one that runs, one that is suspended, one that has not begun.
async fn several() -> Server {
    let server = Server::start().await;
    for id in ["done-1", "done-2"] {
        server.begin("Echo", id, json!(1)).await;
        server.until_ended(id).await;
    }
    server.begin("Failing", "failed", json!(1)).await;
    server.until_ended("failed").await;
    for id in ["running", "suspended"] {
        server.begin("WaitForApproval", id, json!(1)).await;
        server.until_is(id, RuntimeStatus::Running).await;
    }
    server.post("/instances/suspended/suspend").await.is(202);
    server.until_is("suspended", RuntimeStatus::Suspended).await;
    let later = server.client.start_by_name("Echo", &1).id("pending").delay(hours(1));
    later.await.expect("it is accepted");
    server
}

async fn left(server: &Server) -> Vec<String> {
    let listed = server.get("/instances").await.is(200).json();
    let mut ids: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|status| status["instanceId"].as_str().expect("a text").to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn point_8_one_that_has_ended_is_gone() {
    let server = several().await;
    for id in ["done-1", "failed"] {
        let path = format!("/instances/{id}");
        assert_eq!(delete(&server, &path).await.is(200).body, "{\"instancesDeleted\":1}");
        server.get(&path).await.is_empty(404);
        delete(&server, &path).await.is_empty(404);
    }
    // The id is free again.
    server.call("POST", "/orchestrators/Echo/done-1", "2").await.is(202);
    assert_eq!(server.until_ended("done-1").await.output::<i32>().unwrap(), Some(2));
}

#[tokio::test]
async fn point_8_one_that_is_active_stays() {
    let server = several().await;
    for (id, state) in [("running", "Running"), ("suspended", "Suspended"), ("pending", "Pending")]
    {
        let before = server.client.status(id).await.unwrap();
        let refused = delete(&server, &format!("/instances/{id}")).await.is(412).json();
        let said = refused.as_str().unwrap();
        assert!(said.contains(id) && said.contains(state), "{said}");
        assert_eq!(server.client.status(id).await.unwrap(), before);
    }
    for id in ["nobody", "@counter@a"] {
        delete(&server, &format!("/instances/{id}")).await.is_empty(404);
    }
}

#[tokio::test]
async fn point_8_many_by_what_they_have_in_common() {
    for (query, deleted, gone) in [
        ("", 3, &["done-1", "done-2", "failed"][..]),
        ("runtimeStatus=Completed", 2, &["done-1", "done-2"]),
        ("RuntimeStatus=Failed,Running,Pending", 1, &["failed"]),
        ("createdTimeTo=2100-01-01T00:00:00.000000Z", 3, &["done-1", "done-2", "failed"]),
        ("instanceIdPrefix=done-2", 1, &["done-2"]),
    ] {
        let server = several().await;
        let before = left(&server).await;
        let answer = delete(&server, &format!("/instances?{ANY_TIME}&{query}")).await;
        assert_eq!(answer.is(200).json(), json!({"instancesDeleted": deleted}), "{query}");
        let expected: Vec<_> =
            before.into_iter().filter(|id| !gone.contains(&id.as_str())).collect();
        assert_eq!(left(&server).await, expected, "{query}");
    }
}

#[tokio::test]
async fn point_8_where_none_fits_none_is_touched() {
    let server = several().await;
    for query in [
        "runtimeStatus=Terminated",
        "runtimeStatus=Running",
        // A word that is no state is not a wish for all of them.
        "runtimeStatus=completed",
        "runtimeStatus=Nonsense,,9",
        "runtimeStatus=Pending,Running,Suspended,ContinuedAsNew",
        "createdTimeTo=2000-01-02T00:00:00Z",
        "instanceIdPrefix=other",
        "createdTimeFrom=2100-01-01",
        "taskHub=other",
    ] {
        let query = format!("{ANY_TIME}&{query}")
            .replace(&format!("{ANY_TIME}&createdTimeFrom"), "createdTimeFrom");
        delete(&server, &format!("/instances/?{query}")).await.is_empty(404);
        assert_eq!(left(&server).await.len(), 6, "{query}");
    }
}

#[tokio::test]
async fn point_8_without_a_time_none_is_touched() {
    let server = several().await;
    for query in ["", "createdTimeFrom=", "createdTimeFrom=long+ago", "runtimeStatus=Completed"] {
        let refused = delete(&server, &format!("/instances?{query}")).await;
        let said = "\"Please provide value for 'createdTimeFrom' parameter.\"";
        assert_eq!(refused.is(400).body, said, "{query}");
    }
    assert_eq!(left(&server).await.len(), 6);
}

#[tokio::test]
async fn point_8_more_than_a_page_are_purged() {
    let server = Server::start().await;
    for number in 0..250 {
        server.begin("Echo", &format!("i-{number}"), json!(number)).await;
    }
    for number in 0..250 {
        server.until_ended(&format!("i-{number}")).await;
    }
    let answer = delete(&server, &format!("/instances?{ANY_TIME}")).await;
    assert_eq!(answer.is(200).json(), json!({"instancesDeleted": 250}));
    assert_eq!(left(&server).await, [""; 0]);
}
