//! stdio agents: messages, stops, what is no message.

use provost::ports::{ChannelError, RunHealth, RunNews};
use provost::protocol::agent::ToAgent;
use provost::protocol::exit::ChildExit;
use provost::protocol::spec::RuntimeKind;
use provost::protocol::status::{HealthStatus, Readiness};
use provost::runtimes::stdio::StdioRuntime;
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::agents::{Bench, PATIENCE, completed, started, task, told};
use crate::keeper::until;

fn runtime(bench: &Bench, script: &str) -> StdioRuntime {
    let spec = bench.spec(RuntimeKind::Stdio, &["/bin/sh", "-c", script]);
    StdioRuntime::new(bench.slot.clone(), bench.settings(spec), bench.channels.clone())
}

/// Answers each line with a result that holds it.
const ECHO: &str = r#"while read -r line; do case $line in
    *'"op":"task"'*) id=${line#*'"id":"'}; id=${id%%'"'*}
        echo "{\"id\":\"$id\",\"attempt\":1,\"state\":\"completed\",\"result\":\"done\"}";;
    *'"op":"stop"'*) echo bye >&2; exit 0;;
    *) echo "saw $line";; esac; done"#;

#[tokio::test]
async fn tasks_go_there_and_results_come_back() {
    let bench = Bench::new().await;
    let mut running = started(&runtime(&bench, ECHO)).await;
    let channel = bench.channel();
    for id in ["t1", "t2"] {
        channel.send(&ToAgent::Task(Box::new(task(id, json!({"a": "b\nc"}))))).unwrap();
        let answer = told(running.as_mut(), channel.as_ref()).await;
        assert_eq!(answer, (id.to_owned(), completed(json!("done"))));
    }
    channel.send(&ToAgent::Drain).unwrap();
    until("other orders arrive, too", || bench.log().contains(r#"saw {"op":"drain"}"#)).await;
}

#[tokio::test]
async fn a_stop_is_told_by_a_line_first() {
    let bench = Bench::new().await;
    let mut running = started(&runtime(&bench, &format!("trap '' TERM; {ECHO}"))).await;
    running.ask_to_stop();
    assert_eq!(timeout(PATIENCE, running.exited()).await.unwrap(), ChildExit::Stopped);
    until("it has read the line", || bench.log().contains("bye")).await;
    let channel = bench.channel();
    drop(running);
    assert_eq!(channel.send(&ToAgent::Ping), Err(ChannelError::Closed));
    assert_eq!(timeout(PATIENCE, channel.receive()).await.unwrap(), None);
}

#[tokio::test]
async fn an_agent_that_reads_nothing_gets_the_signal_after_half_the_grace() {
    let bench = Bench::new().await;
    let mut running =
        started(&runtime(&bench, "trap 'exit 0' TERM; while :; do sleep 0.05; done")).await;
    let begun = Instant::now();
    running.ask_to_stop();
    assert_eq!(timeout(PATIENCE, running.exited()).await.unwrap(), ChildExit::Stopped);
    assert!(begun.elapsed().as_millis() >= 1_000, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_no_message_is_passed_over() {
    let bench = Bench::new().await;
    let script = r#"echo '{"id":"t 1","state":"working"}'; echo '{"id":"x","state":"dreaming"}'
        echo '{"id":"t1","attempt":1,"state":"completed","result":1}'; sleep 100"#;
    let mut running = started(&runtime(&bench, script)).await;
    let answer = told(running.as_mut(), bench.channel().as_ref()).await;
    assert_eq!(answer, ("t1".to_owned(), completed(json!(1))));
}

#[tokio::test]
async fn beats_show_in_its_health() {
    let bench = Bench::new().await;
    let beat = |state: &str| {
        format!(r#"echo '{{"op":"beat","id":"a1","every_ms":500,"state":"{state}"}}'; "#)
    };
    let script = beat("starting") + "sleep 0.2; " + &beat("ready") + "sleep 0.1; sleep 1000";
    let mut running = started(&runtime(&bench, &script)).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match timeout(PATIENCE, running.next()).await.unwrap() {
            RunNews::Health(RunHealth { status, readiness, .. }) => seen.push((status, readiness)),
            RunNews::Exited(exit) => panic!("{exit}"),
        }
    }
    let expected = [
        (HealthStatus::Healthy, Readiness::Starting),
        (HealthStatus::Healthy, Readiness::Ready),
        (HealthStatus::Degraded, Readiness::NotReady),
    ];
    assert_eq!(seen, expected);
}
