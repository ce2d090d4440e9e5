//! The world's processes and its trace: who lives, who hears of a death, what is written down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use provost::logic::restart::{Input, Pace, Phase, Supervisor};
use provost::protocol::id::Generation;
use provost::protocol::spec::{AutoShutdown, ChildKind, Limit, Strategy, SupervisorSpec};
use serde_json::{Value, json};

use super::otp_words::{child_name, child_spec, exit, fault_text, list, text};
use super::{Event, Fault, Pid, Proc, Start, Sup, World};

impl World {
    // The trace.

    pub(super) fn settle(&mut self, result: &str) -> Result<Value, Fault> {
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

    pub(super) fn tree(&self, pid: Pid) -> Result<String, Fault> {
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

    pub(super) fn log(&mut self, text: String) {
        self.events.push(Event { group: None, text });
    }

    /// Logs a death; those of instances of one template are a group, since their order is open.
    pub(super) fn log_stop(&mut self, pid: Pid, why: &str) -> Result<(), Fault> {
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

    pub(super) fn died(&mut self, pid: Pid, why: &str) -> Result<(), Fault> {
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

    pub(super) fn plan(&mut self, id: &str, spec: &Value) -> char {
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

    pub(super) fn add(
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

    pub(super) fn proc(&mut self, pid: Pid) -> Result<&mut Proc, Fault> {
        self.procs.get_mut(pid).ok_or_else(|| "no such process".to_owned())
    }

    pub(super) fn sup(&mut self, pid: Pid) -> Result<&mut Sup, Fault> {
        self.proc(pid)?.sup.as_mut().ok_or_else(|| "not a supervisor".to_owned())
    }

    pub(super) fn alive(&self, pid: Pid) -> bool {
        self.procs.get(pid).is_some_and(|proc| proc.alive)
    }

    pub(super) fn living(&self, id: &str) -> Option<Pid> {
        self.last.get(id).copied().filter(|pid| self.alive(*pid))
    }

    pub(super) fn supervisors(&self) -> Vec<Pid> {
        let living = |(_, proc): &(Pid, &Proc)| proc.alive && proc.sup.is_some();
        self.procs.iter().enumerate().filter(living).map(|(pid, _)| pid).collect()
    }

    pub(super) fn busy(&self) -> Option<Pid> {
        let mail = |proc: &Proc| proc.sup.as_ref().is_some_and(|sup| !sup.mail.is_empty());
        self.procs.iter().position(|proc| proc.alive && mail(proc))
    }
}

impl Sup {
    pub(super) fn new(spec: &Value, pace: Pace) -> Result<Self, Fault> {
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
            start: Start::UnderWay,
            reports: BTreeSet::new(),
            failed: None,
        })
    }
}
