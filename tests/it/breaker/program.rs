//! `examples/breaker_trace` as a program: lines in, lines out, exit codes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What it wrote, what it said, and its exit code.
fn run(input: &str) -> (Vec<String>, String, Option<i32>) {
    let mut folder: PathBuf = std::env::current_exe().unwrap();
    folder.pop();
    folder.pop();
    let mut child = Command::new(folder.join("examples/breaker_trace"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, String::from_utf8(output.stderr).unwrap(), output.status.code())
}

#[test]
fn each_operation_is_answered_in_one_line() {
    let (lines, said, code) = run(concat!(
        r#"{"config":{"failure_threshold":1,"error_percent":50,"slow_percent":50,"slow_ms":100,"request_volume":20,"window_ms":10000,"open_ms":1000,"open_max_ms":60000,"open_factor":2,"jitter":0,"half_open_probes":1,"success_threshold":1,"half_open_timeout_ms":500}}"#,
        "\n# a comment\n\n",
        r#"{"at_ms":0,"op":"acquire","id":"a"}"#,
        "\n",
        r#"{"at_ms":1,"op":"settle","id":"a","outcome":"error","retry_after_ms":null}"#,
        "\n",
        r#"{"at_ms":2,"op":"acquire","id":"b"}"#,
        "\n",
    ));
    assert_eq!(
        lines,
        [
            r#"{"granted":true,"state":"closed","retry_after_ms":null,"transitions":[]}"#,
            r#"{"granted":false,"state":"open","retry_after_ms":1000,"transitions":[{"from":"closed","to":"open","reason":"failure_threshold"}]}"#,
            r#"{"granted":false,"state":"open","retry_after_ms":999,"transitions":[]}"#,
        ]
    );
    assert_eq!((said.as_str(), code), ("", Some(0)));
}

#[test]
fn a_faulty_operation_is_answered_the_rest_goes_on_and_the_exit_code_tells() {
    let table = [
        ("{", "EOF while parsing"),
        ("7", "invalid type: integer `7`"),
        (r#"{"op":"tick"}"#, "missing field `at_ms`"),
        (r#"{"at_ms":-1,"op":"tick"}"#, "invalid value: integer `-1`"),
        (r#"{"at_ms":0,"op":"trip"}"#, "unknown variant `trip`"),
        (r#"{"at_ms":0,"op":"tick","why":1}"#, "unknown field `why`"),
        (r#"{"at_ms":0,"op":"acquire"}"#, "acquire needs `id`"),
        (r#"{"at_ms":0,"op":"force"}"#, "force needs `to`"),
        (r#"{"at_ms":0,"op":"force","to":"half_open"}"#, "unknown variant `half_open`"),
        (r#"{"at_ms":0,"op":"settle","id":"a"}"#, "settle needs `outcome`"),
        (r#"{"at_ms":0,"op":"tick","id":"a"}"#, "tick has no `id`"),
        (r#"{"config":{}}"#, "unknown field `config`"),
    ];
    for (faulty, expected) in table {
        let input = format!("{{\"config\":{{}}}}\n{faulty}\n{{\"at_ms\":0,\"op\":\"tick\"}}\n");
        let (lines, said, code) = run(&input);
        assert_eq!((lines.len(), code), (2, Some(2)), "{faulty}: {lines:?}");
        let fault = format!("line 2: {expected}");
        assert!(
            lines[0].contains(serde_json::json!(fault).to_string().get(1..20).unwrap()),
            "{}",
            lines[0]
        );
        assert!(said.contains(&fault), "{faulty}: {said}");
        assert!(!lines[1].contains("error"), "{}", lines[1]);
    }
}

#[test]
fn faulty_rules_end_it_at_once() {
    let table = [
        ("", "no line; the first is"),
        (r#"{"at_ms":0,"op":"tick"}"#, "line 1: not {\"config\":{…}}: unknown field `at_ms`"),
        (r#"{"config":{"treshold":1}}"#, "unknown field `treshold`"),
        (
            r#"{"config":{"failure_threshold":0}}"#,
            "config: failure_threshold is 0; must be 1 to 1000000",
        ),
        (
            r#"{"config":{"error_percent":101}}"#,
            "config: error_percent is 101; must be above 0 and at most 100",
        ),
        (r#"{"config":{"open_ms":0}}"#, "config: open_ms is 0ns; must be 1ms to 86400s"),
        (
            r#"{"config":{"open_ms":10,"open_max_ms":5}}"#,
            "config: open_max_ms is 5ms; must be 10ms to 86400s",
        ),
        (
            r#"{"config":{"window_ms":10,"window_calls":5}}"#,
            "config has window_ms and window_calls; choose one",
        ),
        (r#"{"config":{"jitter":2}}"#, "config: jitter is 2; must be 0 to 1"),
    ];
    for (input, expected) in table {
        let (lines, said, code) = run(input);
        assert_eq!((lines.len(), code), (0, Some(2)), "{input}");
        assert!(said.contains(expected), "{input}: {said}");
    }
}
