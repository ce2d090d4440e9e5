//! Starts and stops the actors of children, and watches for their end.

use std::sync::{Arc, Mutex};

use ractor::ActorRuntime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::actors::shell::{Cell, Live, Shell};
use crate::actors::supervisor::{Owner, SupervisorActor, SupervisorArgs, SupervisorMsg};
use crate::actors::tree::{Body, TreeSpec, WorkerBody};
use crate::actors::worker::{Lease, Worker, WorkerArgs, WorkerMsg};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{ChildKind, Shutdown};

impl Shell {
    pub(in crate::actors::shell) fn start(&mut self, child: &ChildName, generation: Generation) {
        let Some(body) = self.bodies.get(child).cloned() else {
            debug_assert!(false, "the machine starts a child without a body: {child}");
            return;
        };
        self.ports.runs.began(child, generation);
        self.ports.board.update(child, |entry| entry.generation = generation);
        let begun = match body {
            Body::Worker(body) => self.start_worker(child, generation, &body),
            Body::Supervisor(tree) => self.start_supervisor(child, generation, tree),
        };
        match begun {
            Ok(live) => {
                self.live.insert(child.clone(), live);
            }
            Err(message) => {
                tracing::error!(child = %child, error = message, "actor could not be spawned");
            }
        }
    }

    pub(in crate::actors::shell) fn start_worker(
        &mut self,
        child: &ChildName,
        generation: Generation,
        body: &WorkerBody,
    ) -> Result<Live, String> {
        let args = WorkerArgs {
            name: child.clone(),
            generation,
            runtime: Arc::clone(&body.runtime),
            owner: self.myself.get_derived(),
            measure_every: self.ports.measure_every,
            lease: self.owner.as_ref().map(|owner| Arc::clone(&owner.lease)),
        };
        let parent = self.myself.get_cell();
        let (actor, begun) = ActorRuntime::spawn_linked_instant(None, Worker, args, parent)
            .map_err(|error| error.to_string())?;
        self.watch(child.clone(), generation, begun, None);
        self.kinds.insert(actor.get_id(), ChildKind::Worker);
        Ok(Live { generation, actor: actor.get_id(), cell: Cell::Worker(actor) })
    }

    pub(in crate::actors::shell) fn start_supervisor(
        &mut self,
        child: &ChildName,
        generation: Generation,
        tree: Arc<Mutex<TreeSpec>>,
    ) -> Result<Live, String> {
        let (open, all_gone) = mpsc::channel(1);
        let above = self.owner.as_ref().map(|owner| Arc::clone(&owner.lease));
        let lease = Arc::new(Lease { _open: open, _above: above });
        let args = SupervisorArgs {
            tree,
            parent: Some(self.spec.name.clone()),
            ports: self.ports.clone(),
            directory: Arc::clone(&self.directory),
            owner: Some(Owner { generation, parent: self.myself.get_derived(), lease }),
            ready: None,
            end: None,
        };
        let parent = self.myself.get_cell();
        let (actor, begun) =
            ActorRuntime::spawn_linked_instant(None, SupervisorActor, args, parent)
                .map_err(|error| error.to_string())?;
        self.watch(child.clone(), generation, begun, Some(all_gone));
        self.kinds.insert(actor.get_id(), ChildKind::Supervisor);
        Ok(Live { generation, actor: actor.get_id(), cell: Cell::Supervisor(actor) })
    }

    /// Waits for the end of a child's task and tells us. ractor reports a termination before the
    /// dead child's state is dropped; only a completed task means that nothing is left of it.
    pub(in crate::actors::shell) fn watch<E: Send + 'static>(
        &mut self,
        child: ChildName,
        generation: Generation,
        begun: JoinHandle<Result<JoinHandle<()>, E>>,
        all_gone: Option<mpsc::Receiver<()>>,
    ) {
        let myself = self.myself.clone();
        while self.watchers.try_join_next().is_some() {}
        self.watchers.spawn(async move {
            if let Ok(Ok(life)) = begun.await
                && let Err(error) = life.await
            {
                tracing::debug!(child = %child, error = %error, "actor task did not end by itself");
            }
            if let Some(mut all_gone) = all_gone {
                // A killed supervisor did not wait for what was under it.
                all_gone.recv().await;
            }
            if myself.send_message(SupervisorMsg::Gone(child, generation)).is_err() {
                tracing::debug!("supervisor ended before its child was gone");
            }
        });
    }

    pub(in crate::actors::shell) fn stop(
        &self,
        child: &ChildName,
        generation: Generation,
        shutdown: Shutdown,
    ) {
        let Some(live) = self.live.get(child) else {
            debug_assert!(false, "the machine stops a child that does not live: {child}");
            return;
        };
        let sent = match (&live.cell, shutdown) {
            (Cell::Worker(worker), shutdown) => {
                worker.send_message(WorkerMsg::Stop(shutdown)).is_ok()
            }
            (Cell::Supervisor(actor), Shutdown::BrutalKill) => {
                actor.kill();
                true
            }
            (Cell::Supervisor(actor), Shutdown::Infinity) => {
                actor.send_message(SupervisorMsg::Halt).is_ok()
            }
            (Cell::Supervisor(actor), Shutdown::Timeout(limit)) => {
                let overdue = child.clone();
                self.myself.send_after(limit, move || SupervisorMsg::Overdue(overdue, generation));
                actor.send_message(SupervisorMsg::Halt).is_ok()
            }
        };
        if !sent {
            tracing::debug!(child = %child, "child ended before it was asked to stop");
        }
    }
}
