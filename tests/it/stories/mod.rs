//! Ten failures as they happen at night, each made for real: `provost explain` alone has to name the true
//! cause and the right next step. What it says is kept under `snapshots`, with times, process ids
//! and places masked; `INSTA_UPDATE=always` writes it anew.

mod agents;
mod others;
mod past;

use serde_json::Value;

use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;

/// A type `worker` that runs this shell script and, once it has failed, waits an hour for its restart:
/// what is explained stands still.
pub(super) fn failing(script: &str, more: &str) -> String {
    format!(
        "[supervision]\nenabled = true\n[agent_types.worker]\n\
         command = [\"sh\", \"-c\", '''{script}''']\n\
         env = {{ PROVOST_TEST_MARK = \"{{mark}}\" }}\n\
         stop = {{ grace = \"2s\" }}\n\
         restart = {{ backoff = {{ initial = \"1h\", max = \"1h\", jitter = \"none\" }} }}\n\
         {more}\n[[agent]]\nname = \"w1\"\ntype = \"worker\"\n"
    )
}

/// What `provost explain` says, once it is about the state that is waited for.
pub(super) fn explained(daemon: &Daemon, what: &str, state: &str) -> (String, Value) {
    eventually_blocking(&format!("{what} is explained as {state}"), || {
        let output = daemon.cli(&["explain", what, "-o", "json"]);
        let told: Value = serde_json::from_slice(&output.stdout).ok()?;
        if told["state"] != state {
            return None;
        }
        let output = daemon.cli(&["explain", what]);
        let said = text(&output.stdout);
        // Between the two it may have changed: both have to be of one moment.
        said.lines().next()?.contains(state).then(|| (masked(daemon, &said), told))
    })
}

/// Commands that are suggested, in order.
pub(super) fn steps(told: &Value) -> Vec<&str> {
    let steps = told["do"].as_array().unwrap().iter();
    steps.map(|step| step["command"].as_str().unwrap()).collect()
}

/// What differs from run to run becomes a word.
pub(super) fn masked(daemon: &Daemon, said: &str) -> String {
    let dir = daemon.dir.path().display().to_string();
    let said = said.replace(&format!("{dir}/"), "");
    let lines: Vec<String> = said
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let mut masked: Vec<String> = Vec::new();
            for (index, word) in words.iter().enumerate() {
                let next = words.get(index + 1).copied().unwrap_or_default();
                let unit = word.trim_matches(|found: char| "(),;:".contains(found));
                // A length of time may be in another unit the next time.
                match masked.last_mut().filter(|last| last.ends_with('#') && UNITS.contains(&unit))
                {
                    Some(last) => last.push_str(word.strip_prefix(unit).unwrap_or_default()),
                    None => masked.push(mask(word, next)),
                }
            }
            masked.join(" ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// Units of lengths of time, with what may follow them.
const UNITS: [&str; 6] = ["ms", "s", "min", "h", "MiB", "MB"];

fn mask(word: &str, next: &str) -> String {
    let bare = word.trim_matches(|found: char| "(),;".contains(found));
    let is_number = !bare.is_empty()
        && bare.chars().all(|found| found.is_ascii_digit() || found == '.')
        && bare.starts_with(|found: char| found.is_ascii_digit());
    let unit = next.trim_matches(|found: char| "(),;:".contains(found));
    let digits = bare.trim_end_matches(|found: char| found.is_ascii_alphabetic());
    let glued = UNITS.contains(&bare.strip_prefix(digits).unwrap_or_default())
        && !digits.is_empty()
        && digits.chars().all(|found| found.is_ascii_digit() || found == '.');
    let is_clock = bare.len() == 8 && bare.matches(':').count() == 2;
    let is_id =
        bare.len() >= 32 && bare.chars().all(|found| found.is_ascii_hexdigit() || found == '-');
    let is_place = bare.starts_with("127.0.0.1:") || bare.starts_with("nats://127.0.0.1:");
    let mask = if is_number && UNITS.contains(&unit) || glued {
        "#"
    } else if is_clock {
        "hh:mm:ss"
    } else if is_id {
        "<id>"
    } else if is_place {
        "<address>"
    } else if next.is_empty() && is_number && bare.len() > 2 {
        "#"
    } else {
        return pid(word);
    };
    word.replace(bare, mask)
}

/// `(pid 1234)` ends in a number and a bracket.
fn pid(word: &str) -> String {
    match word.strip_suffix(')') {
        Some(number) if number.len() > 2 && number.chars().all(|found| found.is_ascii_digit()) => {
            "#)".to_owned()
        }
        _ => word.to_owned(),
    }
}
