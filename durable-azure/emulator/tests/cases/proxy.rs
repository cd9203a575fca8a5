//! What a proxy does to requests, seen from both sides of it.

use std::time::{Duration, Instant};

use durable_emulator::proxy::{Fault, FaultProxy, Plan, Rule};
use durable_emulator::{Emulator, Service};
use futures::future::join_all;
use reqwest::Response;

use super::account::Account;

/// An account with one queue and one table of the test's own name, and a proxy in front of it.
struct Setting {
    proxy: FaultProxy,
    /// Past the proxy.
    direct: Account,
    proxied: Account,
    name: &'static str,
}

impl Setting {
    async fn new(name: &'static str) -> Self {
        let emulator = Emulator::shared().unwrap();
        let proxy = FaultProxy::start(emulator.endpoints(), Plan::none()).unwrap();
        let direct = Account::at(emulator.endpoints());
        let proxied = Account::at(proxy.endpoints());
        direct.create_queue(name).await;
        direct.create_table(name).await;
        Self { proxy, direct, proxied, name }
    }

    /// The next transaction meets this.
    async fn insert(&self, rule: Rule) -> reqwest::Result<Response> {
        self.proxy.set_plan(Plan::none().rule(rule));
        self.proxied.insert(self.name, "row").await
    }

    async fn rows(&self) -> usize {
        self.direct.rows(self.name).await
    }

    async fn messages(&self) -> usize {
        self.direct.messages(self.name).await
    }

    fn met_once(&self, fault: Fault) {
        let counts = self.proxy.counts();
        assert_eq!((counts.faults(fault), counts.all_faults()), (1, 1), "{fault:?}: {counts:?}");
    }
}

/// Status and text of an answer.
async fn read(answer: reqwest::Result<Response>) -> (u16, String) {
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn without_a_plan_everything_passes_and_is_counted() {
    let setting = Setting::new("passes").await;
    let (proxied, proxy) = (&setting.proxied, &setting.proxy);
    let (status, text) = read(proxied.insert("passes", "row").await).await;
    assert_eq!(status, 202);
    assert!(text.contains("204 No Content"), "{text}");
    assert_eq!(proxied.rows("passes").await, 1);
    assert_eq!(read(proxied.put_message("passes").await).await.0, 201);
    assert_eq!(proxied.messages("passes").await, 1);

    let put = proxied.send(Service::Blob, "PUT", "/passes?restype=container", "", String::new());
    assert_eq!(read(put.await).await.0, 201);
    let missing = proxied.send(Service::Blob, "HEAD", "/passes/missing", "", String::new());
    assert_eq!(read(missing.await).await.0, 404);

    let counts = proxy.counts();
    assert_eq!((counts.all_requests(), counts.all_faults()), (6, 0));
    for (service, method) in [
        (Service::Table, "POST"),
        (Service::Table, "GET"),
        (Service::Queue, "POST"),
        (Service::Queue, "GET"),
        (Service::Blob, "PUT"),
        (Service::Blob, "HEAD"),
    ] {
        assert_eq!(counts.requests(service, method), 1, "{method} {service}");
    }
    for service in Service::ALL {
        assert!(proxy.connection_string().contains(proxy.endpoints().of(service)));
    }
}

#[tokio::test]
async fn a_request_that_is_refused_takes_no_effect() {
    for (name, fault, status, code, retry_after) in [
        ("busy", Fault::Busy, 503, "ServerBusy", None),
        ("busyafter", Fault::BusyRetryAfter, 503, "ServerBusy", Some("7")),
        ("toomany", Fault::TooManyRequests, 429, "TooManyRequests", Some("7")),
    ] {
        let setting = Setting::new(name).await;
        let answer = setting.insert(Rule::new(fault).retry_after(7)).await.unwrap();
        let headers = answer.headers();
        assert_eq!(headers["x-ms-error-code"], code);
        assert_eq!(headers.get("retry-after").map(|value| value.to_str().unwrap()), retry_after);
        assert_eq!(answer.status(), status);
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(&format!(r#"{{"odata.error":{{"code":"{code}""#)), "{text}");
        setting.met_once(fault);

        let (refused, text) = read(setting.proxied.put_message(name).await).await;
        assert_eq!(refused, status);
        assert!(text.contains(&format!("<Error><Code>{code}</Code>")), "{text}");
        assert_eq!((setting.rows().await, setting.messages().await), (0, 0));
    }
}

#[tokio::test]
async fn a_transaction_is_refused_within_a_success() {
    let setting = Setting::new("inside").await;
    let (status, text) = read(setting.insert(Rule::new(Fault::BusyInTransaction)).await).await;
    assert_eq!(status, 202);
    assert!(text.contains("\r\nHTTP/1.1 503 Service Unavailable\r\n"), "{text}");
    assert!(text.contains(r#""code":"ServerBusy""#), "{text}");
    assert_eq!(setting.rows().await, 0);
    setting.met_once(Fault::BusyInTransaction);
}

#[tokio::test]
async fn a_connection_is_cut_before_or_after_the_effect() {
    for (name, fault, rows) in [
        ("cutbefore", Fault::CutBefore, 0),
        ("cutafter", Fault::CutAfter, 1),
        ("down", Fault::Down, 0),
    ] {
        let setting = Setting::new(name).await;
        let error = setting.insert(Rule::new(fault)).await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(setting.rows().await, rows, "{fault:?}");
        setting.met_once(fault);
    }
}

#[tokio::test]
async fn an_operation_times_out_after_its_effect() {
    let setting = Setting::new("timedout").await;
    let (status, text) = read(setting.insert(Rule::new(Fault::TimedOut)).await).await;
    assert_eq!(status, 500);
    assert!(text.contains(r#""code":"OperationTimedOut""#), "{text}");
    assert_eq!(setting.rows().await, 1);
    setting.met_once(Fault::TimedOut);
}

#[tokio::test]
async fn a_delay_comes_before_or_after_the_effect() {
    let least = Duration::from_millis(300);
    for (name, fault) in [("delay", Fault::Delay), ("delayedanswer", Fault::DelayedAnswer)] {
        let setting = Setting::new(name).await;
        let before = Instant::now();
        let rule = Rule::new(fault).lasts(least, least * 2);
        let ((status, _), rows) =
            tokio::join!(async { read(setting.insert(rule).await).await }, async {
                tokio::time::sleep(least / 2).await;
                setting.rows().await
            });
        assert_eq!(status, 202);
        assert!(before.elapsed() >= least, "{:?}", before.elapsed());
        assert_eq!(rows, usize::from(fault == Fault::DelayedAnswer), "{fault:?}");
        assert_eq!(setting.rows().await, 1);
        setting.met_once(fault);
    }
}

#[tokio::test]
async fn a_delayed_request_takes_effect_after_its_client_has_given_up() {
    let setting = Setting::new("late").await;
    let second = Duration::from_secs(1);
    let rule = Rule::new(Fault::Delay).lasts(second, second);
    let gone = tokio::time::timeout(second / 5, setting.insert(rule)).await;
    assert!(gone.is_err());
    assert_eq!(setting.rows().await, 0);
    let deadline = Instant::now() + 10 * second;
    while setting.rows().await == 0 && Instant::now() < deadline {
        tokio::time::sleep(second / 20).await;
    }
    assert_eq!(setting.rows().await, 1);
}

#[tokio::test]
async fn a_request_hangs_and_then_its_connection_closes() {
    let setting = Setting::new("hang").await;
    let held = Duration::from_millis(500);
    let before = Instant::now();
    let error = setting.insert(Rule::new(Fault::Hang).lasts(held, held)).await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    assert!(before.elapsed() >= held);
    setting.met_once(Fault::Hang);

    let long = Duration::from_secs(20);
    let error = setting.insert(Rule::new(Fault::Hang).lasts(long, long)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(setting.rows().await, 0);
}

#[tokio::test]
async fn a_message_is_put_twice() {
    let setting = Setting::new("duplicate").await;
    setting.proxy.set_plan(Plan::none().rule(Rule::new(Fault::Duplicate)));
    assert_eq!(read(setting.proxied.put_message("duplicate").await).await.0, 201);
    assert_eq!(setting.messages().await, 2);
    setting.met_once(Fault::Duplicate);
}

#[tokio::test]
async fn what_is_down_comes_back() {
    let setting = Setting::new("outage").await;
    setting.proxy.set_plan(Plan::down());
    for _ in 0..3 {
        assert!(setting.proxied.put_message("outage").await.is_err());
    }
    setting.proxy.set_plan(Plan::none());
    assert_eq!(read(setting.proxied.put_message("outage").await).await.0, 201);
    assert_eq!(setting.messages().await, 1);
    assert_eq!(setting.proxy.counts().faults(Fault::Down), 3);
}

#[tokio::test]
async fn a_drawn_plan_meets_requests() {
    let setting = Setting::new("drawn").await;
    for seed in 0..4 {
        setting.proxy.set_plan(Plan::drawn(seed));
        // Whatever becomes of them.
        join_all((0..100).map(|_| setting.proxied.put_message("drawn"))).await;
    }
    let counts = setting.proxy.counts();
    assert_eq!(counts.all_requests(), 400);
    assert!(counts.all_faults() >= 20, "{counts:?}");
}

#[tokio::test]
async fn a_proxy_closes_its_ports_when_it_is_dropped() {
    let setting = Setting::new("dropped").await;
    drop(setting.proxy);
    let error = setting.proxied.put_message("dropped").await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}
