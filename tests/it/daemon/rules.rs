//! Exit rules, with real processes: what an end means, what is done, and what the events say.

use serde_json::{Value, json};

use crate::daemon::{WORKER, embedded_client, pid_of, stored, supervision, type_of, with_agents};
use crate::support::daemon::Daemon;
use crate::support::eventually;

/// A type `worker` that runs this shell script and is allowed one restart a minute, with more.
fn worker(script: &str, more: &str) -> String {
    format!(
        "[supervision]\nenabled = true\n[agents]\nmax = 100\n[agent_types.worker]\n\
         command = [\"sh\", \"-c\", '''{script}''']\n\
         env = {{ PROVOST_TEST_MARK = \"{{mark}}\" }}\n\
         stop = {{ grace = \"5s\" }}\n\
         restart = {{ intensity = 1, period = \"60s\", open_for = \"1h\", open_max = \"2h\", \
         stable_after = \"1h\", backoff = {{ initial = \"1ms\" }} }}\n{more}\n"
    )
}

/// The stored events of a type about a child, once there is one.
async fn events_of(daemon: &Daemon, kind: &str, name: &str) -> Vec<Value> {
    let client = Box::pin(embedded_client(daemon)).await;
    let mut stream = Box::pin(supervision(&client)).await;
    let what = format!("{kind} of {name} is stored");
    let found = eventually(&what, async || {
        let events = stored(&mut stream).await.into_iter();
        let found = events.filter(|event| type_of(event) == kind && event["data"]["name"] == name);
        let found: Vec<Value> = found.collect();
        (!found.is_empty()).then_some(found)
    });
    Box::pin(found).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limited_command_line_is_parked_for_the_time_in_its_output_and_never_counted() {
    let script = "echo working; echo 'Error: Rate Limit reached. Try again in 1s.' >&2; exit 1";
    let rule = "[[agent_types.worker.exit_rules]]\noutput = \"rate limit|overloaded\"\n\
                action = \"park\"\npark_for = \"1h\"\npark_from_output = true";
    let daemon = Daemon::start(&with_agents(&worker(script, rule), &["w1"]));
    let parked = daemon.wait_state("w1", "parked");
    assert_eq!(parked["next"]["action"], "restart");
    assert!(parked["next"]["in_ms"].as_u64().unwrap() <= 1_000, "{parked}");
    assert!(parked["reason"].as_str().unwrap().contains("Try again in 1s"), "{parked}");
    // More often than the limit of one restart a minute.
    let later =
        daemon.wait("w1", "ran four times", |agent| agent["generation"].as_u64().unwrap() >= 4);
    assert_eq!(later["circuit"]["state"], "closed");
    let failures = events_of(&daemon, "supervision.failure", "w1").await;
    let data = &failures[0]["data"];
    assert_eq!(failures[0]["severity"], "low");
    assert_eq!(data["failure_type"], "throttled");
    assert_eq!(data["exit"], json!({"code": 1, "signal": null}));
    assert_eq!(data["decision"]["reason"], "throttled");
    assert_eq!(data["decision"]["inputs"]["after_ms"], 1_000);
    assert_eq!(data["decision"]["inputs"]["exit_class"], "throttled");
    let rule = data["decision"]["rule"]["exit_rule"].as_str().unwrap();
    assert!(rule.ends_with("provost.toml:10"), "{rule}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_itself_that_it_is_throttled_by_exit_code_75_and_a_time() {
    let daemon =
        Daemon::start(&with_agents(&worker("echo retry after 3600; exit 75", ""), &["w1"]));
    let parked = daemon.wait_state("w1", "parked");
    assert!(3_500_000 < parked["next"]["in_ms"].as_u64().unwrap(), "{parked}");
    let failures = events_of(&daemon, "supervision.failure", "w1").await;
    assert_eq!(failures[0]["data"]["decision"]["rule"]["exit_rule"], "built in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_found_is_quarantined_at_once_and_the_event_says_what_to_check() {
    let script = "no-such-command-anywhere";
    let daemon = Daemon::start(&with_agents(&worker(script, ""), &["w1"]));
    let open = daemon.wait_state("w1", "quarantined");
    assert_eq!(open["generation"], 1, "it was tried again");
    assert_eq!(open["circuit"]["state"], "open");
    assert!(open["reason"].as_str().unwrap().contains("check its spelling and PATH"), "{open}");
    let failures = events_of(&daemon, "supervision.failure", "w1").await;
    let data = &failures[0]["data"];
    assert_eq!(data["exit"]["code"], 127);
    assert!(data["message"].as_str().unwrap().contains("check its spelling and PATH"), "{data}");
    assert_eq!(data["decision"]["reason"], "exit_rule");
    assert_eq!(data["decision"]["next"]["action"], "trial");
    assert_eq!(data["decision"]["inputs"]["exit_class"], "config_fault");
    let circuits = events_of(&daemon, "supervision.circuit", "w1").await;
    assert_eq!(circuits[0]["data"]["to"], "open");
    assert_eq!(circuits[0]["data"]["reason"], "exit_rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_exist_is_quarantined_at_once_and_the_event_says_what_to_check() {
    let config = with_agents(WORKER, &["w1"]).replace("\"sleep\", ", "\"no-such-program\", ");
    let daemon = Daemon::start(&config);
    let open = daemon.wait_state("w1", "quarantined");
    assert_eq!(open["generation"], 1, "it was tried again");
    assert!(open["reason"].as_str().unwrap().contains("check `command` and PATH"), "{open}");
    let failures = events_of(&daemon, "supervision.failure", "w1").await;
    let data = &failures[0]["data"];
    assert_eq!(data["failure_type"], "start_failed");
    assert_eq!(data["decision"]["next"]["action"], "trial");
    let circuits = events_of(&daemon, "supervision.circuit", "w1").await;
    assert_eq!(circuits[0]["data"]["reason"], "start_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_stops_an_agent_until_somebody_starts_it() {
    let script = "test -e go && exec sleep 100000; exit 3";
    let rule = "[[agent_types.worker.exit_rules]]\ncodes = [3]\naction = \"stop\"";
    let daemon = Daemon::start(&with_agents(&worker(script, rule), &["w1"]));
    let stopped = daemon.wait_state("w1", "stopped");
    assert_eq!(stopped["generation"], 1);
    assert_eq!(stopped["next"], Value::Null);
    let failures = events_of(&daemon, "supervision.failure", "w1").await;
    assert_eq!(failures[0]["data"]["decision"]["next"]["action"], "none");
    std::fs::write(daemon.dir.path().join("go"), "").unwrap();
    assert!(daemon.cli(&["restart", "w1"]).status.success());
    assert_eq!(daemon.wait_state("w1", "running")["generation"], 2);
}

#[test]
fn a_rule_restarts_all_siblings_whatever_the_strategy() {
    let script = "test \"$PROVOST_AGENT_NAME\" = b && ! test -e crashed && touch crashed && exit 5; \
                  exec sleep 100000";
    let rule = "[[agent_types.worker.exit_rules]]\ncodes = [\"5-6\"]\naction = \"restart_group\"";
    let daemon = Daemon::start(&with_agents(&worker(script, rule), &["a", "b", "c"]));
    for name in ["a", "b", "c"] {
        daemon.wait(name, "runs for the second time", |agent| {
            agent["state"] == "running" && agent["generation"] == 2
        });
    }
    assert_eq!(daemon.processes().len(), 3, "a stray or missing process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_makes_the_supervisor_give_up_and_its_parent_starts_it_anew() {
    let script = "test \"$PROVOST_AGENT_NAME\" = b && ! test -e crashed && touch crashed && exit 5; \
                  exec sleep 100000";
    let rule = "[[agent_types.worker.exit_rules]]\ncodes = [5]\naction = \"escalate\"\n\
                [supervisors.team]\nchildren = [\"a\", \"b\"]";
    let daemon = Daemon::start(&with_agents(&worker(script, rule), &["a", "b"]));
    for name in ["a", "b"] {
        daemon.wait(name, "runs for the second time", |agent| {
            agent["state"] == "running" && agent["generation"] == 2
        });
    }
    let told = events_of(&daemon, "supervision.escalation", "team").await;
    assert_eq!(told[0]["severity"], "critical");
    assert_eq!(told[0]["data"]["record"]["reason"], "exit_rule");
    assert_eq!(told[0]["data"]["record"]["inputs"]["child"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_no_failure_whatever_the_exit_code_and_a_kill_is_one() {
    let script =
        "trap 'exit 3' TERM; touch ready-$PROVOST_GENERATION; while :; do sleep 0.05; done";
    let rule = "[[agent_types.worker.exit_rules]]\naction = \"escalate\"\nsignals = [\"SIGTERM\"]";
    let daemon = Daemon::start(&with_agents(&worker(script, rule), &["w1"]));
    let ready = async |generation: u64| {
        let file = daemon.dir.path().join(format!("ready-{generation}"));
        eventually("the agent is ready", async || file.exists().then_some(())).await;
    };
    ready(1).await;
    let before = daemon.wait_state("w1", "running");
    assert!(daemon.cli(&["kill", "w1"]).status.success());
    daemon.wait("w1", "runs again", |agent| {
        agent["state"] == "running" && pid_of(agent) != pid_of(&before)
    });
    ready(2).await;
    assert!(daemon.cli(&["stop", "w1"]).status.success());
    daemon.wait_state("w1", "stopped");
    let kinds = {
        let client = embedded_client(&daemon).await;
        let mut stream = supervision(&client).await;
        eventually("the stop is stored", async || {
            let events = stored(&mut stream).await;
            let own = |event: &&Value| event["data"]["name"] == "w1";
            let stopped = |event: &Value| event["data"]["new_state"] == "stopped";
            let done = events.iter().filter(own).any(stopped);
            let kinds: Vec<String> =
                events.iter().filter(own).map(|event| type_of(event).to_owned()).collect();
            done.then_some(kinds)
        })
        .await
    };
    let count = |kind: &str| kinds.iter().filter(|other| *other == kind).count();
    assert_eq!((count("supervision.failure"), count("agent.error")), (1, 0), "{kinds:?}");
}
