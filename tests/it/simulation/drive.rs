//! One seed from beginning to end: the tree starts, commands and faults fall on it, then there is
//! calm, then it is shut down; the checkers look after each step.

use std::sync::Arc;
use std::time::Duration;

use provost::actors::tree::{Drain, Node, Tree, TreeError, TreeHandle, TreePorts, TreeSpec};
use provost::board::Board;
use provost::logic::restart::Call;
use provost::protocol::id::{AgentId, ChildName};
use provost::protocol::spec::{AgentSpec, ChildSpec, OnDaemonExit, RuntimeKind, StopSpec};
use tokio::task::JoinSet;

use crate::simulation::bugs::END_MAX;
use crate::simulation::check::Checkers;
use crate::simulation::runs::Runtime;
use crate::simulation::shape::{Command, Member, STORM, Scenario, Team};
use crate::simulation::world::{Moment, Setting, What, World};

/// Between two looks of the checkers.
const STEP: Duration = Duration::from_millis(1_700);

/// Enough for every delay, open time, throttle and start timeout to pass in calm.
const CALM: Duration = Duration::from_secs(300);

/// After that nothing may be left, not even a timer.
const AFTER: Duration = Duration::from_secs(100);

/// All of that, calls and ends that take as long as they may included. What still goes on then
/// never ends.
const WHOLE: Duration = Duration::from_secs(3_000);

/// What a seed led to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: Vec<Moment>,
    pub(crate) faults: Vec<String>,
    /// How often the past was compared with the present.
    pub(crate) compared: usize,
}

impl Outcome {
    pub(crate) fn trace(&self) -> Vec<String> {
        self.history.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn runs(&self) -> usize {
        self.history.iter().filter(|moment| matches!(moment.what, What::Start(..))).count()
    }

    pub(crate) fn events(&self) -> usize {
        self.history.iter().filter(|moment| matches!(moment.what, What::Event(..))).count()
    }
}

/// Plays one seed.
pub(crate) fn play(setting: Setting) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let scenario = Scenario::of(setting.seed);
    let (world, (faults, compared)) = runtime.block_on(async {
        let world = World::new(setting, scenario.family.clone());
        let mut checkers = Checkers::new(Arc::clone(&world));
        let whole = tokio::time::timeout(WHOLE, run(&world, &scenario, &mut checkers));
        let in_time = tokio::select! {
            biased;
            // Nothing is used afterwards of what is dropped here.
            () = world.overrun.notified() => true,
            ended = whole => ended.is_ok(),
        };
        checkers.read_on();
        checkers.expect("spin", in_time, &format!("it goes on after {WHOLE:?} of virtual time"));
        if let Some(text) = world.overran() {
            checkers.expect("spin", false, &text);
        }
        (world, checkers.into_faults())
    });
    // Whatever spins ends with the runtime.
    drop(runtime);
    Outcome { history: world.since(0), faults, compared }
}

async fn run(world: &Arc<World>, scenario: &Scenario, checkers: &mut Checkers) {
    let board = Arc::new(Board::default());
    let ports = TreePorts {
        sink: Arc::<World>::clone(world),
        clock: Arc::<World>::clone(world),
        jitter: Arc::<World>::clone(world),
        runs: Arc::<World>::clone(world),
        board: Arc::clone(&board),
        severities: Arc::default(),
        measure_every: Duration::from_secs(120),
    };
    let handle = TreeHandle::new(scenario.family.root.name.clone(), ports);
    let team = match world.bug {
        Some(bug) => bug.change(scenario.team.clone()),
        None => scenario.team.clone(),
    };
    let mut calls = JoinSet::new();
    for (number, (at, command)) in scenario.commands.iter().cloned().enumerate() {
        let (world, handle) = (Arc::clone(world), handle.clone());
        calls.spawn(async move {
            tokio::time::sleep(at).await;
            give(&world, &handle, number, command).await;
        });
    }
    match Tree::start_under(tree_of(world, &team), handle.clone()).await {
        Ok(tree) => through(world, &board, tree, checkers).await,
        Err(error) => world.note(What::Did(format!("the tree does not start: {error}"))),
    }
    world.calm_down();
    let answered =
        tokio::time::timeout(STORM + END_MAX, async { while calls.join_next().await.is_some() {} });
    checkers.expect("answer", answered.await.is_ok(), "a call is never answered");
    tokio::time::sleep(AFTER).await;
    settle(world).await;
    checkers.look(&board);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    checkers.expect("end", tasks == 0, &format!("{tasks} tasks are left"));
    checkers.at_the_end();
}

/// The life of a tree that has started.
async fn through(world: &Arc<World>, board: &Arc<Board>, mut tree: Tree, checkers: &mut Checkers) {
    let handle = tree.handle();
    let storm_ends = tokio::time::Instant::now() + STORM;
    let mut ended = false;
    while !ended && tokio::time::Instant::now() < storm_ends {
        ended = step(world, &mut tree, STEP).await;
        checkers.look(board);
    }
    world.calm_down();
    if !ended {
        handle.call_all(Call::Resume, "calm").await;
    }
    let calm_ends = tokio::time::Instant::now() + CALM;
    while !ended && tokio::time::Instant::now() < calm_ends {
        ended = step(world, &mut tree, STEP * 20).await;
        checkers.look(board);
    }
    if !ended {
        checkers.in_calm(board);
    }
    world.note(What::Did("shutdown".to_owned()));
    let in_time = tree.shutdown(END_MAX).await;
    world.note(What::Did("shut down".to_owned()));
    checkers.expect("end", in_time, "the tree does not end in time");
}

/// Lets time pass; tells whether the tree has ended by itself.
async fn step(world: &World, tree: &mut Tree, time: Duration) -> bool {
    let ended = tokio::select! {
        biased;
        // Cancel safe: the end is kept for the next call.
        exit = tree.ended() => Some(exit),
        () = tokio::time::sleep(time) => None,
    };
    settle(world).await;
    if let Some(exit) = &ended {
        world.note(What::Did(format!("the tree ends: {exit}")));
    }
    ended.is_some()
}

/// Lets everything that is under way at this moment come to its end; no time passes. It is over
/// when nothing has happened for longer than any chain of messages between actors takes.
async fn settle(world: &World) {
    const QUIET: usize = 30;
    let (mut seen, mut quiet) = (world.moments(), 0);
    while quiet < QUIET {
        tokio::task::yield_now().await;
        let now = world.moments();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}

async fn give(world: &Arc<World>, handle: &TreeHandle, number: usize, command: Command) {
    world.note(What::Command(number, command.clone()));
    let answer = perform(world, handle, command).await;
    world.note(What::Answer(number, answer.map_err(|error| error.to_string())));
}

async fn perform(
    world: &Arc<World>,
    handle: &TreeHandle,
    command: Command,
) -> Result<(), TreeError> {
    let why = "simulation";
    let named = command.about().cloned();
    let call = |call: Call| async move { handle.call(&named.unwrap(), call, why).await };
    match command {
        Command::Terminate(name) => call(Call::TerminateChild(name)).await,
        Command::TerminateWithin(name, grace) => {
            handle.call_within(&name, Call::TerminateChild(name.clone()), why, grace).await
        }
        Command::Restart(name) => call(Call::RestartChild(name)).await,
        Command::Bounce(name) => call(Call::BounceChild(name)).await,
        Command::Delete(name) => call(Call::DeleteChild(name)).await,
        Command::Reset(name) => call(Call::ResetChild(name)).await,
        Command::Circuit(name, set) => call(Call::SetCircuit(name, set)).await,
        Command::Add(name) => {
            let kin = &world.family.kin[&name];
            let (parent, spec) = (kin.parent.clone(), kin.spec.clone());
            let node = worker(world, spec);
            handle.start_child(&parent, node).await
        }
        Command::KillRun(name) => handle.kill_run(&name),
        Command::Drain(name) => handle.set_draining(&name, Drain::On, why),
        Command::Undrain(name) => handle.set_draining(&name, Drain::Off, why),
        Command::Pause | Command::Resume if world.is_calm() => Ok(()),
        Command::Pause => {
            handle.call_all(Call::Pause, why).await;
            Ok(())
        }
        Command::Resume => {
            handle.call_all(Call::Resume, why).await;
            Ok(())
        }
        Command::Panic(team) => {
            world.panic_in(&team);
            Ok(())
        }
        Command::Clock(seconds) => {
            world.jump(seconds);
            Ok(())
        }
        Command::LoseOutbox(time) => {
            world.lose_outbox(time);
            Ok(())
        }
    }
}

fn tree_of(world: &Arc<World>, team: &Team) -> TreeSpec {
    let node = |member: &Member| match member {
        Member::Worker(spec) => worker(world, spec.clone()),
        Member::Team(spec, below) => Node::supervisor(spec.clone(), tree_of(world, below)),
    };
    let children = team.members.iter().map(node).collect();
    TreeSpec { dynamic: team.dynamic, ..TreeSpec::new(team.spec.clone(), children) }
}

fn worker(world: &Arc<World>, spec: ChildSpec) -> Node {
    let runtime = Arc::new(Runtime { world: Arc::clone(world), child: spec.name.clone() });
    let agent = Arc::new(agent(&spec));
    Node::agent(spec, runtime, agent)
}

fn agent(spec: &ChildSpec) -> AgentSpec {
    AgentSpec {
        agent_id: id_of(&spec.name),
        name: spec.name.clone(),
        agent_type: "simulated".parse().unwrap(),
        runtime: RuntimeKind::InProcess,
        command: Vec::new(),
        env: std::collections::BTreeMap::new(),
        secret_env: Vec::new(),
        cwd: "/".into(),
        capabilities: Vec::new(),
        slots: 1,
        max_memory_mb: None,
        timeout: Duration::from_secs(1),
        stop: StopSpec::default(),
        nats_access: false,
        on_daemon_exit: OnDaemonExit::Stop,
        exec: provost::protocol::spec::ExecSpec::default(),
        care: provost::protocol::care::CareSpec::default(),
        restart: spec.restart,
        policy: spec.policy,
        labels: std::collections::BTreeMap::new(),
        origin: None,
    }
}

fn id_of(name: &ChildName) -> AgentId {
    format!("id-{name}").parse().unwrap()
}
