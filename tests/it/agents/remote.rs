//! Remote agents with scripted beats and paused time.

use std::sync::Arc;
use std::time::Duration;

use provost::logic::beats::Line;
use provost::ports::{AgentRuntime as _, BeatSink as _, RunNews, RunningAgent};
use provost::protocol::agent::{Beat, ToAgent};
use provost::protocol::exit::ChildExit;
use provost::protocol::id::Generation;
use provost::protocol::spec::{AgentSpec, ExecSpec, RuntimeKind};
use provost::protocol::status::{HealthStatus, Readiness};
use provost::runtimes::channels::AgentChannels;
use provost::runtimes::remote::{RemoteEnds, RemoteRuntime, Remotes};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

fn spec() -> Arc<AgentSpec> {
    Arc::new(AgentSpec {
        agent_id: "r1".parse().unwrap(),
        name: "r1".parse().unwrap(),
        agent_type: "remote".parse().unwrap(),
        runtime: RuntimeKind::Remote,
        command: Vec::new(),
        env: std::collections::BTreeMap::new(),
        secret_env: Vec::new(),
        cwd: "/".into(),
        capabilities: Vec::new(),
        slots: 1,
        max_memory_mb: None,
        timeout: SECOND,
        stop: provost::protocol::spec::StopSpec::default(),
        nats_access: false,
        on_daemon_exit: provost::protocol::spec::OnDaemonExit::default(),
        care: provost::protocol::care::CareSpec::default(),
        exec: ExecSpec::default(),
        restart: provost::protocol::spec::RestartType::default(),
        policy: provost::protocol::spec::RestartPolicy::default(),
        labels: std::collections::BTreeMap::new(),
        origin: None,
    })
}

fn beat(id: &str, instance: &str) -> Beat {
    let text = format!(r#"{{"op":"beat","id":"{id}","instance":"{instance}","every_ms":1000}}"#);
    Beat::parse(text.as_bytes()).unwrap()
}

struct Bench {
    remotes: Remotes,
    ends: RemoteEnds,
    leaving: CancellationToken,
    channels: AgentChannels,
    runtime: RemoteRuntime,
}

impl Bench {
    fn new() -> Self {
        let leaving = CancellationToken::new();
        let (remotes, ends) = Remotes::new(leaving.clone());
        remotes.line(Line::Up);
        let channels = AgentChannels::default();
        let runtime = RemoteRuntime::new(&remotes, spec(), channels.clone());
        Self { remotes, ends, leaving, channels, runtime }
    }

    async fn start(&self) -> Box<dyn RunningAgent> {
        self.runtime.start(Generation(1)).await.unwrap()
    }
}

/// Waits for news, at most so long.
async fn news(running: &mut dyn RunningAgent, within: Duration) -> Option<RunNews> {
    timeout(within, running.next()).await.ok()
}

async fn health(running: &mut dyn RunningAgent) -> (HealthStatus, Readiness) {
    match news(running, SECOND * 60).await {
        Some(RunNews::Health(health)) => (health.status, health.readiness),
        other => panic!("{other:?}"),
    }
}

const READY: (HealthStatus, Readiness) = (HealthStatus::Healthy, Readiness::Ready);
const SUSPECT: (HealthStatus, Readiness) = (HealthStatus::Degraded, Readiness::NotReady);

#[tokio::test(start_paused = true)]
async fn it_is_starting_until_its_first_beat_however_long_that_takes() {
    let bench = Bench::new();
    let mut running = bench.start().await;
    let face = running.face().health.unwrap();
    assert_eq!(face.readiness, Readiness::Starting);
    assert_eq!(news(running.as_mut(), SECOND * 86_400).await, None, "it waits");
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
}

#[tokio::test(start_paused = true)]
async fn three_missed_beats_make_it_suspect_and_five_lost() {
    let bench = Bench::new();
    let mut running = bench.start().await;
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
    let begun = Instant::now();
    assert_eq!(health(running.as_mut()).await, SUSPECT);
    assert_eq!(begun.elapsed().as_secs(), 3);
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY, "a beat brings it back");
    assert_eq!(health(running.as_mut()).await, SUSPECT);
    let exit = running.exited().await;
    assert!(
        matches!(&exit, ChildExit::Lost { message } if message.contains("no beat for 5.0 s")),
        "{exit}"
    );
    drop(running);
    let mut again = bench.start().await;
    assert_eq!(news(again.as_mut(), SECOND * 60).await, None, "only a new beat counts");
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(again.as_mut()).await, READY);
}

#[tokio::test(start_paused = true)]
async fn silence_counts_only_while_nats_is_there() {
    let bench = Bench::new();
    let mut running = bench.start().await;
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
    bench.remotes.line(Line::Down);
    assert_eq!(news(running.as_mut(), SECOND * 600).await, None);
    bench.remotes.line(Line::Up);
    let begun = Instant::now();
    assert_eq!(health(running.as_mut()).await, SUSPECT);
    assert_eq!(begun.elapsed().as_secs(), 3, "all its time again");
}

#[tokio::test(start_paused = true)]
async fn another_instance_is_the_next_run() {
    let bench = Bench::new();
    let mut running = bench.start().await;
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
    bench.remotes.beat(beat("r1", "i2"));
    let exit = running.exited().await;
    assert!(matches!(&exit, ChildExit::Lost { message } if message.contains("\"i2\"")), "{exit}");
    drop(running);
    let mut next = bench.start().await;
    assert_eq!(health(next.as_mut()).await, READY, "the beat that told of it is the next run's");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_an_order_and_silence_is_the_answer() {
    let mut bench = Bench::new();
    let mut running = bench.start().await;
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
    running.ask_to_stop();
    let order = bench.ends.orders.recv().await.unwrap();
    assert_eq!(order.message, ToAgent::Stop { grace_ms: 10_000 });
    let begun = Instant::now();
    assert_eq!(running.exited().await, ChildExit::Stopped);
    assert_eq!(begun.elapsed().as_secs(), 2);
    let channel = bench.channels.get(&"r1".parse().unwrap()).unwrap();
    drop(running);
    assert!(channel.send(&ToAgent::Ping).is_err());
    assert_eq!(channel.receive().await, None);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_to_stop_when_the_daemon_ends() {
    let mut bench = Bench::new();
    let mut running = bench.start().await;
    bench.remotes.beat(beat("r1", "i1"));
    assert_eq!(health(running.as_mut()).await, READY);
    bench.leaving.cancel();
    running.ask_to_stop();
    assert_eq!(running.exited().await, ChildExit::Stopped);
    assert!(bench.ends.orders.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_is_awaited_and_a_kill_end_at_once() {
    let mut bench = Bench::new();
    let mut running = bench.start().await;
    running.ask_to_stop();
    assert_eq!(running.exited().await, ChildExit::Stopped);
    let mut running = bench.start().await;
    running.kill();
    assert_eq!(running.exited().await, ChildExit::Killed);
    let orders = [bench.ends.orders.recv().await, bench.ends.orders.recv().await];
    assert_eq!(orders.map(|order| order.unwrap().message)[1], ToAgent::Stop { grace_ms: 0 });
}

#[tokio::test(start_paused = true)]
async fn agents_nobody_expects_are_newcomers_and_a_flood_of_them_is_bounded() {
    let mut bench = Bench::new();
    for number in 0..10_000 {
        bench.remotes.beat(beat(&format!("x{number}"), "i"));
    }
    let mut count = 0;
    while bench.ends.newcomers.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, provost::runtimes::remote::NEWCOMERS_MAX);
}
