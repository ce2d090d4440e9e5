//! Scenarios on the real supervisor actors, under paused time; traces as `World` writes them.
//!
//! One second of a scenario is 1,000 seconds here, so that a moment can pass after each step
//! without weight: it passes only when no actor has anything left to do. A period is half a second
//! longer than it says, because OTP counts restarts exactly one period apart together.
//!
//! What actors cannot be told is in [`LEFT_OUT`]; [`expressible`] takes it out of a scenario.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use provost::actors::defaults::{MemoryRuns, SystemClock};
use provost::actors::tree::{Family, Node, Tree, TreeError, TreeHandle, TreePorts, TreeSpec};
use provost::board::Board;
use provost::logic::restart::{Call, ChildView, Phase, Refusal, Reply};
use provost::protocol::exit::StartError;
use provost::protocol::id::{AgentId, AgentTypeName, ChildName};
use provost::protocol::spec::{
    AgentSpec, ChildKind, OnDaemonExit, RestartPolicy, RestartType, RuntimeKind, StopSpec,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::Fault;
use super::otp_ports::{Book, Life, NoJitter, Planned, Runs, Sink};
use super::otp_procs::lines;
use super::otp_words::{
    child_name, child_spec, fault_text, field, list, pair, reply_text, supervisor_spec, text,
};

/// Seconds of tokio's clock for one second of a scenario.
const SCALE: u32 = 1_000;

/// How long a step may last until all is quiet: longer than any deadline that expires in it.
const MOMENT: Duration = Duration::from_secs(5);

/// Longest time for the root to end.
const END: Duration = Duration::from_secs(1_000_000);

/// What the scenarios for actors leave out, and why.
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[
    ("plan `i`", "a runtime starts or fails; it has no way to say that there is nothing to run"),
    (
        "`on_stop: normal` of a permanent worker",
        "a run that was asked to stop and ends well has stopped, which OTP reports as an error",
    ),
    (
        "`kill_sup` of a supervisor with supervisors under it",
        "a killed actor takes all below with it; in OTP the lower supervisors stop in order",
    ),
];

/// The scenario without what is left out for actors, and whether anything was.
pub(crate) fn expressible(scenario: &Value) -> (Value, bool) {
    let mut plain = scenario.clone();
    strip(&mut plain);
    let tree = scenario.get("tree").unwrap_or(&Value::Null);
    if let Some(steps) = plain.get_mut("steps").and_then(Value::as_array_mut) {
        steps.retain(|step| {
            let killed = step.get("op").and_then(Value::as_str) == Some("kill_sup");
            !killed || !step.get("id").is_some_and(|id| has_supervisors(tree, id))
        });
    }
    let changed = plain != *scenario;
    (plain, changed)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(plan)) = fields.get_mut("starts") {
                *plan = plan.replace('i', ".");
            }
            let word = |key: &str| fields.get(key).and_then(Value::as_str);
            let permanent = matches!(word("restart"), None | Some("permanent"));
            if permanent && word("on_stop") == Some("normal") {
                fields.remove("on_stop");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn has_supervisors(tree: &Value, id: &Value) -> bool {
    let is = |child: &Value| child.get("strategy").is_some();
    if tree.get("id") == Some(id) {
        return list(tree, "children").iter().any(is);
    }
    list(tree, "children").iter().any(|child| has_supervisors(child, id))
}

/// Runs one scenario and returns its trace.
///
/// # Errors
///
/// Names what the scenario lacks, or what the actors must never do.
pub(crate) fn run(scenario: &Value) -> Result<Value, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let trace = runtime.block_on(async { Play::new().run(scenario).await });
    drop(runtime);
    trace
}

/// Whether a supervisor's children have names of their own for OTP.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kids {
    Named,
    Instances,
}

/// One scenario under way.
struct Play {
    book: Book,
    tree: Option<Tree>,
    handle: Option<TreeHandle>,
    root: String,
    origin: Instant,
    clock_ms: u64,
}

impl Play {
    fn new() -> Self {
        Self {
            book: Book::default(),
            tree: None,
            handle: None,
            root: String::new(),
            origin: Instant::now(),
            clock_ms: 0,
        }
    }

    async fn run(mut self, scenario: &Value) -> Result<Value, Fault> {
        let result = self.start(field(scenario, "tree")?).await?;
        let start = self.settle(&result).await?;
        let mut steps = Vec::new();
        for step in list(scenario, "steps") {
            let result = self.step(step).await?;
            steps.push(self.settle(&result).await?);
        }
        let lives = self.living(&self.root);
        let result = match self.tree.take() {
            Some(tree) if lives => {
                if !tree.shutdown(END).await {
                    return Err("the root did not end".to_owned());
                }
                "shutdown"
            }
            _ => "none",
        };
        let end = self.settle(result).await?;
        match self.book.lock().faults.first() {
            Some(fault) => Err(fault.clone()),
            None => Ok(
                json!({ "id": field(scenario, "id")?, "start": start, "steps": steps, "end": end }),
            ),
        }
    }

    async fn start(&mut self, root: &Value) -> Result<String, Fault> {
        text(root, "id")?.clone_into(&mut self.root);
        let id = self.root.clone();
        {
            let mut record = self.book.lock();
            record.specs.insert(id.clone(), (root.clone(), None));
            record.sups.insert(id.clone(), Life::Starting);
            record.log(format!("init {id}"));
        }
        let started = match self.tree_spec(root) {
            Ok(spec) => Tree::start(spec, self.ports()).await,
            Err(why) => return Ok(self.root_failed(&why)),
        };
        let error = match started {
            Ok(tree) => {
                self.handle = Some(tree.handle());
                self.tree = Some(tree);
                return Ok("ok".to_owned());
            }
            Err(error) => error,
        };
        let why = match &error {
            TreeError::BadSpec(fault) => fault_text(fault),
            TreeError::StartFailed(error) => self.book.lock().start_words(&id, &error.to_string()),
            TreeError::NotFound(_) | TreeError::Refused(_) | TreeError::Gone => error.to_string(),
        };
        Ok(self.root_failed(&why))
    }

    fn root_failed(&self, why: &str) -> String {
        self.book.lock().sup_failed(&self.root, why);
        format!("error:{why}")
    }

    fn ports(&self) -> TreePorts {
        TreePorts {
            sink: Arc::new(Sink(self.book.clone())),
            clock: Arc::new(SystemClock),
            jitter: Arc::new(NoJitter),
            runs: Arc::new(Runs(self.book.clone(), MemoryRuns::default())),
            board: Arc::new(Board::default()),
            severities: Arc::new(BTreeMap::new()),
            measure_every: END,
        }
    }

    fn tree_spec(&self, spec: &Value) -> Result<TreeSpec, Fault> {
        let mut own = supervisor_spec(spec)?;
        if let Some(limit) = &mut own.limit {
            limit.period = limit.period * SCALE + Duration::from_millis(500) * SCALE;
        }
        let mut children = Vec::new();
        for child in list(spec, "children") {
            let node = self.node(child).map_err(|why| format!("{{start_spec,{why}}}"))?;
            self.enter(child, text(spec, "id")?)?;
            children.push(node);
        }
        Ok(TreeSpec::otp(own, children))
    }

    fn enter(&self, child: &Value, parent: &str) -> Result<(), Fault> {
        let place = (child.clone(), Some(parent.to_owned()));
        self.book.lock().specs.insert(text(child, "id")?.to_owned(), place);
        Ok(())
    }

    fn node(&self, spec: &Value) -> Result<Node, Fault> {
        let child = child_spec(spec)?;
        if child.kind == ChildKind::Supervisor {
            return Ok(Node::supervisor(child, self.tree_spec(spec)?));
        }
        let id = text(spec, "id")?.to_owned();
        let agent = agent(&child.name, child.restart);
        let runtime = Planned { id, spec: spec.clone(), book: self.book.clone() };
        Ok(Node::agent(child, Arc::new(runtime), Arc::new(agent)))
    }

    fn living(&self, sup: &str) -> bool {
        self.book.lock().sups.get(sup) == Some(&Life::Up)
    }

    fn handle(&self) -> Result<TreeHandle, Fault> {
        self.handle.clone().ok_or_else(|| "the tree has not started".to_owned())
    }

    async fn settle(&mut self, result: &str) -> Result<Value, Fault> {
        // Paused time goes on only when every task waits.
        sleep(MOMENT).await;
        let tree = if self.handle.is_none() {
            "none".to_owned()
        } else if self.book.lock().held.is_some() {
            "held".to_owned()
        } else if self.living(&self.root) {
            format!("{}{}", self.root, self.show(&self.root).await?)
        } else {
            "dead:shutdown".to_owned()
        };
        let events = std::mem::take(&mut self.book.lock().events);
        Ok(json!({ "r": result, "ev": lines(&events), "t": tree }))
    }

    async fn show(&self, sup: &str) -> Result<String, Fault> {
        let asked = self.handle()?.children(&child_name(sup)?).await;
        let Family { children, counts } = asked.map_err(|error| format!("{sup}: {error}"))?;
        let simple = self.book.lock().is_simple(sup);
        let named = if simple { Kids::Instances } else { Kids::Named };
        let mut kids = Vec::new();
        for child in children.iter().rev() {
            kids.push(self.show_child(child, named).await?);
        }
        if simple {
            kids.sort();
        }
        let n = counts;
        let counts = format!("{},{},{},{}", n.specs, n.active, n.supervisors, n.workers);
        Ok(format!("[{counts}]{{{}}}", kids.join(" ")))
    }

    async fn show_child(&self, child: &ChildView, kids: Kids) -> Result<String, Fault> {
        let id = child.spec.name.as_str();
        Ok(match child.phase {
            Phase::Up(_) | Phase::Stopping | Phase::Starting(_) => {
                let under = match child.spec.kind {
                    ChildKind::Supervisor => Box::pin(self.show(id)).await?,
                    ChildKind::Worker => String::new(),
                };
                format!("{id}+{under}")
            }
            Phase::Waiting(_) | Phase::Quarantined(_) | Phase::Parked(_) => {
                format!("{}*", if kids == Kids::Instances { "?" } else { id })
            }
            Phase::Created | Phase::Stopped | Phase::Finished => format!("{id}-"),
        })
    }

    async fn step(&mut self, step: &Value) -> Result<String, Fault> {
        match text(step, "op")? {
            "sleep" => {
                let ms = step.get("ms").and_then(Value::as_u64).ok_or("sleep without ms")?;
                self.clock_ms += ms;
                let at = Duration::from_millis(self.clock_ms) * SCALE;
                sleep_until(self.origin + at).await;
                Ok("ok".to_owned())
            }
            "exit_many" => {
                let exits: Vec<(String, String)> =
                    list(step, "exits").iter().map(pair).collect::<Result<_, _>>()?;
                let alive =
                    |id: &str| self.book.lock().runs.get(id).is_some_and(|run| run.is_alive());
                if exits.first().is_none_or(|(id, _)| !alive(id)) {
                    return Ok("not_running".to_owned());
                }
                let results: Vec<_> =
                    exits.iter().map(|(id, reason)| self.kill(id, reason)).collect();
                Ok(results.join(","))
            }
            "kill_sup" => {
                let id = text(step, "id")?;
                if !self.living(id) {
                    return Ok("not_running".to_owned());
                }
                self.book.lock().doom(id);
                let killed = self.handle()?.kill_run(&child_name(id)?);
                killed.map_err(|error| format!("kill of {id}: {error}"))?;
                Ok("ok".to_owned())
            }
            op if step.get("sup").is_some() => self.call(text(step, "sup")?, op, step).await,
            "crash" => Ok(self.kill(text(step, "id")?, "boom").to_owned()),
            "exit_normal" => Ok(self.kill(text(step, "id")?, "normal").to_owned()),
            "exit_shutdown" => Ok(self.kill(text(step, "id")?, "shutdown").to_owned()),
            _ => Ok(self.kill(text(step, "id")?, text(step, "reason")?).to_owned()),
        }
    }

    fn kill(&self, id: &str, reason: &str) -> &'static str {
        let why = match reason {
            "kill" => "killed",
            "shutdown_term" => "{shutdown,term}",
            other => other,
        };
        if self.book.lock().kill(id, why) { "ok" } else { "not_running" }
    }

    async fn call(&self, sup: &str, op: &str, step: &Value) -> Result<String, Fault> {
        if !self.living(sup) {
            return Ok("noproc".to_owned());
        }
        let spec = self.book.lock().specs.get(sup).map(|(spec, _)| spec.clone());
        let spec = spec.ok_or("a supervisor without spec")?;
        let simple = text(&spec, "strategy")? == "simple_one_for_one";
        let child = match (step.get("child"), list(&spec, "children").first()) {
            (Some(child), _) => Some(child.clone()),
            (None, Some(template)) if simple => Some(instance(template, step)?),
            (None, _) => None,
        };
        let id = match (op, &child) {
            ("start_child", Some(child)) => text(child, "id")?.to_owned(),
            _ => text(step, "id")?.to_owned(),
        };
        if simple && op == "terminate_child" && !self.book.lock().runs.contains_key(&id) {
            return Ok("error:simple_one_for_one".to_owned());
        }
        let held = self.book.lock().held.take_if(|(of, _)| of == sup);
        let release = async {
            if let Some((_, release)) = held {
                // The call is queued by then, since nothing else is to be done.
                sleep(MOMENT).await;
                release.send(()).ok();
            }
        };
        let (done, ()) = tokio::join!(self.ask((sup, &id), op, child.as_ref()), release);
        let refusal = match done? {
            Ok(()) => return Ok("ok".to_owned()),
            Err(TreeError::Refused(refusal)) => refusal,
            Err(error) => return Err(format!("{op} {id}: {error}")),
        };
        let mut record = self.book.lock();
        let dead = record.runs.get(&id).is_none_or(|run| !run.is_alive());
        if let Refusal::StartFailed(error) = &refusal {
            let why = record.start_words(&id, &error.to_string());
            record.sup_failed(&id, &why);
            return Ok(format!("error:{why}"));
        }
        // OTP asks by pid: that of an instance that is dead is fine.
        if refusal == Refusal::NotFound && simple && dead && op == "terminate_child" {
            return Ok("ok".to_owned());
        }
        Ok(reply_text(&Reply::Refused(refusal)))
    }

    async fn ask(
        &self,
        (sup, id): (&str, &str),
        op: &str,
        child: Option<&Value>,
    ) -> Result<Result<(), TreeError>, Fault> {
        let (handle, sup_name, name) = (self.handle()?, child_name(sup)?, child_name(id)?);
        let request = match (op, child) {
            ("start_child", Some(child)) => {
                let node = match self.node(child) {
                    Ok(node) => node,
                    // Its own words are kept for the answer.
                    Err(bad) => {
                        let error = StartError::Failed { message: bad };
                        return Ok(Err(TreeError::Refused(Refusal::StartFailed(error))));
                    }
                };
                let family = handle.children(&sup_name).await.map_err(|e| e.to_string())?;
                if !family.children.iter().any(|present| present.spec.name == name) {
                    self.enter(child, sup)?;
                }
                return Ok(handle.start_child(&sup_name, node).await);
            }
            ("terminate_child", _) => Call::TerminateChild(name),
            ("restart_child", _) => Call::RestartChild(name),
            ("delete_child", _) => Call::DeleteChild(name),
            (other, _) => return Err(format!("unknown op {other}")),
        };
        Ok(handle.call_at(&sup_name, request, op).await)
    }
}

/// An instance of a template.
fn instance(template: &Value, step: &Value) -> Result<Value, Fault> {
    let mut child = template.clone();
    if let Some(id) = child.get_mut("id") {
        *id = json!(text(step, "id")?);
    }
    Ok(child)
}

/// Workers are agents here, because only the trouble of agents is told.
fn agent(name: &ChildName, restart: RestartType) -> AgentSpec {
    AgentSpec {
        agent_id: AgentId::from(uuid::Uuid::nil()),
        name: name.clone(),
        agent_type: AgentTypeName::unknown(),
        runtime: RuntimeKind::InProcess,
        command: Vec::new(),
        env: BTreeMap::new(),
        secret_env: Vec::new(),
        cwd: std::path::PathBuf::new(),
        capabilities: Vec::new(),
        slots: 1,
        max_memory_mb: None,
        timeout: END,
        stop: StopSpec::default(),
        nats_access: false,
        on_daemon_exit: OnDaemonExit::Stop,
        exec: provost::protocol::spec::ExecSpec::default(),
        care: provost::protocol::care::CareSpec::default(),
        restart,
        policy: RestartPolicy::OTP,
        labels: BTreeMap::new(),
        origin: None,
    }
}
