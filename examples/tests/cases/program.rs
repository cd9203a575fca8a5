//! Runs a built example as a process of its own.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take before it counts as hanging. A shared machine can be slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a program did.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, stderr } = self;
        write!(f, "{status}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// Where Cargo put an example: beside the folder that this test lies in.
///
/// `cargo nextest run` and `cargo test` build the examples first, but `cargo test NAME` does not.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("it lies in <profile>/deps");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !is_fresh(&path) {
        build(name, profile);
    }
    path
}

/// Whether the program is newer than all its sources, which Cargo lists beside it.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(built) = changed(program) else { return false };
    let Ok(sources) = std::fs::read_to_string(program.with_extension("d")) else { return false };
    let Some((_, sources)) = sources.split_once(": ") else { return false };
    // A blank in a path is written as "\ ".
    let sources = sources.trim().replace("\\ ", "\0");
    sources.split(' ').all(|source| {
        changed(Path::new(&source.replace('\0', " "))).is_some_and(|changed| changed <= built)
    })
}

fn build(name: &str, profile: &Path) {
    let folder = profile.file_name().and_then(OsStr::to_str).expect("a profile's folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What Cargo says to a test of the test's own package: build scripts that look at it (that of `ring` does) would
    // count as changed, and be compiled anew with all that depends on them.
    for (name, _) in std::env::vars_os() {
        let of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if of_package {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .args(["build", "--quiet", "-p", "durable-examples", "--example", name])
        .args(["--profile", if folder == "debug" { "dev" } else { folder }])
        .arg("--target-dir")
        .arg(profile.parent().expect("the target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the example {name} cannot be built");
}

/// Starts an example in a folder.
pub(crate) fn spawn<A: AsRef<OsStr>>(name: &str, folder: &Path, arguments: &[A]) -> Child {
    Command::new(example(name))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example can be started")
}

/// Waits for its end.
pub(crate) fn wait(mut child: Child) -> Ran {
    let began = Instant::now();
    let mut hangs = false;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if began.elapsed() > PATIENCE && !hangs {
            hangs = true;
            child.kill().expect("a child can be killed");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("its output can be read");
    let ran = Ran {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!hangs, "it did not end within {PATIENCE:?}: {ran}");
    ran
}

/// Runs an example to its end.
pub(crate) fn run<A: AsRef<OsStr>>(name: &str, folder: &Path, arguments: &[A]) -> Ran {
    wait(spawn(name, folder, arguments))
}
