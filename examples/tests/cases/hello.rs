//! The smallest program.

use super::program::run;

#[test]
fn hello_greets_all_three_and_shows_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run::<&str>("hello", folder.path(), &[]);
    assert!(ran.status.success(), "{ran}");
    for line in ["Hello, Ada!", "Hello, Grace!", "Hello, Linus!", "  7: completed"] {
        assert!(ran.stdout.lines().any(|said| said == line), "{line:?} is missing: {ran}");
    }
}
