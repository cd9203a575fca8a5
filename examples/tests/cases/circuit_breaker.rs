//! Orders behind a circuit breaker are paid when the service is up again, though the program was killed meanwhile.

use super::program::{run, spawn, wait};

#[test]
fn orders_are_paid_once_the_service_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--down", "2", "--open", "300", "--orders", "5"];
    let mut first = spawn("circuit_breaker", folder.path(), &arguments);
    std::thread::sleep(std::time::Duration::from_millis(700));
    first.kill().unwrap();
    wait(first);
    let ran = run("circuit_breaker", folder.path(), &arguments);
    assert!(ran.status.success(), "{ran}");
    for number in 1..=5 {
        assert!(ran.stdout.contains(&format!("order-{number}: receipt {number}")), "{ran}");
        let paid = format!("  order {number}: paid");
        assert_eq!(ran.stdout.lines().filter(|line| *line == paid).count(), 1, "{ran}");
    }
}

#[test]
fn a_service_that_is_well_is_called_once_for_each_order() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run("circuit_breaker", folder.path(), &["--down", "0"]);
    assert!(ran.status.success() && !ran.stdout.contains("the service is down"), "{ran}");
}
