//! Every command of the command line, from its own list: help with an example, JSON or a clear
//! refusal, documented exit codes, a daemon that cannot be reached, no terminal.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::Value;

use crate::cli::{err, home, out, provost, typed};
use crate::daemon::{WORKER, with_agents};
use crate::support::daemon::{Daemon, text};
use crate::support::nats::free_port;

struct Known {
    path: String,
    scope: String,
    impact: String,
    example: String,
    exits: BTreeSet<i32>,
}

fn commands() -> Vec<Known> {
    let home = home();
    let listed: Value =
        serde_json::from_slice(&typed(home.path(), "commands -o json").stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let known = |one: &Value| Known {
        path: word(&one["command"]),
        scope: word(&one["scope"]),
        impact: word(&one["impact"]),
        example: word(&one["example"]),
        exits: one["exit_codes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|code| i32::try_from(code.as_i64().unwrap()).unwrap())
            .collect(),
    };
    let all: Vec<Known> = listed["commands"].as_array().unwrap().iter().map(known).collect();
    assert!(50 < all.len(), "{listed}");
    all
}

/// The words of an example, as a shell would give them; what would go on for ever does not.
fn words(example: &str) -> Vec<String> {
    let line = example.split(['|', '>']).next().unwrap();
    let mut words: Vec<String> = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words.retain(|word| !matches!(word.as_str(), "--watch" | "--follow"));
    words.split_off(1)
}

/// Commands that read a file that is not there, or that stay.
fn is_apart(known: &Known) -> bool {
    // `top` asks for a terminal before it asks anybody.
    known.scope == "foreground" || ["circuit replay", "top"].contains(&known.path.as_str())
}

fn is_plain(output: &Output) {
    for text in [out(output), err(output)] {
        assert!(!text.contains('\u{1b}'), "colours without a terminal: {text:?}");
    }
}

#[test]
fn every_command_has_help_with_an_example_and_its_exit_codes() {
    let home = home();
    for known in commands() {
        let output = typed(home.path(), &format!("{} --help", known.path));
        assert_eq!(output.status.code(), Some(0), "{}", known.path);
        let help = out(&output);
        for part in ["Usage: provost ", "Example:", known.example.as_str(), "Exit codes: 0, "] {
            assert!(help.contains(part), "{}: {part:?} is missing in {help}", known.path);
        }
        is_plain(&output);
    }
    // What each code means stands under the first page.
    let first = out(&typed(home.path(), "--help"));
    for known in commands() {
        for code in &known.exits {
            assert!(
                first.contains(&format!("\n  {code:<3}  ")),
                "{code} is not explained: {first}"
            );
        }
    }
}

#[test]
fn every_command_that_asks_somebody_says_so_when_nobody_answers() {
    let home = home();
    let url = format!("nats://127.0.0.1:{}", free_port());
    for known in
        commands().into_iter().filter(|known| matches!(known.scope.as_str(), "daemon" | "nats"))
    {
        if is_apart(&known) {
            continue;
        }
        let mut command = provost(home.path());
        let words = words(&known.example);
        // What follows `--` is somebody else's.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        command.args(&words[..end]).args(["--nats-url", &url]);
        if !words.iter().any(|word| word == "--timeout") {
            command.args(["--timeout", "2s"]);
        }
        let output = command.args(&words[end..]).output().unwrap();
        is_plain(&output);
        let said = err(&output);
        match known.path.as_str() {
            // What it finds is its answer.
            "doctor" => {
                assert_eq!(output.status.code(), Some(1), "{said}");
                assert!(out(&output).contains("FAIL"), "{}", out(&output));
            }
            "check" => {
                assert_eq!(output.status.code(), Some(3), "{said}");
                assert!(out(&output).starts_with("PROVOST UNKNOWN - "), "{}", out(&output));
            }
            path => {
                assert_eq!(output.status.code(), Some(5), "{path}: {said}");
                assert_eq!(out(&output), "", "{path}");
                assert!(said.starts_with("error[PV02"), "{path}: {said}");
                assert!(said.contains("next: "), "{path}: {said}");
            }
        }
    }
}

#[test]
fn every_command_gives_json_or_refuses_and_ends_with_a_code_of_its_list() {
    let config = format!("{WORKER}[coordination]\nenabled = true\n");
    let daemon = Daemon::start(&with_agents(&config, &["w1", "w2"]));
    daemon.wait_state("w1", "running");
    daemon.wait_state("w2", "running");
    let last = ["remove", "system shutdown"];
    let mut all = commands();
    all.retain(|known| !is_apart(known) && known.path != "task run");
    // What looks comes before what changes, so that each finds what its example names.
    all.sort_by_key(|known| {
        let last = last.iter().position(|path| *path == known.path);
        (known.impact == "read_write", last)
    });
    for known in all {
        let words = words(&known.example);
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let mut line: Vec<&str> = words[..end].iter().map(String::as_str).collect();
        line.extend(["-o", "json"]);
        line.extend(words[end..].iter().map(String::as_str));
        let output = daemon.cli(&line);
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code().unwrap();
        assert!(known.exits.contains(&code), "{line:?} ends with {code}: {said}{told}");
        let mut documents = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
        assert!(documents.all(|document| document.is_ok()), "{line:?}: {said}");
        // Standard output stays empty only where standard error says why.
        assert!(!said.trim().is_empty() || !told.is_empty(), "{line:?} says nothing");
        is_plain(&output);
    }
}
