//! Keeps imports pointing down, the ground floors pure, and each outside crate behind its door.
//!
//! Read from the source text, file by file: what stands in comments and in tests does not count.
//! The floors are those of `src/lib.rs`; a new top-level module without a floor fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tidy::{files_under, source_root};

/// The floors, lowest first. A file may use its own module and every module of a lower floor.
const FLOORS: &[&[&str]] = &[
    &["protocol"],
    &["logic"],
    &["ports", "board", "metrics", "config"],
    &["actors", "runtimes", "adapters", "transport", "web"],
    &["daemon"],
    &["cli", "tui"],
];

/// Files above all floors: they only declare or start.
const ABOVE: &[&str] = &["lib", "main"];

/// Modules that decide or describe, and so touch nothing outside.
const PURE: &[&str] = &["protocol", "logic"];

/// Words that may not appear in a pure module: clocks, chance, the outside, unordered maps.
const IMPURE: &[&str] = &[
    "tokio",
    "ractor",
    "async_nats",
    "tracing",
    "dashmap",
    "fastrand",
    "getrandom",
    "rustix",
    "HashMap",
    "HashSet",
    "::now(",
    "SystemTime",
    "now_v7",
    "new_v4",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "println!",
    "eprintln!",
];

/// Outside crates that have one door each: the folders or files that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("async_nats", &["transport/", "adapters/", "runtimes/remote", "cli/"]),
    ("clap", &["cli/"]),
    ("comfy_table", &["cli/"]),
    ("crossterm", &["cli/top/"]),
    ("dashmap", &["board"]),
    ("ractor", &["actors/"]),
    ("ratatui", &["cli/top/"]),
    ("toml", &["config/"]),
    ("tracing_subscriber", &["daemon/", "cli/"]),
];

/// One line of code, without its comment.
struct Line {
    /// Path of its file under `src`.
    path: String,
    /// Top-level module that the file belongs to.
    module: String,
    /// `src/<path>:<line>`, for messages.
    place: String,
    code: String,
}

#[test]
fn imports_point_down() {
    let floors = floors();
    let mut faults = Vec::new();
    for line in lines() {
        let module = line.module.as_str();
        if ABOVE.contains(&module) {
            continue;
        }
        let Some(floor) = floors.get(module) else {
            faults.push(format!("{}: module `{module}` has no floor", line.place));
            continue;
        };
        let admitted = |target: &String| {
            target == module || floors.get(target.as_str()).is_some_and(|other| other < floor)
        };
        for target in targets(&line.code).iter().filter(|target| !admitted(target)) {
            faults.push(format!("{}: `{module}` may not use `{target}`", line.place));
        }
    }
    assert_none(&faults);
}

#[test]
fn imports_are_written_out_so_that_the_floor_shows() {
    let mut faults = Vec::new();
    for Line { place, code, .. } in lines() {
        if code.contains("super::") {
            faults.push(format!("{place}: write `crate::…` for `super::`"));
        }
        if code.contains("crate::{") {
            faults.push(format!("{place}: one `use` for each top-level module"));
        }
    }
    assert_none(&faults);
}

#[test]
fn protocol_and_logic_touch_nothing_outside() {
    let mut faults = Vec::new();
    for line in lines().iter().filter(|line| PURE.contains(&line.module.as_str())) {
        for word in IMPURE.iter().filter(|word| line.code.contains(**word)) {
            faults.push(format!("{}: `{word}` in a pure module", line.place));
        }
    }
    assert_none(&faults);
}

#[test]
fn each_outside_crate_has_its_door() {
    let mut faults = Vec::new();
    for line in lines() {
        let shut = |doors: &[&str]| !doors.iter().any(|door| line.path.starts_with(door));
        let named = DOORS.iter().filter(|(name, _)| names_crate(&line.code, name));
        for (name, doors) in named.filter(|(_, doors)| shut(doors)) {
            faults.push(format!("{}: `{name}` belongs into {doors:?}", line.place));
        }
    }
    assert_none(&faults);
}

#[test]
fn files_of_logic_do_not_depend_on_each_other_in_a_circle() {
    let lines = lines();
    let names: BTreeSet<String> = lines.iter().map(|line| module_path(&line.path)).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // A folder's page re-exports its files, and they use its types: that is one module.
    let counted = |line: &&Line| line.module == "logic" && !line.path.ends_with("/mod.rs");
    for line in lines.iter().filter(counted) {
        let own = module_path(&line.path);
        let used = line.code.split("crate::").skip(1);
        let used = used.filter_map(|path| longest_module(path, &names));
        // A machine that fills a folder is one module in several files.
        let own = unit(&own);
        let others = used.map(|used| unit(&used)).filter(|used| *used != own);
        edges.entry(own.clone()).or_default().extend(others);
    }
    assert_none(&circles(&edges));
}

/// `logic::restart::group` is part of the unit `logic::restart`.
fn unit(module: &str) -> String {
    module.split("::").take(2).collect::<Vec<_>>().join("::")
}

#[test]
fn the_reader_sees_code_and_leaves_out_comments_and_tests() {
    let text = "use crate::a::b; // crate::c\n/// crate::d\n#[cfg(test)]\nmod more_tests;\n\
                fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}\n";
    let lines = code_of(text);
    let seen: Vec<&str> = lines.iter().map(|(_, line)| line.as_str().trim()).collect();
    assert_eq!(seen, ["use crate::a::b;", "", "fn f() {}"]);
    assert_eq!(lines.last().unwrap().0, 5);
    assert_eq!(targets("use crate::logic::x; crate::ports::Y"), ["logic", "ports"]);
    assert!(names_crate("use ractor::Actor;", "ractor"));
    assert!(!names_crate("use crate::ractor_like::X; ractors::y", "ractor"));
}

fn floors() -> BTreeMap<&'static str, usize> {
    let numbered = FLOORS.iter().enumerate();
    numbered.flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect()
}

/// All lines of code under `src`.
fn lines() -> Vec<Line> {
    let root = source_root();
    let mut lines = Vec::new();
    for file in files_under(&root, &["rs"]) {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        if is_test_file(path) {
            continue;
        }
        let module = path.split('/').next().unwrap().trim_end_matches(".rs");
        let text = std::fs::read_to_string(&file).unwrap();
        lines.extend(code_of(&text).into_iter().map(|(number, code)| Line {
            path: path.to_owned(),
            module: module.to_owned(),
            place: format!("src/{path}:{number}"),
            code,
        }));
    }
    assert!(lines.len() > 1000, "the source was not found");
    lines
}

/// Whether a file under `src` holds only tests: by its name, or because it or a folder above it is
/// declared under `#[cfg(test)]`.
fn is_test_file(path: &str) -> bool {
    let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
    if stem == "tests" || stem.ends_with("_tests") {
        return true;
    }
    let path = Path::new(path);
    let module = |part: &Path| part.file_stem().unwrap().to_str().unwrap().to_owned();
    path.ancestors().filter(|part| part.parent().is_some()).any(|part| {
        let page = source_root().join(part.parent().unwrap()).join("mod.rs");
        let text = std::fs::read_to_string(page).unwrap_or_default();
        text.contains(&format!("#[cfg(test)]\nmod {};", module(part)))
    })
}

/// Lines of code with their numbers, without comments and without what is compiled for tests.
fn code_of(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            let code = line.split("//").next().unwrap();
            kept.push((index + 1, code.to_owned()));
            continue;
        }
        // The item that follows is left out: one that ends with `;`, or a block, which by the
        // order of a file (tests last) reaches to its end.
        let end = lines.by_ref().find(|(_, line)| line.contains(';') || line.contains('{'));
        if end.is_none_or(|(_, line)| line.contains('{')) {
            break;
        }
    }
    kept
}

/// Top-level modules that a line names after `crate::`.
fn targets(code: &str) -> Vec<String> {
    code.split("crate::").skip(1).map(first_word).filter(|word| !word.is_empty()).collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|found| found.is_alphanumeric() || *found == '_').collect()
}

/// Whether a line names an outside crate: the word itself, followed by `::`.
fn names_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code.as_bytes().get(..at).and_then(<[u8]>::last);
        before.is_none_or(|found| !found.is_ascii_alphanumeric() && !b"_:".contains(found))
    })
}

/// `logic/restart/mod.rs` is `logic::restart`, `board.rs` is `board`.
fn module_path(path: &str) -> String {
    path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
}

/// The file that a path after `crate::` leads into.
fn longest_module(path: &str, names: &BTreeSet<String>) -> Option<String> {
    let mut best = None;
    let mut prefix = String::new();
    for word in path.split("::").map(first_word) {
        if !prefix.is_empty() {
            prefix.push_str("::");
        }
        prefix.push_str(&word);
        if names.contains(&prefix) {
            best = Some(prefix.clone());
        }
    }
    best
}

/// Files that reach themselves, each with what it reaches directly.
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let direct = |file: &String| edges.get(file).cloned().unwrap_or_default();
    let mut faults = Vec::new();
    for start in edges.keys() {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<String> = direct(start).into_iter().collect();
        while let Some(file) = waiting.pop() {
            if reached.insert(file.clone()) {
                waiting.extend(direct(&file));
            }
        }
        if reached.contains(start) {
            faults.push(format!("{start} reaches itself through one of {:?}", direct(start)));
        }
    }
    faults
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
