//! `provost logs` on real log files, with and without a daemon.

use std::fs;

use crate::daemon::{WORKER, with_agents};
use crate::support::daemon::{Daemon, text};
use crate::support::eventually_blocking;

/// A worker that writes this and stays.
fn writer(script: &str) -> String {
    let command = format!(r#"command = ["sh", "-c", '''{script}; exec sleep 100000''']"#);
    with_agents(&WORKER.replace(r#"command = ["sleep", "100000"]"#, &command), &["w1"])
}

/// What `provost logs` prints, once that is so.
fn printed(daemon: &Daemon, arguments: &[&str], wanted: &[u8]) {
    eventually_blocking(&format!("logs {arguments:?} are {:?}", text(wanted)), || {
        let output = daemon.cli(&[&["logs", "w1"], arguments].concat());
        (output.status.success() && output.stdout == wanted).then_some(())
    });
}

#[test]
fn logs_are_shown_byte_for_byte_with_and_without_a_daemon() {
    let mut daemon = Daemon::start(&writer(r#"printf 'a\n\377\000b\nno end'"#));
    printed(&daemon, &[], b"a\n\xff\x00b\nno end");
    printed(&daemon, &["-n", "1"], b"no end");
    printed(&daemon, &["-n", "2"], b"\xff\x00b\nno end");
    let id = daemon.agent("w1").unwrap()["agent_id"].as_str().unwrap().to_owned();
    let document = daemon.json(&["logs", "w1", "-n", "3"]);
    assert_eq!(document["logs"]["lines"][0], "a");
    assert!(daemon.terminate().success());
    printed(&daemon, &[], b"a\n\xff\x00b\nno end");
    let by_id = daemon.cli(&["logs", &id]);
    assert_eq!(by_id.stdout, b"a\n\xff\x00b\nno end", "{}", text(&by_id.stderr));
}

#[test]
fn the_run_before_can_be_told_from_the_present_one() {
    let daemon = Daemon::start(&writer("echo run $PROVOST_GENERATION"));
    printed(&daemon, &[], b"run 1\n");
    printed(&daemon, &["--previous"], b"");
    daemon.json(&["restart", "w1"]);
    printed(&daemon, &[], b"run 1\nrun 2\n");
    printed(&daemon, &["--previous"], b"run 1\n");
    daemon.json(&["restart", "w1"]);
    printed(&daemon, &["--previous"], b"run 2\n");
    printed(&daemon, &["--since", "1h"], b"run 1\nrun 2\nrun 3\n");
    let output = daemon.cli(&["logs", "w1", "--since", "2999-01-01T00:00:00Z"]);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_line_of_a_megabyte_and_a_flood_are_followed_through_rotation() {
    // 60 MB in numbered lines: several rotations of 10 MiB.
    let daemon = Daemon::start(&writer(
        "head -c 1000000 /dev/zero | tr '\\0' x; echo; seq 1 8000000; echo end",
    ));
    eventually_blocking("all is written", || {
        let output = daemon.cli(&["logs", "w1", "-n", "1"]);
        (output.stdout == b"end\n").then_some(())
    });
    let index = daemon.state_dir().join("logs/w1.log.index");
    eventually_blocking("it was rotated", || {
        fs::read_to_string(&index).unwrap_or_default().contains("rotated").then_some(())
    });
    let output = daemon.cli(&["logs", "w1", "-n", "10000"]);
    let lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines.len(), 10_000);
    let first: u32 = lines[0].parse().unwrap();
    let expected = (first..=8_000_000).map(|number| number.to_string());
    assert!(expected.eq(lines[..9_999].iter().map(|line| (*line).to_owned())), "from {first}");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let daemon = Daemon::start(&writer("echo x"));
    let output = daemon.cli(&["logs", "w9", "--previous"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no log of w9 is on this machine"));
    let output = daemon.cli(&["logs", "w9"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let output = daemon.cli(&["logs", "w1", "--since", "yesterday"]);
    assert_eq!(output.status.code(), Some(2));
}
