//! The world around a tree: everything that the ports of a tree are given, and one history of all
//! that happened, in order, with virtual time.
//!
//! What a run does follows from the seed, its child's name and its generation alone, so that it
//! does not depend on what happens elsewhere. A run holds a `Resource` from the first moment of
//! its start to the last moment of its life: that is what "lives" means to the checkers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use provost::ports::{EventDraft, EventSink, JitterSource, RunHealth, RunLog, WallClock};
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::fact::Fact;
use provost::protocol::id::{ChildName, EventId, Generation};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::simulation::bugs::Bug;
use crate::simulation::shape::{Command, Family};

/// Moments of one seed at most, and at one instant of virtual time at most. Beyond that something
/// goes round in circles; the most that a seed in order was seen to need is a third of it.
const MOMENTS_MAX: usize = 60_000;
const INSTANT_MAX: usize = 6_000;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Duration,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Somebody asked for something.
    Command(usize, Command),
    /// He was answered.
    Answer(usize, Result<(), String>),
    /// A supervisor begins a run of a child, a worker's or a supervisor's.
    Began(ChildName, Generation),
    /// A worker's start is under way: from now on something of it lives.
    Start(ChildName, Generation),
    /// It is up.
    Up(ChildName, Generation),
    /// It could not begin.
    Failed(ChildName, Generation, StartError),
    /// It told how it is.
    Health(ChildName, Generation, RunHealth),
    /// It was asked to stop.
    Ask(ChildName, Generation),
    /// It was killed.
    Kill(ChildName, Generation),
    /// Its run has ended like this.
    Exit(ChildName, Generation, ChildExit),
    /// Nothing of it is left.
    Gone(ChildName, Generation),
    /// An event was raised.
    Event(EventId, Box<EventDraft>),
    /// Nobody has heard the event of before: the outbox is away.
    Unheard,
    /// A supervisor's actor panics while it raises an event, which is lost.
    Panicked(ChildName),
    /// Something that the simulation did.
    Did(String),
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) telling: Telling,
    pub(crate) outbox: Outbox,
}

impl Setting {
    pub(crate) fn seed(seed: u64) -> Self {
        Self { seed, bug: None, telling: Telling::Quiet, outbox: Outbox::AsDrawn }
    }
}

/// Whether moments are printed as they happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Telling {
    Quiet,
    StepByStep,
}

impl Telling {
    fn tell(self, moment: &Moment) {
        use std::io::Write;

        match self {
            Self::Quiet => {}
            // Past the capture of the test harness: this is what was asked for. Whoever reads it
            // may go away before the end.
            Self::StepByStep => drop(writeln!(std::io::stdout(), "{moment}")),
        }
    }
}

/// Whether the outbox takes events.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outbox {
    /// As the seed wants it: away for a while now and then.
    AsDrawn,
    /// Never.
    Away,
}

/// The world of one seed.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    telling: Telling,
    pub(crate) family: Family,
    /// Told once, when more happens than can be right.
    pub(crate) overrun: Notify,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: Vec<Moment>,
    /// The last instant at which something happened, and how much did.
    instant: (Duration, usize),
    overrun: Option<String>,
    events: u128,
    calm: bool,
    panics: BTreeSet<ChildName>,
    clock_jump: i64,
    /// Until then the outbox takes no event.
    away_until: Duration,
    generations: BTreeMap<ChildName, Generation>,
    jitter: Option<fastrand::Rng>,
}

impl World {
    pub(crate) fn new(setting: Setting, family: Family) -> Arc<Self> {
        let Setting { seed, bug, telling, outbox } = setting;
        let jitter = Some(fastrand::Rng::with_seed(seed ^ 0xA5A5));
        let away_until = match outbox {
            Outbox::AsDrawn => Duration::ZERO,
            Outbox::Away => Duration::MAX,
        };
        let state = Mutex::new(State { jitter, away_until, ..State::default() });
        let overrun = Notify::new();
        Arc::new(Self { seed, bug, telling, family, overrun, origin: Instant::now(), state })
    }

    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(crate) fn note(&self, what: What) {
        let at = self.now();
        let over = self.with(|state| {
            if state.overrun.is_none() {
                let moment = Moment { at, what };
                self.telling.tell(&moment);
                state.history.push(moment);
                state.count(at);
            }
            state.overrun.is_some()
        });
        if over {
            self.overrun.notify_one();
        }
    }

    /// What went on without end, if anything did.
    pub(crate) fn overran(&self) -> Option<String> {
        self.with(|state| state.overrun.clone())
    }

    /// How much has happened.
    pub(crate) fn moments(&self) -> usize {
        self.with(|state| state.history.len())
    }

    /// The history from a place on.
    pub(crate) fn since(&self, place: usize) -> Vec<Moment> {
        self.with(|state| state.history[place..].to_vec())
    }

    /// From now on no fault is planted.
    pub(crate) fn calm_down(&self) {
        self.with(|state| {
            state.calm = true;
            state.panics.clear();
        });
        self.note(What::Did("calm".to_owned()));
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.with(|state| state.calm)
    }

    pub(crate) fn panic_in(&self, team: &ChildName) {
        self.with(|state| {
            if !state.calm {
                state.panics.insert(team.clone());
            }
        });
    }

    /// The outbox is away: NATS is lost and its spool is full.
    pub(crate) fn lose_outbox(&self, time: Duration) {
        let until = self.now() + time;
        self.with(|state| state.away_until = state.away_until.max(until));
    }

    pub(crate) fn jump(&self, seconds: i64) {
        self.with(|state| state.clock_jump += seconds);
    }

    /// Chance of one run.
    pub(crate) fn chance_of(&self, child: &ChildName, generation: Generation) -> fastrand::Rng {
        let mut mixed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ generation.0;
        for byte in child.as_str().bytes() {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        fastrand::Rng::with_seed(mixed)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// The supervisor whose actor raises an event.
    fn raiser(&self, draft: &EventDraft) -> Option<ChildName> {
        if draft.source.kind == "supervisor" {
            return Some(draft.source.name.clone());
        }
        self.family.kin.get(&draft.source.name).map(|kin| kin.parent.clone())
    }
}

impl State {
    fn count(&mut self, at: Duration) {
        let (instant, count) = self.instant;
        self.instant = if instant == at { (at, count + 1) } else { (at, 1) };
        let seconds = at.as_secs_f64();
        if INSTANT_MAX < self.instant.1 {
            self.overrun = Some(format!("more than {INSTANT_MAX} things happen at {seconds} s"));
        } else if MOMENTS_MAX < self.history.len() {
            self.overrun = Some(format!("more than {MOMENTS_MAX} things happened by {seconds} s"));
        }
    }
}

/// Something of a run lives as long as this does.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) world: Arc<World>,
    pub(crate) child: ChildName,
    pub(crate) generation: Generation,
}

impl Resource {
    pub(crate) fn new(world: &Arc<World>, child: &ChildName, generation: Generation) -> Self {
        world.note(What::Start(child.clone(), generation));
        Self { world: Arc::clone(world), child: child.clone(), generation }
    }

    pub(crate) fn note(&self, what: fn(ChildName, Generation) -> What) {
        self.world.note(what(self.child.clone(), self.generation));
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        self.note(What::Gone);
    }
}

impl EventSink for World {
    fn emit(&self, mut draft: EventDraft) -> EventId {
        let raiser = self.raiser(&draft);
        let panics = raiser.filter(|name| self.with(|state| state.panics.remove(name)));
        if let Some(team) = panics {
            self.note(What::Panicked(team));
            // No hook and no text: this panic is on purpose.
            std::panic::resume_unwind(Box::new("scripted panic"));
        }
        let number = self.with(|state| {
            state.events += 1;
            state.events
        });
        let id = EventId::new(uuid::Uuid::from_u128(number));
        match self.bug {
            Some(Bug::CauseLost) if matches!(draft.fact, Fact::Decision(_)) => {
                draft.causation = Some(EventId::new(uuid::Uuid::from_u128(number + 7)));
            }
            Some(Bug::OutageForgotten) => draft.correlation = None,
            Some(Bug::ChangeUntold) if matches!(draft.fact, Fact::ChildChanged(_)) => return id,
            Some(Bug::DecisionLost) if matches!(draft.fact, Fact::Decision(_)) => return id,
            _ => {}
        }
        self.note(What::Event(id, Box::new(draft)));
        let now = Self::now(self);
        if self.with(|state| now < state.away_until) {
            self.note(What::Unheard);
        }
        id
    }
}

impl WallClock for World {
    fn now(&self) -> Timestamp {
        let jump = self.with(|state| state.clock_jump);
        let since = i64::try_from(Self::now(self).as_secs()).unwrap();
        Timestamp::from_second(1_700_000_000 + jump + since).unwrap()
    }
}

impl JitterSource for World {
    fn fraction(&self) -> f64 {
        self.with(|state| {
            let rng = state.jitter.as_mut().unwrap();
            match rng.u32(..6) {
                0 => 0.0,
                1 => 1.0,
                _ => rng.f64(),
            }
        })
    }
}

impl RunLog for World {
    fn began(&self, child: &ChildName, generation: Generation) {
        self.with(|state| state.generations.insert(child.clone(), generation));
        self.note(What::Began(child.clone(), generation));
    }

    fn last(&self, child: &ChildName) -> Generation {
        if self.bug == Some(Bug::GenerationsForgotten) {
            return Generation::default();
        }
        self.with(|state| state.generations.get(child).copied().unwrap_or_default())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3}s  {}", self.at.as_secs_f64(), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(number, command) => write!(f, "ask #{number}: {command:?}"),
            Self::Answer(number, Ok(())) => write!(f, "answer #{number}: ok"),
            Self::Answer(number, Err(error)) => write!(f, "answer #{number}: {error}"),
            Self::Began(child, generation) => write!(f, "{child}.{generation} begins"),
            Self::Start(child, generation) => write!(f, "{child}.{generation} lives"),
            Self::Up(child, generation) => write!(f, "{child}.{generation} is up"),
            Self::Failed(child, generation, error) => write!(f, "{child}.{generation}: {error}"),
            Self::Health(child, generation, health) => {
                write!(f, "{child}.{generation} is {:?}, {:?}", health.status, health.readiness)
            }
            Self::Unheard => write!(f, "-- nobody has heard it"),
            Self::Ask(child, generation) => write!(f, "{child}.{generation} is asked to stop"),
            Self::Kill(child, generation) => write!(f, "{child}.{generation} is killed"),
            Self::Exit(child, generation, exit) => write!(f, "{child}.{generation}: {exit}"),
            Self::Gone(child, generation) => write!(f, "{child}.{generation} is gone"),
            Self::Event(id, draft) => write_event(f, *id, draft),
            Self::Panicked(team) => write!(f, "-- the actor of {team} panics"),
            Self::Did(what) => write!(f, "-- {what}"),
        }
    }
}

fn write_event(f: &mut fmt::Formatter<'_>, id: EventId, draft: &EventDraft) -> fmt::Result {
    let short = |id: EventId| format!("e{}", id.to_string().trim_start_matches(['0', '-']));
    let name = &draft.source.name;
    let kind = draft.fact.type_name().trim_start_matches("provost.").trim_end_matches(".v1");
    write!(f, "  {} {kind} {name}", short(id))?;
    if let Some(cause) = draft.causation {
        write!(f, " <- {}", short(cause))?;
    }
    if let Some(first) = draft.correlation {
        write!(f, " of {}", short(first))?;
    }
    match &draft.fact {
        Fact::AgentStateChanged(change) | Fact::AgentTerminated(change) => {
            let old = change.old_state.map(|state| state.to_string()).unwrap_or_default();
            write!(f, ": {old} -> {} ({})", change.new_state, change.reason)
        }
        Fact::Decision(decided) => {
            let record = &decided.record;
            let inputs = serde_json::to_string(&record.inputs).unwrap_or_default();
            write!(f, ": {:?} -> {:?} {inputs}", record.reason, record.next)
        }
        Fact::Circuit(change) => {
            write!(f, ": {:?} -> {:?} ({:?})", change.from, change.to, change.reason)
        }
        _ => Ok(()),
    }
}
