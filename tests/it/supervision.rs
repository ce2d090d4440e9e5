//! Supervisor actors in virtual time, with scripted runtimes.

use std::sync::Arc;
use std::time::Duration;

use provost::actors::tree::{Node, Tree, TreeError, TreeSpec};
use provost::logic::restart::Call;
use provost::protocol::exit::ChildExit;
use provost::protocol::fact::{Fact, Severity};
use provost::protocol::id::ChildName;
use provost::protocol::spec::{
    AutoShutdown, BackoffSpec, ChildKind, ChildSpec, CircuitSpec, Jitter, Limit, OnExceeded,
    RestartPolicy, RestartType, Shutdown, Strategy, SupervisorSpec,
};
use provost::protocol::status::{AgentState, CircuitState};

use crate::support::scripted::{Log, Recorder, Run, Scripted, ports};

fn name(text: &str) -> ChildName {
    text.parse().unwrap()
}

fn supervisor(text: &str, strategy: Strategy, limit: Option<Limit>) -> SupervisorSpec {
    SupervisorSpec {
        name: name(text),
        strategy,
        limit,
        auto_shutdown: AutoShutdown::Never,
        origin: None,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Delays of 1 s; 2 restarts a minute; open for 10 s; stable after 5 s.
fn policy() -> RestartPolicy {
    RestartPolicy {
        backoff: BackoffSpec {
            initial: seconds(1),
            factor: 1.0,
            max: seconds(1),
            jitter: Jitter::None,
        },
        circuit: Some(CircuitSpec {
            limit: Limit { intensity: 2, period: seconds(60) },
            open_for: seconds(10),
            stable_after: seconds(5),
            ..CircuitSpec::default()
        }),
    }
}

fn child(text: &str, policy: RestartPolicy) -> ChildSpec {
    ChildSpec { policy, ..ChildSpec::otp_worker(name(text)) }
}

struct World {
    log: Log,
    sink: Arc<Recorder>,
    children: Vec<Node>,
}

impl World {
    fn new() -> Self {
        Self { log: Log::default(), sink: Arc::new(Recorder::default()), children: Vec::new() }
    }

    fn node(&self, spec: ChildSpec, script: Vec<Run>) -> Node {
        let runtime = Scripted::new(spec.name.as_str(), &self.log, script);
        Node::worker(spec, Arc::new(runtime))
    }

    fn with(mut self, spec: ChildSpec, script: Vec<Run>) -> Self {
        let node = self.node(spec, script);
        self.children.push(node);
        self
    }

    async fn start(&mut self, supervisor: SupervisorSpec) -> Result<Tree, TreeError> {
        let children = std::mem::take(&mut self.children);
        let spec = TreeSpec::new(supervisor, children);
        Tree::start(spec, ports(Arc::clone(&self.sink))).await
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn crash(after: u64) -> Run {
    Run::Ends(seconds(after), ChildExit::Exited { code: 1 })
}

#[tokio::test(start_paused = true)]
async fn a_crashed_child_is_restarted_after_its_backoff_and_recovers_when_stable() {
    let mut world = World::new().with(child("w1", policy()), vec![crash(3), Run::Obeys]);
    let root = supervisor("root", Strategy::OneForOne, None);
    let tree = world.start(root).await.unwrap();
    let board = Arc::clone(tree.handle().board());

    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(board.get(&name("w1")).unwrap().state, AgentState::Backoff);
    tokio::time::sleep(seconds(1)).await;
    let running = board.get(&name("w1")).unwrap();
    assert_eq!((running.state, running.restarts), (AgentState::Running, 1));
    tokio::time::sleep(seconds(6)).await;

    let types = world.sink.types();
    let expected = [
        "supervision.supervisor_started",
        "supervision.failure",
        "supervision.decision",
        "supervision.recovery",
    ];
    assert_eq!(types, expected);
    let events = world.sink.events();
    assert_eq!(events[1].1.severity, Severity::High);
    assert_eq!(events[2].1.causation, Some(events[1].0));
    assert_eq!(events[3].1.causation, Some(events[2].0));
    assert_eq!(events[3].1.correlation, Some(events[1].0));
    assert!(tree.shutdown(seconds(60)).await);
    assert_eq!(world.log(), ["start w1", "end w1", "start w1", "ask w1", "end w1"]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_opens_the_circuit_and_a_healthy_trial_closes_it() {
    let script = vec![crash(0), crash(0), crash(0), Run::Obeys];
    let mut world = World::new().with(child("w1", policy()), script);
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let board = Arc::clone(tree.handle().board());
    let state = || board.get(&name("w1")).unwrap();

    tokio::time::sleep(seconds(5)).await;
    assert_eq!((state().state, state().circuit), (AgentState::Quarantined, CircuitState::Open));
    tokio::time::sleep(seconds(8)).await;
    assert_eq!((state().state, state().circuit), (AgentState::Probation, CircuitState::HalfOpen));
    tokio::time::sleep(seconds(6)).await;
    assert_eq!((state().state, state().circuit), (AgentState::Running, CircuitState::Closed));

    let circuits: Vec<_> = world
        .sink
        .events()
        .into_iter()
        .filter_map(|(_, draft)| match draft.fact {
            Fact::Circuit(change) => Some((change.from, change.to, draft.severity)),
            _ => None,
        })
        .collect();
    let expected = [
        (CircuitState::Closed, CircuitState::Open, Severity::High),
        (CircuitState::Open, CircuitState::HalfOpen, Severity::Info),
        (CircuitState::HalfOpen, CircuitState::Closed, Severity::Info),
    ];
    assert_eq!(circuits, expected);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn children_stop_in_reverse_order_each_within_its_deadline() {
    let mut world = World::new()
        .with(child("a", policy()), vec![Run::Obeys])
        .with(child("b", policy()), vec![Run::Ignores])
        .with(child("c", policy()), vec![Run::Obeys]);
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let begin = tokio::time::Instant::now();
    assert!(tree.shutdown(seconds(60)).await);
    let took = begin.elapsed();
    assert!(seconds(5) <= took && took < seconds(6), "{took:?}");
    let log = world.log();
    assert_eq!(
        log[3..],
        ["ask c", "end c", "ask b", "kill b", "end b", "ask a", "end a"].map(str::to_owned)
    );
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_failed_child_and_the_later_ones() {
    let otp = |text| child(text, RestartPolicy::OTP);
    let mut world = World::new()
        .with(otp("a"), vec![Run::Obeys])
        .with(otp("b"), vec![crash(1), Run::Obeys])
        .with(otp("c"), vec![Run::Obeys]);
    let limit = Limit { intensity: 1, period: seconds(5) };
    let tree = world.start(supervisor("root", Strategy::RestForOne, Some(limit))).await.unwrap();
    tokio::time::sleep(seconds(2)).await;
    let expected =
        ["start a", "start b", "start c", "end b", "ask c", "end c", "start b", "start c"];
    assert_eq!(world.log(), expected);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_over_its_intensity_gives_up_and_its_parent_restarts_it() {
    let mut world = World::new();
    let limit = Some(Limit { intensity: 1, period: seconds(60) });
    let crashing =
        world.node(child("w1", RestartPolicy::OTP), vec![crash(1), crash(1), Run::Obeys]);
    let own = supervisor("team", Strategy::OneForOne, limit);
    let team = TreeSpec::new(own, vec![crashing]);
    let spec = ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        policy: policy(),
        ..ChildSpec::otp_worker(name("team"))
    };
    world.children.push(Node::supervisor(spec, team));
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    let board = Arc::clone(tree.handle().board());
    assert_eq!(board.get(&name("team")).unwrap().restarts, 1);
    assert_eq!(board.get(&name("w1")).unwrap().state, AgentState::Running);
    let types = world.sink.types();
    assert!(types.contains(&"supervision.escalation".to_owned()), "{types:?}");
    let critical = world.sink.events().into_iter().any(|(_, draft)| {
        draft.severity == Severity::Critical && matches!(draft.fact, Fact::Failure(_))
    });
    assert!(critical);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn a_tree_of_otp_children_does_not_start_when_one_cannot() {
    let mut world = World::new()
        .with(child("a", RestartPolicy::OTP), vec![Run::Obeys])
        .with(child("b", RestartPolicy::OTP), vec![Run::Fails]);
    let failed = world.start(supervisor("root", Strategy::OneForOne, None)).await;
    let message = failed.err().unwrap().to_string();
    assert!(message.contains("b: start failed: scripted"), "{message}");
    assert_eq!(world.log(), ["start a", "fail b", "ask a", "end a"]);
}

#[tokio::test(start_paused = true)]
async fn children_added_at_run_time_survive_a_restart_of_their_supervisor() {
    let mut world = World::new();
    let limit = Some(Limit { intensity: 0, period: seconds(60) });
    let own = supervisor("team", Strategy::OneForOne, limit);
    let team = TreeSpec::new(own, Vec::new());
    let spec = ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        policy: policy(),
        ..ChildSpec::otp_worker(name("team"))
    };
    world.children.push(Node::supervisor(spec, team));
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let handle = tree.handle();
    let added = world.node(child("w1", RestartPolicy::OTP), vec![crash(1), Run::Obeys]);
    handle.start_child(&name("team"), added).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(world.log(), ["start w1", "end w1", "start w1"]);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_has_one_run_whatever_happens_to_its_supervisor() {
    let mut world = World::new();
    let job = |text: &str| ChildSpec {
        restart: RestartType::Temporary,
        ..child(text, RestartPolicy::OTP)
    };
    let own = supervisor("team", Strategy::OneForOne, None);
    let children = vec![
        world.node(child("w1", RestartPolicy::OTP), vec![Run::Obeys]),
        world.node(job("j1"), vec![Run::Obeys]),
    ];
    let spec = ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        policy: policy(),
        ..ChildSpec::otp_worker(name("team"))
    };
    world.children.push(Node::supervisor(spec, TreeSpec::new(own, children)));
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let (handle, team) = (tree.handle(), name("team"));
    handle.start_child(&team, world.node(job("j2"), vec![Run::Obeys])).await.unwrap();
    assert_eq!(world.log(), ["start w1", "start j1", "start j2"]);
    handle.kill_run(&team).unwrap();
    tokio::time::sleep(seconds(10)).await;
    let state = |child: &str| handle.board().get(&name(child)).unwrap();
    assert_eq!(world.log(), ["start w1"]);
    assert_eq!(state("j1").state, AgentState::Terminated);
    assert_eq!(state("j2").reason, "temporary: it is not restarted with its supervisor");
    // In order, too.
    handle.start_child(&team, world.node(job("j2"), vec![Run::Obeys])).await.unwrap();
    handle.call(&team, Call::BounceChild(team.clone()), "test").await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(world.log(), ["start j2", "ask j2", "end j2", "ask w1", "end w1", "start w1"]);
    assert_eq!(state("j2").state, AgentState::Stopped);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn one_who_adds_a_child_whose_end_was_not_told_yet_brings_what_it_runs() {
    let job = || ChildSpec { restart: RestartType::Temporary, ..child("job", RestartPolicy::OTP) };
    let slow = ChildSpec { shutdown: Shutdown::Timeout(seconds(5)), ..child("slow", policy()) };
    let mut world = World::new()
        .with(child("w1", policy()), vec![crash(1), Run::Obeys])
        .with(job(), vec![Run::Obeys])
        .with(slow, vec![Run::Ignores]);
    let tree = world.start(supervisor("root", Strategy::OneForAll, None)).await.unwrap();
    let handle = tree.handle();
    tokio::time::sleep(seconds(2)).await;
    // The group waits for the slow one; the job is stopped after it, and for good.
    handle.start_child(&name("root"), world.node(job(), vec![Run::Obeys])).await.unwrap();
    let log = world.log();
    assert_eq!(log[4..9], ["ask slow", "kill slow", "end slow", "ask job", "end job"]);
    assert_eq!(log[9..], ["start w1", "start slow", "start job"]);
    assert_eq!(handle.board().get(&name("job")).unwrap().state, AgentState::Running);
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_overtakes_the_beginning_of_what_it_stops_is_not_lost() {
    let mut world = World::new();
    let patient =
        |text: &str| ChildSpec { shutdown: Shutdown::Infinity, ..child(text, RestartPolicy::OTP) };
    let own = supervisor("team", Strategy::OneForOne, None);
    let below = world.node(patient("w1"), vec![Run::Obeys]);
    let team = ChildSpec { kind: ChildKind::Supervisor, ..patient("team") };
    for node in [
        world.node(patient("w2"), vec![Run::Obeys]),
        Node::supervisor(team, TreeSpec::new(own, vec![below])),
    ] {
        let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
        let (handle, root) = (tree.handle(), name("root"));
        let (added, ended) =
            tokio::join!(handle.start_child(&root, node), tree.shutdown(seconds(60)));
        assert!(ended, "a stop was lost: {added:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_child_stays_down_until_it_is_started_again() {
    let mut world = World::new().with(child("w1", policy()), vec![Run::Obeys]);
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let handle = tree.handle();
    let w1 = name("w1");
    handle.call(&w1, Call::TerminateChild(w1.clone()), "test").await.unwrap();
    assert_eq!(handle.board().get(&w1).unwrap().state, AgentState::Stopped);
    tokio::time::sleep(seconds(100)).await;
    assert_eq!(handle.board().get(&w1).unwrap().state, AgentState::Stopped);
    handle.call(&w1, Call::RestartChild(w1.clone()), "test").await.unwrap();
    assert_eq!(handle.board().get(&w1).unwrap().state, AgentState::Running);
    assert!(!world.sink.types().contains(&"supervision.failure".to_owned()));
    assert!(tree.shutdown(seconds(60)).await);
}

#[tokio::test(start_paused = true)]
async fn a_child_has_one_actor_for_all_its_runs_and_none_when_it_is_down() {
    let crashes = || (0..3).map(|_| crash(1)).chain([Run::Obeys]).collect();
    let plain = child("w1", RestartPolicy::OTP);
    let limit = Limit { intensity: 100, period: seconds(60) };
    let root = supervisor("root", Strategy::OneForAll, Some(limit));
    let mut world = World::new().with(plain, crashes()).with(child("w2", policy()), crashes());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let outside = tasks();
    let tree = world.start(root).await.unwrap();
    let with_both = tasks();
    tokio::time::sleep(seconds(100)).await;
    assert!(world.log().iter().filter(|line| *line == "start w1").count() > 3, "no restarts");
    assert_eq!(tasks(), with_both);

    let handle = tree.handle();
    for (down, child) in [name("w1"), name("w2")].into_iter().enumerate() {
        handle.call(&child, Call::TerminateChild(child.clone()), "test").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks(), with_both - down - 1, "{child} is down");
    }
    for child in [name("w1"), name("w2")] {
        handle.call(&child, Call::RestartChild(child.clone()), "test").await.unwrap();
    }
    assert_eq!(tasks(), with_both);
    assert!(tree.shutdown(seconds(60)).await);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks(), outside);
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_stays_down_after_a_clean_exit_and_a_temporary_one_is_terminated() {
    let done = Run::Ends(seconds(1), ChildExit::Finished);
    let transient = ChildSpec { restart: RestartType::Transient, ..child("t", policy()) };
    let temporary = ChildSpec { restart: RestartType::Temporary, ..child("u", policy()) };
    let mut world = World::new().with(transient, vec![done]).with(temporary, vec![crash(1)]);
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    tokio::time::sleep(seconds(60)).await;
    let board = Arc::clone(tree.handle().board());
    assert_eq!(board.get(&name("t")).unwrap().state, AgentState::Terminated);
    assert_eq!(board.get(&name("u")).unwrap().state, AgentState::Terminated);
    assert!(tree.shutdown(seconds(60)).await);
}

/// Counts how many runs of each name live, and remembers when it was more than one.
#[derive(Debug, Default)]
struct Census {
    living: std::sync::Mutex<std::collections::BTreeMap<String, usize>>,
    begun: std::sync::atomic::AtomicUsize,
    twice: std::sync::atomic::AtomicUsize,
}

#[derive(Debug)]
struct Counted(String, Arc<Census>);

#[derive(Debug)]
struct CountedRun(String, Arc<Census>);

impl provost::ports::AgentRuntime for Counted {
    fn start(
        &self,
        _generation: provost::protocol::id::Generation,
    ) -> provost::ports::BoxFuture<
        'static,
        Result<Box<dyn provost::ports::RunningAgent>, provost::protocol::exit::StartError>,
    > {
        let (name, census) = (self.0.clone(), Arc::clone(&self.1));
        Box::pin(async move {
            use std::sync::atomic::Ordering;
            let mut living = census.living.lock().unwrap();
            let count = living.entry(name.clone()).or_default();
            *count += 1;
            if 1 < *count {
                census.twice.fetch_add(1, Ordering::SeqCst);
            }
            census.begun.fetch_add(1, Ordering::SeqCst);
            drop(living);
            let run: Box<dyn provost::ports::RunningAgent> = Box::new(CountedRun(name, census));
            Ok(run)
        })
    }
}

impl provost::ports::RunningAgent for CountedRun {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> provost::ports::BoxFuture<'_, ChildExit> {
        Box::pin(std::future::pending())
    }

    fn ask_to_stop(&mut self) {}

    fn kill(&mut self) {}
}

impl Drop for CountedRun {
    fn drop(&mut self) {
        *self.1.living.lock().unwrap().get_mut(&self.0).unwrap() -= 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_under_a_killed_supervisor_outlives_the_start_of_its_replacement() {
    use std::sync::atomic::Ordering;
    let census = Arc::new(Census::default());
    let worker = |text: &str| {
        let spec = child(text, RestartPolicy::OTP);
        Node::worker(spec, Arc::new(Counted(text.to_owned(), Arc::clone(&census))))
    };
    let names: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
    let below = names.iter().map(|text| worker(text)).collect();
    let team = TreeSpec::new(supervisor("team", Strategy::OneForOne, None), below);
    let spec = ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        ..ChildSpec::otp_worker(name("team"))
    };
    let mut world = World::new();
    world.children.push(Node::supervisor(spec, team));
    let tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    for round in 2..=20 {
        tree.handle().kill_run(&name("team")).unwrap();
        crate::support::eventually("all are back", async || {
            (census.begun.load(Ordering::SeqCst) == 50 * round).then_some(())
        })
        .await;
    }
    assert_eq!(census.twice.load(Ordering::SeqCst), 0, "two runs of one child at a time");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_may_stop_the_tree_stops_everything_in_order() {
    let mut policy = policy();
    policy.circuit.as_mut().unwrap().on_exceeded = OnExceeded::StopTree;
    let mut world = World::new().with(child("a", RestartPolicy::OTP), vec![Run::Obeys]);
    let crashing = world.node(child("w1", policy), vec![crash(1)]);
    let team = TreeSpec::new(supervisor("team", Strategy::OneForOne, None), vec![crashing]);
    let spec = ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        ..child("team", RestartPolicy::OTP)
    };
    world.children.push(Node::supervisor(spec, team));
    let mut tree = world.start(supervisor("root", Strategy::OneForOne, None)).await.unwrap();
    let ended = tokio::time::timeout(seconds(60), tree.ended()).await;
    assert_eq!(ended, Ok(ChildExit::Stopped));
    assert_eq!(world.log().last().unwrap(), "end a");
}
