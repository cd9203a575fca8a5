use super::*;

#[tokio::test]
async fn blobs_are_written_once() {
    let (service, _) = service();
    let container = service.container();
    container.create().await.unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("a/b c/d%20+e&f=g?h#i.j", b"\0\xff".to_vec()),
        ("gr\u{fc}\u{df}e/\u{65e5}\u{672c}", b"x".to_vec()),
        ("large", large),
    ] {
        assert_eq!(container.get(name).await.unwrap(), None, "{name}");
        assert!(container.put_new(name, bytes.clone()).await.unwrap(), "{name}");
        assert!(!container.put_new(name, b"other".to_vec()).await.unwrap(), "{name}");
        assert!(container.get(name).await.unwrap() == Some(bytes), "{name}");
        container.remove(name).await.unwrap();
        container.remove(name).await.unwrap();
        assert_eq!(container.get(name).await.unwrap(), None, "{name}");
    }
    let counts = service.transactions();
    assert_eq!(
        counts.iter().collect::<Vec<_>>(),
        [("blob_delete", 8), ("blob_get", 12), ("blob_put", 8), ("create", 1)]
    );
    for name in ["", "/a", "a//b", "a/../b", ".", "a\\b", "a\n", &"n".repeat(1025)] {
        assert!(is_malformed(container.get(name).await), "{name:?}");
        assert!(is_malformed(container.put_new(name, vec![1]).await), "{name:?}");
    }
}

#[tokio::test]
async fn a_list_shows_names_and_times() {
    let (service, _) = service();
    let container = service.container();
    container.create().await.unwrap();
    assert_eq!(
        container.list("", None).await.unwrap(),
        crate::service::container::BlobPage { blobs: vec![], next: None }
    );
    for name in ["a/1", "a/2 \u{fc}&<", "b/1"] {
        container.put_new(name, b"x".to_vec()).await.unwrap();
    }
    let page = container.list("a/", None).await.unwrap();
    let names: Vec<_> = page.blobs.iter().map(|blob| blob.name.as_str()).collect();
    assert_eq!(names, ["a/1", "a/2 \u{fc}&<"]);
    assert_eq!(page.next, None);
    let now = service.clock().now().as_micros();
    for blob in &page.blobs {
        let age = now - blob.modified.as_micros();
        assert!((-2_000_000..60_000_000).contains(&age), "{age}");
    }
    let counts = service.transactions();
    assert_eq!(counts.of("blob_list"), 2);
}

#[tokio::test]
async fn a_missing_container_is_not_a_missing_blob() {
    let (service, _) = service();
    let container = service.container();
    for fault in [
        container.get("a").await.unwrap_err(),
        container.put_new("a", vec![1]).await.unwrap_err(),
        container.remove("a").await.unwrap_err(),
        container.list("", None).await.unwrap_err(),
    ] {
        assert_eq!(refused(&fault), (404, "ContainerNotFound", None));
    }
}
