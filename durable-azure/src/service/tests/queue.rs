use super::*;

async fn queue() -> (Service, Queue) {
    let (service, names) = service();
    let queue = service.queue(&names.queue_prefix);
    queue.create().await.unwrap();
    (service, queue)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn any_text_comes_back_as_it_was() {
    let (_service, queue) = queue().await;
    let texts = [
        String::new(),
        "  white space \n".to_owned(),
        (0..=0x2ff).filter_map(char::from_u32).collect(),
        "\u{fffe}\u{ffff}\u{1f980}<![CDATA[&amp;]]>".to_owned(),
        "\u{7f}".repeat(48 * 1024),
    ];
    for text in &texts {
        queue.put(text).await.unwrap();
        let got = queue.get(1, MINUTE).await.unwrap();
        assert_eq!(got.len(), 1);
        assert!(got[0].text == *text);
        assert_eq!(got[0].dequeue_count, 1);
        assert!(queue.remove(&got[0].id, &got[0].receipt).await.unwrap());
    }
    assert!(is_malformed(queue.put(&"x".repeat(48 * 1024 + 1)).await));
}

#[tokio::test]
async fn a_message_is_ours_until_someone_else_gets_it() {
    let (_service, queue) = queue().await;
    queue.put("a").await.unwrap();
    let first = queue.get(32, Duration::from_millis(200)).await.unwrap().remove(0);
    assert!(queue.get(32, MINUTE).await.unwrap().is_empty());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let second = queue.get(99, MINUTE).await.unwrap().remove(0);
    assert_eq!((second.id.as_str(), second.dequeue_count), (first.id.as_str(), 2));
    assert!(!queue.remove(&first.id, &first.receipt).await.unwrap());
    assert_eq!(queue.update(&first.id, &first.receipt, "b", MINUTE).await.unwrap(), None);

    let third = queue.update(&second.id, &second.receipt, "b \u{1}", MINUTE).await.unwrap();
    let third = third.expect("still ours");
    assert!(!queue.remove(&second.id, &second.receipt).await.unwrap());
    let fourth = queue.update(&second.id, &third, "b \u{1}", Duration::ZERO).await.unwrap();
    assert!(fourth.is_some());
    let last = queue.get(1, MINUTE).await.unwrap().remove(0);
    assert_eq!(last.text, "b \u{1}");
    assert!(queue.remove(&last.id, &last.receipt).await.unwrap());
    assert!(!queue.remove(&last.id, &last.receipt).await.unwrap());
    assert_eq!(queue.update(&last.id, &last.receipt, "c", MINUTE).await.unwrap(), None);
}

#[tokio::test]
async fn a_cleared_queue_is_empty() {
    let (service, queue) = queue().await;
    for _ in 0..3 {
        queue.put("a").await.unwrap();
    }
    queue.clear().await.unwrap();
    assert!(queue.get(32, MINUTE).await.unwrap().is_empty());
    let counts = service.transactions();
    let counts: Vec<_> = counts.iter().collect();
    assert_eq!(
        counts,
        [("create", 1), ("queue_clear", 1), ("queue_get_empty", 1), ("queue_put", 3)]
    );
}

#[tokio::test]
async fn a_missing_queue_is_refused() {
    let (service, names) = service();
    let queue = service.queue(&names.queue_prefix);
    for fault in [
        queue.put("a").await.unwrap_err(),
        queue.get(1, MINUTE).await.unwrap_err(),
        queue.remove("a", "b").await.unwrap_err(),
        queue.update("a", "b", "c", MINUTE).await.unwrap_err(),
        queue.clear().await.unwrap_err(),
    ] {
        assert_eq!(refused(&fault), (404, "QueueNotFound", None));
    }
}
