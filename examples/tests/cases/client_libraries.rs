//! Microsoft's client libraries drive our server. The checks are in `tests/clients`; here is which there have to be.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use durable_emulator::Emulator;

use super::http::Api;
use super::program;

/// What both libraries are held to.
const BOTH: [&str; 27] = [
    "start_without_id_and_input",
    "start_with_id_and_input",
    "start_with_falsy_inputs",
    "start_with_a_version",
    "ids_with_blanks_letters_and_signs",
    "start_of_an_unknown_name",
    "start_under_an_id_that_is_in_use",
    "start_of_each_orchestrator",
    "status_with_every_option",
    "status_of_nobody",
    "list_by_status_and_time",
    "event_with_a_value",
    "event_without_a_value",
    "event_for_nobody",
    "terminate_with_a_reason",
    "suspend_and_resume",
    "rewind_until_it_succeeds",
    "rewind_of_what_has_not_failed",
    "purge_of_one",
    "purge_of_what_runs",
    "purge_by_status_and_time",
    "links_of_a_check_status_response",
    "links_of_a_management_payload",
    "wait_for_what_completes",
    "wait_for_what_fails_or_is_terminated",
    "wait_for_what_takes_too_long",
    "entities_are_not_there",
];

const JAVASCRIPT: [&str; 2] = ["status_of_another_hub", "list_of_all_follows_every_page"];

const PYTHON: [&str; 5] = [
    "list_of_all_is_one_page",
    "list_by_prefix",
    "restart_with_a_new_id",
    "restart_with_the_same_id",
    "restart_of_nobody",
];

/// A key that no URL takes as it is.
const KEY: &str = "k y&=/+%";

const NODE: Library = Library {
    name: "durable-functions 3.5.0",
    program: "node",
    installed: "node_modules/.installed",
    checks: &JAVASCRIPT,
};

const VENV: Library = Library {
    name: "azure-functions-durable 1.7.0",
    program: "tests/clients/.venv/bin/python",
    installed: ".venv/.installed",
    checks: &PYTHON,
};

/// A library, as `make clients` installs it.
struct Library {
    /// With its version.
    name: &'static str,
    /// Seen from the package's folder.
    program: &'static str,
    /// Stands among the clients once it is installed.
    installed: &'static str,
    checks: &'static [&'static str],
}

impl Library {
    /// A script drives a server of its own, and all the checks are passed by this version of the library.
    #[track_caller]
    fn drives(&self, script: &[&str], server: &[&str]) {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let clients = package.join("tests/clients");
        let name = self.name;
        assert!(
            clients.join(self.installed).exists(),
            "{name} is not installed: run `make clients`"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let api = Api::start(folder.path(), &[&["--key", KEY], server].concat());
        let mut command = Command::new(self.program);
        command
            .current_dir(package)
            .arg(clients.join(script[0]))
            .arg(folder.path().join("client-binding.json"))
            .arg(folder.path())
            .args(&script[1..])
            // Without it the library for JavaScript takes another origin than that of the document.
            .env("WEBSITE_HOSTNAME", api.address.to_string())
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program));
        let ran = program::wait(child);
        assert!(ran.status.success(), "{ran}");
        assert!(ran.stdout.starts_with(&format!("by {name}\n")), "{ran}");
        let passed: BTreeSet<_> =
            ran.stdout.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
        let wanted: BTreeSet<_> = BOTH.iter().chain(self.checks).copied().collect();
        assert_eq!(passed, wanted, "{ran}");
        let stopped = api.stop();
        assert!(stopped.status.success(), "{stopped}");
    }
}

#[test]
fn the_library_for_javascript_on_the_port_for_it() {
    NODE.drives(&["drive.js", "rpc"], &[]);
}

#[test]
fn the_library_for_javascript_on_the_links_alone() {
    NODE.drives(&["drive.js", "templates"], &[]);
}

#[test]
fn the_library_for_python() {
    VENV.drives(&["drive.py"], &[]);
}

#[test]
fn both_libraries_on_a_hub_in_azure_storage() {
    let emulator = Emulator::start().unwrap();
    let connection = emulator.connection_string();
    let hub = |name| ["--azure", &connection, "--task-hub", name];
    // The clock of that hub is the account's, which tells whole seconds.
    NODE.drives(&["drive.js", "rpc", "1.5"], &hub("javascript"));
    VENV.drives(&["drive.py", "1.5"], &hub("python"));
}
