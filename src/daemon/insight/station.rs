//! The station: detectors, alerts and receivers, and what goes between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant as Moments};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::OnCritical;
use crate::daemon::insight::deliver::Post;
use crate::daemon::insight::spans::{Attempt, SpanTeller};
use crate::daemon::insight::tap::{FailureNote, Noticed, What};
use crate::daemon::insight::who::Directory;
use crate::daemon::insight::words::summary;
use crate::daemon::insight::{Insight, store};
use crate::logic::alerts::{AlertStep, Alerts, Cause, Moment, News, Receivers, Signal};
use crate::logic::detect::{Detectors, Finding, Seen, Work, WorkEnd};
use crate::metrics;
use crate::ports::{CommandHandler, EventDraft, EventSource};
use crate::protocol::command::{ControlCommand, EmptyRequest};
use crate::protocol::fact::{Fact, Severity};
use crate::protocol::id::{AgentId, ChildName, EventId, SubjectId, TaskId, TaskType};
use crate::protocol::insight::{AlertState, PatternSeen, PatternState};
use crate::protocol::status::AgentState;
use crate::protocol::trace::TraceContext;

/// Attempts under way whose begin is remembered; beyond it the oldest is forgotten.
const FLIGHTS_MAX: usize = 20_000;

/// Pause before a write of the file that failed is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// An attempt under way.
#[derive(Debug)]
struct Flight {
    began: Moments,
    agent: AgentId,
    class: Arc<str>,
    trace: TraceContext,
}

/// Everything of one life of the watch.
#[derive(Debug)]
pub(super) struct Station {
    insight: Insight,
    detectors: Option<Detectors>,
    directory: Directory,
    flights: BTreeMap<(TaskId, u32), Flight>,
    /// The same, oldest first.
    order: VecDeque<(TaskId, u32)>,
    classes: BTreeMap<TaskType, Arc<str>>,
    pub(super) alerts: Alerts,
    post: Post,
    spans: SpanTeller,
    /// Drains and pauses that are being carried out.
    acts: JoinSet<()>,
    changed: Changed,
    /// When a write that failed is tried again.
    save_again_at: Option<Instant>,
}

/// Whether there is something that is not in the file yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Changed {
    No,
    Yes,
}

impl Station {
    /// Goes on with what an earlier daemon left.
    pub(super) async fn open(insight: Insight) -> Self {
        let labels = insight.patterns.as_ref().map(|patterns| patterns.labels.clone());
        let directory = Directory::new(
            Arc::clone(&insight.board),
            &insight.config,
            insight.node.clone(),
            labels.unwrap_or_default(),
        );
        let settings = &insight.alerts;
        let mut alerts = Alerts::new(settings.rules.clone(), settings.repeat_every);
        let kept = store::read(&insight.config.provost.state_dir).await;
        let wall = insight.clock.now();
        alerts.restore(Moment { now: Instant::now().into_std(), wall }, kept);
        let post = Post::open(&settings.receivers, &insight.means);
        let spans = SpanTeller::open(&insight.means.environment, &insight.node);
        let detect = insight.patterns.as_ref().map(|patterns| patterns.detect.clone());
        let station = Self {
            detectors: detect.map(Detectors::new),
            insight,
            directory,
            flights: BTreeMap::new(),
            order: VecDeque::new(),
            classes: BTreeMap::new(),
            alerts,
            post,
            spans,
            acts: JoinSet::new(),
            changed: Changed::No,
            save_again_at: None,
        };
        metrics::patterns_forgotten();
        station.show();
        station
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: Instant::now().into_std(), wall: self.insight.clock.now() }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let detectors = self.detectors.as_ref().and_then(Detectors::deadline);
        let alerts = self.alerts.deadline(self.moment());
        let due = [detectors, alerts].into_iter().flatten().min().map(Instant::from_std);
        [due, self.save_again_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn on_deadline(&mut self) {
        let moment = self.moment();
        let found = self.detectors.as_mut().map(|detectors| detectors.on_deadline(moment.now));
        self.told(found.unwrap_or_default());
        let steps = self.alerts.on_deadline(moment);
        self.carry_out(steps);
        while self.acts.try_join_next().is_some() {}
    }

    /// Counts what had no room.
    pub(super) fn count(&self) {
        let unwatched = self.detectors.as_ref().map_or(0, Detectors::unwatched);
        metrics::insight_unwatched(unwatched);
    }

    /// Takes in something that happened.
    pub(super) fn noticed(&mut self, noticed: Noticed) {
        let at = noticed.at.into_std();
        match noticed.what {
            What::Child { name, seen, failure } => self.child(at, &name, seen, failure),
            What::Given { attempt, agent, task_type, trace } => {
                let class = self.class(&task_type);
                self.given(attempt, Flight { began: at, agent, class, trace });
            }
            What::Ended { attempt, ended } => {
                let Some(flight) = self.flights.remove(&attempt) else { return };
                let took = at.saturating_duration_since(flight.began);
                metrics::attempt_took(&flight.class, took);
                self.spans.tell(&Attempt {
                    task: (&attempt.0, attempt.1),
                    task_type: &flight.class,
                    agent: &flight.agent,
                    trace: flight.trace,
                    took,
                    ended,
                    at: self.insight.clock.now(),
                });
                let Some(ended) = ended else { return };
                self.worked((at, took), flight, ended);
            }
            What::Sick { agent, evidence, event } => {
                let Some(name) = self.directory.name_of(&agent) else { return };
                self.see(at, &name, Seen::Sick(evidence, Some(event)));
            }
            What::Poison { task_type, evidence, event } => {
                let found = self
                    .detectors
                    .as_mut()
                    .map(|detectors| detectors.poison(at, &task_type, (evidence, event)));
                self.told(found.unwrap_or_default());
            }
        }
    }

    fn given(&mut self, attempt: (TaskId, u32), flight: Flight) {
        while FLIGHTS_MAX <= self.flights.len() {
            let Some(oldest) = self.order.pop_front() else { break };
            self.flights.remove(&oldest);
        }
        self.order.push_back(attempt.clone());
        self.flights.insert(attempt, flight);
        // Those that have ended stay in the order until they are met.
        if self.order.len() > FLIGHTS_MAX.saturating_mul(2) {
            let flights = &self.flights;
            self.order.retain(|attempt| flights.contains_key(attempt));
        }
    }

    fn class(&mut self, task_type: &TaskType) -> Arc<str> {
        if let Some(class) = self.classes.get(task_type) {
            return Arc::clone(class);
        }
        let class: Arc<str> = Arc::from(task_type.as_str());
        if self.classes.len() < FLIGHTS_MAX {
            self.classes.insert(task_type.clone(), Arc::clone(&class));
        }
        class
    }

    fn worked(&mut self, (at, took): (Moments, Duration), flight: Flight, ended: WorkEnd) {
        let Some(name) = self.directory.name_of(&flight.agent) else { return };
        self.see(at, &name, Seen::Worked(Work { class: flight.class, took, ended }));
    }

    fn child(&mut self, at: Moments, name: &ChildName, seen: Seen, failure: Option<FailureNote>) {
        let over = match &seen {
            Seen::Recovered => true,
            Seen::Is(AgentState::Stopped | AgentState::Terminated) => true,
            Seen::Is(AgentState::Starting) => {
                self.directory.forget(name);
                false
            }
            Seen::Is(_) | Seen::Failed(..) | Seen::Gone | Seen::Worked(_) | Seen::Sick(..) => false,
        };
        let is_gone = matches!(seen, Seen::Is(AgentState::Terminated)) && !self.directory.has(name);
        self.see(at, name, if is_gone { Seen::Gone } else { seen });
        if is_gone {
            self.directory.gone(name);
        }
        if let Some(note) = failure {
            let signal = Signal::Holds {
                cause: Cause::Failure(note.kind),
                scope: name.to_string(),
                severity: note.severity,
                summary: format!("{name} failed: {}", note.message),
                evidence: crate::protocol::decision::Inputs::default(),
                event: Some(note.event),
            };
            self.signal(signal);
        } else if over {
            self.signal(Signal::OutageOver(name.to_string()));
        }
    }

    fn see(&mut self, at: Moments, name: &ChildName, seen: Seen) {
        let Some(detectors) = self.detectors.as_mut() else { return };
        let who = self.directory.who(name);
        let found = detectors.see(at, &who, seen);
        if !found.is_empty() {
            self.told(found);
        }
    }

    fn signal(&mut self, signal: Signal) {
        let steps = self.alerts.on_signal(self.moment(), signal);
        self.carry_out(steps);
    }

    /// Tells patterns, and what alerts they make.
    fn told(&mut self, found: Vec<Finding>) {
        for Finding { seen, cause } in found {
            let severity = match seen.state {
                PatternState::Began => seen.kind.severity(),
                PatternState::Ended => Severity::Info,
            };
            metrics::pattern(seen.kind, seen.state);
            let about = self.about(&seen);
            let event = self.emit(Fact::Pattern(Box::new(seen.clone())), about, severity, cause);
            let signal = match seen.state {
                PatternState::Ended => Signal::PatternOver(seen.kind, seen.scope),
                PatternState::Began if seen.part_of.is_some() => continue,
                PatternState::Began => Signal::Holds {
                    cause: Cause::Pattern(seen.kind),
                    severity,
                    summary: summary(&seen),
                    scope: seen.scope,
                    evidence: seen.evidence,
                    event: Some(event),
                },
            };
            self.signal(signal);
        }
    }

    /// The agent, or the child, or else the kind of pattern.
    fn about(&self, seen: &PatternSeen) -> SubjectId {
        let id = |name: &ChildName| {
            let entry = self.insight.board.get(name);
            let agent = entry.and_then(|entry| entry.agent).map(|agent| agent.agent_id);
            agent.map_or_else(|| SubjectId::from(name), |agent| SubjectId::from(&agent))
        };
        let child = seen.scope.parse::<ChildName>().ok().map(|name| id(&name));
        let kind = || seen.kind.as_str().parse().ok();
        child.or_else(kind).unwrap_or_else(|| SubjectId::from(&self.insight.name))
    }

    fn draft(
        &self,
        fact: Fact,
        about: SubjectId,
        severity: Severity,
        cause: Option<EventId>,
    ) -> EventDraft {
        EventDraft {
            fact,
            about,
            source: EventSource { kind: "daemon", name: self.insight.name.clone() },
            severity,
            correlation: None,
            causation: cause,
            generation: None,
        }
    }

    fn emit(
        &self,
        fact: Fact,
        about: SubjectId,
        severity: Severity,
        cause: Option<EventId>,
    ) -> EventId {
        self.insight.sink.emit(self.draft(fact, about, severity, cause))
    }

    /// Tells alerts and hands them to their receivers.
    pub(super) fn carry_out(&mut self, steps: Vec<AlertStep>) {
        if steps.is_empty() {
            return;
        }
        for AlertStep { alert, news, to, cause } in steps {
            let about = alert.alert.parse();
            let about = about.unwrap_or_else(|_| SubjectId::from(&self.insight.name));
            let fact = Fact::Alert(Box::new(alert.clone()));
            let draft = self.draft(fact, about, alert.severity, cause);
            let id = match news {
                News::Changed => self.insight.sink.emit(draft.clone()),
                News::Still => self.insight.ids.event_id(),
            };
            let acts = news == News::Changed
                && alert.state == AlertState::Firing
                && alert.severity == Severity::Critical
                && alert.silenced_by.is_none();
            let paged = self.insight.alerts.on_critical.contains(&OnCritical::Page);
            let is_critical = alert.severity == Severity::Critical && alert.silenced_by.is_none();
            let to = if is_critical && paged { Receivers::All } else { to };
            let envelope = self.insight.identity.envelope(&draft, id, self.insight.clock.now());
            if let Ok(envelope) = envelope {
                self.post.send(&alert, &envelope, &to);
            }
            if acts {
                self.act(&alert.summary);
            }
        }
        self.changed = Changed::Yes;
        self.show();
    }

    /// Does what is configured for a critical alert.
    fn act(&mut self, summary: &str) {
        let commands = self.insight.alerts.on_critical.iter().filter_map(|what| match what {
            OnCritical::Drain => Some(ControlCommand::Drain(EmptyRequest {})),
            OnCritical::Pause => Some(ControlCommand::Pause(EmptyRequest {})),
            OnCritical::Page => None,
        });
        for command in commands {
            tracing::warn!(?command, summary, "a critical alert fires");
            let handler = Arc::clone(&self.insight.handler);
            self.acts.spawn(carry_out(handler, command));
        }
    }

    fn show(&self) {
        for (severity, count) in self.alerts.firing() {
            metrics::alerts_firing(severity, count);
        }
        metrics::alerts_refused(self.alerts.refused());
    }

    /// Writes what has changed to the state folder.
    ///
    /// # Errors
    ///
    /// It cannot be written, in words.
    pub(super) async fn save(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.changed == Changed::No || self.save_again_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let written =
            store::write(&self.insight.config.provost.state_dir, self.alerts.list()).await;
        (self.changed, self.save_again_at) = match &written {
            Ok(()) => (Changed::No, None),
            Err(_) => (Changed::Yes, now.checked_add(SAVE_AGAIN)),
        };
        written
    }

    /// A silence has come or gone.
    pub(super) fn has_changed(&mut self) {
        (self.changed, self.save_again_at) = (Changed::Yes, None);
    }

    pub(super) fn new_id(&self) -> String {
        self.insight.ids.uuid().simple().to_string()
    }
}

async fn carry_out(handler: Arc<dyn CommandHandler>, command: ControlCommand) {
    let answer = handler.control(command).await;
    if let Some(error) = answer.error {
        tracing::warn!(error = error.message, "alerts.on_critical was refused");
    }
}
