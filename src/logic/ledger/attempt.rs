//! What happens to an attempt: news, silence, a dead agent, a cancellation; and what follows.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::logic::backoff;
use crate::logic::ledger::machine::Ledger;
use crate::logic::ledger::records::{Draft, millis, noted};
use crate::logic::ledger::task::{Happened, Held, Phase, Task};
use crate::logic::ledger::types::{
    Again, CANCEL_GRACE, DISPATCH_GRACE, Gone, Moment, PROGRESS_EVERY, REPEATS_MAX, Step, TaskKey,
    Told, UNDELIVERED_PAUSE, Undelivered, fault,
};
use crate::protocol::agent::{Held as HeldToken, TaskError, TaskEvent, TaskNews};
use crate::protocol::decision::{DecisionRecord, Inputs, NextAction, NextKind, Reason, Rule};
use crate::protocol::id::AgentId;
use crate::protocol::task::{Blame, TaskState};
use crate::protocol::task_fact::TaskNoted;

/// Code of the error by which an agent says that it has given up on request.
const CANCELLED: &str = "cancelled";

/// Code of the error by which an agent says that the task can never be done.
const REJECTED: &str = "rejected";

/// Code of the error by which an exec agent says that the process of the task crashed.
const PROCESS_CRASH: &str = "process_crash";

/// Why an attempt is over without success.
struct Failure {
    reason: Reason,
    error: TaskError,
    /// What its agent is blamed for, if it is to blame.
    blame: Option<Blame>,
    /// Pause before the next attempt, if not the type's.
    pause: Option<Duration>,
}

impl Ledger {
    /// An agent tells about an attempt.
    pub fn news(&mut self, moment: Moment, agent: &AgentId, event: TaskEvent) -> Vec<Step> {
        let TaskEvent { id, attempt, state: news } = event;
        let Some(key) = self.key_of(&id) else {
            let noted = TaskNoted {
                task_id: id,
                agent_id: Some(agent.clone()),
                attempt,
                token: None,
                error: None,
                decision: late(&news, "the task has ended"),
            };
            let tells = is_end(&news).then(|| Step::Tell(Told::LateResult, Box::new(noted)));
            return tells.into_iter().collect();
        };
        self.happened(moment, key, Happened::News { agent: agent.clone(), attempt, news })
    }

    /// The run of an agent is over; `run` is the one, if its tasks are bound to it.
    pub fn agent_gone(
        &mut self,
        moment: Moment,
        agent: &AgentId,
        run: Option<&str>,
        (why, said): (Gone, &str),
    ) -> Vec<Step> {
        let keys: Vec<TaskKey> = self.by_agent.get(agent).into_iter().flatten().copied().collect();
        let mut out = Vec::new();
        for key in keys {
            let happened = Happened::Gone {
                agent: agent.clone(),
                run: run.map(str::to_owned),
                why,
                said: said.to_owned(),
            };
            out.extend(self.happened(moment, key, happened));
        }
        out
    }

    /// An order did not reach its agent.
    pub fn undelivered(
        &mut self,
        moment: Moment,
        key: TaskKey,
        (attempt, why): (u32, Undelivered),
    ) -> Vec<Step> {
        self.happened(moment, key, Happened::Undelivered { attempt, why })
    }

    /// An agent says which tasks it has. `every` is the time between its beats.
    pub fn beat(
        &mut self,
        moment: Moment,
        agent: &AgentId,
        (held, every): (&[HeldToken], Duration),
    ) -> Vec<Step> {
        let tokens: BTreeSet<u64> = held.iter().map(|held| held.token).collect();
        let grace = DISPATCH_GRACE.max(every.saturating_mul(2));
        let keys: Vec<TaskKey> = self.by_agent.get(agent).into_iter().flatten().copied().collect();
        let mut out = Vec::new();
        for key in keys {
            let Some(task) = self.tasks.get_mut(&key).filter(|task| task.writing.is_none()) else {
                continue;
            };
            let Some(held) = task.held_mut() else { continue };
            if tokens.contains(&held.token) {
                held.heard = true;
                continue;
            }
            if moment.now.saturating_duration_since(held.dispatched) < grace {
                continue;
            }
            let (token, repeat) = (held.token, !held.heard && held.repeats < REPEATS_MAX);
            if repeat {
                held.repeats = held.repeats.saturating_add(1);
                held.dispatched = moment.now;
                out.extend(task.dispatch(key, moment.now).map(Step::Dispatch));
            } else {
                out.extend(self.happened(moment, key, Happened::Forgotten { token }));
            }
        }
        out
    }

    pub(super) fn handle(
        &mut self,
        moment: Moment,
        key: TaskKey,
        happened: Happened,
        out: &mut Vec<Step>,
    ) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        match happened {
            Happened::News { agent, attempt, news } => {
                let held = task.held().filter(|held| held.agent == agent && 0 < held.token);
                if held.is_some() && attempt == task.attempt {
                    self.heard(moment, key, news, out);
                } else if is_end(&news) {
                    let noted = TaskNoted {
                        task_id: task.id.clone(),
                        agent_id: Some(agent),
                        attempt,
                        token: None,
                        error: None,
                        decision: late(&news, "another attempt counts"),
                    };
                    out.push(Step::Tell(Told::LateResult, Box::new(noted)));
                }
            }
            Happened::Gone { agent, run, why, said } => {
                let is_its = |held: &&Held| {
                    let any_run = run.is_none() || held.run.is_none();
                    held.agent == agent && (any_run || held.run == run)
                };
                if task.held().filter(is_its).is_some() {
                    self.agent_failed(moment, key, (why, said), out);
                }
            }
            Happened::Undelivered { attempt, why } if attempt == task.attempt => {
                self.not_delivered(moment, key, why, out);
            }
            Happened::Forgotten { token } => {
                if task.held().is_some_and(|held| held.token == token) {
                    let message = "the agent says that it does not have the task".to_owned();
                    let failure = Failure {
                        reason: Reason::Forgotten,
                        error: fault("forgotten", message, Again::MayHelp),
                        blame: None,
                        pause: Some(Duration::ZERO),
                    };
                    self.failed(moment, key, failure, out);
                }
            }
            Happened::Cancel { grace, reason } => {
                self.cancel_asked(moment, key, (grace, reason), out);
            }
            Happened::Part { id, end } => self.part_ended(moment, key, (&id, end), out),
            Happened::Undelivered { .. } => {}
        }
    }

    fn heard(&mut self, moment: Moment, key: TaskKey, news: TaskNews, out: &mut Vec<Step>) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let Some(held) = task.held_mut() else { return };
        held.heard = true;
        held.lease_until = moment.now.checked_add(held.lease);
        let said = |state| Draft::of(state, Reason::AgentSaid, Inputs::default());
        match news {
            TaskNews::Working { message, progress } => {
                let before = held.recorded.replace(moment.now);
                let since = before.map(|at| moment.now.saturating_duration_since(at));
                let is_news = held.state != TaskState::Working
                    || since.is_none_or(|since| PROGRESS_EVERY <= since);
                if is_news {
                    held.state = TaskState::Working;
                    let draft = Draft { message, progress, ..said(TaskState::Working) };
                    self.write(moment, key, draft, out);
                } else {
                    held.recorded = before;
                    self.retime(key);
                }
            }
            TaskNews::InputRequired { message } => {
                held.lease_until = None;
                let is_news = held.state != TaskState::InputRequired;
                held.state = TaskState::InputRequired;
                if is_news {
                    let draft = Draft { message, ..said(TaskState::InputRequired) };
                    self.write(moment, key, draft, out);
                } else {
                    self.retime(key);
                }
            }
            TaskNews::Completed { result, .. } => {
                let agent = held.agent.clone();
                self.agents.completed(&agent);
                let draft = Draft { result: Some(result), ..said(TaskState::Completed) };
                self.write(moment, key, draft, out);
            }
            TaskNews::Failed { error } => {
                let crashed = error.code == PROCESS_CRASH;
                let failure = Failure {
                    reason: Reason::AttemptFailed,
                    blame: Some(if crashed { Blame::Crash } else { Blame::Error }),
                    pause: error.after_ms.map(Duration::from_millis),
                    error,
                };
                self.failed(moment, key, failure, out);
            }
        }
    }

    fn agent_failed(
        &mut self,
        moment: Moment,
        key: TaskKey,
        (why, said): (Gone, String),
        out: &mut Vec<Step>,
    ) {
        let (code, blame) = match why {
            Gone::Crashed => ("agent_lost", Some(Blame::Crash)),
            Gone::Stopped => ("agent_stopped", None),
        };
        let failure = Failure {
            reason: Reason::AgentGone,
            error: fault(code, said, Again::MayHelp),
            blame,
            pause: Some(Duration::ZERO),
        };
        self.failed(moment, key, failure, out);
    }

    fn not_delivered(
        &mut self,
        moment: Moment,
        key: TaskKey,
        why: Undelivered,
        out: &mut Vec<Step>,
    ) {
        if self.tasks.get(&key).is_none_or(|task| task.held().is_none()) {
            return;
        }
        let (error, pause) = match why {
            Undelivered::Busy(said) => {
                (fault("undelivered", said, Again::MayHelp), Some(UNDELIVERED_PAUSE))
            }
            Undelivered::Impossible(said) => {
                (fault("undeliverable", said, Again::CannotHelp), None)
            }
        };
        let failure = Failure { reason: Reason::Undelivered, error, blame: None, pause };
        self.failed(moment, key, failure, out);
    }

    fn cancel_asked(
        &mut self,
        moment: Moment,
        key: TaskKey,
        (grace, reason): (Duration, String),
        out: &mut Vec<Step>,
    ) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if matches!(task.phase, Phase::Over) {
            return;
        }
        task.cancel = Some((grace, reason));
        let (id, attempt) = (task.id.clone(), task.attempt);
        match &mut task.phase {
            Phase::Held(held) => {
                let until = moment.now.checked_add(grace);
                // A second request may shorten the time, never lengthen it.
                held.give_up_at = held.give_up_at.into_iter().chain(until).min();
                let agent = held.agent.clone();
                out.push(Step::Cancel { id, agent, attempt, grace });
            }
            Phase::Delayed { .. } | Phase::Ready { .. } | Phase::Gathering(_) | Phase::Over => {
                self.end_cancelled(moment, key, out);
            }
        }
    }

    /// The agent had its time to give up.
    pub(super) fn give_up(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        self.end_cancelled(moment, key, out);
    }

    fn end_cancelled(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let (grace, reason) = task.cancel.clone().unwrap_or_default();
        let message = if reason.is_empty() { "given up on request".to_owned() } else { reason };
        task.error = Some(fault(CANCELLED, message, Again::CannotHelp));
        let inputs = Inputs::default().with("grace_ms", millis(grace));
        let result = task.gathered();
        let draft = Draft::of(TaskState::Cancelled, Reason::Requested, inputs);
        self.write(moment, key, Draft { result, ..draft }, out);
        self.end_parts(moment, key, out);
    }

    pub(super) fn expire(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        if self.gather_over(moment, key, out) {
            return;
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if let Some(held) = task.held() {
            let (agent, attempt) = (held.agent.clone(), task.attempt);
            let grace = CANCEL_GRACE;
            out.push(Step::Cancel { id: task.id.clone(), agent, attempt, grace });
        }
        let message = match &task.error {
            Some(last) => format!("the deadline is over; the last error was {last}"),
            None => "the deadline is over".to_owned(),
        };
        task.error = Some(fault("expired", message, Again::CannotHelp));
        let inputs = Inputs::default().with("attempts", task.attempt);
        let draft = Draft::of(TaskState::Expired, Reason::DeadlineOver, inputs);
        self.write(moment, key, draft, out);
    }

    pub(super) fn lease_over(&mut self, moment: Moment, key: TaskKey, out: &mut Vec<Step>) {
        let Some(task) = self.tasks.get(&key) else { return };
        let Some(held) = task.held() else { return };
        let message = format!("nothing was heard of it for {} ms", millis(held.lease));
        out.push(Step::Cancel {
            id: task.id.clone(),
            agent: held.agent.clone(),
            attempt: task.attempt,
            grace: CANCEL_GRACE,
        });
        let failure = Failure {
            reason: Reason::LeaseExpired,
            error: fault("lease_expired", message, Again::MayHelp),
            blame: Some(Blame::Error),
            pause: Some(Duration::ZERO),
        };
        self.failed(moment, key, failure, out);
    }

    /// An attempt is over without success: the task is given out again, or ends.
    fn failed(&mut self, moment: Moment, key: TaskKey, failure: Failure, out: &mut Vec<Step>) {
        let Failure { reason, error, blame, pause } = failure;
        let Some(task) = self.tasks.get_mut(&key) else { return };
        if task.cancel.is_some() {
            return self.end_cancelled(moment, key, out);
        }
        let agent = task.last_agent.clone();
        if let (Some(agent), Some(blame)) = (&agent, blame) {
            task.failures = task.failures.saturating_add(1);
            let known = task.blamed.entry(agent.clone()).or_insert(blame);
            *known = (*known).max(blame);
        }
        let retry = error.retry;
        let is_rejected = !retry && error.code == REJECTED;
        let inputs = Inputs::default()
            .with("failures", task.failures)
            .with("max_attempts", task.max_attempts)
            .with("agents", counted(task.blamed.len()))
            .with("code", error.code.as_str())
            .with("retry", retry);
        task.error = Some(error);
        let end = if is_rejected {
            Some((TaskState::Rejected, reason))
        } else if !retry {
            Some((TaskState::Failed, reason))
        } else if task.max_attempts <= task.failures {
            Some((TaskState::Failed, Reason::AttemptsExhausted))
        } else if self.policies.poison_agents <= task.blamed.len() {
            Some((TaskState::Failed, Reason::PoisonTask))
        } else {
            None
        };
        let backoff = &self.policies.of(&task.task_type).backoff;
        let usual = backoff::delay(backoff, task.failures.saturating_sub(1), moment.jitter);
        let crashed = blame == Some(Blame::Crash);
        let pause = pause.unwrap_or(if crashed { Duration::ZERO } else { usual });
        let id = task.id.clone();
        let draft = match end {
            Some((state, reason)) => Draft::of(state, reason, inputs),
            None => Draft::of(TaskState::Accepted, reason, inputs).then(NextKind::Assign, pause),
        };
        self.write(moment, key, draft, out);
        if let (Some(agent), Some(_)) = (agent, blame) {
            let sick = self.agents.failed(&agent, &id, (moment.now, self.policies.sick_tasks));
            out.extend(sick.and_then(|count| self.tell_sick(key, count)));
        }
    }

    /// Tells that the agent of this task is sick.
    fn tell_sick(&self, key: TaskKey, tasks: usize) -> Option<Step> {
        let task: &Task = self.tasks.get(&key)?;
        let mut noted = noted(task.writing.as_ref()?);
        noted.decision.reason = Reason::SickAgent;
        noted.decision.inputs = Inputs::default().with("tasks", counted(tasks));
        noted.decision.next = NextAction { action: NextKind::None, in_ms: 0 };
        Some(Step::Tell(Told::AgentSick, Box::new(noted)))
    }
}

fn is_end(news: &TaskNews) -> bool {
    matches!(news, TaskNews::Completed { .. } | TaskNews::Failed { .. })
}

fn late(news: &TaskNews, why: &str) -> DecisionRecord {
    let what = match news {
        TaskNews::Working { .. } => "working",
        TaskNews::InputRequired { .. } => "input_required",
        TaskNews::Completed { .. } => "completed",
        TaskNews::Failed { .. } => "failed",
    };
    DecisionRecord {
        reason: Reason::LateResult,
        inputs: Inputs::default().with("state", what).with("why", why),
        rule: Rule::default(),
        cause: None,
        next: NextAction { action: NextKind::None, in_ms: 0 },
    }
}

fn counted(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
