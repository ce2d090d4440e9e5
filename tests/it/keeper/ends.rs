//! How runs end: codes and signals told apart, and nothing of a run outlives it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use provost::ports::{AgentRuntime, RunningAgent};
use provost::protocol::exit::ChildExit;
use provost::protocol::id::Generation;
use provost::protocol::spec::{
    AgentSpec, OnDaemonExit, RestartPolicy, RestartType, RuntimeKind, SignalName, StopSpec,
};
use provost::runtimes::keeper::{KeeperSlot, ProcessRun};
use provost::runtimes::process::{ProcessRuntime, ProcessSettings};

use crate::keeper::{Bench, PATIENCE, kill, lines, processes, state_and_parent, until, words};

/// Plain, in a session of its own, daemonised, and a daemonised one with a child: five processes.
const TREE: &str = "sleep 300 & setsid sleep 300 & (setsid sleep 300 &)
    (setsid sh -c 'sleep 300 & sleep 300; true' &)
    echo ready;";

const TREE_SIZE: usize = 6;

async fn tree_is_up(run: &ProcessRun) {
    lines(run, 1).await;
    until("the tree is up", || processes(run).len() >= TREE_SIZE).await;
}

#[tokio::test]
async fn codes_and_signals_are_told_apart() {
    let bench = Bench::new().await;
    assert_eq!(bench.end_of("exit 0").await, ChildExit::Exited { code: 0 });
    assert_eq!(bench.end_of("exit 137").await, ChildExit::Exited { code: 137 });
    assert_eq!(bench.end_of("kill -KILL $$").await, ChildExit::Signaled { signal: 9 });
    assert_eq!(bench.end_of("kill -SEGV $$").await, ChildExit::Signaled { signal: 11 });
    assert_eq!(bench.end_of("kill -PIPE $$").await, ChildExit::Signaled { signal: 13 });
}

#[tokio::test]
async fn the_stop_signal_reaches_the_whole_group_even_when_it_is_stopped() {
    let bench = Bench::new().await;
    let script = "sh -c 'trap \"echo child; exit\" USR1; echo up; while :; do sleep 0.01; done' &
        trap 'echo main; wait; exit 5' USR1; echo up; wait";
    let mut run = bench.script(script);
    run.stop.signal = SignalName::Usr1;
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    lines(&run, 2).await;
    kill(handle.pid(), rustix::process::Signal::STOP);
    until("it is stopped", || state_and_parent(handle.pid()).unwrap().0 == 'T').await;
    handle.ask_to_stop();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 5 });
    let told = lines(&run, 4).await;
    assert!(told.contains(&"child".to_owned()) && told.contains(&"main".to_owned()), "{told:?}");
}

#[tokio::test]
async fn nothing_of_a_run_is_left_when_it_is_killed() {
    let bench = Bench::new().await;
    let (mut handle, run) = bench.start(&format!("{TREE} wait; sleep 300")).await;
    tree_is_up(&run).await;
    handle.kill();
    assert_eq!(handle.exited().await, ChildExit::Signaled { signal: 9 });
    assert_eq!(processes(&run), Vec::<i32>::new());
}

#[tokio::test]
async fn nothing_of_a_run_is_left_when_its_main_process_ends() {
    let bench = Bench::new().await;
    let mut handle = None;
    for _ in 0..10 {
        let (next, run) = bench.start(&format!("{TREE} exit 3")).await;
        let next = handle.insert(next);
        assert_eq!(next.exited().await, ChildExit::Exited { code: 3 });
        assert_eq!(processes(&run), Vec::<i32>::new());
    }
}

#[tokio::test]
async fn dropping_a_handle_ends_the_run() {
    let bench = Bench::new().await;
    let (handle, run) = bench.start(&format!("trap '' TERM; {TREE} wait; sleep 300")).await;
    tree_is_up(&run).await;
    drop(handle);
    until("the run is gone", || processes(&run).is_empty()).await;
}

#[tokio::test]
async fn killing_one_run_leaves_the_others_alone() {
    let bench = Bench::new().await;
    let (mut first, first_run) = bench.start(&format!("{TREE} wait; sleep 300")).await;
    let (mut second, second_run) = bench.start(&format!("{TREE} wait; sleep 300")).await;
    tree_is_up(&first_run).await;
    tree_is_up(&second_run).await;
    first.kill();
    first.exited().await;
    assert_eq!(processes(&first_run).len(), 0);
    assert_eq!(processes(&second_run).len(), TREE_SIZE + 1);
    second.kill();
    second.exited().await;
    assert_eq!(processes(&second_run).len(), 0);
}

#[tokio::test]
async fn a_run_without_marks_is_killed_whole_too() {
    let bench = Bench::new().await;
    let mut run = bench.script(&format!("{TREE} wait; sleep 300"));
    run.marks.clear();
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    lines(&run, 1).await;
    // The plain one and the one in its own session are found as descendants.
    until("both are up", || processes(&run).len() >= 3).await;
    handle.kill();
    handle.exited().await;
    // Daemonised ones are known only if they were seen in time; the keeper's end takes the rest.
    bench.life.shut_down().await;
    assert_eq!(processes(&run), Vec::<i32>::new());
}

#[tokio::test]
async fn many_runs_that_end_at_once_are_all_told() {
    let bench = Bench::new().await;
    let starts = (0..100).map(|_| bench.start("sleep 300"));
    let runs = futures_util::future::join_all(starts).await;
    for (handle, _) in &runs {
        kill(handle.pid(), rustix::process::Signal::KILL);
    }
    for (mut handle, _) in runs {
        let exit = tokio::time::timeout(PATIENCE, handle.exited()).await.unwrap();
        assert_eq!(exit, ChildExit::Signaled { signal: 9 });
    }
}

pub(super) fn spec(bench: &Bench, script: &str) -> AgentSpec {
    AgentSpec {
        agent_id: "0190d3a0-0000-7000-8000-000000000001".parse().unwrap(),
        name: "w1".parse().unwrap(),
        agent_type: "worker".parse().unwrap(),
        runtime: RuntimeKind::Process,
        command: words(&["sh", "-c", script]),
        env: [("OWN", "yes"), ("PROVOST_GENERATION", "forged")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        secret_env: Vec::new(),
        cwd: bench.dir.path().to_owned(),
        capabilities: Vec::new(),
        slots: 1,
        max_memory_mb: None,
        timeout: Duration::from_secs(300),
        stop: StopSpec::default(),
        nats_access: true,
        on_daemon_exit: OnDaemonExit::Adopt,
        exec: provost::protocol::spec::ExecSpec::default(),
        care: provost::protocol::care::CareSpec::default(),
        restart: RestartType::Permanent,
        policy: RestartPolicy::default(),
        labels: Default::default(),
        origin: None,
    }
}

async fn agent(bench: &Bench, script: &str) -> (Box<dyn RunningAgent>, ProcessSettings) {
    let slot = KeeperSlot::default();
    slot.set(Some(bench.keeper.clone()));
    let log = bench.dir.path().join("agent.log");
    let mut settings = ProcessSettings::new(spec(bench, script), log);
    settings.nats_url = Some("nats://127.0.0.1:1".to_owned());
    settings.base_env = [("PATH", "/usr/bin:/bin"), ("AWS_SECRET", "x"), ("LC_ALL", "C")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let runtime: Arc<dyn AgentRuntime> = Arc::new(ProcessRuntime::new(slot, settings.clone()));
    (runtime.start(Generation(7)).await.unwrap(), settings)
}

#[tokio::test]
async fn an_agent_that_ignores_the_stop_signal_has_to_be_killed() {
    let bench = Bench::new().await;
    let (mut running, settings) =
        agent(&bench, "trap '' TERM; echo up; while :; do sleep 0.05; done").await;
    until("it is up", || fs::read(&settings.log.file).is_ok_and(|text| !text.is_empty())).await;
    running.ask_to_stop();
    let early = tokio::time::timeout(Duration::from_millis(300), running.exited()).await;
    assert!(early.is_err(), "the request alone ended it: {early:?}");
    running.kill();
    assert_eq!(running.exited().await, ChildExit::Killed);
    assert_eq!(running.exited().await, ChildExit::Killed, "the exit is kept");

    let (mut running, _) = agent(&bench, "exec sleep 300").await;
    running.ask_to_stop();
    assert_eq!(running.exited().await, ChildExit::Stopped);
}

#[tokio::test]
async fn an_agent_finds_the_environment_of_the_contract() {
    let bench = Bench::new().await;
    let (mut running, settings) =
        agent(&bench, "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort").await;
    assert_eq!(running.exited().await, ChildExit::Exited { code: 0 });
    let expected = "LC_ALL=C\nNATS_URL=nats://127.0.0.1:1\nOWN=yes\nPATH=/usr/bin:/bin\n\
        PROVOST_AGENT_ID=0190d3a0-0000-7000-8000-000000000001\nPROVOST_AGENT_NAME=w1\n\
        PROVOST_GENERATION=7\nPROVOST_PROTOCOL=1\nPYTHONUNBUFFERED=1\n\
        TRACEPARENT=00-f166ffe6f910b70a6992a7498f62608a-a758d8d88f60dafe-01\n";
    assert_eq!(fs::read_to_string(&settings.log.file).unwrap(), expected);
}
