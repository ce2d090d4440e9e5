//! The daemon's book of runs. It outlives a keeper: runs that go on without one are watched again
//! by the next, and whoever waits for their end notices nothing.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;
use tokio::sync::oneshot;

use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::ChildName;
use crate::protocol::spec::{OnDaemonExit, SignalName};
use crate::runtimes::keeper::inbox::Inbox;
use crate::runtimes::keeper::link::Link;
use crate::runtimes::keeper::loss::{self, Leftover};
use crate::runtimes::keeper::proc;
use crate::runtimes::keeper::runs::number;
use crate::runtimes::keeper::wire::{Owner, Record, RunEnd, RunId, Start, ToKeeper, WireError};

/// How a run began, as the keeper tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) pid: u32,
    pub(super) start_time: u64,
}

/// One run that somebody waits for.
#[derive(Debug)]
struct Entry {
    begun: Option<Begun>,
    marks: Vec<String>,
    outlives_keeper: bool,
    started: Option<oneshot::Sender<Result<Begun, StartError>>>,
    exited: oneshot::Sender<ChildExit>,
    inbox: Arc<Inbox>,
    /// What was asked while no keeper was there.
    asked: Option<SignalName>,
}

/// What a caller waits on.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) run: RunId,
    pub(super) started: oneshot::Receiver<Result<Begun, StartError>>,
    pub(super) exited: oneshot::Receiver<ChildExit>,
    pub(super) inbox: Arc<Inbox>,
}

/// A run from before, as whoever claims it gets it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) record: Record,
    pub(super) exited: oneshot::Receiver<ChildExit>,
    pub(super) inbox: Arc<Inbox>,
}

/// What is there of a child from before.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    /// The very run that was asked for.
    pub(super) own: Option<Taken>,
    /// Living runs of the same name that have to end first.
    pub(super) others: Vec<Taken>,
}

#[derive(Debug, Default)]
struct State {
    runs: BTreeMap<RunId, Entry>,
    /// Runs from before that nobody has claimed yet.
    found: BTreeMap<RunId, Record>,
    /// Messages of those, and of runs whose part of the inventory is still to come.
    early: BTreeMap<RunId, Arc<Inbox>>,
    last_run: u64,
    link: Option<Arc<Link>>,
    keepers: Keepers,
}

/// How many keepers this desk has had.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Keepers {
    #[default]
    None,
    Some,
}

/// The runs of one state folder, shared by everybody who uses them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Bytes of output that rotation dropped so far.
    pub(super) dropped_bytes: AtomicU64,
}

impl Desk {
    /// Queues a start. `build` makes the message for the number that the run gets.
    pub(super) fn begin(
        &self,
        program: &str,
        build: impl FnOnce(RunId) -> Start,
    ) -> Result<Waits, StartError> {
        let mut state = self.lock();
        let Some(link) = state.link.clone() else {
            let message = "the keeper is not up; it is started again by itself".to_owned();
            return Err(StartError::Refused { message });
        };
        state.last_run += 1;
        let run = RunId(state.last_run);
        let start = build(run);
        let (marks, outlives_keeper) = (start.mark_entries(), start.outlives_keeper());
        link.order(&ToKeeper::Start(Box::new(start))).map_err(|error| match error {
            OrderError::Refused(message) => StartError::Refused { message },
            OrderError::Wire(error) => {
                StartError::System { program: program.to_owned(), message: error.to_string() }
            }
        })?;
        let (started, started_receiver) = oneshot::channel();
        let (exited, exited_receiver) = oneshot::channel();
        let inbox = Arc::new(Inbox::default());
        let entry = Entry {
            begun: None,
            marks,
            outlives_keeper,
            started: Some(started),
            exited,
            inbox: Arc::clone(&inbox),
            asked: None,
        };
        state.runs.insert(run, entry);
        Ok(Waits { run, started: started_receiver, exited: exited_receiver, inbox })
    }

    /// Signals a run; while no keeper is there, its main process at once and the rest by the next.
    pub(super) fn signal(&self, run: RunId, signal: SignalName) {
        let mut state = self.lock();
        if let Some(link) = &state.link {
            link.tell(&as_command(run, signal));
            return;
        }
        let Some(entry) = state.runs.get_mut(&run) else { return };
        entry.asked = Some(signal);
        if let Some(begun) = entry.begun {
            signal_main(begun, number(signal));
        }
    }

    /// Nobody waits for a run any more: kills it, or forgets its end.
    pub(super) fn abandon(&self, run: RunId) {
        if self.lock().runs.contains_key(&run) {
            self.signal(run, SignalName::Kill);
        } else {
            self.acknowledge(run);
        }
    }

    /// The end of a run is known to whom it concerns.
    pub(super) fn acknowledge(&self, run: RunId) {
        self.tell(&ToKeeper::Ack { run });
    }

    /// Passes a command about a run on. Without a keeper there is nobody whom it concerns.
    pub(super) fn tell(&self, command: &ToKeeper) {
        if let Some(link) = &self.lock().link {
            link.tell(command);
        }
    }

    /// Where messages of a run arrive. The keeper sends those of a run from before ahead of the
    /// inventory.
    pub(super) fn inbox(&self, run: RunId) -> Option<Arc<Inbox>> {
        let mut state = self.lock();
        if let Some(entry) = state.runs.get(&run) {
            return Some(Arc::clone(&entry.inbox));
        }
        let may_be_claimed = state.link.is_none() || state.found.contains_key(&run);
        may_be_claimed.then(|| Arc::clone(state.early.entry(run).or_default()))
    }

    /// A keeper is there, and tells which runs it has from before.
    pub(super) fn attach(&self, link: &Arc<Link>, records: Vec<Record>) {
        let mut state = self.lock();
        let first = std::mem::replace(&mut state.keepers, Keepers::Some) == Keepers::None;
        state.link = Some(Arc::clone(link));
        let mut told: BTreeMap<RunId, Record> =
            records.into_iter().map(|record| (record.run, record)).collect();
        let highest = told.keys().next_back().map_or(0, |run| run.0);
        state.last_run = state.last_run.max(highest);
        let (mut missing, mut over) = (Vec::new(), Vec::new());
        for run in state.runs.keys().copied().collect::<Vec<RunId>>() {
            match told.remove(&run) {
                None => missing.extend(state.runs.remove(&run)),
                Some(Record { end: Some(end), .. }) => over.extend(state.end(run, end)),
                Some(_) => state.ask_again(run, link),
            }
        }
        state.found.retain(|run, _| told.contains_key(run));
        for (run, record) in told {
            if first || state.found.contains_key(&run) {
                state.found.insert(run, record);
            } else if record.end.is_some() {
                link.tell(&ToKeeper::Ack { run });
            } else {
                // Its start failed here when its keeper was killed.
                link.tell(&ToKeeper::Kill { run });
            }
        }
        let State { early, found, .. } = &mut *state;
        early.retain(|run, _| found.contains_key(run));
        drop(state);
        for over in over {
            self.pass_on(over);
        }
        end_lost(missing, "its keeper was killed, and the next one knows nothing of it");
    }

    /// The link is closed on purpose; what is told until the keeper's end is still taken.
    pub(super) fn release(&self, link: &Link) {
        let mut state = self.lock();
        if state.link.as_ref().is_some_and(|current| current.pid == link.pid) {
            state.link = None;
        }
    }

    /// A keeper is gone. Gives the message to those whose runs cannot be without it; after an orderly
    /// end that is all of them.
    pub(super) fn lost(&self, link: &Link, survivors: Survivors, message: &str) {
        self.release(link);
        let mut state = self.lock();
        let lives_on = |entry: &Entry| {
            survivors == Survivors::GoOn && entry.outlives_keeper && entry.begun.is_some()
        };
        let all = std::mem::take(&mut state.runs);
        let (on, over): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(_, entry)| lives_on(entry));
        state.runs = on;
        drop(state);
        end_lost(over.into_values().collect(), message);
    }

    /// A run began.
    pub(super) fn started(&self, run: RunId, begun: Begun) {
        let mut state = self.lock();
        if let Some(entry) = state.runs.get_mut(&run) {
            entry.begun = Some(begun);
            // Whoever waited may have left; then the run was killed by that.
            entry.started.take().map(|started| started.send(Ok(begun)));
        }
    }

    /// A run could not begin.
    pub(super) fn start_failed(&self, run: RunId, error: StartError) {
        let entry = self.lock().runs.remove(&run);
        entry.and_then(|entry| entry.started).map(|started| started.send(Err(error)));
    }

    /// A run ended.
    pub(super) fn ended(&self, run: RunId, end: RunEnd) {
        let over = self.lock().end(run, end);
        if let Some(over) = over {
            self.pass_on(over);
        }
    }

    /// Tells an end to who waits for it. Not with the lock held: an inbox that is written to waits
    /// for it.
    fn pass_on(&self, Over { run, entry, exit }: Over) {
        let taken = entry.is_some_and(|entry| {
            entry.inbox.close();
            entry.exited.send(exit).is_ok()
        });
        // Who took it says so when it was looked at; nobody else will.
        if !taken {
            self.acknowledge(run);
        }
    }

    /// Gives what is there of a child from before, and ends it being there for others.
    pub(super) fn claim(&self, wanted: &Owner) -> Claimed {
        let mut state = self.lock();
        let of_name =
            |record: &&Record| record.owner.as_ref().is_some_and(|owner| owner.name == wanted.name);
        let runs: Vec<RunId> =
            state.found.values().filter(of_name).map(|record| record.run).collect();
        let mut claimed = Claimed::default();
        for run in runs {
            let Some(record) = state.found.remove(&run) else { continue };
            let same = record.owner.as_ref().is_some_and(|owner| owner.is_same_run(wanted));
            if same && record.is_adoptable() && claimed.own.is_none() {
                claimed.own = Some(state.take(record));
            } else if record.end.is_some() {
                // It has been told before, or nobody is to be told.
                state.forget(run);
            } else {
                let taken = state.take(record);
                claimed.others.push(taken);
            }
        }
        claimed
    }

    /// Takes all runs from before that nobody has claimed and that `is_wanted` does not expect to be.
    /// Those that have ended are forgotten.
    pub(super) fn take_unclaimed(&self, is_wanted: impl Fn(&Owner) -> bool) -> Vec<Taken> {
        let mut state = self.lock();
        let unwanted = |record: &&Record| {
            !record.owner.as_ref().is_some_and(|owner| record.is_adoptable() && is_wanted(owner))
        };
        let runs: Vec<RunId> =
            state.found.values().filter(unwanted).map(|record| record.run).collect();
        let mut taken = Vec::new();
        for run in runs {
            let Some(record) = state.found.remove(&run) else { continue };
            if record.end.is_none() {
                taken.push(state.take(record));
            } else {
                state.forget(run);
            }
        }
        taken
    }

    /// The newest run of a child from before that may be adopted and nobody has claimed.
    pub(super) fn found(&self, name: &ChildName) -> Option<Owner> {
        let state = self.lock();
        let adoptable = state.found.values().filter(|record| record.is_adoptable());
        let owners = adoptable.filter_map(|record| record.owner.as_ref());
        owners.filter(|owner| owner.name == *name).max_by_key(|owner| owner.generation).cloned()
    }

    /// Process id of a run, for a warning about it.
    pub(super) fn pid_of(&self, run: RunId) -> Option<u32> {
        self.lock().runs.get(&run).and_then(|entry| entry.begun).map(|begun| begun.pid)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let left = std::mem::take(&mut state.runs);
        end_lost(left.into_values().collect(), "nobody waits for it any more");
    }
}

impl State {
    /// What was asked of a run while no keeper was there is asked of this one.
    fn ask_again(&mut self, run: RunId, link: &Link) {
        let asked = self.runs.get_mut(&run).and_then(|entry| entry.asked.take());
        if let Some(signal) = asked {
            link.tell(&as_command(run, signal));
        }
    }

    /// The end of a run from before needs to be known no more.
    fn forget(&mut self, run: RunId) {
        self.early.remove(&run);
        if let Some(link) = &self.link {
            link.tell(&ToKeeper::Ack { run });
        }
    }

    /// Takes an end down; gives what is to be passed on.
    fn end(&mut self, run: RunId, end: RunEnd) -> Option<Over> {
        if let Some(record) = self.found.get_mut(&run) {
            record.end = Some(end);
            return None;
        }
        self.early.remove(&run);
        Some(Over { run, entry: self.runs.remove(&run), exit: end.exit })
    }

    /// Makes a run from before one that somebody waits for.
    fn take(&mut self, record: Record) -> Taken {
        let (exited, receiver) = oneshot::channel();
        let inbox = self.early.remove(&record.run).unwrap_or_default();
        if let Some(end) = &record.end {
            // Nobody has the inbox or the receiver yet.
            inbox.close();
            exited.send(end.exit.clone()).ok();
            return Taken { record, exited: receiver, inbox };
        }
        let begun = Begun { pid: record.pid, start_time: record.start_time };
        let entry = Entry {
            begun: Some(begun),
            marks: record.marks.clone(),
            outlives_keeper: record.outlives_keeper,
            started: None,
            exited,
            inbox: Arc::clone(&inbox),
            asked: None,
        };
        self.runs.insert(record.run, entry);
        Taken { record, exited: receiver, inbox }
    }
}

/// An end on its way to who waits for it.
#[derive(Debug)]
struct Over {
    run: RunId,
    entry: Option<Entry>,
    exit: ChildExit,
}

/// What becomes of runs that can live without their keeper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Survivors {
    /// They wait for the next one.
    GoOn,
    /// They are ended.
    End,
}

/// Why a command was not queued.
#[derive(Debug)]
pub(super) enum OrderError {
    Refused(String),
    Wire(WireError),
}

fn as_command(run: RunId, signal: SignalName) -> ToKeeper {
    match signal {
        SignalName::Kill => ToKeeper::Kill { run },
        SignalName::Term
        | SignalName::Int
        | SignalName::Quit
        | SignalName::Hup
        | SignalName::Usr1
        | SignalName::Usr2 => ToKeeper::Signal { run, signal },
    }
}

fn signal_main(begun: Begun, signal: Signal) {
    let pid = i32::try_from(begun.pid).unwrap_or_default();
    proc::signal_if(pid, signal, |stat| stat.start_time == begun.start_time);
}

/// Ends what is left of runs without a keeper, then tells who waits.
fn end_lost(entries: Vec<Entry>, message: &str) {
    let leftovers: Vec<Leftover> = entries
        .iter()
        .map(|entry| Leftover {
            main: entry.begun.and_then(|begun| i32::try_from(begun.pid).ok()),
            start_time: entry.begun.map_or(0, |begun| begun.start_time),
            marks: entry.marks.clone(),
        })
        .collect();
    let left = loss::end(&leftovers);
    if left > 0 {
        tracing::error!(left, "processes of a lost keeper could not be ended");
    }
    for entry in entries {
        let refused = StartError::Refused { message: message.to_owned() };
        entry.started.map(|started| started.send(Err(refused)));
        entry.inbox.close();
        // Nobody may wait any more.
        entry.exited.send(ChildExit::Lost { message: message.to_owned() }).ok();
    }
}

impl Owner {
    /// Whether this is the same run, whatever settings it was begun with.
    fn is_same_run(&self, other: &Self) -> bool {
        (&self.name, &self.agent_id, self.generation)
            == (&other.name, &other.agent_id, other.generation)
    }
}

impl Record {
    /// Whether it was to end with the daemon that was killed.
    pub(super) fn ends_with_daemon(&self) -> bool {
        self.is_stopped || self.on_daemon_exit == OnDaemonExit::Stop
    }
}
