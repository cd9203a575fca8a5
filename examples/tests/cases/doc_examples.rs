//! Every public item has an example in its documentation. That the examples do what they say, their own runs show.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files whose `pub use` lines say what is public.
const LISTS: [&str; 6] = [
    "durable-core/src/lib.rs",
    "durable-core/src/prelude.rs",
    "durable-core/src/store/mod.rs",
    "durable-core/src/testing/mod.rs",
    "durable-core/src/http/mod.rs",
    "durable-azure/src/lib.rs",
];

/// Where those items are written.
const SOURCES: [&str; 3] = ["durable-core/src", "durable-core/machine/src", "durable-azure/src"];

/// Items of other packages, and another name for one.
const FOREIGN: [&str; 5] = ["Either", "json", "Duration", "TokenCredential", "machine"];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names that a file makes public by `pub use`.
fn public_names(file: &str) -> Vec<String> {
    let text = read(file);
    let mut names = Vec::new();
    for list in text.split("\npub use ").skip(1) {
        let list = list.split(';').next().unwrap_or_default();
        let last = list.rsplit("::").next().unwrap_or_default();
        let inner = last.split_once('{').map_or(last, |(_, inner)| inner);
        let shown = inner
            .trim_end_matches('}')
            .split(',')
            .map(|name| name.rsplit(" as ").next().unwrap_or(name).trim());
        names.extend(shown.filter(|name| !name.is_empty()).map(str::to_owned));
    }
    names
}

/// All lines of the sources, file by file.
fn sources() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut folders: Vec<_> = SOURCES.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                files.push(text.lines().map(|line| line.trim().to_owned()).collect());
            }
        }
    }
    files
}

/// The name of the item that this line begins: a public one, or one that stands alone and a macro makes.
fn declared(line: &str) -> Option<&str> {
    let public = ["struct ", "enum ", "trait ", "type ", "fn ", "const fn ", "async fn "]
        .iter()
        .find_map(|kind| line.strip_prefix("pub ")?.strip_prefix(kind))
        .or_else(|| line.strip_prefix("pub use durable_core_macros::"));
    let rest = public.unwrap_or(line);
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    let made = behind.is_empty() || behind.starts_with('(');
    (!name.is_empty() && (public.is_some() || made)).then_some(name)
}

/// Whether the comment above this line has code in it that is run.
fn has_example(above: &[String]) -> bool {
    // Attributes may stand between.
    let mut above = above.iter().rev().skip_while(|line| {
        !(line.is_empty() || line.starts_with("///") || line.starts_with("//!") || **line == "}")
    });
    let mut comment = above.by_ref().take_while(|line| line.starts_with("///"));
    comment.any(|line| matches!(line.as_str(), "/// ```" | "/// ```no_run"))
}

/// Names of the items that have an example.
fn shown() -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for lines in sources() {
        for (place, line) in lines.iter().enumerate() {
            if let Some(name) = declared(line).filter(|_| has_example(&lines[..place])) {
                shown.insert(name.to_owned());
            }
        }
    }
    shown
}

#[test]
fn every_public_item_has_an_example() {
    let shown = shown();
    let mut without = Vec::new();
    for list in LISTS {
        let names = public_names(list);
        assert!(names.len() > 2, "{list} lists what is public: {names:?}");
        let own = names.into_iter().filter(|name| !FOREIGN.contains(&name.as_str()));
        without
            .extend(own.filter(|name| !shown.contains(name)).map(|name| format!("{list}: {name}")));
    }
    assert!(without.is_empty(), "these have no example in their documentation: {without:#?}");
}

#[test]
fn no_example_is_left_out() {
    for lines in sources() {
        let left_out = lines
            .iter()
            .find(|line| line.strip_prefix("/// ```").is_some_and(|kind| kind.contains("ignore")));
        assert_eq!(left_out, None, "an example that nobody runs");
    }
}
