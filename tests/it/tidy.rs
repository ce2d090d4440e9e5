//! House rules that no other tool checks: pages, lengths, words, links between text and code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use provost::protocol::subject::Subject;

/// Longest file of Rust, in lines.
const FILE_LINES_MAX: usize = 500;

/// Longest README, in lines.
const README_LINES_MAX: usize = 200;

/// Folders that are not the project's own text.
const NOT_OURS: &[&str] = &["target", ".tools", ".git", "state", "__pycache__", "node_modules"];

/// First tokens of our subjects, as they stand in documents.
const ROOTS: &[&str] = &["supervision", "agent", "coordination", "system", "dlq", "downstream"];

#[test]
fn every_file_of_rust_begins_with_its_page_and_is_not_too_long() {
    let mut faults = Vec::new();
    for (place, text) in texts(&["rs"]) {
        if !text.starts_with("//!") {
            faults.push(format!("{place}: begins without `//!`"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{place}: {lines} lines; at most {FILE_LINES_MAX}"));
        }
    }
    assert_none(&faults);
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    // Put together here, so that this file does not find itself.
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut faults = Vec::new();
    for (place, text) in texts(&["rs", "toml", "sh", "py", "md", "json", "hcl"]) {
        for (index, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| has_word(line, mark)) {
                faults.push(format!("{place}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn nothing_names_one_machine() {
    // A path of somebody's machine works nowhere else; a registry's host belongs into the user's
    // settings, not into the project.
    let paths = ["home", "root", "Users", "work", "mnt"].map(|folder| format!("/{folder}/"));
    let hosts =
        ["index.crates.", "static.crates.", "pypi.", "files.pythonhosted.", "registry.npmjs."];
    let mut faults = Vec::new();
    for (place, text) in texts(&["rs", "toml", "sh", "py", "md", "json", "hcl", "run", "Makefile"])
    {
        for (index, line) in text.lines().enumerate() {
            // Made-up people in examples and tests are nobody's machine.
            let line = line
                .replace("/home/alice", "~")
                .replace("/home/u/", "~/")
                .replace("/home/u\"", "~\"");
            let path = paths.iter().any(|path| starts_a_path(&line, path));
            let host = hosts.iter().any(|host| line.contains(&format!("//{host}")));
            if (path || host) && !place.ends_with("tests/it/tidy.rs") {
                faults.push(format!("{place}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn dependencies_come_from_the_public_registry_alone() {
    let text = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let public = "\"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_eq!(sources, BTreeSet::from([public]));
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES_MAX, "README.md: {lines} lines; at most {README_LINES_MAX}");
}

#[test]
fn every_subject_in_the_documents_exists() {
    let mut faults = Vec::new();
    let mut found = 0;
    for (place, text) in texts(&["md"]) {
        let subjects: Vec<String> = text.lines().flat_map(subjects_in).collect();
        found += subjects.len();
        let unknown = subjects.iter().filter(|subject| !exists(subject));
        faults.extend(unknown.map(|subject| format!("{place}: no such subject: {subject}")));
    }
    assert_none(&faults);
    assert!(found > 0, "no subject was found in any document");
}

#[test]
fn the_finder_of_subjects_sees_subjects_and_nothing_else() {
    let line = "`agent.events.<id>` `nats sub 'supervision.>'` see docs/agent.md, agent.py. \
                provost.agent.spawned.v1 the system. dlq.review";
    assert_eq!(subjects_in(line), ["agent.events.<id>", "supervision.>", "dlq.review"]);
    for known in ["supervision.>", "agent.events.<id>", "agent.*.beat", "dlq.*", "agent.command"] {
        assert!(exists(known), "{known}");
    }
    for unknown in ["supervision.failure.high", "agent.events", "dlq.a.b", "system.>.x"] {
        assert!(!exists(unknown), "{unknown}");
    }
}

#[test]
fn every_file_of_rust_is_declared() {
    let mut faults = Vec::new();
    for folder in [source_root(), root().join("tests/it")] {
        for path in files_under(&folder, &["rs"]) {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let top = path.parent() == Some(folder.as_path());
            if top && ["lib", "main"].contains(&stem) {
                continue;
            }
            let (name, holder) = if stem == "mod" {
                let own = path.parent().unwrap();
                (own.file_name().unwrap().to_str().unwrap(), own.parent().unwrap())
            } else {
                (stem, path.parent().unwrap())
            };
            let pages = ["mod.rs", "lib.rs", "main.rs"].map(|page| holder.join(page));
            let declared = pages.iter().filter_map(|page| fs::read_to_string(page).ok());
            let line = format!("mod {name};");
            // Tests of a file may stand in a file of their own beside it.
            let beside = format!("#[path = \"{stem}.rs\"]");
            let beside = files_under(holder, &["rs"]).iter().any(|other| {
                fs::read_to_string(other).unwrap().lines().any(|found| found.trim() == beside)
            });
            let declares = |text: String| text.lines().any(|found| found.ends_with(&line));
            if !beside && !declared.into_iter().any(declares) {
                faults.push(format!("{}: no `{line}` above it", path.display()));
            }
        }
    }
    assert_none(&faults);
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The library's source.
pub(crate) fn source_root() -> PathBuf {
    root().join("src")
}

/// Files under a folder whose names end with one of `endings`, in order.
pub(crate) fn files_under(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !NOT_OURS.contains(&name) {
                files.extend(files_under(&path, endings));
            }
        } else if endings
            .iter()
            .any(|ending| name == *ending || name.ends_with(&format!(".{ending}")))
        {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The project's texts, each with its place.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let files = files_under(&root, endings);
    let read = |path: PathBuf| {
        let place = path.strip_prefix(&root).unwrap().display().to_string();
        (place, fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// Whether `word` stands in the line by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|found: char| !found.is_alphanumeric()).any(|found| found == word)
}

/// Whether an absolute path that begins with `folder` stands in the line.
fn starts_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.as_bytes().get(..at).and_then(<[u8]>::last);
        before.is_none_or(|found| !found.is_ascii_alphanumeric() && !b"._-})>".contains(found))
    })
}

/// Words of a line that are subjects of ours or claim to be.
fn subjects_in(line: &str) -> Vec<String> {
    let part = |found: char| found.is_alphanumeric() || "._-<>*/:".contains(found);
    let words = line.split(|found| !part(found));
    let words = words.map(|word| word.trim_end_matches(['.', ':', '/']));
    let ours = words.filter(|word| {
        let mut tokens = word.split('.');
        let first = tokens.next().unwrap_or_default();
        let last = tokens.next_back().unwrap_or_default();
        let file = ["md", "py", "rs", "sh", "json", "toml", "yaml", "service"].contains(&last);
        ROOTS.contains(&first) && !last.is_empty() && !file
    });
    ours.map(str::to_owned).collect()
}

/// Whether a subject or wildcard fits one of the templates in `protocol::subject`.
fn exists(subject: &str) -> bool {
    Subject::TEMPLATES.iter().any(|template| fits(subject, template))
}

fn fits(subject: &str, template: &str) -> bool {
    let mut known = template.split('.');
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        let Some(expected) = known.next() else { return false };
        if token == ">" {
            return tokens.peek().is_none();
        }
        if token != "*" && token != expected && !expected.starts_with('<') {
            return false;
        }
    }
    known.next().is_none()
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
