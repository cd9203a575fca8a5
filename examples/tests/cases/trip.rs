//! A trip, whole or not at all, however often its process dies.

use super::program::run;

/// What was printed of bookings and cancellations.
fn steps(stdout: &str) -> Vec<String> {
    let lines = stdout.lines().filter(|line| line.starts_with("  ") && line.contains(" in Rome "));
    lines.map(|line| line.trim().replace(" in Rome ", " ")).collect()
}

#[test]
fn a_trip_is_booked_and_once_booked_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run::<&str>("trip", folder.path(), &[]);
    assert!(ran.status.success() && ran.stdout.contains("booked: hotel-"), "{ran}");
    assert_eq!(steps(&ran.stdout), ["hotel booked", "flight booked", "car booked"]);
}

#[test]
fn a_process_that_dies_at_any_write_leaves_a_whole_trip_or_none() {
    for (how, exit) in [(&[][..], true), (&["--sold-out"][..], false)] {
        for write in 1..40 {
            let folder = tempfile::tempdir().unwrap();
            let number = write.to_string();
            let crash: Vec<&str> =
                how.iter().copied().chain(["--crash-after-write", &number]).collect();
            let first = run("trip", folder.path(), &crash);
            if !first.stderr.contains("crashing on purpose") {
                assert!(write > 4, "it wrote less than expected: {first}");
                break;
            }
            let second = run("trip", folder.path(), how);
            let all: Vec<String> = [steps(&first.stdout), steps(&second.stdout)].concat();
            let has = |step: &str| all.iter().any(|said| said == step);
            assert_eq!(second.status.success(), exit, "{how:?} at {write}: {first}{second}");
            assert_eq!(has("car booked"), exit, "{how:?} at {write}: {all:?}");
            for what in ["hotel", "flight"] {
                let taken_back = has(&format!("{what} cancelled"));
                assert!(
                    has(&format!("{what} booked")) && taken_back != exit,
                    "at {write}: {all:?}"
                );
            }
        }
    }
}

#[test]
fn what_takes_too_long_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run("trip", folder.path(), &["--slow"]);
    assert!(!ran.status.success() && ran.stderr.contains("TooLate"), "{ran}");
    assert_eq!(steps(&ran.stdout), ["hotel booked", "flight cancelled", "hotel cancelled"]);
}
