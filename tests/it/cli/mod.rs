//! The command line as a program: exit codes, what goes to which stream, what needs no daemon.

mod errors;
mod every_command;
mod operating;
mod over_nats;
mod top;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::nats::free_port;

/// The program in an environment of its own, at home in `home`.
fn provost(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provost"));
    command.env_clear().env("HOME", home).env("TZ", "UTC").current_dir(home).stdin(Stdio::null());
    command
}

/// Types a line; words are split at spaces.
fn typed(home: &Path, line: &str) -> Output {
    provost(home).args(line.split_whitespace()).output().unwrap()
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks exit code, that standard output is empty, and words of standard error.
#[track_caller]
fn check_failure(output: &Output, code: i32, words: &[&str]) {
    let said = err(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(out(output), "");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}

#[test]
fn the_bare_name_suggests_three_things_to_try() {
    let home = home();
    let output = provost(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(err(&output), "");
    let suggestions = out(&output).lines().filter(|line| line.starts_with("  provost ")).count();
    assert_eq!(suggestions, 3);
    assert!(out(&output).lines().count() < 8);
}

#[test]
fn the_version_is_told_in_every_form() {
    let home = home();
    let text = format!("provost {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(out(&typed(home.path(), "version")), text);
    assert_eq!(out(&typed(home.path(), "--version")), text);
    let document: Value =
        serde_json::from_slice(&typed(home.path(), "version -o json").stdout).unwrap();
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(out(&typed(home.path(), "version -o name")), "provost\n");
}

#[test]
fn wrong_usage_exits_2_with_code_and_next_step() {
    let home = home();
    for (line, word) in [
        ("lst", "list"),
        ("stop", "<AGENT>"),
        ("system", "a command is missing"),
        ("list -o yaml", "jsonl"),
        ("stop w1 --grace soon", "not a length of time"),
        ("stop w1 --grace 2h", "at most 1h"),
        ("logs w1 -n 0", "1 to 10000"),
        ("spawn worker --env X", "NAME=VALUE"),
        ("spawn a.b", "use only"),
        ("circuit w1 ajar", "open"),
        ("list --prefix a..b", "subject prefix"),
        ("list --context a --nats-url b", "cannot be used with"),
        ("events --severity awful", "critical"),
    ] {
        let output = typed(home.path(), line);
        check_failure(&output, 2, &["error[PV0200]: ", word, "\n  next: "]);
    }
    let broken = OsStr::from_bytes(b"\xff\xfe");
    let output = provost(home.path()).arg("stop").arg(broken).output().unwrap();
    check_failure(&output, 2, &["error[PV0200]: "]);
}

#[test]
fn help_goes_to_standard_output() {
    let home = home();
    for line in ["--help", "help", "help stop", "stop --help", "system help"] {
        let output = typed(home.path(), line);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{line}");
        assert!(out(&output).contains("Usage:"), "{line}");
    }
    assert!(out(&typed(home.path(), "--help")).contains("124  timed out"));
}

#[test]
fn all_faults_of_a_configuration_are_told_and_exit_2() {
    let home = home();
    let text = "[agents]\nmax = 0\n\n[agent_typs.worker]\ncommand = [\"true\"]\n";
    std::fs::write(home.path().join("bad.toml"), text).unwrap();
    let output = typed(home.path(), "config validate -f bad.toml");
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(out(&output).contains("bad.toml:2:"), "{}", out(&output));
    assert!(out(&output).contains("agent_types"), "{}", out(&output));
    assert!(err(&output).contains("nothing would be started"));
    let output = typed(home.path(), "config validate -f bad.toml -o json");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["valid"], false);
    assert!(2 <= document["faults"].as_array().unwrap().len());
    for line in
        ["up -f bad.toml", "config show -f bad.toml", "flags -f bad.toml", "list -f bad.toml"]
    {
        let words = ["error[PV0203]: ", "\n  cause: bad.toml:2:", "\n  next: "];
        check_failure(&typed(home.path(), line), 2, &words);
    }
    check_failure(&typed(home.path(), "up -f missing.toml"), 2, &["missing.toml"]);
}

#[test]
fn a_replay_shows_what_other_rules_would_have_done() {
    let home = home();
    let rules = |threshold: u32| {
        format!(
            "[downstreams.backend]\ntype = \"http\"\nendpoint = {{ address = \"127.0.0.1\" }}\n\
             resilience = {{ circuit_breaker = {{ failure_threshold = {threshold}, \
             error_percent = 0, open_for = \"1s\", jitter = 0.0 }} }}\n"
        )
    };
    std::fs::write(home.path().join("strict.toml"), rules(2)).unwrap();
    std::fs::write(home.path().join("lenient.toml"), rules(50)).unwrap();
    let mut log = String::new();
    for call in 0..6 {
        let (at, outcome) = (call * 10, if call == 5 { "ok" } else { "error" });
        log.push_str(&format!("{{\"at_ms\":{at},\"op\":\"acquire\",\"id\":\"{call}\"}}\n"));
        let settled = "\"op\":\"settle\"";
        log.push_str(&format!(
            "{{\"at_ms\":{at},{settled},\"id\":\"{call}\",\"outcome\":\"{outcome}\"}}\n"
        ));
    }
    std::fs::write(home.path().join("calls.jsonl"), log).unwrap();
    let line = "circuit replay --config strict.toml --log calls.jsonl";
    let document = |line: &str| -> Value {
        let output = typed(home.path(), &format!("{line} -o json"));
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let strict = document(line);
    let counts = |one: &Value| ["calls", "rejected", "spared", "lost"].map(|key| one[key].clone());
    assert_eq!(counts(&strict), [6, 4, 3, 1].map(Value::from));
    assert_eq!(strict["transitions"][0]["reason"], "failure_threshold");
    assert_eq!(strict["transitions"][0]["open_ms"], 1000);
    let lenient = document("circuit replay --config lenient.toml --log calls.jsonl");
    assert_eq!(counts(&lenient), [6, 0, 0, 0].map(Value::from));
    let table = out(&typed(home.path(), line));
    assert!(table.contains("4 of 6 calls would have been rejected: 3 that were bad"), "{table}");
    let words = ["line 1 of the log", "next: "];
    std::fs::write(home.path().join("bad.jsonl"), "{}\n").unwrap();
    let faulty = "circuit replay --config strict.toml --log bad.jsonl";
    check_failure(&typed(home.path(), faulty), 2, &words);
    let other = "circuit replay --config strict.toml --downstream other --log calls.jsonl";
    check_failure(&typed(home.path(), other), 2, &["no downstream other", "backend"]);
    check_failure(&typed(home.path(), "circuit w1"), 2, &["STATE"]);
}

#[test]
fn a_valid_configuration_is_shown_with_the_origin_of_each_value() {
    let home = home();
    std::fs::write(home.path().join("good.toml"), "[agents]\nmax = 7\n").unwrap();
    let output = typed(home.path(), "config validate -f good.toml");
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "valid: good.toml\n"));
    let shown = out(&typed(home.path(), "config show -f good.toml --origin"));
    let line = shown.lines().find(|line| line.starts_with("agents.max ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["agents.max", "7", "good.toml:2"]);
    let plain = out(&typed(home.path(), "config show -f good.toml -o name"));
    assert!(plain.lines().any(|line| line == "agents.max"));
    let schema: Value =
        serde_json::from_slice(&typed(home.path(), "config schema").stdout).unwrap();
    assert!(schema["properties"]["agent_types"].is_object());
}

#[test]
fn switches_are_shown_with_who_set_them_and_an_unreadable_one_exits_2() {
    let home = home();
    let flags = |value: &str, line: &str| {
        let mut command = provost(home.path());
        command.env("ENABLE_SUPERVISION", value).args(line.split(' ')).output().unwrap()
    };
    let output = flags("on", "flags -o jsonl");
    let lines: Vec<Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["flag"], "ENABLE_SUPERVISION");
    assert_eq!(lines[0]["value"], true);
    assert_eq!(lines[0]["origin"], "env:ENABLE_SUPERVISION");
    for line in ["flags", "up", "list", "run true"] {
        let words = ["error[PV0203]", "ENABLE_SUPERVISION", "maybe"];
        check_failure(&flags("maybe", line), 2, &words);
    }
}

#[test]
fn without_a_daemon_every_verb_exits_5_and_says_how_to_start_one() {
    let home = home();
    for line in [
        "list",
        "tree",
        "status",
        "status w1",
        "stop w1",
        "spawn x",
        "events",
        "logs w1",
        "circuit w1 open",
        "system pause",
        "list -w",
        "events -w",
    ] {
        let words = ["error[PV0201]: no daemon was found", "nats.json", "provost up"];
        check_failure(&typed(home.path(), line), 5, &words);
    }
    let state = home.path().join("elsewhere");
    let output = typed(home.path(), &format!("list --state-dir {}", state.display()));
    check_failure(&output, 5, &["elsewhere/nats.json"]);
}

#[test]
fn a_server_that_is_not_there_exits_5_with_the_address() {
    let home = home();
    let url = format!("nats://127.0.0.1:{}", free_port());
    for command in [
        provost(home.path()).args(["list", "--nats-url", &url]),
        provost(home.path()).env("NATS_URL", &url).arg("list"),
    ] {
        let output = command.output().unwrap();
        check_failure(&output, 5, &["error[PV0202]: ", &url, "\n  cause: ", "\n  next: "]);
    }
    let secret = url.replace("nats://", "nats://alice:s3cret@");
    let output = typed(home.path(), &format!("list --nats-url {secret}"));
    check_failure(&output, 5, &[&url]);
    assert!(!err(&output).contains("s3cret"), "{}", err(&output));
}

#[test]
fn an_address_file_that_cannot_be_read_exits_5() {
    let home = home();
    std::fs::write(home.path().join("nats.json"), "{").unwrap();
    let output = typed(home.path(), "list --state-dir .");
    check_failure(&output, 5, &["error[PV0208]: ", "nats.json", "\n  cause: "]);
}

#[test]
fn a_faulty_file_that_nobody_named_does_not_hide_the_daemon() {
    let home = home();
    std::fs::write(home.path().join("provost.toml"), "[agents]\nmax = 0\n").unwrap();
    let output = typed(home.path(), "list");
    check_failure(&output, 5, &["warning: ", "provost.toml has faults", "error[PV0201]"]);
}

#[test]
fn a_context_that_does_not_exist_is_told() {
    let home = home();
    let output = typed(home.path(), "list --context nowhere");
    check_failure(&output, 5, &["\"nowhere\"", "nowhere.json"]);
}

#[test]
fn a_reader_that_has_gone_ends_the_program_quietly() {
    let home = home();
    let mut child = provost(home.path())
        .args(["config", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn colours_appear_only_when_asked_for() {
    let home = home();
    let escape = "\u{1b}[";
    assert!(!err(&typed(home.path(), "list")).contains(escape));
    assert!(err(&typed(home.path(), "list --color always")).contains(escape));
    let forced = provost(home.path()).env("CLICOLOR_FORCE", "1").arg("list").output().unwrap();
    assert!(err(&forced).contains(escape));
    let both = ["CLICOLOR_FORCE", "NO_COLOR"].map(|name| (name, "1"));
    let never =
        provost(home.path()).envs(both).args(["list", "--color", "never"]).output().unwrap();
    assert!(!err(&never).contains(escape));
}
