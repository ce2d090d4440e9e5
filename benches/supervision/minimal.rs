//! A ractor supervisor that does nothing but start a dead child again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinHandle;

use crate::System;
use crate::probe::Probe;

#[derive(Debug)]
pub(crate) enum ChildMsg {
    Hello,
    Die,
}

type Children = Arc<Mutex<Vec<ActorRef<ChildMsg>>>>;

#[derive(Debug)]
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
        _myself: ActorRef<ChildMsg>,
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

#[derive(Debug)]
struct Supervisor;

#[derive(Debug)]
struct State {
    probe: Arc<Probe>,
    children: Children,
    places: HashMap<ActorId, usize>,
}

impl Actor for Supervisor {
    type Msg = ();
    type State = State;
    type Arguments = (usize, Arc<Probe>, Children);

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (count, probe, children): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut places = HashMap::new();
        for place in 0..count {
            let (child, _) =
                Actor::spawn_linked(None, Child, Arc::clone(&probe), myself.get_cell()).await?;
            places.insert(child.get_id(), place);
            children.lock().unwrap().push(child);
        }
        Ok(State { probe, children, places })
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, _) = event {
            let place = state.places.remove(&cell.get_id()).unwrap();
            let probe = Arc::clone(&state.probe);
            let (child, _) = Actor::spawn_linked(None, Child, probe, myself.get_cell()).await?;
            state.places.insert(child.get_id(), place);
            *state.children.lock().unwrap().get_mut(place).unwrap() = child;
        }
        Ok(())
    }
}

/// The supervisor and where its children are.
#[derive(Debug)]
pub(crate) struct Minimal {
    supervisor: ActorRef<()>,
    join: JoinHandle<()>,
    children: Children,
}

impl System for Minimal {
    fn crash(&self, child: usize) {
        let child = self.children.lock().unwrap().get(child).unwrap().clone();
        child.send_message(ChildMsg::Die).unwrap();
    }

    async fn stop(self) {
        self.supervisor.stop_children_and_wait(None, None).await;
        self.supervisor.stop(None);
        self.join.await.unwrap();
    }
}

pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> Minimal {
    let children = Children::default();
    let args = (count, Arc::clone(probe), Arc::clone(&children));
    let (supervisor, join) = Actor::spawn(None, Supervisor, args).await.unwrap();
    Minimal { supervisor, join, children }
}

/// Actors without a supervisor.
#[derive(Debug)]
pub(crate) struct Bare {
    children: Vec<(ActorRef<ChildMsg>, JoinHandle<()>)>,
}

impl System for Bare {
    fn crash(&self, _child: usize) {}

    async fn stop(self) {
        for (child, join) in self.children {
            child.stop(None);
            join.await.unwrap();
        }
    }
}

pub(crate) async fn bare(count: usize, probe: &Arc<Probe>) -> Bare {
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        children.push(Actor::spawn(None, Child, Arc::clone(probe)).await.unwrap());
    }
    Bare { children }
}
