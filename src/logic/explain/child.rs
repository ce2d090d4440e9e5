//! The explanation of a child: an agent, a downstream, a supervisor, a part of the daemon.

use jiff::Timestamp;

use crate::logic::explain::advice::{Of, steps};
use crate::logic::explain::reasons::because;
use crate::logic::explain::rules;
use crate::logic::explain::words::{Say, counted, span};
use crate::logic::explain::{Explanation, Link, NextTold, RuleTold, Why};
use crate::logic::history::{CallCircuit, Noted, Notes};
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind};
use crate::protocol::fact::{Failed, FailureType};
use crate::protocol::id::ChildName;
use crate::protocol::shown::ChildShown;
use crate::protocol::status::{AgentState, CircuitState};

/// Earlier failures of an outage that are named one by one.
const FAILURES_NAMED: usize = 5;

/// What is known of a child at a moment.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The moment.
    pub at: Timestamp,
    /// How it is shown, countdowns from that moment on.
    pub shown: &'a ChildShown,
    /// What was told of it.
    pub notes: &'a Notes,
    /// The circuit of its calls, if it is a downstream whose circuit ever changed.
    pub calls: Option<&'a CallCircuit>,
    /// The chain of events that led to its state, first cause first.
    pub chain: Vec<Link>,
    /// Other children that the first cause affected, and how they are now.
    pub affected: Vec<(ChildName, AgentState)>,
    /// The last lines of what its last run wrote.
    pub words: Vec<String>,
}

/// What is being told: a downstream's calls, an outage, or the ordinary course of things.
enum Course<'a> {
    Calls(&'a CallCircuit),
    Outage(&'a Noted<Failed>),
    Decided(&'a Noted<DecisionRecord>),
    Plain,
}

impl<'a> Evidence<'a> {
    fn course(&self) -> Course<'a> {
        if let Some(calls) = self.calls.filter(|calls| calls.change.to != CircuitState::Closed) {
            return Course::Calls(calls);
        }
        let failure = self.notes.failure().filter(|_| self.is_out());
        // Asked for by hand, or restarted with a sibling, after its own last failure.
        let decided = self.notes.decision.as_ref();
        match (failure, decided) {
            (Some(failure), decided) if decided.is_none_or(|it| of(it, failure)) => {
                Course::Outage(failure)
            }
            (Some(failure), Some(_)) => Course::Outage(failure),
            (_, Some(decided)) if self.ended() => Course::Decided(decided),
            (_, _) => Course::Plain,
        }
    }

    /// Whether its last outage is not over.
    fn is_out(&self) -> bool {
        let troubled = match self.shown.state {
            AgentState::Backoff
            | AgentState::Quarantined
            | AgentState::Probation
            | AgentState::Parked => true,
            AgentState::Created
            | AgentState::Starting
            | AgentState::Running
            | AgentState::Degraded
            | AgentState::Stopping
            | AgentState::Stopped
            | AgentState::Terminated => false,
        };
        let later_start = |failure: &Noted<Failed>| {
            self.notes
                .changed
                .as_ref()
                .is_some_and(|changed| failure.time < changed.time && changed.correlation.is_none())
        };
        troubled || (self.notes.outage.is_some() && !self.notes.failure().is_some_and(later_start))
    }

    fn ended(&self) -> bool {
        let asked = self.notes.changed.as_ref().is_some_and(|changed| {
            let decided = self.notes.decision.as_ref();
            changed.causation.is_none() && decided.is_none_or(|decided| decided.time < changed.time)
        });
        !asked
            && matches!(
                self.shown.state,
                AgentState::Stopped
                    | AgentState::Terminated
                    | AgentState::Starting
                    | AgentState::Stopping
            )
    }
}

/// Whether a decision followed from a failure.
fn of(decided: &Noted<DecisionRecord>, failure: &Noted<Failed>) -> bool {
    decided.what.cause == Some(failure.id)
}

/// Explains a child.
#[must_use]
pub fn explain(evidence: &Evidence<'_>) -> Explanation {
    let shown = evidence.shown;
    let course = evidence.course();
    let (why, rule) = match &course {
        Course::Calls(calls) => of_calls(evidence, calls),
        Course::Outage(failure) => of_outage(evidence, failure),
        Course::Decided(decided) => of_decision(evidence, decided),
        Course::Plain => plain(evidence),
    };
    let (state, since) = match &course {
        Course::Calls(calls) => (format!("circuit {}", calls.change.to), calls.told_at),
        Course::Outage(_) | Course::Decided(_) | Course::Plain => {
            (shown.state.to_string(), shown.since)
        }
    };
    let of_what = if matches!(course, Course::Calls(_)) { Of::Calls } else { Of::Child };
    Explanation {
        subject: subject(evidence),
        state,
        since: Some(since),
        at: evidence.at,
        next: next(evidence, &course, &why.evidence),
        effect: effect(evidence, &course),
        steps: steps(evidence, &rule, of_what),
        why,
        rule,
    }
}

fn subject(evidence: &Evidence<'_>) -> String {
    let shown = evidence.shown;
    let kind = match (&shown.agent, shown.strategy, evidence.calls) {
        (Some(_), _, _) => "agent",
        (None, Some(_), _) => "supervisor",
        (None, None, Some(_)) => "downstream",
        (None, None, None) => "child",
    };
    format!("{kind}/{}", shown.name)
}

fn ago(evidence: &Evidence<'_>, time: Timestamp) -> String {
    let passed = evidence.at.duration_since(time).as_millis();
    format!("{} ago", span(u64::try_from(passed).unwrap_or(0)))
}

fn of_outage(evidence: &Evidence<'_>, failure: &Noted<Failed>) -> (Why, RuleTold) {
    let failed = &failure.what;
    // What was decided last: after the failure a trial may have been let through, or failed.
    let later = evidence.notes.decision.as_ref().filter(|it| failure.time <= it.time);
    let record = later.map_or(&failed.decision, |it| &it.what);
    let message = failed.message.clone().unwrap_or_else(|| "it failed".to_owned());
    let word = failure_word(failed.failure_type);
    let word = if message.starts_with(word) { String::new() } else { format!("{word}: ") };
    let mut text = format!(
        "{word}{message}, {}; {}",
        ago(evidence, failure.time),
        because(record.reason, &record.inputs)
    );
    if evidence.shown.state == AgentState::Probation {
        text.push_str("; a trial run is under watch now");
    }
    let mut more = earlier(evidence, failure);
    more.extend(evidence.words.iter().map(|line| format!("it wrote last: {line}")));
    let why = Why {
        text,
        reason: Some(record.reason),
        evidence: record.inputs.clone(),
        more,
        chain: evidence.chain.clone(),
    };
    (why, rules::told(record))
}

/// The failures before, as far as they are of the same outage.
fn earlier(evidence: &Evidence<'_>, failure: &Noted<Failed>) -> Vec<String> {
    let outage = evidence.notes.outage;
    let of_outage = |other: &&Noted<Failed>| {
        other.id != failure.id && other.correlation.or(Some(other.id)) == outage
    };
    let before: Vec<&Noted<Failed>> = evidence.notes.failures.iter().filter(of_outage).collect();
    if before.is_empty() {
        return Vec::new();
    }
    let mut words: Vec<String> = before
        .iter()
        .rev()
        .take(FAILURES_NAMED)
        .map(|failure| failure.what.message.clone().unwrap_or_default())
        .collect();
    words.dedup();
    let count = u64::try_from(before.len()).unwrap_or(u64::MAX);
    vec![format!("{} before in this outage: {}", counted(count, "failure"), words.join("; "))]
}

fn of_decision(evidence: &Evidence<'_>, decided: &Noted<DecisionRecord>) -> (Why, RuleTold) {
    let record = &decided.what;
    let mut more = Vec::new();
    if !evidence.shown.reason.is_empty() {
        more.push(evidence.shown.reason.clone());
    }
    let why = Why {
        text: format!(
            "{}, {}",
            because(record.reason, &record.inputs),
            ago(evidence, decided.time)
        ),
        reason: Some(record.reason),
        evidence: record.inputs.clone(),
        more,
        chain: evidence.chain.clone(),
    };
    (why, rules::told(record))
}

fn of_calls(evidence: &Evidence<'_>, calls: &CallCircuit) -> (Why, RuleTold) {
    let change = &calls.change;
    let inputs = &change.evidence;
    let failure = evidence.notes.failure();
    let mut more: Vec<String> = Vec::new();
    more.extend(failure.and_then(|failure| {
        let message = failure.what.message.clone()?;
        Some(format!("{message}, {}", ago(evidence, failure.time)))
    }));
    more.push(format!("its session is {}: {}", evidence.shown.state, session(evidence.shown)));
    let why = Why {
        text: format!("{}, {}", because(change.reason, inputs), ago(evidence, calls.told_at)),
        reason: Some(change.reason),
        evidence: inputs.clone(),
        more,
        chain: evidence.chain.clone(),
    };
    let origin = failure.and_then(|failure| failure.what.decision.rule.origin.clone());
    let text = rules::calls(Say(inputs)).join(", ");
    (why, RuleTold { text, origin, exit_rule: None })
}

fn session(shown: &ChildShown) -> &str {
    if shown.reason.is_empty() { "nothing is said against it" } else { &shown.reason }
}

fn plain(evidence: &Evidence<'_>) -> (Why, RuleTold) {
    let shown = evidence.shown;
    let because = if shown.reason.is_empty() {
        "nothing is said against it".to_owned()
    } else {
        shown.reason.clone()
    };
    let text = match shown.state {
        AgentState::Running => format!("it runs: {because}"),
        AgentState::Degraded => format!("it runs, but not well: {because}"),
        AgentState::Created
        | AgentState::Starting
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => because,
    };
    let mut more = Vec::new();
    if let Some(failure) = evidence.notes.failure() {
        let message = failure.what.message.clone().unwrap_or_default();
        more.push(format!("it failed last {}: {message}", ago(evidence, failure.time)));
    }
    if let Some(recovery) = &evidence.notes.recovery {
        more.push(format!(
            "it recovered {}, after {} and {}",
            ago(evidence, recovery.time),
            span(recovery.what.after_ms),
            counted(recovery.what.attempts, "attempt")
        ));
    }
    if let Some(report) = &evidence.notes.system {
        let details = report.what.details.0.keys().map(|name| {
            let value = Say(&report.what.details).get(name);
            format!("{} {value}", name.trim_end_matches("_ms").replace('_', " "))
        });
        let details: Vec<String> = details.collect();
        let what = report.what.what.replace('_', " ");
        let text = format!("{what} {}: {}", ago(evidence, report.time), details.join(", "));
        more.push(text.trim_end_matches(": ").to_owned());
    }
    let record = evidence.notes.decision.as_ref().map(|decided| &decided.what);
    let rule = record.map(rules::told).unwrap_or_default();
    let why = Why {
        text,
        reason: None,
        evidence: Inputs::default(),
        more,
        chain: evidence.chain.clone(),
    };
    (why, rule)
}

fn next(evidence: &Evidence<'_>, course: &Course<'_>, inputs: &Inputs) -> NextTold {
    let shown = evidence.shown;
    let due = match course {
        Course::Calls(calls) => calls.change.retry_after_ms.map(|after| {
            let passed = evidence.at.duration_since(calls.told_at).as_millis();
            let in_ms = after.saturating_sub(u64::try_from(passed).unwrap_or(0));
            NextAction { action: NextKind::Trial, in_ms }
        }),
        Course::Outage(_) | Course::Decided(_) | Course::Plain => shown.next,
    };
    let Some(due) = due else {
        return NextTold { text: nothing_due(evidence), action: None, in_ms: None };
    };
    let when = if due.in_ms == 0 { "now".to_owned() } else { format!("in {}", span(due.in_ms)) };
    let mut text = format!("{} {when}", action_word(due.action));
    if let Some(outlook) = outlook(due.action, shown, Say(inputs)) {
        text.push_str(&format!("; {outlook}"));
    }
    NextTold { text, action: Some(due.action), in_ms: Some(due.in_ms) }
}

/// What follows if it fails again.
fn outlook(action: NextKind, shown: &ChildShown, say: Say<'_>) -> Option<String> {
    match action {
        NextKind::Restart if shown.state == AgentState::Parked => {
            Some("being throttled counts as no failure".to_owned())
        }
        NextKind::Restart => {
            let (count, limit) = (say.count("restarts_in_window")?, say.count("intensity")?);
            let left = limit.saturating_sub(count);
            let times = if left == 0 { "once".to_owned() } else { counted(left, "time") + " more" };
            Some(format!(
                "if it fails {times} within {}, its limit is exceeded",
                say.get("period_ms")
            ))
        }
        NextKind::Trial => Some(
            "one run or call is let through; if it fails, the circuit opens again for longer"
                .to_owned(),
        ),
        NextKind::RestartGroup
        | NextKind::Stable
        | NextKind::Escalate
        | NextKind::StopTree
        | NextKind::Stop
        | NextKind::Assign
        | NextKind::Wait
        | NextKind::None => None,
    }
}

fn nothing_due(evidence: &Evidence<'_>) -> String {
    let shown = evidence.shown;
    match shown.state {
        AgentState::Running | AgentState::Degraded => {
            "nothing is due; it is started again if it fails".to_owned()
        }
        AgentState::Probation => {
            "the trial passes when it runs well for its stable time, and else the circuit opens again".to_owned()
        }
        AgentState::Created | AgentState::Starting => "its start is under way".to_owned(),
        AgentState::Stopping => "its end is under way".to_owned(),
        AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => "nothing until somebody acts".to_owned(),
    }
}

fn action_word(action: NextKind) -> &'static str {
    match action {
        NextKind::Restart => "restart",
        NextKind::RestartGroup => "restart of its group",
        NextKind::Trial => "trial",
        NextKind::Stable => "judged stable",
        NextKind::Escalate => "its supervisor gives up",
        NextKind::StopTree => "the whole tree stops",
        NextKind::Stop => "stop",
        NextKind::Assign => "assignment",
        NextKind::Wait => "wait",
        NextKind::None => "nothing",
    }
}

fn effect(evidence: &Evidence<'_>, course: &Course<'_>) -> Vec<String> {
    let shown = evidence.shown;
    let mut effects = Vec::new();
    if let Course::Calls(_) = course {
        effects.push(format!(
            "calls of {} are answered at once with circuit_open, or by its fallback",
            shown.name
        ));
    }
    let takes_none = match shown.state {
        AgentState::Running => false,
        AgentState::Created
        | AgentState::Starting
        | AgentState::Degraded
        | AgentState::Stopping
        | AgentState::Backoff
        | AgentState::Quarantined
        | AgentState::Probation
        | AgentState::Parked
        | AgentState::Stopped
        | AgentState::Terminated => shown.agent.is_some(),
    };
    if takes_none {
        effects.push("no task is given to it".to_owned());
    }
    if !evidence.affected.is_empty() {
        let named: Vec<String> =
            evidence.affected.iter().map(|(name, state)| format!("{name} ({state})")).collect();
        effects.push(format!("also affected: {}", named.join(", ")));
    }
    effects
}

/// A kind of failure in words.
pub(super) fn failure_word(kind: FailureType) -> &'static str {
    match kind {
        FailureType::ProcessCrash => "crash",
        FailureType::OutOfMemory => "out of memory",
        FailureType::StartFailed => "start failed",
        FailureType::ProbeFailed => "probe failed",
        FailureType::Watchdog => "watchdog",
        FailureType::Hang => "hang",
        FailureType::TaskTimeout => "task timeout",
        FailureType::Lost => "lost",
        FailureType::CallFailed => "calls failed",
        FailureType::Panic => "panic",
        FailureType::Throttled => "throttled",
    }
}
