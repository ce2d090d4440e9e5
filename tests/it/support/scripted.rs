//! Scripted ports: runtimes that do as told, a sink that writes down, a clock that stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use provost::actors::defaults::MemoryRuns;
use provost::actors::tree::TreePorts;
use provost::board::Board;
use provost::ports::{
    AgentRuntime, BoxFuture, EventDraft, EventSink, JitterSource, RunningAgent, WallClock,
};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::{EventId, Generation};
use tokio::sync::watch;

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// It cannot begin.
    Fails,
    /// It ends like this after a time.
    Ends(Duration, ChildExit),
    /// It runs until it is asked to stop.
    Obeys,
    /// It runs until it is killed.
    Ignores,
}

/// Does as the script says, run by run; the last entry repeats.
#[derive(Debug)]
pub(crate) struct Scripted {
    name: String,
    script: Vec<Run>,
    runs: Mutex<usize>,
    log: Log,
}

/// What happened, in order, as text.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

impl Scripted {
    pub(crate) fn new(name: &str, log: &Log, script: Vec<Run>) -> Self {
        Self { name: name.to_owned(), script, runs: Mutex::new(0), log: Arc::clone(log) }
    }

    fn next(&self) -> Run {
        let mut runs = self.runs.lock().unwrap();
        let run = self.script.get(*runs).or(self.script.last()).unwrap().clone();
        *runs += 1;
        run
    }
}

fn note(log: &Log, what: String) {
    log.lock().unwrap().push(what);
}

impl AgentRuntime for Scripted {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let run = self.next();
        let (name, log) = (self.name.clone(), Arc::clone(&self.log));
        Box::pin(async move {
            if matches!(run, Run::Fails) {
                note(&log, format!("fail {name}"));
                return Err(StartError::Failed { message: "scripted".to_owned() });
            }
            note(&log, format!("start {name}"));
            let (orders, _) = watch::channel(Order::None);
            let ends_at = tokio::time::Instant::now()
                + match run {
                    Run::Ends(after, _) => after,
                    Run::Fails | Run::Obeys | Run::Ignores => Duration::from_secs(1_000_000_000),
                };
            let running: Box<dyn RunningAgent> =
                Box::new(ScriptedRun { name, log, run, orders, ends_at, done: None });
            Ok(running)
        })
    }
}

/// What a run was told to do; killing outweighs asking.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Order {
    #[default]
    None,
    Stop,
    Kill,
}

#[derive(Debug)]
struct ScriptedRun {
    name: String,
    log: Log,
    run: Run,
    orders: watch::Sender<Order>,
    ends_at: tokio::time::Instant,
    done: Option<ChildExit>,
}

impl RunningAgent for ScriptedRun {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            if let Some(exit) = &self.done {
                return exit.clone();
            }
            let mut orders = self.orders.subscribe();
            let obeys = !matches!(self.run, Run::Ignores);
            let told =
                orders.wait_for(|order| *order == Order::Kill || (obeys && *order == Order::Stop));
            let exit = tokio::select! {
                told = told => {
                    if *told.unwrap() == Order::Kill { ChildExit::Signaled { signal: 9 } } else { ChildExit::Finished }
                }
                () = tokio::time::sleep_until(self.ends_at) => match &self.run {
                    Run::Ends(_, exit) => exit.clone(),
                    Run::Fails | Run::Obeys | Run::Ignores => ChildExit::Finished,
                },
            };
            note(&self.log, format!("end {}", self.name));
            self.done = Some(exit.clone());
            exit
        })
    }

    fn ask_to_stop(&mut self) {
        note(&self.log, format!("ask {}", self.name));
        self.orders.send_modify(|order| *order = (*order).max(Order::Stop));
    }

    fn kill(&mut self) {
        note(&self.log, format!("kill {}", self.name));
        self.orders.send_replace(Order::Kill);
    }
}

/// Writes events down and numbers them.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<(EventId, EventDraft)>>);

impl Recorder {
    pub(crate) fn events(&self) -> Vec<(EventId, EventDraft)> {
        self.0.lock().unwrap().clone()
    }

    /// Type names without `provost.` and `.v1`, in order; not of the events that only tell again how
    /// a child is shown.
    pub(crate) fn types(&self) -> Vec<String> {
        let short = |(_, draft): &(EventId, EventDraft)| {
            let name = draft.fact.type_name();
            name.trim_start_matches("provost.").trim_end_matches(".v1").to_owned()
        };
        let is_turn = |name: &String| !name.starts_with("supervision.child_");
        self.events().iter().map(short).filter(is_turn).collect()
    }
}

impl EventSink for Recorder {
    fn emit(&self, draft: EventDraft) -> EventId {
        let mut events = self.0.lock().unwrap();
        let id = EventId::new(uuid::Uuid::from_u128(events.len() as u128 + 1));
        events.push((id, draft));
        id
    }
}

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct Standing;

impl WallClock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// Always the whole delay.
#[derive(Debug)]
pub(crate) struct Whole;

impl JitterSource for Whole {
    fn fraction(&self) -> f64 {
        1.0
    }
}

/// Ports for a tree whose events go to the recorder.
pub(crate) fn ports(sink: Arc<Recorder>) -> TreePorts {
    TreePorts {
        sink,
        clock: Arc::new(Standing),
        jitter: Arc::new(Whole),
        runs: Arc::new(MemoryRuns::default()),
        board: Arc::new(Board::default()),
        severities: Arc::new(BTreeMap::new()),
        measure_every: Duration::from_secs(30),
    }
}
