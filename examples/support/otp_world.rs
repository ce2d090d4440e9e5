//! A world without time and processes in which supervisor machines are run through scenarios, so
//! that their traces can be compared with those of Erlang/OTP's `supervisor`, byte by byte.
//!
//! A scenario is a tree of supervisors and workers and a list of steps; a trace tells the events
//! of each step and the tree after it. Both are JSON; `tests/oracle/README.md` has the format.
//! Each living supervisor is one machine; what it asks for is carried out at once. The world knows
//! nothing of restart rules: it only starts, stops and reports.
//!
//! Two words of the machine are translated into OTP's: a supervisor that gave up ends with
//! `shutdown` here, and the reports of instances that were stopped side by side are told once for
//! each distinct reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use provost::logic::restart::{
    Action, Call, CallId, Input, Note, Pace, Refusal, Reply, Stage, StartOutcome, Supervisor,
};
use provost::protocol::decision::Reason;
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::spec::{ChildSpec, Shutdown};
use serde_json::{Value, json};

pub(crate) mod otp_actors;
mod otp_ports;
mod otp_procs;
mod otp_words;

use otp_words::{
    child_name, child_spec, error_text, exit, exit_text, failed, field, list, pair, reply_text,
    text,
};

/// What is wrong with a scenario itself.
pub(crate) type Fault = String;

/// More starts of one child than any limit allows.
const TRIES_MAX: usize = 1000;

/// Number of a process; never used again.
type Pid = usize;

/// One scenario's world.
#[derive(Debug)]
pub(crate) struct World {
    pace: Pace,
    now: Instant,
    procs: Vec<Proc>,
    /// Latest process of each id.
    last: BTreeMap<String, Pid>,
    tries: BTreeMap<String, usize>,
    events: Vec<Event>,
    root: Option<Pid>,
    dead: Option<String>,
    /// A start that blocks until the next call is queued.
    held: Option<(Pid, ChildName, Generation)>,
    /// Supervisors that are stopped by somebody who waits for their end.
    awaited: BTreeSet<Pid>,
    reply: Option<Reply>,
}

/// One process: a worker, or a supervisor with its machine.
#[derive(Debug)]
struct Proc {
    id: String,
    parent: Option<Pid>,
    generation: Generation,
    alive: bool,
    spec: Value,
    sup: Option<Sup>,
}

#[derive(Debug)]
struct Sup {
    machine: Supervisor,
    /// Specs of the children; under simple-one-for-one only the template's counts.
    specs: BTreeMap<String, Value>,
    template: Option<Value>,
    running: BTreeMap<String, Pid>,
    /// Exits that it has not looked at.
    mail: VecDeque<(Pid, Input)>,
    /// What its machine asked for and is still to be done, and whether that is being done.
    actions: VecDeque<Action>,
    acts: bool,
    /// Its own start.
    start: Start,
    /// Reports of instances, told when all are down.
    reports: BTreeSet<(bool, String)>,
    /// The last failed start, which is told to the parent when it happens at init.
    failed: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    UnderWay,
    Over,
}

/// A line of the trace; neighbours of one group are sorted.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Event {
    group: Option<String>,
    text: String,
}

/// How a start went, in the scenario's words.
enum Begun {
    Up,
    Ignored,
    Held,
    Failed(String),
}

impl World {
    /// Runs one scenario and returns its trace.
    ///
    /// # Errors
    ///
    /// Names what the scenario lacks.
    pub(crate) fn run(scenario: &Value, pace: Pace, origin: Instant) -> Result<Value, Fault> {
        let mut world = Self {
            pace,
            now: origin,
            procs: Vec::new(),
            last: BTreeMap::new(),
            tries: BTreeMap::new(),
            events: Vec::new(),
            root: None,
            dead: None,
            held: None,
            awaited: BTreeSet::new(),
            reply: None,
        };
        let result = match world.begin(None, field(scenario, "tree")?, Generation(1))? {
            (Begun::Failed(why), _) => format!("error:{why}"),
            (_, pid) => {
                world.root = pid;
                "ok".to_owned()
            }
        };
        let start = world.settle(&result)?;
        let mut steps = Vec::new();
        for step in list(scenario, "steps") {
            let result = world.step(step)?;
            steps.push(world.settle(&result)?);
        }
        let result = match world.root {
            Some(root) if world.alive(root) => {
                world.feed(root, Input::Shutdown)?;
                "shutdown"
            }
            _ => "none",
        };
        let end = world.settle(result)?;
        Ok(json!({ "id": field(scenario, "id")?, "start": start, "steps": steps, "end": end }))
    }

    // Steps.

    fn step(&mut self, step: &Value) -> Result<String, Fault> {
        let ok = || Ok("ok".to_owned());
        match text(step, "op")? {
            "sleep" => {
                let ms = step.get("ms").and_then(Value::as_u64).ok_or("sleep without ms")?;
                self.now += Duration::from_millis(ms);
                for pid in self.supervisors() {
                    let (now, sup) = (self.now, self.sup(pid)?);
                    let actions = sup.machine.on_deadline(now, 0.5);
                    self.carry_out(pid, actions)?;
                }
                ok()
            }
            "exit_many" => {
                let exits: Vec<(String, String)> =
                    list(step, "exits").iter().map(pair).collect::<Result<_, _>>()?;
                if exits.first().is_none_or(|(id, _)| self.living(id).is_none()) {
                    return Ok("not_running".to_owned());
                }
                let mut results = Vec::new();
                for (id, reason) in exits {
                    results.push(self.kill(&id, &reason)?);
                }
                Ok(results.join(","))
            }
            "kill_sup" => {
                let Some(pid) = self.living(text(step, "id")?) else {
                    return Ok("not_running".to_owned());
                };
                self.cut(pid)?;
                self.events.sort();
                ok()
            }
            op if step.get("sup").is_some() => {
                let Some(sup) = self.living(text(step, "sup")?) else {
                    return Ok("noproc".to_owned());
                };
                self.call(sup, op, step)
            }
            "crash" => self.kill(text(step, "id")?, "boom"),
            "exit_normal" => self.kill(text(step, "id")?, "normal"),
            "exit_shutdown" => self.kill(text(step, "id")?, "shutdown"),
            _ => self.kill(text(step, "id")?, text(step, "reason")?),
        }
    }

    fn kill(&mut self, id: &str, reason: &str) -> Result<String, Fault> {
        let Some(pid) = self.living(id) else { return Ok("not_running".to_owned()) };
        let why = match reason {
            "kill" => "killed",
            "shutdown_term" => "{shutdown,term}",
            other => other,
        };
        self.died(pid, why)?;
        Ok("ok".to_owned())
    }

    /// A supervisor is killed: links kill its workers, its child supervisors clean up.
    fn cut(&mut self, pid: Pid) -> Result<(), Fault> {
        let kids: Vec<Pid> = (0..self.procs.len())
            .filter(|kid| self.procs.get(*kid).is_some_and(|p| p.alive && p.parent == Some(pid)))
            .collect();
        self.died(pid, "killed")?;
        for kid in kids {
            if self.sup(kid).is_ok() {
                self.awaited.insert(kid);
                self.feed(kid, Input::Shutdown)?;
                self.log_stop(kid, "killed")?;
            } else {
                self.died(kid, "killed")?;
            }
        }
        Ok(())
    }

    fn call(&mut self, pid: Pid, op: &str, step: &Value) -> Result<String, Fault> {
        let simple = self.sup(pid)?.template.is_some();
        let id = match (op, step.get("child")) {
            ("start_child", Some(child)) => {
                if let Err(bad) = child_spec(child) {
                    return Ok(format!("error:{bad}"));
                }
                text(child, "id")?
            }
            _ => text(step, "id")?,
        };
        if simple && op == "terminate_child" && !self.last.contains_key(id) {
            return Ok("error:simple_one_for_one".to_owned());
        }
        let name = child_name(id)?;
        let request = match op {
            "start_child" => {
                let spec = match step.get("child") {
                    Some(child) => child_spec(child)?,
                    None => ChildSpec::otp_worker(name.clone()),
                };
                let present = self.sup(pid)?.machine.child(&name).is_some();
                if let (Some(child), false) = (step.get("child"), present) {
                    self.sup(pid)?.specs.insert(id.to_owned(), child.clone());
                }
                Call::StartChild(spec)
            }
            "terminate_child" => Call::TerminateChild(name.clone()),
            "restart_child" => Call::RestartChild(name.clone()),
            "delete_child" => Call::DeleteChild(name.clone()),
            other => return Err(format!("unknown op {other}")),
        };
        self.reply = None;
        self.feed(pid, Input::Call { call: CallId(1), request })?;
        if self.held.as_ref().is_some_and(|(sup, _, _)| *sup == pid)
            && let Some((_, child, generation)) = self.held.take()
        {
            let outcome = failed("held");
            self.feed(pid, Input::Started { child, generation, outcome })?;
        }
        let reply = self.reply.take().ok_or("the call was not answered")?;
        let dead = self.living(id).is_none();
        Ok(match reply {
            Reply::Refused(Refusal::NotFound) if simple && dead => "ok".to_owned(),
            Reply::Ok | Reply::Undefined | Reply::Refused(_) => reply_text(&reply),
        })
    }

    // What machines ask for.

    fn feed(&mut self, pid: Pid, input: Input) -> Result<(), Fault> {
        let now = self.now;
        let actions = self.sup(pid)?.machine.on_input(now, input, 0.5);
        self.carry_out(pid, actions)
    }

    /// Carries actions out in the order in which the machine gave them, those that come up
    /// meanwhile included.
    fn carry_out(&mut self, pid: Pid, actions: Vec<Action>) -> Result<(), Fault> {
        let sup = self.sup(pid)?;
        sup.actions.extend(actions);
        if std::mem::replace(&mut sup.acts, true) {
            return Ok(());
        }
        while let Some(action) = self.sup(pid)?.actions.pop_front() {
            match action {
                Action::Start { child, generation, .. } => self.start(pid, child, generation)?,
                Action::Stop { child, generation, shutdown } => {
                    self.stop(pid, child, generation, shutdown)?;
                }
                Action::Reply { reply, .. } => self.reply = Some(reply),
                Action::Note(note) => self.report(pid, &note)?,
                Action::Ready => {
                    self.awaited.remove(&pid);
                    self.sup(pid)?.start = Start::Over;
                    let line = format!("start {}", self.proc(pid)?.id);
                    self.log(line);
                }
                Action::Ended { .. } => self.ended(pid)?,
            }
        }
        self.sup(pid)?.acts = false;
        Ok(())
    }

    fn start(&mut self, pid: Pid, child: ChildName, generation: Generation) -> Result<(), Fault> {
        let sup = self.sup(pid)?;
        let mut spec = match sup.specs.get(child.as_str()).or(sup.template.as_ref()) {
            Some(spec) => spec.clone(),
            None => return Err(format!("no spec for {child}")),
        };
        if let Some(id) = spec.get_mut("id") {
            *id = json!(child.as_str());
        }
        let (begun, kid) = self.begin(Some(pid), &spec, generation)?;
        let outcome = match begun {
            Begun::Up => StartOutcome::Up,
            Begun::Ignored => StartOutcome::Ignored,
            Begun::Failed(why) => failed(&why),
            Begun::Held => {
                self.held = Some((pid, child, generation));
                return Ok(());
            }
        };
        let Some(kid) = kid else {
            return self.feed(pid, Input::Started { child, generation, outcome });
        };
        self.sup(pid)?.running.insert(child.as_str().to_owned(), kid);
        if !self.alive(kid) {
            // It is dead already: that is told first, and that it was up comes too late.
            let mail = &mut self.sup(pid)?.mail;
            let at = mail.iter().position(|(from, _)| *from == kid);
            if let Some((_, exited)) = at.and_then(|at| mail.remove(at)) {
                self.feed(pid, exited)?;
            }
        }
        self.feed(pid, Input::Started { child, generation, outcome })
    }

    /// Makes a process, if the plan says so.
    fn begin(
        &mut self,
        parent: Option<Pid>,
        spec: &Value,
        generation: Generation,
    ) -> Result<(Begun, Option<Pid>), Fault> {
        let id = text(spec, "id")?.to_owned();
        if self.tries.get(&id).is_some_and(|tries| TRIES_MAX < *tries) {
            return Err(format!("{id} is started without end"));
        }
        match self.plan(&id, spec) {
            'x' => {
                self.log(format!("fail {id}:boom"));
                return Ok((Begun::Failed("boom".to_owned()), None));
            }
            'i' => {
                self.log(format!("ignore {id}"));
                return Ok((Begun::Ignored, None));
            }
            'h' => {
                self.log(format!("fail {id}:held"));
                return Ok((Begun::Held, None));
            }
            how if spec.get("strategy").is_none() => {
                let pid = self.add(&id, parent, spec, (generation, None));
                self.log(format!("start {id}"));
                if how == 'c' {
                    self.died(pid, "crash")?;
                }
                return Ok((Begun::Up, Some(pid)));
            }
            _ => {}
        }
        self.log(format!("init {id}"));
        let sup = match Sup::new(spec, self.pace) {
            Ok(sup) => sup,
            Err(why) => {
                self.log(format!("fail {id}:{why}"));
                return Ok((Begun::Failed(why), None));
            }
        };
        let pid = self.add(&id, parent, spec, (generation, Some(sup)));
        self.awaited.insert(pid);
        self.feed(pid, Input::Init)?;
        if self.sup(pid)?.start == Start::Over {
            return Ok((Begun::Up, Some(pid)));
        }
        let why = self.sup(pid)?.failed.clone().unwrap_or_default();
        self.log(format!("fail {id}:{why}"));
        Ok((Begun::Failed(why), None))
    }

    fn stop(
        &mut self,
        pid: Pid,
        child: ChildName,
        generation: Generation,
        shutdown: Shutdown,
    ) -> Result<(), Fault> {
        let kid = self.sup(pid)?.running.get(child.as_str()).copied();
        let kid = kid.ok_or_else(|| format!("stop of {child}, which does not run"))?;
        if !self.alive(kid) {
            // It died before: that exit is the answer, if it was not told already.
            let mail = &mut self.sup(pid)?.mail;
            let at = mail.iter().position(|(from, _)| *from == kid);
            return match at.and_then(|at| mail.remove(at)) {
                Some((_, exited)) => self.feed(pid, exited),
                None => Ok(()),
            };
        }
        let why = if self.sup(kid).is_ok() {
            self.awaited.insert(kid);
            self.feed(kid, Input::Shutdown)?;
            self.log_stop(kid, "shutdown")?;
            "shutdown"
        } else {
            let spec = &self.proc(kid)?.spec;
            let how = spec.get("on_stop").and_then(Value::as_str).unwrap_or("obey");
            let why = match (shutdown, how) {
                (Shutdown::BrutalKill, _) | (_, "ignore") => "killed",
                (_, "normal") => "normal",
                (_, "crash") => "bad_stop",
                _ => "shutdown",
            };
            self.proc(kid)?.alive = false;
            self.log_stop(kid, why)?;
            why
        };
        self.feed(pid, Input::Exited { child, generation, exit: exit(why) })
    }

    fn ended(&mut self, pid: Pid) -> Result<(), Fault> {
        let reports = std::mem::take(&mut self.sup(pid)?.reports);
        let (id, template) = (self.proc(pid)?.id.clone(), self.sup(pid)?.template.clone());
        let template = template.as_ref().map_or(Ok(""), |template| text(template, "id"))?;
        for (_, why) in reports {
            self.log(format!("rep {id}:shutdown_error {template}:{why}"));
        }
        if self.awaited.remove(&pid) {
            self.proc(pid)?.alive = false;
            return Ok(());
        }
        self.died(pid, "shutdown")
    }

    fn report(&mut self, pid: Pid, note: &Note) -> Result<(), Fault> {
        let id = self.proc(pid)?.id.clone();
        let line = match note {
            Note::ChildTerminated { child, exit, .. } => {
                format!("child_terminated {child}:{}", exit_text(exit))
            }
            Note::StartFailed { child, error, .. } => {
                let why = error_text(error);
                let failed = format!("{{shutdown,{{failed_to_start_child,{child},{why}}}}}");
                self.sup(pid)?.failed = Some(failed);
                format!("start_error {child}:{why}")
            }
            Note::ShutdownError { child, exit, .. } => {
                let (why, sup) = (exit_text(exit), self.sup(pid)?);
                if sup.template.is_some() && sup.machine.stage() == Stage::Ending
                    || sup.template.is_some() && sup.machine.stage() == Stage::Ended
                {
                    sup.reports.insert((why.starts_with('{'), why));
                    return Ok(());
                }
                format!("shutdown_error {child}:{why}")
            }
            Note::GivingUp { child, record } if record.reason != Reason::AutoShutdown => {
                format!("shutdown {child}:reached_max_restart_intensity")
            }
            Note::GivingUp { .. }
            | Note::ChildFinished { .. }
            | Note::Circuit { .. }
            | Note::Recovered { .. }
            | Note::GroupRestart { .. } => return Ok(()),
        };
        self.log(format!("rep {id}:{line}"));
        Ok(())
    }
}
