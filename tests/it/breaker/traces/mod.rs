//! Traces, each with every answer written out.
//!
//! A step is `at op [id] [outcome] [wait] => answer`. An answer is `+` for a granted permit, the
//! state, the time until the next one, and the transitions as `from>to:reason`.

use serde_json::{Value, json};

use crate::breaker::breaker_words::Trace;

mod half_open;

/// Runs the steps and compares each answer.
fn check(config: &Value, steps: &str) {
    let mut trace = Trace::begin(&json!({ "config": config }).to_string()).unwrap();
    for step in steps.lines().map(str::trim).filter(|step| !step.is_empty()) {
        let (op, expected) = step.split_once("=>").unwrap_or_else(|| panic!("{step}"));
        let (answer, _) = trace.answer(&operation(op).to_string(), |fault| fault);
        assert_eq!(shown(&answer), expected.trim(), "{step}\nof {config}");
    }
}

fn operation(text: &str) -> Value {
    let words: Vec<&str> = text.split_whitespace().collect();
    let at: u64 = words[0].parse().unwrap();
    match words[1] {
        "acquire" | "drop" => json!({"at_ms": at, "op": words[1], "id": words[2]}),
        "force" => json!({"at_ms": at, "op": "force", "to": words[2]}),
        "tick" => json!({"at_ms": at, "op": "tick"}),
        outcome => {
            let wait = words.get(3).map(|wait| wait.parse::<u64>().unwrap());
            json!({"at_ms": at, "op": "settle", "id": words[2], "outcome": outcome,
                "retry_after_ms": wait})
        }
    }
}

fn shown(answer: &Value) -> String {
    let mut words = Vec::new();
    if answer["granted"] == true {
        words.push("+".to_owned());
    }
    words.push(answer["state"].as_str().unwrap().to_owned());
    words.extend(answer["retry_after_ms"].as_u64().map(|wait| wait.to_string()));
    for found in answer["transitions"].as_array().unwrap() {
        let word = |key: &str| found[key].as_str().unwrap();
        words.push(format!("{}>{}:{}", word("from"), word("to"), word("reason")));
    }
    words.extend(answer["error"].as_str().map(|error| format!("! {error}")));
    words.join(" ")
}

/// A call that is settled at once, `times` over.
fn calls(at: u64, outcome: &str, times: usize) -> String {
    let one = |_| format!("{at} acquire x => + closed\n{at} {outcome} x => closed\n");
    (0..times).map(one).collect()
}

const OPENED: &str = "open 1000 closed>open";

/// Two failures in a row open it for a second.
fn two_failures() -> Value {
    json!({"failure_threshold": 2, "open_ms": 1000})
}

const TRIP: &str = "
    0 acquire a => + closed
    0 error a => closed
    0 acquire b => + closed
    0 error b => open 1000 closed>open:failure_threshold
";

fn trip_and(more: &str) -> String {
    format!("{TRIP}{more}")
}

#[test]
fn opener_exact_threshold() {
    for threshold in [1, 2, 5, 100] {
        let steps = calls(0, "error", threshold - 1);
        let last = format!("0 acquire y => + closed\n0 error y => {OPENED}:failure_threshold");
        let config = json!({"failure_threshold": threshold, "open_ms": 1000});
        check(&config, &format!("{steps}{last}\n0 acquire z => open 1000"));
    }
}

#[test]
fn a_success_ends_the_run_of_failures() {
    check(
        &two_failures(),
        "0 acquire a => + closed
         0 acquire b => + closed
         0 acquire c => + closed
         0 error a => closed
         0 ok b => closed
         0 error c => closed",
    );
}

#[test]
fn after_the_deciding_result_no_call_is_admitted() {
    check(&two_failures(), &trip_and("0 acquire c => open 1000\n999 acquire d => open 1"));
}

#[test]
fn should_open_after_failure_rate_threshold_exceeded() {
    let config =
        json!({"error_percent": 50, "request_volume": 10, "window_ms": 10_000, "open_ms": 1000});
    let six = calls(0, "ok", 5) + &calls(0, "error", 4);
    check(&config, &format!("{six}0 acquire y => + closed\n0 error y => {OPENED}:error_percent"));
}

#[test]
fn a_share_below_the_threshold_stays_closed() {
    let config = json!({"error_percent": 50, "request_volume": 10, "window_ms": 10_000});
    check(&config, &(calls(0, "ok", 6) + &calls(0, "error", 5)));
}

#[test]
fn low_volume_does_not_trip_circuit_and_the_call_that_reaches_it_may_be_a_success() {
    let config =
        json!({"error_percent": 50, "request_volume": 10, "window_ms": 10_000, "open_ms": 1000});
    let nine = calls(0, "error", 9);
    check(&config, &format!("{nine}0 acquire y => + closed\n0 ok y => {OPENED}:error_percent"));
}

#[test]
fn cold_start_protects_success_rate() {
    check(&json!({"error_percent": 1, "request_volume": 5}), &calls(0, "error", 4));
}

#[test]
fn a_share_may_rise_because_successes_leave_the_window() {
    // 5 of 15 at first; when the ten old successes have left, the next success is judged with them.
    let config =
        json!({"error_percent": 50, "request_volume": 5, "window_ms": 1000, "open_ms": 1000});
    let begin = calls(0, "ok", 10) + &calls(500, "error", 5);
    check(
        &config,
        &format!("{begin}1100 acquire y => + closed\n1100 ok y => {OPENED}:error_percent"),
    );
}

#[test]
fn success_rate_recovers_after_decay() {
    let config = json!({"error_percent": 50, "request_volume": 4, "window_ms": 1000});
    check(&config, &(calls(0, "error", 3) + &calls(1000, "error", 3) + &calls(2000, "ok", 4)));
}

#[test]
fn get_health_info_ensure_window_respected() {
    // Nine tenths of the window always count, and nothing is older than the window.
    let config =
        json!({"error_percent": 100, "request_volume": 2, "window_ms": 1000, "open_ms": 1000});
    let first = calls(99, "error", 1);
    let trip = |at: u64| {
        format!("{first}{at} acquire y => + closed\n{at} error y => {OPENED}:error_percent")
    };
    check(&config, &trip(999));
    check(&config, &(first.clone() + &calls(1000, "error", 1)));
    check(&config, &(calls(0, "error", 1) + &calls(1000, "error", 1)));
}

#[test]
fn idle_reengages_cold_start() {
    let config = json!({"error_percent": 50, "request_volume": 3, "window_ms": 1000});
    check(&config, &(calls(0, "error", 2) + &calls(60_000, "error", 2)));
}

#[test]
fn window_of_calls_forgets_the_oldest() {
    let config =
        json!({"error_percent": 50, "request_volume": 4, "window_calls": 4, "open_ms": 1000});
    // e o o o -> o o o e -> o o e e: half.
    let begin = "0 acquire f => + closed\n0 error f => closed\n".to_owned()
        + &calls(0, "ok", 3)
        + &calls(90_000, "error", 1);
    check(
        &config,
        &format!("{begin}90000 acquire y => + closed\n90000 error y => {OPENED}:error_percent"),
    );
}

#[test]
fn should_reduce_minimum_number_of_calls_to_sliding_window_size() {
    let config =
        json!({"error_percent": 100, "request_volume": 20, "window_calls": 3, "open_ms": 1000});
    let two = calls(0, "error", 2);
    check(&config, &format!("{two}0 acquire y => + closed\n0 error y => {OPENED}:error_percent"));
}

#[test]
fn window_slides_after_many_successes() {
    let config =
        json!({"error_percent": 50, "request_volume": 100, "window_calls": 100, "open_ms": 1000});
    let begin = calls(0, "ok", 10_000) + &calls(0, "error", 49);
    check(&config, &format!("{begin}0 acquire y => + closed\n0 error y => {OPENED}:error_percent"));
}

#[test]
fn should_open_after_slow_call_rate_threshold_exceeded() {
    let config = json!({"slow_percent": 50, "slow_ms": 200, "request_volume": 4, "open_ms": 1000});
    check(
        &config,
        "0 acquire a => + closed
         0 acquire b => + closed
         0 acquire c => + closed
         0 acquire d => + closed
         199 ok a => closed
         199 ok b => closed
         200 ok c => closed
         900 error d => open 1000 closed>open:slow_percent",
    );
}

#[test]
fn outcome_slow_counts_as_slow_whatever_the_time() {
    let config = json!({"slow_percent": 50, "request_volume": 2, "open_ms": 1000});
    check(
        &config,
        "0 acquire a => + closed
         0 slow a => closed
         0 acquire b => + closed
         0 ok b => open 1000 closed>open:slow_percent",
    );
    // A slow answer is an answer: it ends a run of failures.
    check(&two_failures(), &(calls(0, "error", 1) + &calls(0, "slow", 1) + &calls(0, "error", 1)));
}

#[test]
fn simultaneous_threshold_cross_reports_consecutive_reason() {
    let config =
        json!({"failure_threshold": 2, "error_percent": 100, "request_volume": 2, "open_ms": 1000});
    check(&config, TRIP);
}

#[test]
fn consecutive_failures_ignores_429() {
    check(&two_failures(), &(calls(0, "error", 1) + &calls(0, "throttled", 50)));
    // It neither extends nor ends the run.
    check(
        &two_failures(),
        &(calls(0, "error", 1)
            + &calls(0, "throttled", 1)
            + "0 acquire y => + closed\n0 error y => open 1000 closed>open:failure_threshold"),
    );
}

#[test]
fn throttled_calls_count_in_the_share() {
    let config = json!({"error_percent": 50, "request_volume": 2, "open_ms": 1000});
    check(
        &config,
        &(calls(0, "throttled", 1)
            + "0 acquire y => + closed\n0 throttled y => open 1000 closed>open:error_percent"),
    );
}

#[test]
fn a_named_time_opens_until_then_and_makes_no_later_opening_longer() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "open_factor": 2});
    check(
        &config,
        "0 acquire a => + closed
         5 throttled a 3000 => open 3000 closed>open:throttled
         3004 acquire b => open 1
         3005 acquire b => + half_open open>half_open:open_time_over
         3005 error b => open 1000 half_open>open:trial_failed",
    );
}

#[test]
fn probation_failure_on_429() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000});
    for (wait, open) in [("", 1000), ("300", 1000), ("7000", 7000), ("99999999", 3_600_000)] {
        check(
            &config,
            &trip_and(&format!(
                "1000 acquire p => + half_open open>half_open:open_time_over
                 1000 throttled p {wait} => open {open} half_open>open:trial_failed"
            )),
        );
    }
}

#[test]
fn force_open_never_runs() {
    check(
        &two_failures(),
        "0 acquire a => + closed
         0 force open => forced_open closed>forced_open:requested
         0 acquire b => forced_open
         9999999 acquire c => forced_open
         9999999 ok a => forced_open
         9999999 force auto => closed forced_open>closed:requested
         9999999 acquire d => + closed",
    );
}

#[test]
fn forced_closed_passes_everything_and_auto_starts_with_an_empty_window() {
    check(
        &two_failures(),
        "0 force closed => forced_closed closed>forced_closed:requested
         0 acquire a => + forced_closed
         0 error a => forced_closed
         0 acquire a => + forced_closed
         0 throttled a 9000 => forced_closed
         0 acquire a => + forced_closed
         0 error a => forced_closed
         0 acquire b => + forced_closed
         1 force auto => closed forced_closed>closed:requested
         1 error b => closed
         1 acquire c => + closed
         1 error c => closed
         1 acquire c => + closed
         1 error c => open 1000 closed>open:failure_threshold",
    );
}

#[test]
fn manual_transitions_under_force_flags() {
    check(
        &two_failures(),
        &trip_and(
            "1 force closed => forced_closed open>forced_closed:requested
             1 force open => forced_open forced_closed>forced_open:requested
             1 force open => forced_open
             1 force auto => closed forced_open>closed:requested
             1 force auto => closed",
        ),
    );
}

#[test]
fn an_open_time_is_never_longer_for_its_jitter() {
    let config = json!({"failure_threshold": 1, "open_ms": 1000, "jitter": 0.5});
    check(
        &config,
        "0 acquire a => + closed
         0 error a => open 691 closed>open:failure_threshold
         691 acquire a => + half_open open>half_open:open_time_over
         691 error a => open 882 half_open>open:trial_failed",
    );
}

#[test]
fn faulty_operations_change_nothing_and_are_told() {
    check(
        &two_failures(),
        "10 acquire a => + closed
         9 tick => closed ! time goes back: at_ms is 9 after 10
         10 acquire a => closed ! id \"a\" already holds a permit
         10 ok b => closed ! id \"b\" was never acquired
         10 ok a 5 => closed ! `retry_after_ms` belongs to outcome throttled
         10 ok a => closed
         10 ok a => closed ! id \"a\" has already ended
         10 acquire a => + closed
         10 force closed => forced_closed closed>forced_closed:requested",
    );
}

#[test]
fn settling_a_rejected_call_changes_nothing() {
    check(
        &two_failures(),
        &trip_and("1 acquire c => open 999\n2 ok c => open 998\n3 drop c => open 997"),
    );
}

#[test]
fn a_permit_that_a_later_gate_returns_is_not_counted() {
    check(&json!({"error_percent": 1, "request_volume": 1}), &calls(0, "ignored", 20));
}
