//! The wire, to the letter: one golden document of every kind, what is refused, round trips, and
//! the JSON Schemas in `schema/`.
//!
//! Golden documents are in `tests/golden/`. A document that changes is a change of the public
//! interface: adding a field is allowed, anything else is a new version. With `PROVOST_BLESS=1`
//! in the environment goldens and schemas are written anew; read the difference before it is
//! committed.

mod answer_samples;
mod arbitrary;
mod downstreams;
mod events;
mod insight_samples;
mod requests;
mod round_trips;
mod samples;
mod schemas;
mod task_samples;
mod validate;

use std::fs;

use serde::Serialize;
use serde_json::Value;

use crate::tidy::root;

/// Compares a document with its file under the project, or writes the file when blessing.
fn check_file(place: &str, document: &impl Serialize) {
    let path = root().join(place);
    let text = serde_json::to_string_pretty(document).unwrap() + "\n";
    if std::env::var_os("PROVOST_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = |(old, new): &(&str, &str)| old != new;
    let first = kept.lines().zip(text.lines()).find(differs).unwrap_or(("its end", "its end"));
    assert!(
        kept == text,
        "{place} is not what the code gives, first at\n  kept: {}\n  code: {}\nif that is meant: \
         PROVOST_BLESS=1 cargo test wire",
        first.0,
        first.1
    );
}

/// Reads the golden documents of one folder, each with its file name.
fn goldens(folder: &str) -> Vec<(String, Value)> {
    let folder = root().join("tests/golden").join(folder);
    let mut found: Vec<(String, Value)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(!found.is_empty(), "no golden documents in {}", folder.display());
    found
}
