//! provost's own tree, with children whose runs do nothing but end when told to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use provost::actors::tree::{Node, Tree, TreePorts, TreeSpec};
use provost::ports::{AgentRuntime, BoxFuture, EventDraft, EventSink, RunningAgent};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::{EventId, Generation};
use provost::protocol::spec::{
    AgentSpec, ChildSpec, OnDaemonExit, RestartPolicy, RestartType, RuntimeKind, StopSpec,
    Strategy, SupervisorSpec,
};
use tokio::sync::Notify;

use crate::System;
use crate::probe::Probe;

/// Takes events and forgets them: what follows behind the port is not measured.
#[derive(Debug)]
struct Forgetful;

impl EventSink for Forgetful {
    fn emit(&self, draft: EventDraft) -> EventId {
        std::hint::black_box(draft);
        EventId::new(uuid::Uuid::nil())
    }
}

#[derive(Debug)]
struct Crasher {
    probe: Arc<Probe>,
    crash: Arc<Notify>,
}

#[derive(Debug)]
struct Run {
    probe: Arc<Probe>,
    /// Until the run has taken its first step: that its start has come back is not enough.
    first: Option<Arc<Probe>>,
    crash: Arc<Notify>,
    /// Whoever asks it to stop waits for its end anew.
    stopped: bool,
}

impl AgentRuntime for Crasher {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let (probe, crash) = (Arc::clone(&self.probe), Arc::clone(&self.crash));
        Box::pin(async move {
            let first = Some(Arc::clone(&probe));
            let run: Box<dyn RunningAgent> = Box::new(Run { probe, first, crash, stopped: false });
            Ok(run)
        })
    }
}

impl RunningAgent for Run {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async {
            if let Some(probe) = self.first.take() {
                probe.up();
            }
            if self.stopped {
                return ChildExit::Finished;
            }
            self.crash.notified().await;
            self.probe.crash();
            ChildExit::Exited { code: 1 }
        })
    }

    fn ask_to_stop(&mut self) {
        self.stopped = true;
    }

    fn kill(&mut self) {
        self.stopped = true;
    }
}

/// A tree with one supervisor.
#[derive(Debug)]
pub(crate) struct Ours {
    tree: Tree,
    crashes: Vec<Arc<Notify>>,
}

impl System for Ours {
    fn crash(&self, child: usize) {
        self.crashes.get(child).unwrap().notify_one();
    }

    async fn stop(self) {
        assert!(self.tree.shutdown(Duration::from_secs(600)).await);
    }
}

pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> Ours {
    start_with(Strategy::OneForOne, count, probe).await
}

pub(crate) async fn start_with(strategy: Strategy, count: usize, probe: &Arc<Probe>) -> Ours {
    let mut crashes = Vec::with_capacity(count);
    let nodes = (0..count).map(|child| node(child, probe, &mut crashes)).collect();
    Ours { tree: tree(strategy, nodes).await, crashes }
}

/// Children that are agents, as in a daemon.
pub(crate) async fn agents(count: usize, probe: &Arc<Probe>) -> Ours {
    let mut crashes = Vec::with_capacity(count);
    let agent = |child| {
        let (spec, crasher) = parts(child, probe, &mut crashes);
        Node::agent(spec, crasher, Arc::new(agent_spec(child)))
    };
    let nodes = (0..count).map(agent).collect();
    Ours { tree: tree(Strategy::OneForOne, nodes).await, crashes }
}

/// Children that are added one by one, each when the former runs.
pub(crate) async fn added(count: usize, probe: &Arc<Probe>) -> Ours {
    let tree = tree(Strategy::OneForOne, Vec::new()).await;
    let mut crashes = Vec::with_capacity(count);
    let handle = tree.handle();
    for child in 0..count {
        let node = node(child, probe, &mut crashes);
        handle.start_child(handle.root(), node).await.unwrap();
    }
    Ours { tree, crashes }
}

async fn tree(strategy: Strategy, nodes: Vec<Node>) -> Tree {
    let supervisor = SupervisorSpec::new("root".parse().unwrap(), strategy);
    let ports = TreePorts::standalone(Arc::new(Forgetful));
    Tree::start(TreeSpec::new(supervisor, nodes), ports).await.unwrap()
}

fn node(child: usize, probe: &Arc<Probe>, crashes: &mut Vec<Arc<Notify>>) -> Node {
    let (spec, crasher) = parts(child, probe, crashes);
    Node::worker(spec, crasher)
}

fn parts(
    child: usize,
    probe: &Arc<Probe>,
    crashes: &mut Vec<Arc<Notify>>,
) -> (ChildSpec, Arc<Crasher>) {
    let crash = Arc::new(Notify::new());
    crashes.push(Arc::clone(&crash));
    let spec = ChildSpec::otp_worker(format!("w{child}").parse().unwrap());
    (spec, Arc::new(Crasher { probe: Arc::clone(probe), crash }))
}

fn agent_spec(child: usize) -> AgentSpec {
    AgentSpec {
        agent_id: format!("a{child}").parse().unwrap(),
        name: format!("w{child}").parse().unwrap(),
        agent_type: "bench".parse().unwrap(),
        runtime: RuntimeKind::Process,
        command: vec!["true".to_owned()],
        env: BTreeMap::new(),
        secret_env: Vec::new(),
        cwd: PathBuf::new(),
        capabilities: Vec::new(),
        slots: 1,
        max_memory_mb: None,
        timeout: Duration::from_secs(60),
        stop: StopSpec::default(),
        nats_access: false,
        on_daemon_exit: OnDaemonExit::default(),
        exec: provost::protocol::spec::ExecSpec::default(),
        care: provost::protocol::care::CareSpec::default(),
        restart: RestartType::Permanent,
        policy: RestartPolicy::OTP,
        labels: BTreeMap::new(),
        origin: None,
    }
}
