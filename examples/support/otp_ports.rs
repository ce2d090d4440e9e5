//! The ports of the real actors in a scenario: runs that do as planned, a sink and a run log that
//! turn what they are told into lines of the trace.
//!
//! Deaths are written down by the run that dies; everything about supervisors, and every report,
//! is read from the events that the actors raise. The words are OTP's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use provost::actors::defaults::MemoryRuns;
use provost::logic::restart::Pace;
use provost::ports::{
    AgentRuntime, BoxFuture, EventDraft, EventSink, JitterSource, RunLog, RunningAgent,
};
use provost::protocol::decision::{Input, Reason};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::fact::{Fact, Failed, FailureType, SupervisorReported};
use provost::protocol::id::{ChildName, EventId, Generation};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use super::otp_words::{exit, planned};
use super::{Event, Sup};

/// What is known of the scenario's processes, and its trace so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Book(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) events: Vec<Event>,
    /// Spec and supervisor of each id.
    pub(super) specs: BTreeMap<String, (Value, Option<String>)>,
    /// Latest run of each worker.
    pub(super) runs: BTreeMap<String, Run>,
    pub(super) sups: BTreeMap<String, Life>,
    tries: BTreeMap<String, usize>,
    runs_begun: u64,
    /// Last failed start under each supervisor.
    failed: BTreeMap<String, String>,
    /// What must never happen.
    pub(super) faults: Vec<String>,
    events_told: u128,
    /// A start that blocks until the next call to its supervisor is queued.
    pub(super) held: Option<(String, oneshot::Sender<()>)>,
}

/// How a start goes.
enum Begun {
    Up(u64, ChildExits),
    Failed,
    Held(oneshot::Receiver<()>),
}

#[derive(Debug)]
pub(super) struct Run {
    number: u64,
    state: RunState,
    end: watch::Sender<Option<ChildExit>>,
}

impl Run {
    pub(super) fn is_alive(&self) -> bool {
        self.state == RunState::Alive
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RunState {
    Alive,
    Dead,
    /// Nothing of it is left.
    Gone,
}

/// Where a supervisor stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    Starting,
    Up,
    Down,
}

impl Book {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    pub(super) fn log(&mut self, text: String) {
        self.events.push(Event { group: None, text });
    }

    fn parent(&self, id: &str) -> Option<&str> {
        self.specs.get(id).and_then(|(_, parent)| parent.as_deref())
    }

    pub(super) fn is_simple(&self, id: &str) -> bool {
        let strategy = self.specs.get(id).and_then(|(spec, _)| spec.get("strategy"));
        strategy.and_then(Value::as_str) == Some("simple_one_for_one")
    }

    pub(super) fn is_supervisor(&self, id: &str) -> bool {
        self.specs.get(id).is_some_and(|(spec, _)| spec.get("strategy").is_some())
    }

    /// Logs a death; those of instances of one template are a group, since their order is open.
    pub(super) fn log_stop(&mut self, id: &str, why: &str) {
        let parent = self.parent(id).filter(|parent| self.is_simple(parent));
        let group = parent.map(str::to_owned);
        self.events.push(Event { group, text: format!("stop {id}:{why}") });
    }

    fn begin(&mut self, id: &str, spec: &Value) -> Begun {
        let tries = self.tries.entry(id.to_owned()).or_default();
        *tries += 1;
        let how = planned(spec, *tries);
        if how == 'x' {
            self.log(format!("fail {id}:boom"));
            return Begun::Failed;
        }
        if how == 'h' {
            self.log(format!("fail {id}:held"));
            let (release, released) = oneshot::channel();
            self.held = self.parent(id).map(|sup| (sup.to_owned(), release));
            return Begun::Held(released);
        }
        if self.runs.get(id).is_some_and(|run| run.state != RunState::Gone) {
            self.faults.push(format!("two runs of {id} at a time"));
        }
        self.runs_begun += 1;
        let number = self.runs_begun;
        let (end, ended) = watch::channel(None);
        self.runs.insert(id.to_owned(), Run { number, state: RunState::Alive, end });
        self.log(format!("start {id}"));
        if how == 'c' {
            self.die(id, number, "crash");
        }
        Begun::Up(number, ended)
    }

    /// A run dies, if it lives.
    fn die(&mut self, id: &str, number: u64, why: &str) {
        let Some(run) = self.runs.get_mut(id).filter(|run| run.is_alive() && run.number == number)
        else {
            return;
        };
        run.state = RunState::Dead;
        run.end.send_replace(Some(exit(why)));
        self.log_stop(id, why);
    }

    /// The latest run of a worker dies; tells whether there was one.
    pub(super) fn kill(&mut self, id: &str, why: &str) -> bool {
        let living = self.runs.get(id).filter(|run| run.is_alive()).map(|run| run.number);
        if let Some(number) = living {
            self.die(id, number, why);
        }
        living.is_some()
    }

    /// A supervisor is about to be killed, and its workers with it.
    pub(super) fn doom(&mut self, sup: &str) {
        self.sups.insert(sup.to_owned(), Life::Down);
        self.log_stop(sup, "killed");
        let kids: Vec<String> =
            self.runs.keys().filter(|id| self.parent(id) == Some(sup)).cloned().collect();
        for kid in kids {
            if let Some(run) = self.runs.get_mut(&kid).filter(|run| run.is_alive()) {
                run.state = RunState::Dead;
                self.log_stop(&kid, "killed");
            }
        }
        self.events.sort();
    }

    /// A failed start in OTP's words.
    pub(super) fn start_words(&self, id: &str, text: &str) -> String {
        let text = text.strip_prefix("start failed: ").unwrap_or(text);
        if !self.is_supervisor(id) {
            return text.to_owned();
        }
        if let Some((child, rest)) = text.split_once(": ")
            && self.parent(child) == Some(id)
        {
            let why = self.start_words(child, rest);
            return format!("{{shutdown,{{failed_to_start_child,{child},{why}}}}}");
        }
        let spec = self.specs.get(id).map(|(spec, _)| spec);
        let fault = spec.and_then(|spec| Sup::new(spec, Pace::OneAtATime).err());
        fault.unwrap_or_else(|| text.to_owned())
    }

    /// A supervisor could not start.
    pub(super) fn sup_failed(&mut self, id: &str, why: &str) {
        if self.sups.get(id) == Some(&Life::Starting) {
            self.sups.insert(id.to_owned(), Life::Down);
            self.log(format!("fail {id}:{why}"));
        }
    }

    fn on_failed(&mut self, failed: &Failed) {
        let id = failed.name.as_str();
        let Some(sup) = self.parent(id).map(str::to_owned) else { return };
        let message = failed.message.as_deref().unwrap_or_default();
        if failed.failure_type == FailureType::StartFailed {
            let why = self.start_words(id, message);
            self.sup_failed(id, &why);
            self.log(format!("rep {sup}:start_error {id}:{why}"));
            let why = format!("{{shutdown,{{failed_to_start_child,{id},{why}}}}}");
            self.failed.insert(sup, why);
            return;
        }
        let why = self.exit_words(id, message);
        self.log(format!("rep {sup}:child_terminated {id}:{why}"));
    }

    /// A supervisor's end is `shutdown` in OTP, whatever the reason, unless it was killed.
    fn exit_words(&self, id: &str, message: &str) -> String {
        match message {
            "killed" => "killed".to_owned(),
            _ if self.is_supervisor(id) => "shutdown".to_owned(),
            "finished" => "normal".to_owned(),
            "stopped on request" => "shutdown".to_owned(),
            "exited with code 0" => "{shutdown,term}".to_owned(),
            other => other.strip_prefix("failed: ").unwrap_or(other).to_owned(),
        }
    }

    fn on_unclean_stop(&mut self, id: &str, error: &str) {
        let Some(sup) = self.parent(id).map(str::to_owned) else { return };
        let exit = error.strip_prefix("did not stop cleanly: ").unwrap_or(error);
        let why = self.exit_words(id, exit);
        self.log(format!("rep {sup}:shutdown_error {id}:{why}"));
    }

    fn on_stopped(&mut self, id: &str) {
        if self.sups.get(id) == Some(&Life::Starting) {
            let why = self.failed.remove(id).unwrap_or_default();
            return self.sup_failed(id, &why);
        }
        self.sups.insert(id.to_owned(), Life::Down);
        self.gather_reports(id);
        self.log_stop(id, "shutdown");
    }

    /// Instances that were stopped side by side: one report for each distinct reason, at the end.
    fn gather_reports(&mut self, id: &str) {
        let template = self.specs.get(id).filter(|_| self.is_simple(id)).and_then(|(spec, _)| {
            spec.get("children")?.get(0)?.get("id")?.as_str().map(str::to_owned)
        });
        let Some(template) = template else { return };
        let head = format!("rep {id}:shutdown_error ");
        let init = format!("init {id}");
        let begun = self.events.iter().rposition(|event| event.text == init).unwrap_or_default();
        let mut reasons = BTreeSet::new();
        let mut life = self.events.split_off(begun);
        life.retain(|event| {
            let why = event.text.strip_prefix(&head).and_then(|rest| rest.split_once(':'));
            if let Some((_, why)) = why {
                reasons.insert((why.starts_with('{'), why.to_owned()));
            }
            why.is_none()
        });
        self.events.append(&mut life);
        for (_, why) in reasons {
            self.log(format!("{head}{template}:{why}"));
        }
    }

    fn on_escalation(&mut self, report: &SupervisorReported) {
        let Some(record) = &report.record else { return };
        if let Some(Input::Word(child)) = record.inputs.0.get("child")
            && record.reason != Reason::AutoShutdown
        {
            let sup = &report.name;
            self.log(format!("rep {sup}:shutdown {child}:reached_max_restart_intensity"));
        }
    }
}

type ChildExits = watch::Receiver<Option<ChildExit>>;

/// Runs of one worker, as planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) spec: Value,
    pub(super) book: Book,
}

impl AgentRuntime for Planned {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let (id, spec, book) = (self.id.clone(), self.spec.clone(), self.book.clone());
        Box::pin(async move {
            let begun = book.lock().begin(&id, &spec);
            let (number, ended) = match begun {
                Begun::Up(number, ended) => (number, ended),
                Begun::Failed => return Err(StartError::Failed { message: "boom".to_owned() }),
                Begun::Held(released) => {
                    // Whether it is released or the world ends, the start has failed.
                    released.await.ok();
                    return Err(StartError::Failed { message: "held".to_owned() });
                }
            };
            let on_stop = spec.get("on_stop").and_then(Value::as_str).unwrap_or("obey").to_owned();
            let run: Box<dyn RunningAgent> =
                Box::new(PlannedRun { id, number, on_stop, book, ended });
            Ok(run)
        })
    }
}

#[derive(Debug)]
struct PlannedRun {
    id: String,
    number: u64,
    on_stop: String,
    book: Book,
    ended: ChildExits,
}

impl RunningAgent for PlannedRun {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            let lost = || ChildExit::Lost { message: "the world is gone".to_owned() };
            match self.ended.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or_else(lost),
                Err(_closed) => lost(),
            }
        })
    }

    fn ask_to_stop(&mut self) {
        let why = match self.on_stop.as_str() {
            "ignore" => return,
            "normal" => "normal",
            "crash" => "bad_stop",
            _ => "shutdown",
        };
        self.book.lock().die(&self.id, self.number, why);
    }

    fn kill(&mut self) {
        self.book.lock().die(&self.id, self.number, "killed");
    }
}

impl Drop for PlannedRun {
    fn drop(&mut self) {
        let mut record = self.book.lock();
        record.die(&self.id, self.number, "killed");
        if let Some(run) = record.runs.get_mut(&self.id).filter(|run| run.number == self.number) {
            run.state = RunState::Gone;
        }
    }
}

/// Reads the trace's reports from events.
#[derive(Debug)]
pub(super) struct Sink(pub(super) Book);

impl EventSink for Sink {
    fn emit(&self, draft: EventDraft) -> EventId {
        let mut record = self.0.lock();
        if let Fact::Failure(failed) = &draft.fact {
            record.on_failed(failed);
        } else if let Fact::AgentError(erred) = &draft.fact {
            record.on_unclean_stop(erred.change.name.as_str(), &erred.error);
        } else if let Fact::SupervisorStarted(report) = &draft.fact {
            record.sups.insert(report.name.to_string(), Life::Up);
            record.log(format!("start {}", report.name));
        } else if let Fact::SupervisorStopped(report) = &draft.fact {
            record.on_stopped(report.name.as_str());
        } else if let Fact::Escalation(report) = &draft.fact {
            record.on_escalation(report);
        }
        record.events_told += 1;
        EventId::new(uuid::Uuid::from_u128(record.events_told))
    }
}

/// Tells when a supervisor begins.
#[derive(Debug)]
pub(super) struct Runs(pub(super) Book, pub(super) MemoryRuns);

impl RunLog for Runs {
    fn began(&self, child: &ChildName, generation: Generation) {
        self.1.began(child, generation);
        let mut record = self.0.lock();
        if record.is_supervisor(child.as_str()) {
            record.sups.insert(child.to_string(), Life::Starting);
            record.log(format!("init {child}"));
        }
    }

    fn last(&self, child: &ChildName) -> Generation {
        self.1.last(child)
    }
}

/// No jitter: nothing waits in these scenarios.
#[derive(Debug)]
pub(super) struct NoJitter;

impl JitterSource for NoJitter {
    fn fraction(&self) -> f64 {
        0.5
    }
}
