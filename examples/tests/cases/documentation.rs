//! The documentation held against the tree: folders, invariants, links, commands and the smallest program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that the top level may hold, beside those that begin with a dot or that Git ignores.
const TOP: [&str; 6] =
    ["benches", "docs", "durable-azure", "durable-core", "examples", "sample-imgrec"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of what a folder holds, folders with a slash at the end, those that begin with a dot left out.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Names at the top level that Git ignores.
fn ignored() -> BTreeSet<String> {
    let lines = read(".gitignore");
    lines.lines().map(|line| line.trim_matches('/').to_owned()).collect()
}

fn top_folders() -> Vec<String> {
    let ignored = ignored();
    listed(&root())
        .into_iter()
        .filter_map(|name| name.strip_suffix('/').map(str::to_owned))
        .filter(|name| !ignored.contains(name))
        .collect()
}

/// All files below a folder, relative to the workspace, with `/` between their parts.
fn files_below(folder: &str) -> Vec<String> {
    let ignored = ignored();
    let mut files = Vec::new();
    for name in listed(&root().join(folder)) {
        match name.strip_suffix('/') {
            Some(inner) if ignored.contains(inner) => {}
            Some(inner) => files.extend(files_below(&format!("{folder}/{inner}"))),
            None => files.push(format!("{folder}/{name}")),
        }
    }
    files
}

/// Folders that hold Rust sources of a package: every `src`, and what is below it, tests left out.
fn module_folders() -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for file in TOP.iter().flat_map(|folder| files_below(folder)) {
        let Some((folder, name)) = file.rsplit_once('/') else { continue };
        let parts: Vec<&str> = folder.split('/').collect();
        if name.ends_with(".rs") && parts.contains(&"src") && !parts.contains(&"tests") {
            folders.insert(format!("{folder}/"));
        }
    }
    folders
}

fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let list = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let list = list.expect("the workspace lists its members").0;
    list.split('"').skip(1).step_by(2).map(|member| format!("{member}/")).collect()
}

/// What the first column of the table of folders names.
fn documented_folders() -> BTreeSet<String> {
    read("docs/architecture.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(folder, _)| folder.to_owned())
        .filter(|folder| folder.ends_with('/'))
        .collect()
}

#[test]
fn the_top_level_holds_only_what_it_may() {
    let top = top_folders();
    assert_eq!(top, TOP, "these folders are the top level; everything else nests inside them");
}

#[test]
fn the_architecture_names_every_folder_and_no_other() {
    let documented = documented_folders();
    let missing: Vec<_> =
        documented.iter().filter(|folder| !root().join(folder).is_dir()).collect();
    assert!(
        missing.is_empty(),
        "docs/architecture.md names folders that are not there: {missing:?}"
    );
    let tops = TOP.iter().map(|top| format!("{top}/"));
    let unnamed: BTreeSet<_> = tops
        .chain(members())
        .chain(module_folders())
        .filter(|folder| !documented.contains(folder))
        .collect();
    assert!(unnamed.is_empty(), "docs/architecture.md does not name these folders: {unnamed:?}");
}

/// Lines of code below a folder that hold one of these words, comments and tests left out.
fn lines_with(folder: &str, words: &[&str], left_out: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files_below(folder) {
        let in_tests = file.split('/').any(|part| part == "tests" || part == "tests.rs");
        let skipped = left_out.iter().any(|out| file.starts_with(out));
        if !file.ends_with(".rs") || in_tests || skipped {
            continue;
        }
        let text = read(&file);
        // Unit tests stand at the end of a file.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.trim_start();
            let lower = line.to_lowercase();
            let hit = words.iter().any(|word| lower.contains(&word.to_lowercase()));
            if !line.starts_with("//") && hit {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    found
}

#[test]
fn what_the_architecture_says_is_absent_is_absent() {
    let machine = "durable-core/machine/src";
    let impure = [
        "std::time::Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "HashMap",
        "HashSet",
        "RandomState",
        "new_v4",
        "tokio",
        "rusqlite",
        "println!",
    ];
    let program = "durable-core/machine/src/bin/";
    for (folder, words, left_out) in [
        (machine, &impure[..], &[program][..]),
        ("durable-core/machine/src/replay", &["partition", "crate::store"], &[]),
        ("durable-core/machine/src/model", &["crate::partition", "crate::replay"], &[]),
        ("durable-core/machine/src/store", &["EventKind", "decode_", "crate::partition"], &[]),
        ("durable-core/src/worker", &["sqlite", "MemoryStore"], &[]),
        ("durable-core/src/client", &["sqlite", "MemoryStore"], &[]),
        (
            "durable-core/src/http",
            &["crate::worker", "crate::store", "crate::machine", "sqlite", "MemoryStore::"],
            &[],
        ),
        (
            "durable-azure/src",
            &["azure_core", "azure_storage", "azure_data_tables", "azure_identity", "reqwest"],
            &["durable-azure/src/service/", "durable-azure/src/connection/"],
        ),
        (
            "durable-core/src/store",
            &[
                "EventKind",
                "decode_events",
                "decode_history",
                "machine::partition",
                "machine::replay",
            ],
            &[],
        ),
    ] {
        assert!(root().join(folder).is_dir(), "{folder} has moved");
        let found = lines_with(folder, words, left_out);
        assert!(found.is_empty(), "{folder} must not know any of {words:?}:\n{}", found.join("\n"));
    }
}

#[test]
fn packages_depend_only_on_those_below_them() {
    for (member, allowed) in [
        ("durable-core/machine", &[][..]),
        ("durable-core/macros", &[]),
        ("durable-core", &["durable-machine", "durable-core-macros"]),
        ("durable-azure", &["durable-machine", "durable-core"]),
        ("durable-azure/emulator", &[]),
    ] {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let dependencies = manifest.split_once("\n[dependencies]").map_or("", |(_, rest)| rest);
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = name.starts_with("durable-") || name == "sample-imgrec";
            assert!(!ours || allowed.contains(&name), "{member} must not depend on {name}");
        }
    }
}

fn documents() -> Vec<String> {
    let mut documents = files_below("docs");
    documents.extend(TOP.iter().filter(|top| **top != "docs").flat_map(|top| files_below(top)));
    documents.extend(listed(&root()).into_iter().filter(|name| !name.ends_with('/')));
    documents.retain(|file| file.ends_with(".md"));
    documents
}

/// The text outside of fenced blocks, and the blocks.
fn prose_and_code(text: &str) -> (String, String) {
    let (mut prose, mut code, mut fenced) = (String::new(), String::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let part = if fenced { &mut code } else { &mut prose };
        part.push_str(line);
        part.push('\n');
    }
    (prose, code)
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let (prose, _) = prose_and_code(&read(&document));
        let folder = Path::new(&document).parent().unwrap_or(Path::new("")).to_owned();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() {
                root().join(&document)
            } else {
                root().join(&folder).join(path)
            };
            let found = file.exists()
                && (fragment.is_empty()
                    || fs::read_to_string(&file).is_ok_and(|text| {
                        text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment)
                    }));
            if !found {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn commands_in_the_documentation_exist() {
    let examples: BTreeSet<String> = listed(&root().join("examples/examples"))
        .iter()
        .map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned())
        .collect();
    let makefile = read("Makefile");
    for document in documents() {
        let (_, code) = prose_and_code(&read(&document));
        for line in code.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.first() == Some(&"make")
                && let Some(target) = words.get(1)
            {
                let rule = format!("\n{target}:");
                assert!(makefile.contains(&rule), "{document}: no target for {line:?}");
            }
            for pair in words.windows(2).filter(|pair| pair[0] == "--example") {
                assert!(examples.contains(pair[1]), "{document}: no example for {line:?}");
            }
        }
    }
}

/// The first page shows a program; this is the one that runs.
#[test]
fn the_smallest_program_of_the_readme_is_the_example() {
    let readme = read("README.md");
    let shown = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    let shown = shown.expect("README.md shows a program").0;
    let example = read("examples/examples/hello.rs");
    let program = example.find("use durable_core").map(|at| &example[at..]);
    assert_eq!(shown, program.expect("it uses durable_core"), "README.md and hello.rs differ");
}

#[test]
fn the_fields_and_workloads_of_the_benchmarks_are_described() {
    let page = read("docs/benchmarks.md");
    let report = read("benches/src/measure.rs");
    let fields = report.split_once("struct Report {").and_then(|(_, rest)| rest.split_once("\n}"));
    for line in fields.expect("the report is a struct").0.lines() {
        if let Some(field) = line.trim().strip_prefix("pub(crate) ") {
            let field = field.split(':').next().unwrap_or_default();
            assert!(page.contains(&format!("`{field}`")), "docs/benchmarks.md lacks {field}");
        }
    }
    for workload in page.lines().filter_map(|line| line.split_once("--workload ")) {
        let name = workload.1.split_whitespace().next().unwrap_or_default();
        let name = name.trim_matches(|c: char| !c.is_alphanumeric());
        let program = read("benches/src/workloads.rs") + &read("benches/src/main.rs");
        let known = program.contains(&format!("fn {name}(")) || ["all", "fsync"].contains(&name);
        assert!(known || name == "chain5_seq", "there is no workload {name}");
    }
}

#[test]
fn the_limits_of_the_management_api_are_described() {
    let page = read("docs/design/http.md");
    let settings = read("durable-core/src/http/settings.rs");
    let fields =
        settings.split_once("pub struct HttpLimits {").and_then(|(_, rest)| rest.split_once("\n}"));
    for line in fields.expect("the limits are a struct").0.lines() {
        if let Some(field) = line.trim().strip_prefix("pub ") {
            let field = field.split(':').next().unwrap_or_default();
            assert!(
                page.contains(&format!("\n| `{field}` |")),
                "docs/design/http.md lacks {field}"
            );
        }
    }
}

/// What the guide says that the engine and the compiler say is what they say.
#[test]
fn the_guide_quotes_real_sentences() {
    use durable_core::machine::model::EventSeq;
    use durable_core::machine::replay::{Divergence, Orchestration};

    // A quotation begins each line with a mark, and lines end where they have to.
    let one_line = |text: &str| text.replace("\n> ", " ").replace('\n', " ");
    let guide = read("docs/guide/determinism.md");
    let calls = |name| format!("call 0 of activity {name:?}");
    let divergence = Divergence {
        seq: EventSeq(1),
        recorded: calls("reserve"),
        actual: format!("asks for {}", calls("charge")),
    };
    for sentence in [Orchestration::foreign_await().message.to_string(), divergence.to_string()] {
        assert!(one_line(&guide).contains(&sentence), "the guide does not say: {sentence}");
    }

    let programs = "durable-core/macros/tests/refusals/programs";
    let refusal = read(&format!("{programs}/imports.stderr"));
    for line in refusal.lines().take(2) {
        assert!(guide.contains(line), "the guide shows another error than: {line}");
    }
    let unknown_key = read(&format!("{programs}/allow.stderr"));
    let keys = unknown_key.split_once("The keys are ").and_then(|(_, rest)| rest.lines().next());
    for key in keys.expect("a list").split(", ") {
        assert!(guide.contains(&format!("\n| {key} |")), "the guide has no row for {key}");
    }
}

/// Kinds that stand behind a failure's class where the engine makes one.
fn failure_kinds() -> BTreeSet<String> {
    let folders = ["durable-core/src", "durable-core/machine/src", "durable-azure/src"];
    let files = folders.iter().flat_map(|folder| files_below(folder));
    let code = files
        .filter(|file| file.ends_with(".rs") && !file.contains("/sim/") && !file.contains("test"));
    let mut kinds = BTreeSet::new();
    for file in code {
        let text = read(&file);
        // Tests beside the code make up kinds of their own.
        let text = text.split("#[cfg(test)]\nmod tests {").next().expect("a text has a beginning");
        for made in text.split("::new(").skip(1) {
            let class = made.trim_start().strip_prefix("FailureClass::");
            let named = class.and_then(|class| class.split_once(','));
            // Errors of the application have kinds of its own.
            let Some((_, kind)) = named.filter(|(class, _)| *class != "Application") else {
                continue;
            };
            let Some(kind) = kind.trim_start().strip_prefix('"') else { continue };
            kinds.extend(kind.split('"').next().map(str::to_owned));
        }
        let named = text.split("\nconst KIND: &str = \"").skip(1);
        kinds.extend(named.filter_map(|kind| kind.split('"').next()).map(str::to_owned));
        // One place makes the failure that a parent is told, for several kinds.
        for told in text.split(".refuse_parent(").skip(1) {
            let arguments = told.split(')').next().unwrap_or_default();
            kinds.extend(arguments.split('"').nth(1).map(str::to_owned));
        }
    }
    kinds
}

/// Names of the variants of an enum, by its source.
fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let text = read(file);
    let begin = text.find(&format!("pub enum {name} {{\n")).expect("the enum is there");
    let body = text[begin..].split("\n}\n").next().expect("it ends");
    let names = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        let end = name.find([',', '(', ' '])?;
        name.starts_with(char::is_uppercase).then(|| name[..end].to_owned())
    });
    names.collect()
}

#[test]
fn every_error_of_the_engine_has_a_page() {
    let mut kinds = failure_kinds();
    assert!(kinds.contains("Timeout") && kinds.contains("ForeignAwait"), "{kinds:?}");
    kinds.extend(variants("durable-core/machine/src/model/status.rs", "HoldReason"));
    kinds.extend(variants("durable-core/src/store/error.rs", "StoreError"));
    let of_clients = variants("durable-core/src/client/error.rs", "ClientError");
    let explained = ["NotEnded", "PurgeUnderWay"].map(str::to_owned);
    kinds.extend(explained.iter().filter(|kind| of_clients.contains(*kind)).cloned());
    let listed = read("docs/errors/README.md");
    for kind in &kinds {
        let mut slug = String::new();
        for letter in kind.chars() {
            if letter.is_uppercase() && !slug.is_empty() {
                slug.push('-');
            }
            slug.extend(letter.to_lowercase());
        }
        let row = format!("| [{kind}]({slug}.md) |");
        assert!(listed.contains(&row), "docs/errors/README.md lacks {row}");
        assert!(read(&format!("docs/errors/{slug}.md")).starts_with(&format!("# {kind}\n")));
    }
    let pages = files_below("docs/errors").len() - 1;
    assert_eq!(pages, kinds.len(), "a page of docs/errors is of nothing: {kinds:?}");
}
