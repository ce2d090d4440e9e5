//! Tells what the machine has decided: notes become events, the end is handed over.

use std::time::Instant;

use crate::actors::announce::Failure;
use crate::actors::shell::{Shell, about, tell};
use crate::actors::supervisor::SupervisorMsg;
use crate::actors::tree::{GaveUp, TreeError, lock};
use crate::actors::worker::{ChildNews, ChildReport, RunEnd};
use crate::logic::restart::{EndScope, Note};
use crate::protocol::decision::DecisionRecord;
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::{Fact, Severity, StateChange};
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::status::AgentState;

impl Shell {
    pub(in crate::actors::shell) fn tell(
        &mut self,
        now: Instant,
        note: Note,
        touched: &mut Vec<ChildName>,
    ) {
        match note {
            Note::ChildTerminated { child, generation, exit, record } => {
                self.tell_failure(&child, generation, Ok(&exit), record);
                touched.push(child);
            }
            Note::StartFailed { child, generation, error, record } => {
                self.tell_failure(&child, generation, Err(&error), record);
                let message = format!("{child}: {error}");
                self.start_error = Some(StartError::Failed { message });
                touched.push(child);
            }
            Note::ChildFinished { child, generation, exit, record } => {
                let agent = self.agent(&child);
                let about = about(&child, agent.as_deref(), generation);
                self.announcer.finished(about, &exit, record);
                touched.push(child);
            }
            Note::ShutdownError { child, generation, exit } => {
                let agent = self.agent(&child);
                let about = about(&child, agent.as_deref(), generation);
                let state = self.shown(&child);
                self.announcer.erred(about, state, format!("did not stop cleanly: {exit}"));
                touched.push(child);
            }
            Note::Circuit { child, from, to, record } => {
                let agent = self.agent(&child);
                let about = about(&child, agent.as_deref(), self.generation(&child));
                self.announcer.circuit(about, from, to, &record);
                touched.push(child);
            }
            Note::Recovered { child, .. } if self.is_downstream(&child) => {
                self.announcer.outage_over(&child);
                touched.push(child);
            }
            Note::Recovered { child, generation, since, attempts, .. } => {
                let agent = self.agent(&child);
                let about = about(&child, agent.as_deref(), generation);
                self.announcer.recovered(about, since, now, attempts);
                touched.push(child);
            }
            Note::GroupRestart { cause, members, record } => {
                let agent = self.agent(&cause);
                let about = about(&cause, agent.as_deref(), self.generation(&cause));
                self.announcer.group_restart(about, &members, record);
            }
            Note::GivingUp { child, record } => {
                tracing::warn!(supervisor = %self.spec.name, child = %child, "supervisor gives up");
                let mut record = record;
                record.inputs = record.inputs.with("child", child.as_str());
                let children = self.names();
                self.announcer.supervisor(
                    Fact::Escalation,
                    children,
                    Some(record),
                    Severity::Critical,
                );
            }
        }
    }

    fn tell_failure(
        &mut self,
        child: &ChildName,
        generation: Generation,
        exit: Result<&ChildExit, &StartError>,
        record: DecisionRecord,
    ) {
        let agent = self.agent(child);
        let view = self.view(child);
        // From what the board shows to what follows from what the machine has decided.
        let to = view.as_ref().map(|view| self.state_of(child, view));
        let failure = Failure {
            exit,
            change: StateChange {
                from: self.shown(child),
                to: to.unwrap_or(AgentState::Terminated),
            },
            restarts: view.map_or(0, |view| view.restarts),
            record,
            downstream: self.is_downstream(child),
        };
        self.announcer.failed(about(child, agent.as_deref(), generation), failure);
    }

    pub(in crate::actors::shell) fn on_ready(&mut self) {
        self.began = true;
        let children = self.names();
        self.announcer.supervisor(Fact::SupervisorStarted, children, None, Severity::Info);
        self.ports.board.update(&self.spec.name, |entry| entry.state = AgentState::Running);
        self.tell_own();
        if let Some(owner) = &self.owner {
            let news = ChildNews::Started(None);
            let name = self.spec.name.clone();
            let report = ChildReport { name, generation: owner.generation, news };
            if owner.parent.send_message(SupervisorMsg::Report(report)).is_err() {
                tracing::debug!(supervisor = %self.spec.name, "parent ended first");
            }
        }
        if let Some(ready) = self.ready.take() {
            tell(ready, Ok(()));
        }
    }

    /// Tells the root to stop everything (`on_exceeded = "stop_tree"`). The order reaches it before
    /// the end of this supervisor does.
    pub(in crate::actors::shell) fn halt_tree(&self) {
        let parent =
            |name: &ChildName| self.ports.board.read(name, |entry| entry.parent.clone()).flatten();
        let mut root = self.spec.name.clone();
        while let Some(above) = parent(&root) {
            root = above;
        }
        if root != self.spec.name {
            self.directory.halt(&root);
        }
    }

    pub(in crate::actors::shell) fn on_ended(&mut self, exit: ChildExit, scope: EndScope) {
        if scope == EndScope::Tree {
            self.halt_tree();
        }
        let children = self.names();
        self.announcer.supervisor(Fact::SupervisorStopped, children, None, Severity::Info);
        let end = if self.began {
            let gave_up = matches!(exit, ChildExit::GaveUp { .. });
            let orderly = gave_up && lock(&self.tree).gave_up == GaveUp::Shutdown;
            RunEnd::Exited(if orderly { ChildExit::Stopped } else { exit })
        } else {
            let unknown = || StartError::Failed { message: exit.to_string() };
            RunEnd::StartFailed(self.start_error.take().unwrap_or_else(unknown))
        };
        self.finish(end);
    }

    pub(in crate::actors::shell) fn finish(&mut self, end: RunEnd) {
        self.ports.board.update(&self.spec.name, |entry| entry.state = AgentState::Stopped);
        self.tell_own();
        if let Some(ready) = self.ready.take() {
            let failed = match &end {
                RunEnd::StartFailed(error) => error.clone(),
                RunEnd::Exited(exit) => StartError::Failed { message: exit.to_string() },
            };
            tell(ready, Err(TreeError::StartFailed(failed)));
        }
        if let (Some(told), RunEnd::Exited(exit)) = (self.end_told.take(), &end) {
            tell(told, exit.clone());
        }
        // Calls that still wait are answered by dropping their senders.
        self.calls.clear();
        self.end = Some(end);
        self.myself.stop(None);
    }
}
