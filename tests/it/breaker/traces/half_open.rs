//! Traces of half-open: probes, late results, deadlines, open times.

use serde_json::json;

use crate::breaker::traces::{TRIP, calls, check, trip_and, two_failures};

#[test]
fn single_test_on_open_circuit_after_time_window() {
    check(
        &two_failures(),
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 acquire q => half_open
             1100 ok p => closed half_open>closed:trial_passed
             1100 acquire r => + closed",
        ),
    );
}

#[test]
fn time_alone_leads_to_half_open() {
    check(
        &two_failures(),
        &trip_and(
            "999 tick => open 1
             1000 tick => half_open open>half_open:open_time_over
             900000 tick => half_open
             900000 acquire p => + half_open",
        ),
    );
}

#[test]
fn should_not_allow_transition_from_closed_to_half_open() {
    check(&two_failures(), "0 tick => closed\n99999 tick => closed\n99999 force auto => closed");
}

#[test]
fn should_only_permit_four_calls_in_half_open_state() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "half_open_probes": 4,
        "success_threshold": 4, "half_open_timeout_ms": 500});
    check(
        &config,
        &trip_and(
            "1000 acquire a => + half_open open>half_open:open_time_over
             1000 acquire b => + half_open
             1000 acquire c => + half_open
             1000 acquire d => + half_open
             1100 acquire e => half_open 400
             1100 ok a => half_open
             1100 acquire f => + half_open
             1100 acquire g => half_open 400
             1200 ok b => half_open
             1200 ok c => half_open
             1200 ok d => closed half_open>closed:trial_passed
             1200 error f => closed",
        ),
    );
}

#[test]
fn volume_threshold_does_not_affect_half_open_state() {
    let config = json!({"failure_threshold": 2, "error_percent": 50, "request_volume": 100, "open_ms": 1000});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 error p => open 1000 half_open>open:trial_failed",
        ),
    );
}

#[test]
fn more_successes_than_probes_at_a_time_may_be_needed() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "success_threshold": 3});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 ok p => half_open
             1000 acquire q => + half_open
             1000 ok q => half_open
             1000 acquire r => + half_open
             1000 ok r => closed half_open>closed:trial_passed",
        ),
    );
}

#[test]
fn flow_closed_half_open_open_half_open_closed() {
    let config =
        json!({"failure_threshold": 2, "open_ms": 1000, "open_factor": 2, "open_max_ms": 3000});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 error p => open 2000 half_open>open:trial_failed
             2999 acquire q => open 1
             3000 acquire q => + half_open open>half_open:open_time_over
             3000 error q => open 3000 half_open>open:trial_failed
             6000 acquire r => + half_open open>half_open:open_time_over
             6000 ok r => closed half_open>closed:trial_passed",
        ),
    );
}

#[test]
fn backoff_resets_to_base_on_retrip() {
    let config = json!({"failure_threshold": 1, "open_ms": 1000, "open_factor": 2});
    check(
        &config,
        "0 acquire a => + closed
         0 error a => open 1000 closed>open:failure_threshold
         1000 acquire a => + half_open open>half_open:open_time_over
         1000 error a => open 2000 half_open>open:trial_failed
         3000 acquire a => + half_open open>half_open:open_time_over
         3000 ok a => closed half_open>closed:trial_passed
         3000 acquire a => + closed
         3000 error a => open 1000 closed>open:failure_threshold",
    );
}

#[test]
fn slow_healthy_probe_reopens() {
    let config = json!({"failure_threshold": 2, "slow_percent": 90, "slow_ms": 300, "request_volume": 50, "open_ms": 1000});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1300 ok p => open 1000 half_open>open:trial_failed",
        ),
    );
    // Where slow calls are no condition, a slow answer is an answer.
    check(
        &two_failures(),
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 slow p => closed half_open>closed:trial_passed",
        ),
    );
}

#[test]
fn in_flight_success_does_not_close_freshly_opened_circuit() {
    check(
        &two_failures(),
        &format!(
            "0 acquire old => + closed{TRIP}
             10 ok old => open 990
             1000 acquire p => + half_open open>half_open:open_time_over"
        ),
    );
}

#[test]
fn request_started_before_open_flip_is_not_a_probe() {
    check(
        &two_failures(),
        &format!(
            "0 acquire old => + closed{TRIP}
             1000 acquire p => + half_open open>half_open:open_time_over
             1001 ok old => half_open
             1001 acquire q => half_open
             1002 error p => open 1000 half_open>open:trial_failed"
        ),
    );
}

#[test]
fn stale_failure_does_not_poison_probe() {
    check(
        &two_failures(),
        &format!(
            "0 acquire old => + closed{TRIP}
             1000 acquire p => + half_open open>half_open:open_time_over
             1001 error old => half_open
             1002 ok p => closed half_open>closed:trial_passed"
        ),
    );
}

#[test]
fn generation_a_probe_of_an_earlier_trial_says_nothing_in_a_later_one() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "half_open_probes": 2});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1000 acquire q => + half_open
             1000 error p => open 1000 half_open>open:trial_failed
             2000 acquire r => + half_open open>half_open:open_time_over
             2000 ok q => half_open
             2000 acquire s => + half_open
             2000 acquire t => half_open
             2000 drop q => half_open ! id \"q\" has already ended",
        ),
    );
}

#[test]
fn a_dropped_permit_is_neither_success_nor_failure_and_frees_its_slot() {
    check(
        &two_failures(),
        "0 acquire a => + closed
             0 error a => closed
             0 acquire b => + closed
             0 drop b => closed
             0 acquire c => + closed
             0 error c => open 1000 closed>open:failure_threshold
             1000 acquire p => + half_open open>half_open:open_time_over
             1000 acquire q => half_open
             1001 drop p => half_open
             1001 acquire q => + half_open
             1001 ok q => closed half_open>closed:trial_passed",
    );
}

#[test]
fn an_ignored_result_frees_its_slot_and_says_nothing() {
    let config = json!({"error_percent": 50, "request_volume": 2, "open_ms": 1000});
    check(
        &config,
        &(calls(0, "ignored", 9)
            + "0 acquire a => + closed
               0 error a => closed
               0 acquire b => + closed
               0 error b => open 1000 closed>open:error_percent
               1000 acquire p => + half_open open>half_open:open_time_over
               1000 ignored p => half_open
               1000 acquire q => + half_open
               1000 ok q => closed half_open>closed:trial_passed"),
    );
}

#[test]
fn unsubscription_does_not_leave_circuit_stuck_half_open() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "half_open_timeout_ms": 400});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1399 acquire q => half_open 1
             1400 tick => open 1000 half_open>open:trial_timed_out
             1500 ok p => open 900
             2400 acquire r => + half_open open>half_open:open_time_over
             2400 ok r => closed half_open>closed:trial_passed",
        ),
    );
}

#[test]
fn what_fell_due_unseen_happened_at_its_own_time() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "half_open_timeout_ms": 400});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             2300 tick => open 100 half_open>open:trial_timed_out
             2400 acquire q => + half_open open>half_open:open_time_over
             9000 acquire r => + half_open half_open>open:trial_timed_out open>half_open:open_time_over",
        ),
    );
}

#[test]
fn half_open_without_probes_under_way_has_nothing_to_time_out() {
    let config = json!({"failure_threshold": 2, "open_ms": 1000, "success_threshold": 2, "half_open_timeout_ms": 400});
    check(
        &config,
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             1100 ok p => half_open
             60000 acquire q => + half_open
             60399 ok q => closed half_open>closed:trial_passed",
        ),
    );
}

#[test]
fn without_its_deadline_half_open_waits() {
    check(
        &two_failures(),
        &trip_and(
            "1000 acquire p => + half_open open>half_open:open_time_over
             9000000 acquire q => half_open
             9000000 ok p => closed half_open>closed:trial_passed",
        ),
    );
}
