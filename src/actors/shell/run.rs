//! Starts and stops the actors of children, and watches for their end.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use ractor::{Actor, ActorRef};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::actors::shell::{Cell, Live, Shell};
use crate::actors::supervisor::{Owner, SupervisorActor, SupervisorArgs, SupervisorMsg};
use crate::actors::tree::{Body, TreeSpec, WorkerBody};
use crate::actors::worker::{Lease, Orders, Seat, Worker, WorkerArgs};
use crate::protocol::exit::StartError;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::Shutdown;

impl Shell {
    pub(in crate::actors::shell) fn start(&mut self, child: &ChildName, generation: Generation) {
        self.ports.runs.began(child, generation);
        if !self.kids.contains_key(child) {
            self.adopt_spare(child);
        }
        if let Some(kid) = self.kids.get_mut(child)
            && let Some(seat) = kid.idle.take()
        {
            seat.orders.start(generation);
            kid.live = Some(Live { generation, cell: Cell::Worker(seat) });
            return;
        }
        let begun = match self.kids.get(child).map(|kid| &kid.body) {
            Some(Body::Worker(body)) => self.start_worker(child, generation, body),
            Some(Body::Supervisor(tree)) => {
                self.start_supervisor(child, generation, Arc::clone(tree))
            }
            None => Err(failed("it is not known what to run; delete the child and add it again")),
        };
        match begun {
            Ok(cell) => {
                if let Cell::Supervisor(actor) = &cell {
                    self.ends.insert(actor.get_id(), None);
                }
                if let Some(kid) = self.kids.get_mut(child) {
                    kid.live = Some(Live { generation, cell });
                }
            }
            Err(error) => {
                tracing::error!(child = %child, error = %error, "actor could not be spawned");
                // By message, so that a child that is tried again at once holds nobody up.
                let told = SupervisorMsg::NotSpawned(child.clone(), generation, error);
                if self.myself.send_message(told).is_err() {
                    tracing::debug!(child = %child, "supervisor ended first");
                }
            }
        }
    }

    fn start_worker(
        &self,
        child: &ChildName,
        generation: Generation,
        body: &WorkerBody,
    ) -> Result<Cell, StartError> {
        let orders = Arc::new(Orders::default());
        orders.start(generation);
        let args = WorkerArgs {
            name: child.clone(),
            runtime: Arc::clone(&body.runtime),
            owner: self.myself.clone(),
            orders: Arc::clone(&orders),
            // Only agents are measured.
            measure_every: body.agent.as_ref().map(|_| self.ports.measure_every),
            _lease: self.owner.as_ref().map(|owner| Arc::clone(&owner.lease)),
        };
        let (actor, _) = self.spawn(Worker, args)?;
        Ok(Cell::Worker(Seat { actor: actor.get_id(), orders }))
    }

    fn start_supervisor(
        &mut self,
        child: &ChildName,
        generation: Generation,
        tree: Arc<Mutex<TreeSpec>>,
    ) -> Result<Cell, StartError> {
        let (open, all_gone) = mpsc::channel(1);
        let above = self.owner.as_ref().map(|owner| Arc::clone(&owner.lease));
        let lease = Arc::new(Lease { _open: open, _above: above });
        let args = SupervisorArgs {
            tree,
            parent: Some(self.spec.name.clone()),
            ports: self.ports.clone(),
            directory: Arc::clone(&self.directory),
            owner: Some(Owner { generation, parent: self.myself.clone(), lease }),
            ready: None,
            end: None,
        };
        let (actor, life) = self.spawn(SupervisorActor, args)?;
        self.watch(child.clone(), generation, life, all_gone);
        Ok(Cell::Supervisor(actor))
    }

    /// Spawns an actor under this one. `pre_start` of our actors never waits, so one poll is enough;
    /// it is not held back by what this task has used of its share of time.
    fn spawn<A: Actor>(
        &self,
        actor: A,
        args: A::Arguments,
    ) -> Result<(ActorRef<A::Msg>, JoinHandle<()>), StartError> {
        let spawned = Actor::spawn_linked(None, actor, args, self.myself.get_cell());
        match tokio::task::unconstrained(spawned).now_or_never() {
            Some(spawned) => spawned.map_err(|error| failed(&error.to_string())),
            None => Err(failed("its actor was not there at once; this is a bug")),
        }
    }

    /// Waits for the end of a child supervisor and tells us. ractor reports a termination before
    /// the dead actor's state is dropped; only a completed task means that nothing is left of it.
    fn watch(
        &mut self,
        child: ChildName,
        generation: Generation,
        life: JoinHandle<()>,
        mut all_gone: mpsc::Receiver<()>,
    ) {
        let myself = self.myself.clone();
        while self.watchers.try_join_next().is_some() {}
        self.watchers.spawn(async move {
            if let Err(error) = life.await {
                tracing::debug!(child = %child, error = %error, "actor task did not end by itself");
            }
            // A killed supervisor did not wait for what was under it.
            all_gone.recv().await;
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
        let Some(live) = self.kids.get(child).and_then(|kid| kid.live.as_ref()) else {
            // It could not be spawned, and that is still to be told.
            tracing::debug!(child = %child, "child to be stopped does not live");
            return;
        };
        let sent = match (&live.cell, shutdown) {
            (Cell::Worker(seat), shutdown) => {
                seat.orders.stop(shutdown);
                true
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

fn failed(message: &str) -> StartError {
    StartError::Failed { message: message.to_owned() }
}
