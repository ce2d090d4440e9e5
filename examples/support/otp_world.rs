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
    Action, Call, CallId, Input, Note, Pace, Phase, Refusal, Reply, SpecFault, Stage, StartOutcome,
    Supervisor,
};
use provost::protocol::decision::Reason;
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::{ChildName, Generation};
use provost::protocol::spec::{
    AutoShutdown, ChildKind, ChildSpec, Limit, RestartPolicy, RestartType, Shutdown, Significance,
    Strategy, SupervisorSpec,
};
use serde_json::{Value, json};

/// What is wrong with a scenario itself.
pub(crate) type Fault = String;

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
    /// Whether its own start is over.
    ready: bool,
    /// Reports of instances, told when all are down.
    reports: BTreeSet<(bool, String)>,
    /// The last failed start, which is told to the parent when it happens at init.
    failed: Option<String>,
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
            reply => reply_text(&reply),
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
                    self.sup(pid)?.ready = true;
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
        if self.sup(pid)?.ready {
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

    // The trace.

    fn settle(&mut self, result: &str) -> Result<Value, Fault> {
        while let Some(pid) = self.busy() {
            // All that waits is in the mailbox before the first of it has its consequences.
            let mut actions = Vec::new();
            let now = self.now;
            while let Some((_, input)) = self.sup(pid)?.mail.pop_front() {
                actions.extend(self.sup(pid)?.machine.on_input(now, input, 0.5));
            }
            self.carry_out(pid, actions)?;
        }
        let tree = match (self.root, &self.dead, &self.held) {
            (None, _, _) => "none".to_owned(),
            (Some(_), Some(dead), _) => format!("dead:{dead}"),
            (Some(_), None, Some(_)) => "held".to_owned(),
            (Some(root), None, None) => {
                let tree = self.tree(root)?;
                format!("{}{tree}", self.proc(root)?.id)
            }
        };
        let mut lines: Vec<String> = Vec::new();
        let events = std::mem::take(&mut self.events);
        for run in events.chunk_by(|a, b| a.group.is_some() && a.group == b.group) {
            let mut run: Vec<String> = run.iter().map(|event| event.text.clone()).collect();
            run.sort();
            lines.extend(run);
        }
        Ok(json!({ "r": result, "ev": lines, "t": tree }))
    }

    fn tree(&self, pid: Pid) -> Result<String, Fault> {
        let proc = self.procs.get(pid).ok_or("no such process")?;
        let sup = proc.sup.as_ref().ok_or("not a supervisor")?;
        let mut kids = Vec::new();
        for child in sup.machine.children().iter().rev() {
            let id = child.spec.name.as_str();
            kids.push(match child.phase {
                Phase::Up(_) | Phase::Stopping | Phase::Starting(_) => {
                    let kid = sup.running.get(id).copied();
                    let under = match (child.spec.kind, kid) {
                        (ChildKind::Supervisor, Some(kid)) => self.tree(kid)?,
                        (ChildKind::Worker, _) | (_, None) => String::new(),
                    };
                    format!("{id}+{under}")
                }
                Phase::Waiting(_) | Phase::Quarantined(_) | Phase::Parked(_) => {
                    format!("{}*", if sup.template.is_some() { "?" } else { id })
                }
                Phase::Created | Phase::Stopped | Phase::Finished => format!("{id}-"),
            });
        }
        if sup.template.is_some() {
            kids.sort();
        }
        let n = sup.machine.counts();
        let counts = format!("{},{},{},{}", n.specs, n.active, n.supervisors, n.workers);
        Ok(format!("[{counts}]{{{}}}", kids.join(" ")))
    }

    fn log(&mut self, text: String) {
        self.events.push(Event { group: None, text });
    }

    /// Logs a death; those of instances of one template are a group, since their order is open.
    fn log_stop(&mut self, pid: Pid, why: &str) -> Result<(), Fault> {
        let proc = self.proc(pid)?;
        let (text, parent) = (format!("stop {}:{why}", proc.id), proc.parent);
        let mut group = None;
        if let Some(parent) = parent
            && self.sup(parent)?.template.is_some()
        {
            group = Some(self.proc(parent)?.id.clone());
        }
        self.events.push(Event { group, text });
        Ok(())
    }

    // Processes.

    fn died(&mut self, pid: Pid, why: &str) -> Result<(), Fault> {
        self.proc(pid)?.alive = false;
        self.log_stop(pid, why)?;
        let proc = self.proc(pid)?;
        let Some(parent) = proc.parent else {
            self.dead = Some(why.to_owned());
            return Ok(());
        };
        let (child, generation) = (child_name(&proc.id)?, proc.generation);
        let input = Input::Exited { child, generation, exit: exit(why) };
        self.sup(parent)?.mail.push_back((pid, input));
        Ok(())
    }

    fn plan(&mut self, id: &str, spec: &Value) -> char {
        let tries = self.tries.entry(id.to_owned()).or_default();
        *tries += 1;
        let plan = spec.get("starts").and_then(Value::as_str).unwrap_or_default();
        let (stem, repeats) = plan.strip_suffix('*').map_or((plan, false), |stem| (stem, true));
        match stem.chars().nth(*tries - 1) {
            Some(how) => how,
            None if repeats => stem.chars().last().unwrap_or('.'),
            None => '.',
        }
    }

    fn add(
        &mut self,
        id: &str,
        parent: Option<Pid>,
        spec: &Value,
        (generation, sup): (Generation, Option<Sup>),
    ) -> Pid {
        let pid = self.procs.len();
        let (id, spec) = (id.to_owned(), spec.clone());
        self.last.insert(id.clone(), pid);
        self.procs.push(Proc { id, parent, generation, alive: true, spec, sup });
        pid
    }

    fn proc(&mut self, pid: Pid) -> Result<&mut Proc, Fault> {
        self.procs.get_mut(pid).ok_or_else(|| "no such process".to_owned())
    }

    fn sup(&mut self, pid: Pid) -> Result<&mut Sup, Fault> {
        self.proc(pid)?.sup.as_mut().ok_or_else(|| "not a supervisor".to_owned())
    }

    fn alive(&self, pid: Pid) -> bool {
        self.procs.get(pid).is_some_and(|proc| proc.alive)
    }

    fn living(&self, id: &str) -> Option<Pid> {
        self.last.get(id).copied().filter(|pid| self.alive(*pid))
    }

    fn supervisors(&self) -> Vec<Pid> {
        let living = |(_, proc): &(Pid, &Proc)| proc.alive && proc.sup.is_some();
        self.procs.iter().enumerate().filter(living).map(|(pid, _)| pid).collect()
    }

    fn busy(&self) -> Option<Pid> {
        let mail = |proc: &Proc| proc.sup.as_ref().is_some_and(|sup| !sup.mail.is_empty());
        self.procs.iter().position(|proc| proc.alive && mail(proc))
    }
}

impl Sup {
    fn new(spec: &Value, pace: Pace) -> Result<Self, Fault> {
        let strategy = match text(spec, "strategy")? {
            "one_for_one" => Strategy::OneForOne,
            "one_for_all" => Strategy::OneForAll,
            "rest_for_one" => Strategy::RestForOne,
            "simple_one_for_one" => Strategy::SimpleOneForOne,
            other => return Err(format!("{{supervisor_data,{{invalid_strategy,{other}}}}}")),
        };
        let auto_shutdown = match spec.get("auto_shutdown").and_then(Value::as_str) {
            Some("any_significant") => AutoShutdown::AnySignificant,
            Some("all_significant") => AutoShutdown::AllSignificant,
            _ => AutoShutdown::Never,
        };
        let number = |key, default| spec.get(key).and_then(Value::as_u64).unwrap_or(default);
        let intensity = u32::try_from(number("intensity", 1)).map_err(|e| e.to_string())?;
        let period = Duration::from_secs(number("period", 5));
        let own = SupervisorSpec {
            name: child_name(text(spec, "id")?)?,
            strategy,
            limit: Some(Limit { intensity, period }),
            auto_shutdown,
            origin: None,
        };
        let (mut specs, mut children) = (BTreeMap::new(), Vec::new());
        for child in list(spec, "children") {
            children.push(child_spec(child).map_err(|why| format!("{{start_spec,{why}}}"))?);
            specs.insert(text(child, "id")?.to_owned(), child.clone());
        }
        let machine = Supervisor::new(own, children).map_err(|fault| fault_text(&fault))?;
        let simple = strategy == Strategy::SimpleOneForOne;
        let template = if simple { list(spec, "children").first().cloned() } else { None };
        Ok(Self {
            machine: machine.with_pace(pace),
            specs: if simple { BTreeMap::new() } else { specs },
            template,
            running: BTreeMap::new(),
            mail: VecDeque::new(),
            actions: VecDeque::new(),
            acts: false,
            ready: false,
            reports: BTreeSet::new(),
            failed: None,
        })
    }
}

fn child_spec(spec: &Value) -> Result<ChildSpec, Fault> {
    let supervisor = spec.get("strategy").is_some();
    let restart = match spec.get("restart").and_then(Value::as_str) {
        None | Some("permanent") => RestartType::Permanent,
        Some("transient") => RestartType::Transient,
        Some("temporary") => RestartType::Temporary,
        Some(other) => return Err(format!("{{invalid_restart_type,{other}}}")),
    };
    let shutdown = match spec.get("shutdown") {
        Some(Value::String(word)) if word == "brutal_kill" => Shutdown::BrutalKill,
        Some(Value::String(_)) => Shutdown::Infinity,
        Some(ms) => Shutdown::Timeout(Duration::from_millis(ms.as_u64().unwrap_or_default())),
        None if supervisor => Shutdown::Infinity,
        None => Shutdown::Timeout(Duration::from_secs(5)),
    };
    let significant = spec.get("significant").and_then(Value::as_bool).unwrap_or_default();
    Ok(ChildSpec {
        name: child_name(text(spec, "id")?)?,
        kind: if supervisor { ChildKind::Supervisor } else { ChildKind::Worker },
        restart,
        shutdown,
        significance: if significant { Significance::Significant } else { Significance::Ordinary },
        policy: RestartPolicy::OTP,
        origin: None,
    })
}

fn fault_text(fault: &SpecFault) -> String {
    match fault {
        SpecFault::NotOneTemplate(_) => "{bad_start_spec,[]}".to_owned(),
        SpecFault::DuplicateChildName(_)
        | SpecFault::SignificantWithoutAutoShutdown
        | SpecFault::SignificantPermanent => format!("{{start_spec,{}}}", spec_fault_text(fault)),
    }
}

fn spec_fault_text(fault: &SpecFault) -> String {
    let bad = |key: &str| format!("{{bad_combination,[{key},{{significant,true}}]}}");
    match fault {
        SpecFault::DuplicateChildName(name) => format!("{{duplicate_child_name,{name}}}"),
        SpecFault::SignificantWithoutAutoShutdown => bad("{auto_shutdown,never}"),
        SpecFault::SignificantPermanent => bad("{restart,permanent}"),
        SpecFault::NotOneTemplate(_) => String::new(),
    }
}

fn reply_text(reply: &Reply) -> String {
    let refusal = match reply {
        Reply::Ok => return "ok".to_owned(),
        Reply::Undefined => return "ok:undefined".to_owned(),
        Reply::Refused(refusal) => refusal,
    };
    let word = match refusal {
        Refusal::NotFound => "not_found",
        Refusal::AlreadyStarted => "already_started",
        Refusal::AlreadyPresent => "already_present",
        Refusal::Running => "running",
        Refusal::Restarting => "restarting",
        Refusal::SimpleOneForOne => "simple_one_for_one",
        Refusal::BadSpec(_) => "bad_combination",
        Refusal::StartFailed(error) => return format!("error:{}", error_text(error)),
        Refusal::ShuttingDown => "shutting_down",
        Refusal::NoCircuit => "no_circuit",
    };
    format!("error:{word}")
}

/// OTP's exit reasons in the machine's words; `exit_text` is the way back.
fn exit(why: &str) -> ChildExit {
    match why {
        "normal" => ChildExit::Finished,
        "shutdown" => ChildExit::Stopped,
        "{shutdown,term}" => ChildExit::Exited { code: 0 },
        "killed" => ChildExit::Killed,
        other => ChildExit::Failed { message: other.to_owned() },
    }
}

fn exit_text(exit: &ChildExit) -> String {
    match exit {
        ChildExit::Finished => "normal".to_owned(),
        ChildExit::Stopped | ChildExit::GaveUp { .. } => "shutdown".to_owned(),
        ChildExit::Exited { code: 0 } => "{shutdown,term}".to_owned(),
        ChildExit::Killed => "killed".to_owned(),
        ChildExit::Failed { message } => message.clone(),
        ChildExit::Exited { .. }
        | ChildExit::Signaled { .. }
        | ChildExit::Panicked { .. }
        | ChildExit::Throttled { .. }
        | ChildExit::Lost { .. } => exit.to_string(),
    }
}

fn failed(why: &str) -> StartOutcome {
    StartOutcome::Failed(StartError::Failed { message: why.to_owned() })
}

fn error_text(error: &StartError) -> String {
    match error {
        StartError::Failed { message } => message.clone(),
        StartError::NotFound { .. }
        | StartError::NotExecutable { .. }
        | StartError::BadDirectory { .. }
        | StartError::System { .. }
        | StartError::Timeout { .. }
        | StartError::Refused { .. } => error.to_string(),
    }
}

fn child_name(id: &str) -> Result<ChildName, Fault> {
    id.parse().map_err(|error| format!("{error}"))
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a Value, Fault> {
    value.get(key).ok_or_else(|| format!("no {key} in {value}"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Fault> {
    field(value, key)?.as_str().ok_or_else(|| format!("{key} is no text in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn pair(value: &Value) -> Result<(String, String), Fault> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(id), Value::String(reason)]) => Ok((id.clone(), reason.clone())),
        _ => Err(format!("{value} is no [id, reason]")),
    }
}
