//! SIGKILL of the daemon, of the keeper, of both: agents live on and are adopted.
//!
//! Small by default; `PROVOST_ADOPTION_AGENTS` and `PROVOST_ADOPTION_ROUNDS` make the first test the
//! long one (1000 and 100), which prints its figures.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{WORKER, embedded_client, pid_of, supervision};
use crate::support::daemon::{Daemon, lives, signal};
use crate::support::{eventually, eventually_blocking};

/// Types: `worker` sleeps, `mortal` ends with 42 when it is asked to after it said that it is up, `talker`
/// writes numbered lines, `bound` ends with the daemon.
const TYPES: &str = r#"
[agent_types.mortal]
runtime = "process"
command = ["sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done"]
env = { PROVOST_TEST_MARK = "{mark}" }
restart = { type = "permanent", intensity = 10000, period = "60s", backoff = { initial = "0s" } }
[agent_types.talker]
runtime = "process"
command = ["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"]
env = { PROVOST_TEST_MARK = "{mark}" }
[agent_types.bound]
runtime = "process"
command = ["sleep", "100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
on_daemon_exit = "stop"
restart = { type = "permanent", intensity = 10000, period = "60s", backoff = { initial = "0s" } }
"#;

fn entry(name: &str, kind: &str) -> String {
    format!("[[agent]]\nname = \"{name}\"\ntype = \"{kind}\"\n")
}

fn config(entries: &[(&str, &str)]) -> String {
    let entries = entries.iter().map(|(name, kind)| entry(name, kind));
    entries.fold(format!("{WORKER}{TYPES}"), |config, entry| config + &entry)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Main processes of agents by name: those that lead their session.
fn mains(daemon: &Daemon) -> BTreeMap<String, Vec<u32>> {
    let mut mains: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in daemon.processes() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3);
        if session != Some(&pid.to_string()) {
            continue;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name = environment.split(|byte| *byte == 0).find_map(|entry| {
            String::from_utf8_lossy(entry).strip_prefix("PROVOST_AGENT_NAME=").map(str::to_owned)
        });
        mains.entry(name.unwrap_or_default()).or_default().push(pid);
    }
    mains
}

/// Waits until all agents run, and gives (pid, generation) of each.
fn all_running(daemon: &Daemon, count: usize) -> BTreeMap<String, (u32, u64)> {
    all_running_again(daemon, count, &[])
}

/// As [`all_running`], these in this generation.
fn all_running_again(
    daemon: &Daemon,
    count: usize,
    again: &[(&str, u64)],
) -> BTreeMap<String, (u32, u64)> {
    eventually_blocking("all agents run", || {
        let list = daemon.json(&["list"]);
        let agents = list["agents"].as_array().unwrap();
        let running = agents.iter().filter(|agent| agent["state"] == "running");
        let running: BTreeMap<String, (u32, u64)> = running
            .map(|agent| {
                let name = agent["name"].as_str().unwrap().to_owned();
                (name, (pid_of(agent), agent["generation"].as_u64().unwrap()))
            })
            .collect();
        let is_new = |(name, generation): &(&str, u64)| {
            running.get(*name).is_some_and(|(_, of_now)| of_now == generation)
        };
        (running.len() == count && again.iter().all(is_new)).then_some(running)
    })
}

/// Asks this run of a mortal agent to end, once it has set its trap: each run says so once.
fn end_mortal(daemon: &Daemon, name: &str, (pid, generation): (u32, u64)) {
    let log = daemon.state_dir().join(format!("logs/{name}.log"));
    eventually_blocking("the agent can be asked to end", || {
        let runs = fs::read_to_string(&log).unwrap_or_default().lines().count();
        (generation <= runs as u64).then_some(())
    });
    signal(pid, Signal::TERM);
}

fn server_pid(daemon: &Daemon) -> u64 {
    let text = fs::read(daemon.state_dir().join("nats.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()["pid"].as_u64().unwrap()
}

fn one_life_each(daemon: &Daemon, running: &BTreeMap<String, (u32, u64)>) {
    let mains = mains(daemon);
    let expected: BTreeMap<String, Vec<u32>> =
        running.iter().map(|(name, (pid, _))| (name.clone(), vec![*pid])).collect();
    assert_eq!(mains, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_is_followed_by_one_that_adopts_everything() {
    let (workers, rounds) =
        (number("PROVOST_ADOPTION_AGENTS", 20), number("PROVOST_ADOPTION_ROUNDS", 5));
    let names: Vec<String> = (0..workers).map(|number| format!("w{number}")).collect();
    let mut entries = vec![("m1", "mortal"), ("m2", "mortal"), ("t1", "talker")];
    entries.extend(names.iter().map(|name| (name.as_str(), "worker")));
    let text = config(&entries).replace("max = 100", "max = 5000");
    let begun = Instant::now();
    let mut daemon = Daemon::start(&text);
    let mut before = all_running(&daemon, entries.len());
    println!("{} agents run after {:?}", entries.len(), begun.elapsed());
    let (keeper, server) = (daemon.keeper().unwrap(), server_pid(&daemon));
    let mut times = Vec::new();
    for _ in 0..rounds {
        let took;
        (before, took) = kill_and_adopt(&mut daemon, before);
        times.push(took);
        assert_eq!((daemon.keeper(), server_pid(&daemon)), (Some(keeper), server));
    }
    times.sort();
    let (median, worst) = (times[rounds / 2], times[rounds - 1]);
    println!("{rounds} kills: adopted after {median:?} (median), {worst:?} (worst)");
    let memory = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let memory: Vec<&str> = memory.lines().filter(|line| line.starts_with("Rss")).collect();
    println!("keeper: {memory:?}");
    let talk = fs::read_to_string(daemon.state_dir().join("logs/t1.log")).unwrap();
    let spoken: Vec<usize> = talk.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(spoken, (0..spoken.len()).collect::<Vec<usize>>(), "log bytes are missing");

    let ends = ends(&daemon, 2 * rounds).await;
    for (name, exit) in
        [("m1", json!({"code": 42, "signal": null})), ("m2", json!({"code": null, "signal": 9}))]
    {
        let of_it = ends.iter().filter(|(of, _, how)| of == name && *how == exit);
        let told: Vec<u64> = of_it.map(|(_, generation, _)| *generation).collect();
        assert_eq!(told, (1..=rounds as u64).collect::<Vec<u64>>(), "{name}: {ends:?}");
    }
    assert_eq!(ends.len(), 2 * rounds, "an agent failed that was not killed: {ends:?}");
    daemon.terminate();
    daemon.nothing_left();
    assert!(!lives(keeper) && daemon.keeper().is_none());
}

/// Kills the daemon, ends two agents meanwhile, and looks at what the next daemon makes of it; gives
/// what runs then and how long that took.
fn kill_and_adopt(
    daemon: &mut Daemon,
    before: BTreeMap<String, (u32, u64)>,
) -> (BTreeMap<String, (u32, u64)>, Duration) {
    daemon.kill9();
    let (coded, signalled) = (before["m1"].0, before["m2"].0);
    end_mortal(daemon, "m1", before["m1"]);
    signal(signalled, Signal::KILL);
    eventually_blocking("both have ended", || (!lives(coded) && !lives(signalled)).then_some(()));
    let begun = Instant::now();
    daemon.up();
    let next = ["m1", "m2"].map(|name| (name, before[name].1 + 1));
    let after = all_running_again(daemon, before.len(), &next);
    let took = begun.elapsed();
    for (name, now) in &after {
        if !next.iter().any(|(ended, _)| ended == name) {
            assert_eq!(*now, before[name], "{name}");
        }
    }
    one_life_each(daemon, &after);
    (after, took)
}

/// Failures that the stream has once the outbox is empty, at least so many: name, generation, exit.
async fn ends(daemon: &Daemon, at_least: usize) -> Vec<(String, u64, Value)> {
    let client = embedded_client(daemon).await;
    let look = async || {
        let empty = outbox(daemon)["waiting"] == 0;
        let found = if empty { stored_ends(&client).await } else { Vec::new() };
        (at_least <= found.len()).then_some(found)
    };
    Box::pin(eventually("every end is told", look)).await
}

fn outbox(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["system"]["outbox"].clone()
}

async fn stored_ends(client: &async_nats::Client) -> Vec<(String, u64, Value)> {
    let config = OrderedConfig {
        filter_subject: "supervision.failures.>".to_owned(),
        ..OrderedConfig::default()
    };
    let mut consumer = supervision(client).await.create_consumer(config).await.unwrap();
    let waiting = usize::try_from(consumer.info().await.unwrap().num_pending).unwrap();
    let messages = consumer.messages().await.unwrap().take(waiting);
    let events = messages.map(|message| {
        let event: Value = serde_json::from_slice(&message.unwrap().payload).unwrap();
        let name = event["data"]["name"].as_str().unwrap().to_owned();
        (name, event["generation"].as_u64().unwrap(), event["data"]["exit"].clone())
    });
    events.collect().await
}

#[test]
fn agents_bound_to_the_daemon_end_with_it() {
    let mut daemon = Daemon::start(&config(&[("b1", "bound"), ("w1", "worker")]));
    let before = all_running(&daemon, 2);
    daemon.kill9();
    eventually_blocking("the bound agent ends", || (!lives(before["b1"].0)).then_some(()));
    assert!(lives(before["w1"].0));
    daemon.up();
    let after = all_running(&daemon, 2);
    assert_eq!(after["w1"], before["w1"]);
    assert_eq!(after["b1"].1, 2, "a new run of its own");
    let status = daemon.agent("b1").unwrap();
    assert_eq!(status["restarts"], 0, "ending it was no failure: {status}");
    one_life_each(&daemon, &after);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_outlive_daemon_and_keeper_killed_at_once() {
    let mut daemon = Daemon::start(&config(&[("m1", "mortal"), ("w1", "worker"), ("b1", "bound")]));
    let mut before = all_running(&daemon, 3);
    for round in 1..=3 {
        let keeper = daemon.keeper().unwrap();
        let server = server_pid(&daemon);
        signal(keeper, Signal::KILL);
        daemon.kill9();
        daemon.up();
        let after = all_running(&daemon, 3);
        assert_eq!((after["m1"], after["w1"]), (before["m1"], before["w1"]), "round {round}");
        assert_eq!(server_pid(&daemon), server, "round {round}");
        assert_ne!(daemon.keeper().unwrap(), keeper);
        one_life_each(&daemon, &after);
        before = after;
    }
    end_mortal(&daemon, "m1", before["m1"]);
    let again = daemon
        .wait("m1", "runs again", |agent| agent["state"] == "running" && agent["generation"] == 2);
    assert_eq!(again["restarts"], 1);
    let ends = ends(&daemon, 1).await;
    assert_eq!(ends, [("m1".to_owned(), 1, json!({"code": 42, "signal": null}))]);
    daemon.terminate();
    daemon.nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_outlive_a_killed_keeper() {
    let mut daemon =
        Daemon::start(&config(&[("m1", "mortal"), ("m2", "mortal"), ("w1", "worker")]));
    let mut before = all_running(&daemon, 3);
    let server = server_pid(&daemon);
    for round in 1..=3_u64 {
        let keeper = daemon.keeper().unwrap();
        signal(keeper, Signal::KILL);
        // While nobody watches, and once the next keeper does.
        end_mortal(&daemon, "m1", before["m1"]);
        eventually_blocking("there is another keeper", || {
            daemon.keeper().filter(|other| *other != keeper)
        });
        end_mortal(&daemon, "m2", before["m2"]);
        let after = all_running_again(&daemon, 3, &[("m1", round + 1), ("m2", round + 1)]);
        assert_eq!((after["w1"], server_pid(&daemon)), (before["w1"], server));
        one_life_each(&daemon, &after);
        before = after;
    }
    let ends = ends(&daemon, 6).await;
    let of = |name: &str| -> Vec<Value> {
        let of_it = ends.iter().filter(|(of, _, _)| of == name);
        of_it.map(|(_, _, exit)| exit["code"].clone()).collect()
    };
    assert_eq!(of("m1"), [42, 42, 42], "also those that ended without a keeper");
    assert_eq!(of("m2"), [42, 42, 42]);
    assert!(of("w1").is_empty());
    daemon.terminate();
    daemon.nothing_left();
}

#[test]
fn where_nothing_is_to_outlive_the_daemon_nothing_is_left_of_it() {
    let bound = format!("{TYPES}[supervision]\nenabled = true\n{}", entry("b1", "bound"))
        .replace("[agent_types.mortal]", "[agent_types.mortal]\non_daemon_exit = \"stop\"")
        .replace("[agent_types.talker]", "[agent_types.talker]\non_daemon_exit = \"stop\"");
    let mut daemon = Daemon::start(&bound);
    let agent = pid_of(&daemon.wait_state("b1", "running"));
    let (keeper, server) = (daemon.keeper().unwrap(), server_pid(&daemon));
    daemon.kill9();
    eventually_blocking("agent, server and keeper end", || {
        let server = u32::try_from(server).unwrap();
        [agent, server, keeper].into_iter().all(|pid| !lives(pid)).then_some(())
    });
    daemon.up();
    assert_eq!(daemon.wait_state("b1", "running")["generation"], 2);
}

#[test]
fn agents_that_the_next_configuration_does_not_have_are_ended() {
    let mut daemon = Daemon::start(&config(&[("w1", "worker"), ("w2", "worker")]));
    let before = all_running(&daemon, 2);
    assert!(daemon.cli(&["spawn", "worker", "--name", "s1"]).status.success());
    let spawned = pid_of(&daemon.wait_state("s1", "running"));
    daemon.kill9();
    daemon.configure(&config(&[("w1", "worker")]));
    daemon.up();
    eventually_blocking("the removed agent ends", || (!lives(before["w2"].0)).then_some(()));
    let after = all_running(&daemon, 2);
    assert_eq!((after["w1"].0, after["s1"].0), (before["w1"].0, spawned));
    assert!(daemon.log().contains("a run that nobody claims is ended"), "{}", daemon.log());
}

#[test]
fn an_adopted_run_keeps_its_command_until_its_next_start() {
    let mut daemon = Daemon::start(&config(&[("w1", "worker")]));
    let before = daemon.wait_state("w1", "running");
    daemon.kill9();
    daemon.configure(&config(&[("w1", "worker")]).replace("\"100000\"", "\"200000\""));
    daemon.up();
    let adopted = daemon.wait_state("w1", "running");
    assert_eq!(adopted["pid"], before["pid"]);
    assert!(adopted.to_string().contains("next restart takes the present ones"), "{adopted}");
    signal(pid_of(&before), Signal::KILL);
    let after = daemon
        .wait("w1", "runs again", |agent| agent["state"] == "running" && agent["generation"] == 2);
    let command = fs::read(format!("/proc/{}/cmdline", pid_of(&after))).unwrap();
    assert_eq!(command, b"sleep\x00200000\x00");
}

#[test]
fn a_daemon_that_cannot_start_leaves_the_agents_alone() {
    let mut daemon = Daemon::start(&config(&[("w1", "worker")]));
    let before = all_running(&daemon, 1);
    daemon.kill9();
    daemon.configure(&format!(
        "{}\n[nats]\nurl = \"nats://127.0.0.1:1\"\n",
        config(&[("w1", "worker")])
    ));
    daemon.spawn();
    let status = eventually_blocking("the daemon gives up", || daemon.ended());
    assert_ne!(status.code(), Some(0));
    daemon.kill9();
    daemon.configure(&config(&[("w1", "worker")]));
    daemon.up();
    assert_eq!(all_running(&daemon, 1), before);
}
