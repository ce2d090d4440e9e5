//! A downstream's runs in virtual time, with sessions that do as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::adapters::breaker::Ticks;
use crate::adapters::call::tests::plain;
use crate::adapters::call::{CallPath, PathPorts};
use crate::adapters::care::{CarePorts, CareRules, CareRuntime, Desk, Downstream, Start, lock};
use crate::adapters::handles::{PubSubClient, QueueClient, RpcClient};
use crate::config::Resilience;
use crate::logic::breaker::{BreakerConfig, Force};
use crate::ports::{
    AgentRuntime, AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector,
    DownstreamSession, EventDraft, EventSink, HealthChecks as _, Inbound, InboundSink,
    JitterSource, RunNews, RunningAgent, ServiceError, WallClock,
};
use crate::protocol::downstream::{CallError, CallErrorKind, CallOp, CallRequest, ServiceVerdict};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::Fact;
use crate::protocol::id::{EventId, Generation};
use crate::protocol::status::{CircuitState, HealthStatus};

/// What the scripted service does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mood {
    /// All is well.
    #[default]
    Well,
    /// Nobody listens.
    Away,
    /// It takes connections and answers nothing.
    Dumb,
    /// It ends its sessions.
    Hangs,
}

/// A scripted service: connector, client and world in one.
#[derive(Debug, Default)]
struct World {
    mood: Mutex<Mood>,
    changed: tokio::sync::Notify,
    connects: Mutex<Vec<u64>>,
    checks: Mutex<Vec<u64>>,
    origin: Mutex<Option<Instant>>,
}

impl World {
    fn is(&self, mood: Mood) {
        *lock(&self.mood) = mood;
        self.changed.notify_waiters();
    }

    /// Waits until it ends its sessions.
    async fn hangs(&self) {
        loop {
            let changed = self.changed.notified();
            if self.mood() == Mood::Hangs {
                return;
            }
            changed.await;
        }
    }

    fn mood(&self) -> Mood {
        *lock(&self.mood)
    }

    fn now(&self) -> u64 {
        let origin = *lock(&self.origin).get_or_insert_with(Instant::now);
        u64::try_from(origin.elapsed().as_millis()).unwrap()
    }
}

#[derive(Debug)]
struct Scripted(Arc<World>);

fn refused() -> AttemptError {
    let error = CallError::new(CallErrorKind::Unavailable, "nobody listens");
    AttemptError { error, fate: AttemptFate::NotSent }
}

impl DownstreamConnector for Scripted {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn supports(&self, _: CallOp) -> bool {
        true
    }

    fn connect(
        &self,
        _: Arc<dyn InboundSink>,
    ) -> BoxFuture<'static, Result<DownstreamSession, ServiceError>> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            lock(&world.connects).push(world.now());
            if world.mood() == Mood::Away {
                return Err(ServiceError::new("nobody listens"));
            }
            let watched = Arc::clone(&world);
            let ended = Box::pin(async move {
                watched.hangs().await;
                ServiceError::new("it hung up")
            });
            Ok(DownstreamSession { client: Arc::new(Self(world)), ended })
        })
    }
}

impl DownstreamClient for Scripted {
    fn call(
        &self,
        _: Arc<CallRequest>,
        _: Duration,
    ) -> BoxFuture<'static, Result<Value, AttemptError>> {
        let mood = self.0.mood();
        Box::pin(async move {
            match mood {
                Mood::Well => Ok(Value::Null),
                Mood::Away | Mood::Hangs => Err(refused()),
                Mood::Dumb => std::future::pending().await,
            }
        })
    }

    fn check(&self, _: Duration) -> BoxFuture<'static, Result<Option<String>, AttemptError>> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            lock(&world.checks).push(world.now());
            match world.mood() {
                Mood::Well => Ok(None),
                Mood::Away | Mood::Hangs => Err(refused()),
                Mood::Dumb => std::future::pending().await,
            }
        })
    }
}

#[derive(Debug, Default)]
struct Recorder(Mutex<VecDeque<Fact>>);

impl EventSink for Recorder {
    fn emit(&self, draft: EventDraft) -> EventId {
        lock(&self.0).push_back(draft.fact);
        EventId::new(uuid::Uuid::from_u128(1))
    }
}

#[derive(Debug)]
struct Standing;

impl WallClock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

#[derive(Debug)]
struct Whole;

impl JitterSource for Whole {
    fn fraction(&self) -> f64 {
        1.0
    }
}

#[derive(Debug)]
struct Nowhere;

impl InboundSink for Nowhere {
    fn deliver(&self, _: Inbound) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Bench {
    world: Arc<World>,
    downstream: Arc<Downstream>,
    events: Arc<Recorder>,
    _clock: JoinSet<()>,
}

impl Bench {
    /// Checks every ten seconds, three failures end a session; three failures open the circuit, for
    /// five seconds; two probes close it.
    fn new() -> Self {
        let ticks = Ticks::manual();
        let mut clock = JoinSet::new();
        let (moved, origin) = (Arc::clone(&ticks), Instant::now());
        clock.spawn(async move {
            loop {
                moved.set_ms(u64::try_from(origin.elapsed().as_millis()).unwrap());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let breaker = BreakerConfig {
            failure_threshold: Some(3),
            open_for: Duration::from_secs(5),
            open_factor: 1.0,
            ..plain().breaker
        };
        let settings = Resilience { breaker, ..plain() };
        let world = Arc::new(World::default());
        world.now();
        let ports = PathPorts { ticks, jitter: Arc::new(Whole) };
        let connector = Arc::new(Scripted(Arc::clone(&world)));
        let path = CallPath::new("backend".parse().unwrap(), connector, &settings, &ports);
        let rules = CareRules {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            failure_threshold: 3,
        };
        let events = Arc::new(Recorder::default());
        let ports = CarePorts {
            sink: Arc::<Recorder>::clone(&events),
            clock: Arc::new(Standing),
            severities: Arc::new(BTreeMap::new()),
        };
        let downstream = Arc::new(Downstream::new(path, rules, Arc::new(Nowhere), &ports, None));
        Self { world, downstream, events, _clock: clock }
    }

    async fn run(&self, start: Start) -> Box<dyn RunningAgent> {
        let runtime = CareRuntime::new(Arc::clone(&self.downstream), Handle::current(), start);
        runtime.start(Generation(1)).await.unwrap()
    }

    /// Circuit changes and recoveries so far, as text.
    fn told(&self) -> Vec<String> {
        let shown = |fact: &Fact| {
            if let Fact::Circuit(changed) = fact {
                return Some(format!("{} {:?}", changed.to, changed.reason));
            }
            if let Fact::Recovery(recovered) = fact {
                return Some(format!("recovered {:?}", recovered.how));
            }
            let Fact::Failure(failed) = fact else { return None };
            Some(format!("{:?}", failed.failure_type))
        };
        lock(&self.events.0).iter().filter_map(shown).collect()
    }

    fn circuit(&self) -> CircuitState {
        self.downstream.circuit().state
    }
}

/// The next state of health that the run tells.
async fn health(run: &mut dyn RunningAgent) -> HealthStatus {
    match run.next().await {
        RunNews::Health(health) => health.status,
        RunNews::Exited(exit) => panic!("it ended: {exit}"),
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_connected_checked_at_its_interval_and_closed_when_asked() {
    let bench = Bench::new();
    let mut run = bench.run(Start::Connected).await;
    assert!(bench.downstream.path().client().is_some());
    pass(25_000).await;
    assert_eq!(*lock(&bench.world.checks), [0, 10_000, 20_000]);
    run.ask_to_stop();
    assert_eq!(run.exited().await, ChildExit::Stopped);
    assert!(bench.downstream.path().client().is_none());
    assert_eq!(bench.told(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_ends_the_run_and_the_next_one_is_the_recovery() {
    let bench = Bench::new();
    let mut run = bench.run(Start::Connected).await;
    pass(1_000).await;
    bench.world.is(Mood::Hangs);
    let exit = run.exited().await;
    assert_eq!(exit, ChildExit::Lost { message: "it hung up".to_owned() });
    assert_eq!(bench.downstream.path().breaker().snapshot().counts.errors, 1, "one account");
    let health = bench.downstream.look(Duration::ZERO).await;
    assert_eq!(health.status, ServiceVerdict::Down);
    assert!(health.details.unwrap().contains("it hung up"));
    bench.world.is(Mood::Well);
    let _again = bench.run(Start::Connected).await;
    pass(10).await;
    assert_eq!(bench.told(), ["recovered Reconnect"]);
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_is_away_is_tried_as_its_circuit_allows() {
    let bench = Bench::new();
    bench.world.is(Mood::Away);
    for _ in 0..6 {
        let mut run = bench.run(Start::AtOnce).await;
        assert!(matches!(run.exited().await, ChildExit::Lost { .. }));
    }
    // Three at once, and then one after each open time.
    let connects = lock(&bench.world.connects).clone();
    assert_eq!(connects[..3], [0, 0, 0]);
    for (index, at) in connects[3..].iter().enumerate() {
        let due = 5_000 * (index as u64 + 1);
        assert!((due..due + 100).contains(at), "{connects:?}");
    }
    bench.world.is(Mood::Well);
    let mut run = bench.run(Start::AtOnce).await;
    assert_eq!(health(run.as_mut()).await, HealthStatus::Degraded);
    assert_eq!(health(run.as_mut()).await, HealthStatus::Healthy);
    assert_eq!(bench.circuit(), CircuitState::Closed, "two probes, and nobody called");
    pass(100).await;
    assert_eq!(bench.told().last().unwrap(), "recovered Reconnect");
}

#[tokio::test(start_paused = true)]
async fn checks_that_fail_as_often_as_allowed_end_the_session() {
    let bench = Bench::new();
    let mut run = bench.run(Start::Connected).await;
    pass(1).await;
    bench.world.is(Mood::Dumb);
    let exit = run.exited().await;
    let ChildExit::ProbeFailed { message, .. } = exit else { panic!("{exit}") };
    assert!(message.starts_with("3 checks failed in a row; last: no answer within"), "{message}");
    assert_eq!(*lock(&bench.world.checks), [0, 10_000, 20_000, 30_000]);
    assert_eq!(bench.world.now(), 33_000);
    assert_eq!(bench.circuit(), CircuitState::Open, "they count for the circuit, too");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_asks_for_a_check_at_once_and_one_that_fails_ends_the_session() {
    let bench = Bench::new();
    let mut run = bench.run(Start::Connected).await;
    pass(100).await;
    bench.world.is(Mood::Away);
    for _ in 0..3 {
        let call =
            CallRequest { method: Some("POST".to_owned()), ..CallRequest::new(CallOp::Request) };
        bench.downstream.path().call(call).await.unwrap_err();
    }
    let before = bench.world.now();
    let ChildExit::ProbeFailed { message, .. } = run.exited().await else { panic!("it goes on") };
    assert!(message.starts_with("its circuit opened, and the check failed"), "{message}");
    assert!(bench.world.now() - before < 1_000);
    assert_eq!(bench.told(), ["CallFailed", "open FailureThreshold"]);
}

#[tokio::test(start_paused = true)]
async fn good_checks_do_not_hide_calls_that_fail() {
    let bench = Bench::new();
    let _run = bench.run(Start::Connected).await;
    for _ in 0..3 {
        // Between two calls there is always a check that works.
        pass(12_000).await;
        bench.downstream.path().breaker().acquire().unwrap().error();
    }
    pass(10).await;
    assert_eq!(bench.circuit(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_others_wait_for_fails_uncounted_while_the_downstream_is_away() {
    let bench = Bench::new();
    bench.world.is(Mood::Away);
    let runtime =
        CareRuntime::new(Arc::clone(&bench.downstream), Handle::current(), Start::Connected);
    let error = runtime.start(Generation(1)).await.unwrap_err();
    let expected = StartError::Refused { message: "lost: nobody listens".into() };
    assert_eq!(error, expected);
    assert_eq!(runtime.start_timeout(), None);
}

#[tokio::test(start_paused = true)]
async fn all_are_checked_at_the_same_time_and_many_readers_cause_one_check() {
    let benches: Vec<Bench> = (0..3).map(|_| Bench::new()).collect();
    let mut runs = Vec::new();
    for bench in &benches {
        runs.push(bench.run(Start::Connected).await);
    }
    pass(2_000).await;
    benches[1].world.is(Mood::Dumb);
    let named = benches.iter().enumerate().map(|(index, bench)| {
        (format!("d{index}").parse().unwrap(), Arc::clone(&bench.downstream))
    });
    let desk = Desk::named(named);
    let before = Instant::now();
    let seen = desk.check_all().await;
    assert_eq!(before.elapsed(), Duration::from_secs(3), "as long as the slowest may take");
    let verdicts: Vec<ServiceVerdict> = seen.iter().map(|health| health.status).collect();
    assert_eq!(verdicts, [ServiceVerdict::Up, ServiceVerdict::Down, ServiceVerdict::Up]);
    let checks = lock(&benches[1].world.checks).len();
    for _ in 0..10 {
        desk.check_all().await;
    }
    assert_eq!(lock(&benches[1].world.checks).len(), checks);
    drop(runs);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_leaves_no_session() {
    let bench = Bench::new();
    let run = bench.run(Start::Connected).await;
    drop(run);
    pass(1).await;
    assert!(bench.downstream.path().client().is_none());
}

#[tokio::test(start_paused = true)]
async fn typed_handles_share_the_policies_of_their_downstream() {
    let bench = Bench::new();
    let _run = bench.run(Start::Connected).await;
    let one = || Arc::clone(&bench.downstream);
    let rpc = RpcClient::new(one()).with_deadline(Duration::from_secs(1));
    assert_eq!(rpc.request::<Option<u8>>("get", &[1]).await, Ok(None));
    let wrong = rpc.request::<u8>("get", &[1]).await.unwrap_err();
    assert_eq!(wrong.kind, CallErrorKind::RemoteError);
    let (topics, queue) = (PubSubClient::new(one()), QueueClient::new(one(), "q"));
    assert_eq!(topics.publish("a/b", &"tick").await, Ok(()));
    assert_eq!(queue.enqueue(&1, Some("k1")).await, Ok(Value::Null));
    assert_eq!(queue.dequeue().await, Ok(Value::Null));
    assert_eq!(queue.ack(&Value::Null).await, Ok(()));
    bench.downstream.path().breaker().force(Force::Open);
    let refused = [
        rpc.request::<()>("get", &()).await.unwrap_err().kind,
        topics.publish("a/b", &1).await.unwrap_err().kind,
        queue.dequeue().await.unwrap_err().kind,
    ];
    assert_eq!(refused, [CallErrorKind::CircuitOpen; 3]);
}
