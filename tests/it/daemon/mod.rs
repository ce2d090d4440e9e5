//! The whole daemon: the real binary, a real `nats-server`, real processes.

mod adoption;
mod control;
mod crash;
mod doors;
mod limits;
mod logs;
mod outage;
mod permission;
mod reload;
mod remotes;
mod rules;

use async_nats::jetstream::stream::Stream;
use serde_json::Value;

use crate::support::daemon::Daemon;

/// A type `worker` that runs until it is stopped, and restarts at once.
pub(crate) const WORKER: &str = r#"
[supervision]
enabled = true
[agents]
max = 100
[agent_types.worker]
runtime = "process"
command = ["sleep", "100000"]
env = { PROVOST_TEST_MARK = "{mark}" }
stop = { signal = "SIGTERM", grace = "5s" }
restart = { type = "permanent", intensity = 10000, period = "60s", stable_after = "300ms", backoff = { initial = "0s" } }
"#;

pub(crate) fn with_agents(base: &str, names: &[&str]) -> String {
    let agents =
        names.iter().map(|name| format!("[[agent]]\nname = \"{name}\"\ntype = \"worker\"\n"));
    agents.fold(base.to_owned(), |config, agent| config + &agent)
}

pub(crate) fn pid_of(agent: &Value) -> u32 {
    u32::try_from(agent["pid"].as_u64().unwrap()).unwrap()
}

/// Connects to the embedded server as the command line does, by the file in the state folder.
pub(crate) async fn embedded_client(daemon: &Daemon) -> async_nats::Client {
    let file = daemon.state_dir().join("nats.json");
    let address: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let url = address["url"].as_str().unwrap();
    let (user, place) = url.trim_start_matches("nats://").split_once('@').unwrap();
    let (user, password) = user.split_once(':').unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    options.connect(place).await.unwrap()
}

/// All stored messages of a stream, parsed, in order.
pub(crate) async fn stored(stream: &mut Stream) -> Vec<Value> {
    let state = stream.info().await.unwrap().state.clone();
    let mut events = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        if let Ok(message) = stream.get_raw_message(sequence).await {
            events.push(serde_json::from_slice(&message.payload).unwrap());
        }
    }
    events
}

pub(crate) async fn supervision(client: &async_nats::Client) -> Stream {
    let jetstream = async_nats::jetstream::new(client.clone());
    jetstream.get_stream("SUPERVISION").await.unwrap()
}

pub(crate) fn type_of(event: &Value) -> &str {
    event["type"].as_str().unwrap().trim_start_matches("provost.").trim_end_matches(".v1")
}
