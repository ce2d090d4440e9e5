//! Commands about one agent: `agent.command`.

use std::time::Duration;

use crate::actors::tree::{Drain, TreeError};
use crate::board::Entry;
use crate::daemon::handler::refusals::{because, ignore_missing, refused, wrong_state};
use crate::daemon::handler::{NAME_TRIES_MAX, Outcome, Place, TreeHandler, lock};
use crate::daemon::logs;
use crate::logic::restart::{Call, Refusal};
use crate::protocol::agent::ToAgent;
use crate::protocol::command::{
    AgentRequest, Answer, CommandError, ErrorKind, LogsRequest, SpawnRequest,
};
use crate::protocol::id::ChildName;
use crate::protocol::spec::RuntimeKind;
use crate::protocol::status::AgentState;

impl TreeHandler {
    pub(in crate::daemon::handler) async fn spawn(&self, request: SpawnRequest) -> Outcome {
        self.check_mode()?;
        if let Some(node) = request.node.as_ref().filter(|node| **node != self.facts.node) {
            return Err(CommandError::new(
                ErrorKind::InvalidRequest,
                format!("node {node} is not this daemon's ({})", self.facts.node),
                "leave `node` out; starting agents on other nodes is not in this version",
            ));
        }
        self.maker.check(&request)?;
        let place = self.take_place(&request)?;
        let name = place.name.clone();
        let request = SpawnRequest { name: Some(name.clone()), ..request };
        let node = self.maker.make(&name, &request)?;
        self.maker.registry().spawned(&name, &request);
        let started = self.tree.start_child(&self.facts.agents_supervisor, node).await;
        if let Err(error) = started {
            self.tree.board().remove(&name);
            self.maker.registry().removed(&name);
            return Err(refused(&error, &name));
        }
        self.answer(&name)
    }

    /// Takes a free name and a place, or says why there is none.
    pub(in crate::daemon::handler) fn take_place(
        &self,
        request: &SpawnRequest,
    ) -> Result<Place<'_>, CommandError> {
        let mut coming = lock(&self.coming);
        let board = self.tree.board();
        let taken = board.places_taken().saturating_add(coming.len());
        if self.maker.places_max() <= taken && !self.maker.is_remote(&request.agent_type) {
            return Err(CommandError::new(
                ErrorKind::PoolFull,
                format!(
                    "{taken} agents are there; at most {} are allowed",
                    self.maker.places_max()
                ),
                "stop or remove an agent, or raise `agents.max`",
            ));
        }
        let in_use = |name: &ChildName| {
            let ended = |entry: Entry| entry.state == AgentState::Terminated;
            coming.contains(name)
                || self.maker.is_reserved(name)
                || board.get(name).is_some_and(|entry| !ended(entry))
        };
        let name = match &request.name {
            Some(name) if in_use(name) => {
                return Err(CommandError::new(
                    ErrorKind::AlreadyExists,
                    format!("the name {name} is taken"),
                    "choose another name, or remove the agent that has it",
                ));
            }
            Some(name) => name.clone(),
            None => free_name(request, in_use)?,
        };
        coming.insert(name.clone());
        drop(coming);
        Ok(Place { handler: self, name })
    }

    pub(in crate::daemon::handler) async fn stop(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let name = entry.name;
        let grace = request.grace_ms.map(Duration::from_millis);
        let call = Call::TerminateChild(name.clone());
        let why = because("stopped on request", request);
        match grace {
            Some(grace) => self.tree.call_within(&name, call, why, grace).await,
            None => self.tree.call(&name, call, why).await,
        }
        .map_err(|error| refused(&error, &name))?;
        self.answer(&name)
    }

    pub(in crate::daemon::handler) async fn restart(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        self.check_mode()?;
        let why = because("restarted on request", request);
        if entry.state.takes_a_place() {
            return self.call(&entry.name, Call::BounceChild, why).await;
        }
        self.start_again(&entry, why).await
    }

    pub(in crate::daemon::handler) fn kill(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        if entry.pid.is_none() {
            return Err(wrong_state(&entry, "it does not run", "`status` shows what it waits for"));
        }
        self.tree.kill_run(&entry.name).map_err(|error| refused(&error, &entry.name))?;
        self.answer(&entry.name)
    }

    pub(in crate::daemon::handler) fn drain(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let why = because("draining", request);
        self.tree
            .set_draining(&entry.name, Drain::On, &why)
            .map_err(|error| refused(&error, &entry.name))?;
        self.tell_to_drain(&entry);
        self.answer(&entry.name)
    }

    /// Says it to the agent, too, if it can be told.
    pub(in crate::daemon::handler) fn tell_to_drain(&self, entry: &Entry) {
        let id = entry.agent.as_ref().map(|agent| &agent.agent_id);
        let channel = id.and_then(|id| self.maker.channels().get(id));
        if let Some(Err(error)) = channel.map(|channel| channel.send(&ToAgent::Drain)) {
            tracing::warn!(agent = %entry.name, %error, "the agent was not told to drain");
        }
    }

    pub(in crate::daemon::handler) async fn resume(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let why = because("resumed", request);
        if !entry.state.takes_a_place() || entry.state == AgentState::Created {
            self.check_mode()?;
            return self.start_again(&entry, why).await;
        }
        self.tree
            .set_draining(&entry.name, Drain::Off, &why)
            .map_err(|error| refused(&error, &entry.name))?;
        self.answer(&entry.name)
    }

    /// Starts an agent that is down. One that its supervisor has forgotten (a temporary one, or any
    /// when supervision is off) is made anew from its declaration.
    async fn start_again(&self, entry: &Entry, why: String) -> Outcome {
        let _place = self.take_back(entry)?;
        let name = &entry.name;
        let again = self.tree.call(name, Call::RestartChild(name.clone()), why).await;
        match again {
            Err(TreeError::NotFound(_) | TreeError::Refused(Refusal::NotFound)) => {
                let node = self.maker.make_again(name)?;
                let parent = entry.parent.as_ref().unwrap_or(&self.facts.agents_supervisor);
                self.tree.start_child(parent, node).await.map_err(|error| refused(&error, name))?;
            }
            other => other.map_err(|error| refused(&error, name))?,
        }
        self.answer(name)
    }

    /// A stopped agent that is started again needs a place of the pool again.
    pub(in crate::daemon::handler) fn take_back(
        &self,
        entry: &Entry,
    ) -> Result<Place<'_>, CommandError> {
        let mut coming = lock(&self.coming);
        let taken = self.tree.board().places_taken().saturating_add(coming.len());
        let is_remote =
            entry.agent.as_ref().is_some_and(|agent| agent.runtime == RuntimeKind::Remote);
        if !is_remote && !entry.state.takes_a_place() && self.maker.places_max() <= taken {
            return Err(CommandError::new(
                ErrorKind::PoolFull,
                format!(
                    "{taken} agents are there; at most {} are allowed",
                    self.maker.places_max()
                ),
                "stop or remove another agent, or raise `agents.max`",
            ));
        }
        coming.insert(entry.name.clone());
        drop(coming);
        Ok(Place { handler: self, name: entry.name.clone() })
    }

    pub(in crate::daemon::handler) async fn reset(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        self.call(&entry.name, Call::ResetChild, because("reset", request)).await
    }

    pub(in crate::daemon::handler) async fn remove(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        let name = entry.name.clone();
        let mut status = self.status_of(&entry)?;
        if entry.state != AgentState::Terminated {
            let why = because("removed", request);
            let stop = self.tree.call(&name, Call::TerminateChild(name.clone()), why.clone()).await;
            if let Err(error) = stop.and(Ok(())) {
                ignore_missing(error, &name)?;
            }
            let gone = self.tree.call(&name, Call::DeleteChild(name.clone()), why).await;
            if let Err(error) = gone {
                ignore_missing(error, &name)?;
            }
        }
        self.tree.board().remove(&name);
        self.maker.registry().removed(&name);
        status.state = AgentState::Terminated;
        status.pid = None;
        status.next = None;
        "removed".clone_into(&mut status.reason);
        Ok(Answer::agent(status))
    }

    pub(in crate::daemon::handler) fn status(&self, request: &AgentRequest) -> Outcome {
        let entry = self.agent(request)?;
        Ok(Answer::agent(self.status_of(&entry)?))
    }

    pub(in crate::daemon::handler) async fn logs(&self, request: &LogsRequest) -> Outcome {
        let entry = self.find(&request.agent)?;
        let file = self.maker.log_file(&entry.name);
        let lines = logs::read(file, request.lines, request.after).await?;
        Ok(Answer { logs: Some(lines), ..Answer::done() })
    }
}

fn free_name(
    request: &SpawnRequest,
    in_use: impl Fn(&ChildName) -> bool,
) -> Result<ChildName, CommandError> {
    let base: String = request.agent_type.as_str().chars().take(56).collect();
    let tries = (1..=NAME_TRIES_MAX).filter_map(|n| format!("{base}-{n}").parse().ok());
    tries.into_iter().find(|name| !in_use(name)).ok_or_else(|| {
        CommandError::new(
            ErrorKind::AlreadyExists,
            format!("no free name is left for type {}", request.agent_type),
            "give a `name`",
        )
    })
}
