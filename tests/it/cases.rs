//! Cases of other supervisors' suites: which of them hold here and by which test, and why the rest do
//! not apply. A case that names a test which is gone fails.
//!
//! supervisord: `supervisor/tests/test_process.py`, `test_supervisord.py`, `test_end_to_end.py`;
//! s6 and runit: their documentation; Nomad: `restarts_test.go`, `executor_test.go`.

use std::collections::BTreeSet;

use crate::daemon::{WORKER, embedded_client, stored, supervision, type_of, with_agents};
use crate::support::daemon::Daemon;
use crate::support::{eventually, eventually_blocking};
use crate::tidy::{files_under, root};

/// What becomes of a case.
enum Case {
    /// Held by the test of this name.
    Held(&'static str),
    /// Does not apply, for this reason.
    Apart(&'static str),
}

use Case::{Apart, Held};

const SUPERVISORD: &[(&str, Case)] = &[
    ("spawn_fail_make_pipes_emfile", Held("limits_of_the_operating_system_are_system_errors")),
    ("spawn_fork_fail_eagain", Held("limits_of_the_operating_system_are_system_errors")),
    ("get_execv_args_abs_missing", Held("every_failed_start_says_what_is_wrong")),
    (
        "get_execv_args_rel_missing",
        Held("a_relative_program_is_looked_up_in_the_working_directory"),
    ),
    ("get_execv_args_bad_command", Apart("a command is a list of arguments: nothing is quoted")),
    ("startProcess_file_not_executable", Held("every_failed_start_says_what_is_wrong")),
    ("spawn_as_child_cwd_fail", Held("every_failed_start_says_what_is_wrong")),
    ("spawn_as_child_execv_fail_oserror", Held("every_failed_start_says_what_is_wrong")),
    (
        "spawn_as_child_setuid_fail",
        Apart("a change of user is one of the limits, with their tests"),
    ),
    (
        "finish_starting_state_exited_too_quickly",
        Held("a_crash_loop_opens_the_circuit_and_a_reset_closes_it"),
    ),
    (
        "finish_running_state_exited_too_quickly_due_to_clock_rollback",
        Held("protocol_and_logic_touch_nothing_outside"),
    ),
    ("laststart_in_future", Held("protocol_and_logic_touch_nothing_outside")),
    (
        "transition_backoff_to_starting_delay_in_future",
        Held("protocol_and_logic_touch_nothing_outside"),
    ),
    (
        "transition_backoff_to_fatal",
        Held("over_its_limit_a_child_is_quarantined_and_its_siblings_go_on"),
    ),
    ("give_up", Held("a_crash_loop_opens_the_circuit_and_a_reset_closes_it")),
    (
        "change_state_sets_backoff_and_delay",
        Held("a_delay_grows_with_failures_in_a_row_and_is_reset_by_a_stable_run"),
    ),
    ("transition_stops_unkillable", Held("it_kills_children_whose_deadline_has_expired")),
    (
        "transition_stops_unkillable_notyet",
        Held("children_stop_in_reverse_order_each_within_its_deadline"),
    ),
    ("kill_from_stopping_w_killasgroup", Held("nothing_of_a_run_is_left_when_it_is_killed")),
    ("stopasgroup", Held("the_stop_signal_reaches_the_whole_group_even_when_it_is_stopped")),
    (
        "kill_from_running_error_ESRCH",
        Apart("the keeper that signals a run is the one that reaps it: no run is gone unnoticed"),
    ),
    ("kill_from_backoff", Held("a_stop_cancels_a_restart_that_waits_for_its_delay")),
    (
        "transition_exited_to_starting_supervisor_stopping",
        Held("shutdown_wins_over_a_start_and_over_a_group_restart"),
    ),
    ("reap_unknown_pid", Held("many_quick_runs_leave_no_zombie_and_no_open_file")),
    ("reap_more_than_once", Held("many_runs_that_end_at_once_are_all_told")),
    (
        "reap_recursionguard",
        Apart("ends are read from descriptors one by one, not in a signal handler"),
    ),
    ("removeProcessGroup_still_running", Held("the_cases_of_otp_s_own_suite_give_otp_s_traces")),
    ("stop_all", Held("sigterm_stops_agents_in_reverse_order_and_leaves_nothing")),
    ("handle_sighup_in_shutdown_state", Held("a_hangup_while_the_daemon_stops_reloads_nothing")),
    ("interpretProcessInfo_doesnt_report_negative_uptime", Held("an_age_is_never_negative")),
    ("issue_291a_percent_sign_in_config", Held("variables_defaults_and_escapes_are_replaced")),
    ("issue_565_binary_output", Held("only_the_end_of_a_long_output_counts_whatever_its_bytes")),
    ("issue_638_colour_in_output", Held("text_from_outside_cannot_move_the_cursor")),
    (
        "issue_550_oversized_output",
        Held("a_flood_of_output_neither_blocks_the_child_nor_fills_the_disk"),
    ),
    ("issue_1231_maintail_follow", Held("following_gives_whole_lines_once")),
    (
        "unkillable_spew",
        Held("one_that_floods_its_log_and_ignores_the_stop_signal_is_killed_in_time"),
    ),
    ("change_state_doesnt_notify_if_no_state_change", Held("what_changes_nothing_raises_no_event")),
    ("exitcodes", Held("a_rule_stops_an_agent_until_somebody_starts_it")),
];

const S6_AND_RUNIT: &[(&str, Case)] = &[
    (
        "a second between spawns unless it was ready for one",
        Held("a_delay_grows_with_failures_in_a_row_and_is_reset_by_a_stable_run"),
    ),
    ("finish gets code and signal", Held("codes_and_signals_are_told_apart")),
    (
        "finish is killed after timeout-finish",
        Apart("there is no finish script: exit rules say what is done"),
    ),
    ("finish exits 125: down for good", Held("a_rule_stops_an_agent_until_somebody_starts_it")),
    (
        "s6-permafailon: so many deaths in a time",
        Held("over_its_limit_a_child_is_quarantined_and_its_siblings_go_on"),
    ),
    (
        "s6-permafailon: with given codes",
        Held("each_action_under_each_restart_type_and_strategy_is_this_table"),
    ),
    ("timeout-kill", Held("it_kills_children_whose_deadline_has_expired")),
    (
        "lock-fd: a second copy waits for the first to be gone",
        Held("nothing_under_a_killed_supervisor_outlives_the_start_of_its_replacement"),
    ),
    ("a second s6-supervise is refused", Held("two_daemons_in_one_state_folder_are_refused")),
    ("SIGTERM: down and exit", Held("sigterm_stops_agents_in_reverse_order_and_leaves_nothing")),
    (
        "SIGQUIT: exit and leave the service alone",
        Apart("SIGTERM always ends the agents; on_daemon_exit is for a killed daemon"),
    ),
    ("max-death-tally", Held("it_agrees_with_counting_the_whole_history")),
];

const NOMAD: &[(&str, Case)] = &[
    ("ModeDelay", Held("a_trial_that_stays_healthy_closes_the_circuit_and_empties_the_account")),
    ("ModeFail", Held("escalation_ends_the_supervisor_and_stop_tree_the_tree")),
    ("NoRestartOnSuccess", Held("a_transient_child_is_restarted_unless_it_ended_in_order")),
    ("ZeroAttempts", Held("with_no_restart_allowed_the_first_failure_opens_the_circuit")),
    ("TaskKilled", Held("a_stop_is_no_failure_whatever_the_exit_code_and_a_kill_is_one")),
    (
        "RestartTriggered",
        Held("a_bounce_is_not_counted_and_a_restart_during_backoff_starts_at_once"),
    ),
    ("RestartTriggered_Failure", Held("a_run_that_a_probe_or_a_limit_ended_counts_like_a_crash")),
    ("StartError_Recoverable_Fail", Held("a_failed_trial_opens_the_circuit_for_longer")),
    (
        "StartError_Recoverable_Delay",
        Held("a_delay_grows_with_failures_in_a_row_and_is_reset_by_a_stable_run"),
    ),
    (
        "Lifecycle",
        Apart(
            "there are no hooks around a run: what comes before and after is an agent of a rest_for_one",
        ),
    ),
    (
        "Executor: reattach",
        Apart("the keeper is what an executor is there; its adoption has tests of its own"),
    ),
    ("Executor: shutdown kills the group", Held("nothing_of_a_run_is_left_when_it_is_killed")),
];

/// Names of all functions in the project's Rust, tests above all.
pub(crate) fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        for file in files_under(&root().join(folder), &["rs"]) {
            let text = std::fs::read_to_string(file).unwrap();
            let found = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
            names.extend(found.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[test]
fn every_case_is_held_by_a_test_that_exists_or_has_its_reason() {
    let functions = functions();
    let mut faults = Vec::new();
    for (suite, cases) in [("supervisord", SUPERVISORD), ("s6", S6_AND_RUNIT), ("Nomad", NOMAD)] {
        let mut seen = BTreeSet::new();
        for (name, case) in cases {
            if !seen.insert(name) {
                faults.push(format!("{suite}: {name} stands twice"));
            }
            match case {
                Held(test) if !functions.contains(*test) => {
                    faults.push(format!("{suite}: {name}: there is no test {test}"));
                }
                Apart(reason) if reason.len() < 20 => {
                    faults.push(format!("{suite}: {name}: no reason is given"));
                }
                Held(_) | Apart(_) => {}
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn one_that_floods_its_log_and_ignores_the_stop_signal_is_killed_in_time() {
    let config = r#"
[supervision]
enabled = true
[agent_types.worker]
command = ["sh", "-c", "trap '' TERM INT HUP; touch ready; while :; do echo spew spew spew; done"]
env = { PROVOST_TEST_MARK = "{mark}" }
stop = { grace = "300ms" }
[[agent]]
name = "w1"
type = "worker"
"#;
    let daemon = Daemon::start(config);
    daemon.wait_state("w1", "running");
    let ready = daemon.dir.path().join("ready");
    eventually_blocking("it floods", || ready.exists().then_some(()));
    let begin = std::time::Instant::now();
    assert!(daemon.cli(&["stop", "w1"]).status.success());
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
    daemon.wait_state("w1", "stopped");
    daemon.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_raises_no_event() {
    let daemon = Daemon::start(&with_agents(WORKER, &["w1"]));
    daemon.wait_state("w1", "running");
    for _ in 0..3 {
        assert!(daemon.cli(&["drain", "w1"]).status.success());
    }
    daemon.wait_state("w1", "degraded");
    assert!(daemon.cli(&["resume", "w1"]).status.success());
    daemon.wait_state("w1", "running");
    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let states = eventually("the last change is stored", async || {
        let events = stored(&mut stream).await;
        let changes = events.iter().filter(|event| type_of(event) == "agent.state_changed");
        let states: Vec<String> =
            changes.map(|event| event["data"]["new_state"].as_str().unwrap().to_owned()).collect();
        (3 < states.len()).then_some(states)
    })
    .await;
    assert_eq!(states, ["starting", "running", "degraded", "running"]);
}
