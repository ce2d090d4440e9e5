//! Supervision beside its peers: crash to first handled message, starts, memory.
//!
//! `ours` is the tree of `provost::actors`, `added` the same with children added one by one, as the
//! others add them; `ractor` a hand-written ractor supervisor that only respawns;
//! `ractor_supervisor` the crate of that name; `kameo` kameo's own supervision. Each figure is taken
//! in a process of its own.

#[path = "../../../supervision/minimal.rs"]
#[allow(dead_code)]
mod minimal;
#[path = "../../../supervision/ours.rs"]
#[allow(dead_code)]
mod ours;
#[path = "../../../supervision/probe.rs"]
mod probe;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::probe::{Probe, resident, summary};

/// Restarted at one time: nobody, or one that is told what to do.
pub(crate) trait System {
    /// Makes a child crash.
    fn crash(&self, child: usize);
    /// Stops everything.
    fn stop(self) -> impl Future<Output = ()>;
}

const SYSTEMS: [&str; 4] = ["ours", "ractor", "ractor_supervisor", "kameo"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [what, system, count] = words.as_slice() {
        return one(what, system, count.parse().unwrap());
    }
    for what in ["latency", "starts", "memory"] {
        for count in [1_000_usize, 10_000, 100_000] {
            let added: &[&str] = if what == "starts" { &["added"] } else { &[] };
            for system in SYSTEMS.iter().chain(added) {
                let myself = std::env::current_exe().unwrap();
                Command::new(myself).args([what, system, &count.to_string()]).status().unwrap();
            }
        }
    }
}

fn one(what: &str, system: &str, count: usize) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    let (what, system) = (what.to_owned(), system.to_owned());
    runtime.block_on(async {
        let run = async move {
            match system.as_str() {
                "ours" => measure(&what, "ours", count, ours::start).await,
                "added" => measure(&what, "added", count, ours::added).await,
                "ractor" => measure(&what, "ractor", count, minimal::start).await,
                "kameo" => measure(&what, "kameo", count, with_kameo::start).await,
                _ => measure(&what, "ractor_supervisor", count, with_crate::start).await,
            }
        };
        tokio::spawn(run).await.unwrap();
    });
}

async fn measure<S: System>(
    what: &str,
    name: &str,
    count: usize,
    start: impl AsyncFn(usize, &Arc<Probe>) -> S,
) {
    let probe = Arc::new(Probe::new());
    let before = resident();
    let begin = probe.now();
    let all_up = probe.expect(count as u64);
    let system = start(count, &probe).await;
    all_up.await;
    let up = probe.now().saturating_sub(begin);
    match what {
        "starts" => {
            println!("starts  {name:<18} {count}: {:.0}/s", count as f64 / up.as_secs_f64());
        }
        "memory" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let each = resident().saturating_sub(before) / count as u64;
            println!("memory  {name:<18} {count}: {each} B per child (resident)");
        }
        _ => latency(name, count, &probe, &system).await,
    }
    system.stop().await;
}

/// One crash at a time; from the instant before a child ends to its replacement's first message.
async fn latency(name: &str, count: usize, probe: &Arc<Probe>, system: &impl System) {
    let rounds = 5_000;
    let mut taken = Vec::with_capacity(rounds);
    for round in 0..rounds + rounds / 10 {
        let all_up = probe.expect(1);
        system.crash(fastrand::usize(..count));
        if tokio::time::timeout(Duration::from_secs(10), all_up).await.is_err() {
            return println!("latency {name:<18} siblings={count:<7} a child did not come back");
        }
        if rounds / 10 <= round {
            taken.push(probe.since_crash());
        }
        tokio::task::yield_now().await;
    }
    println!("latency {name:<18} siblings={count:<7} {}", summary(&mut taken));
}

mod with_kameo {
    //! kameo's supervision.

    use std::sync::Arc;
    use std::time::Duration;

    use kameo::actor::{Actor, ActorRef, Spawn};
    use kameo::error::Infallible;
    use kameo::message::{Context, Message};

    use crate::System;
    use crate::probe::Probe;

    struct Supervisor;

    impl Actor for Supervisor {
        type Args = ();
        type Error = Infallible;

        async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
            Ok(Self)
        }
    }

    struct Child(Arc<Probe>);

    struct Hello;

    struct Die;

    impl Actor for Child {
        type Args = Arc<Probe>;
        type Error = Infallible;

        async fn on_start(probe: Arc<Probe>, myself: ActorRef<Self>) -> Result<Self, Infallible> {
            myself.tell(Hello).try_send().ok();
            Ok(Self(probe))
        }
    }

    impl Message<Hello> for Child {
        type Reply = ();

        async fn handle(&mut self, _: Hello, _: &mut Context<Self, ()>) {
            self.0.up();
        }
    }

    impl Message<Die> for Child {
        type Reply = Result<(), String>;

        async fn handle(&mut self, _: Die, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
            self.0.crash();
            Err("died".to_owned())
        }
    }

    pub(crate) struct Kameo {
        supervisor: ActorRef<Supervisor>,
        children: Vec<ActorRef<Child>>,
    }

    impl System for Kameo {
        fn crash(&self, child: usize) {
            self.children[child].tell(Die).try_send().unwrap();
        }

        async fn stop(self) {
            self.supervisor.kill();
            self.supervisor.wait_for_shutdown().await;
        }
    }

    pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> Kameo {
        let supervisor = Supervisor::spawn(());
        let mut children = Vec::with_capacity(count);
        for _ in 0..count {
            let child = Child::supervise(&supervisor, Arc::clone(probe))
                .restart_limit(u32::MAX, Duration::from_millis(1));
            children.push(child.spawn().await);
        }
        Kameo { supervisor, children }
    }
}

mod with_crate {
    //! The crate `ractor-supervisor`.

    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use ractor_supervisor::{
        ChildSpec, DynamicSupervisor, DynamicSupervisorMsg, DynamicSupervisorOptions, Restart,
        SpawnFn,
    };
    use tokio::task::JoinHandle;

    use crate::System;
    use crate::probe::Probe;

    #[derive(Debug)]
    enum ChildMsg {
        Hello,
        Die,
    }

    struct Child;

    impl Actor for Child {
        type Msg = ChildMsg;
        type State = Arc<Probe>;
        type Arguments = Arc<Probe>;

        async fn pre_start(
            &self,
            myself: ActorRef<ChildMsg>,
            probe: Arc<Probe>,
        ) -> Result<Arc<Probe>, ActorProcessingErr> {
            myself.send_message(ChildMsg::Hello)?;
            Ok(probe)
        }

        async fn handle(
            &self,
            _: ActorRef<ChildMsg>,
            message: ChildMsg,
            probe: &mut Arc<Probe>,
        ) -> Result<(), ActorProcessingErr> {
            match message {
                ChildMsg::Hello => {
                    probe.up();
                    Ok(())
                }
                ChildMsg::Die => {
                    probe.crash();
                    Err("died".into())
                }
            }
        }
    }

    pub(crate) struct Dynamic {
        supervisor: ActorRef<DynamicSupervisorMsg>,
        join: JoinHandle<()>,
    }

    impl System for Dynamic {
        fn crash(&self, child: usize) {
            let cell = ractor::registry::where_is(format!("w{child}")).unwrap();
            ActorRef::<ChildMsg>::from(cell).send_message(ChildMsg::Die).unwrap();
        }

        async fn stop(self) {
            self.supervisor.stop_children_and_wait(None, None).await;
            self.supervisor.stop(None);
            self.join.await.unwrap();
        }
    }

    pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> Dynamic {
        let options = DynamicSupervisorOptions {
            max_children: None,
            max_restarts: usize::MAX,
            max_window: Duration::from_millis(1),
            reset_after: None,
        };
        let spawned = DynamicSupervisor::spawn("root".to_owned(), options).await;
        let (supervisor, join) = spawned.unwrap();
        for child in 0..count {
            let probe = Arc::clone(probe);
            let spawn_fn = SpawnFn::new(move |supervisor, id| {
                let probe = Arc::clone(&probe);
                async move {
                    let spawned =
                        DynamicSupervisor::spawn_linked(id, Child, probe, supervisor).await;
                    spawned.map(|(child, _)| child.get_cell())
                }
                .boxed()
            });
            let spec = ChildSpec {
                id: format!("w{child}"),
                restart: Restart::Permanent,
                spawn_fn,
                backoff_fn: None,
                reset_after: None,
            };
            DynamicSupervisor::spawn_child(supervisor.clone(), spec).await.unwrap();
        }
        Dynamic { supervisor, join }
    }
}
