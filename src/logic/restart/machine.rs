//! The machine itself: its mailbox, its timers, and the loop that drives everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::logic::intensity::Intensity;
use crate::logic::restart::child::{Child, Health, Place, Retry, Task};
use crate::logic::restart::generations::Generations;
use crate::logic::restart::group::{Group, Progress};
use crate::logic::restart::pending::Pending;
use crate::logic::restart::types::{
    Action, Call, CallId, Input, Note, Phase, Refusal, Reply, SpecFault, StartOutcome,
};
use crate::protocol::exit::ChildExit;
use crate::protocol::id::{ChildName, Generation};
use crate::protocol::spec::{
    AutoShutdown, ChildSpec, RestartType, Significance, Strategy, SupervisorSpec,
};

/// One supervisor. See the page of [`crate::logic::restart`].
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(super) spec: SupervisorSpec,
    pub(super) pace: Pace,
    pub(super) stage: Stage,
    pub(super) starts: Starts,
    /// What instances are made from, under simple-one-for-one.
    pub(super) template: Option<Arc<ChildSpec>>,
    /// In start order; boxed, because nodes of a map that only grows are half empty.
    pub(super) children: BTreeMap<Place, Box<Child>>,
    pub(super) places: BTreeMap<ChildName, Place>,
    /// The two children that were started or stopped last: reports and questions are mostly about
    /// them, so they are looked for here first.
    latest: [Place; 2],
    next_place: Place,
    pub(super) generations: Generations,
    pub(super) intensity: Option<Intensity>,
    pub(super) mailbox: VecDeque<Mail>,
    pub(super) group: Option<Group>,
    /// The group restart that waits for its delay.
    pub(super) pending: Option<Pending>,
    /// Children that wait for it.
    pub(super) tied: BTreeSet<Place>,
    /// Children whose time has come while starts are paused.
    pub(super) held: BTreeSet<Place>,
    timers: BTreeSet<(Instant, Place)>,
    /// Children that were put into another phase since the last input.
    pub(super) changed: Vec<ChildName>,
    /// Starts and stops of single children under way.
    pub(super) singles: usize,
}

/// How many things a supervisor does at a time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pace {
    /// A start or stop of one child holds back only what concerns that child.
    #[default]
    Concurrent,
    /// Every start and stop holds back everything, as in OTP, where start functions run inside the
    /// supervisor.
    OneAtATime,
}

/// Where a supervisor stands in its own life.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Not started.
    New,
    /// Its children are started for the first time.
    Starting,
    /// It runs.
    Running,
    /// Its children are stopped.
    Ending,
    /// It has ended; it answers calls with a refusal and ignores everything else.
    Ended,
}

/// Whether children may be started without being asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Starts {
    Allowed,
    Paused,
}

/// What waits to be handled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mail {
    /// A child's run has ended; how is kept with the child.
    Exit(Place, Generation),
    /// OTP's `try_again_restart`.
    TryAgain(Place),
    /// A child's timer has rung.
    Due(Place, u64),
    /// A child was held by a pause that is over.
    Released(Place),
    /// The pending group restart is due.
    GroupDue,
    /// Somebody asks for something.
    Call(CallId, Box<Call>),
}

/// One call of the machine from outside: what time it is, and what is to be done.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Instant,
    jitter: f64,
    draws: u32,
    pub(super) out: Vec<Action>,
}

impl Turn {
    fn new(now: Instant, jitter: f64) -> Self {
        // A decision, its note, and what it says about one or two children.
        let out = Vec::with_capacity(4);
        Self { now, jitter: crate::logic::backoff::unit(jitter), draws: 0, out }
    }

    /// The fraction for one more delay. The first is the one that came in; later ones within the
    /// same turn are spread around it by the golden ratio, so that children that fail together do
    /// not come back together.
    pub(super) fn draw(&mut self) -> f64 {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        let drawn = self.jitter + f64::from(self.draws) * GOLDEN;
        self.draws += 1;
        if self.draws == 1 { drawn } else { drawn.fract() }
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push(Action::Note(Box::new(note)));
    }

    pub(super) fn reply(&mut self, call: CallId, reply: Reply) {
        self.out.push(Action::Reply { call, reply });
    }

    pub(super) fn refuse(&mut self, call: CallId, refusal: Refusal) {
        self.reply(call, Reply::Refused(refusal));
    }
}

impl Supervisor {
    /// Builds a supervisor that has started nothing yet. Under simple-one-for-one the one child
    /// is the template.
    ///
    /// # Errors
    ///
    /// [`SpecFault`] names the first contradiction, as OTP checks them before anything starts.
    pub fn new<S: Into<Arc<ChildSpec>>>(
        spec: SupervisorSpec,
        children: Vec<S>,
    ) -> Result<Self, SpecFault> {
        let simple = spec.strategy == Strategy::SimpleOneForOne;
        if simple && children.len() != 1 {
            return Err(SpecFault::NotOneTemplate(children.len()));
        }
        let intensity = spec.limit.map(Intensity::new);
        let mut machine = Self {
            spec,
            pace: Pace::default(),
            stage: Stage::New,
            starts: Starts::Allowed,
            template: None,
            children: BTreeMap::new(),
            places: BTreeMap::new(),
            latest: [Place::default(); 2],
            next_place: Place::default(),
            generations: Generations::default(),
            intensity,
            mailbox: VecDeque::new(),
            group: None,
            pending: None,
            tied: BTreeSet::new(),
            held: BTreeSet::new(),
            timers: BTreeSet::new(),
            changed: Vec::new(),
            singles: 0,
        };
        for child in children {
            let child: Arc<ChildSpec> = child.into();
            machine.check(&child)?;
            if simple {
                machine.template = Some(child);
            } else if machine.places.contains_key(&child.name) {
                return Err(SpecFault::DuplicateChildName(child.name.clone()));
            } else {
                machine.add(child);
            }
        }
        Ok(machine)
    }

    /// Goes on from the generations that were used before, in a former life of this supervisor or
    /// of the daemon. To be called before [`Input::Init`].
    #[must_use]
    pub fn with_generations(mut self, former: impl Into<Generations>) -> Self {
        let present: BTreeSet<&ChildName> = self.places.keys().collect();
        self.generations.inherit(former.into(), &present);
        for child in self.children.values_mut() {
            child.generation = self.generations.last(&child.spec.name);
        }
        self
    }

    /// Makes sure that the next run of a child has a generation above this one, for a child that
    /// is added and may have run under a former life of the supervisor.
    pub fn raise_generation(&mut self, child: &ChildName, used: Generation) {
        self.generations.raise(child, used);
    }

    /// Sets how many things it does at a time. To be called before [`Input::Init`].
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Takes an input and handles everything that can be handled now.
    ///
    /// `jitter` is a fraction in `0.0..=1.0`; delays are drawn from it.
    pub fn on_input(&mut self, now: Instant, input: Input, jitter: f64) -> Vec<Action> {
        let mut turn = Turn::new(now, jitter);
        self.changed.clear();
        self.run(&mut turn);
        self.take(&mut turn, input);
        self.run(&mut turn);
        turn.out
    }

    /// Handles everything that is due at `now`.
    pub fn on_deadline(&mut self, now: Instant, jitter: f64) -> Vec<Action> {
        let mut turn = Turn::new(now, jitter);
        self.changed.clear();
        self.run(&mut turn);
        turn.out
    }

    /// Takes the children whose phase may have changed with the last input, those that need no
    /// action and raise no note included.
    pub fn take_changed(&mut self) -> Vec<ChildName> {
        std::mem::take(&mut self.changed)
    }

    /// Returns when [`Supervisor::on_deadline`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let pending = self.pending.and_then(|pending| pending.timer());
        match (timer, pending) {
            (Some(timer), Some(pending)) => Some(timer.min(pending)),
            (timer, pending) => timer.or(pending),
        }
    }

    /// The loop: answers were taken at once; here the group operation goes on as far as it can,
    /// then the mailbox is handled until something has to be waited for.
    fn run(&mut self, turn: &mut Turn) {
        while self.stage != Stage::Ended {
            self.ring(turn.now);
            if self.group.is_some() {
                match self.advance(turn) {
                    Progress::Waits => return,
                    Progress::Done => continue,
                }
            }
            let blocked = self.pace == Pace::OneAtATime && 0 < self.singles;
            if blocked || self.stage == Stage::New {
                return;
            }
            match self.mailbox.pop_front() {
                Some(mail) => self.handle(turn, mail),
                None if self.tied_are_left() => self.rescue_tied(turn),
                None => return,
            }
        }
    }

    /// Takes an input: answers to what is under way at once, everything else into the mailbox.
    fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::Init => self.init(),
            Input::Shutdown => self.shutdown(turn),
            Input::Started { child, generation, outcome } => {
                if let Some(place) = self.current(&child, generation) {
                    self.started(turn, place, outcome);
                }
            }
            Input::Exited { child, generation, exit } => {
                if let Some(place) = self.current(&child, generation) {
                    self.exited(turn, place, exit);
                }
            }
            Input::Health { child, generation, healthy } => {
                if let Some(place) = self.current(&child, generation) {
                    self.health(turn, place, Health::from(healthy));
                }
            }
            Input::Call { call, request } => match self.stage {
                Stage::New | Stage::Starting | Stage::Running => {
                    self.mailbox.push_back(Mail::Call(call, Box::new(request)));
                }
                Stage::Ending | Stage::Ended => turn.refuse(call, Refusal::ShuttingDown),
            },
        }
    }

    fn handle(&mut self, turn: &mut Turn, mail: Mail) {
        match mail {
            Mail::Exit(place, generation) => self.handle_exit(turn, place, generation),
            Mail::TryAgain(place) => self.try_again(turn, place),
            Mail::Due(place, token) => self.due(turn, place, token),
            Mail::Released(place) => self.released(turn, place),
            Mail::GroupDue => self.pending_due(turn),
            Mail::Call(call, request) => self.handle_call(turn, call, *request),
        }
    }

    /// Whether a report is about the child's present run; others are stale.
    fn current(&self, name: &ChildName, generation: Generation) -> Option<Place> {
        let (place, child) = self.find(name)?;
        (child.generation == generation && 0 < child.starts).then_some(place)
    }

    fn started(&mut self, turn: &mut Turn, place: Place, outcome: StartOutcome) {
        let Some(child) = self.children.get(&place) else { return };
        match (child.task, outcome) {
            (Task::Start(_), outcome) => self.start_ended(turn, place, outcome),
            (Task::Cut(_), StartOutcome::Failed(_) | StartOutcome::Ignored) => {
                let exit = child.asked_exit();
                self.stop_ended(turn, place, exit);
            }
            // Up, but its stop is under way; or a report that comes twice.
            (Task::Cut(_), StartOutcome::Up) | (Task::None | Task::Stop(_), _) => {}
        }
    }

    fn exited(&mut self, turn: &mut Turn, place: Place, exit: ChildExit) {
        let Some(child) = self.children.get(&place) else { return };
        match child.task {
            Task::Stop(_) | Task::Cut(_) => return self.stop_ended(turn, place, exit),
            // It came up and died before anybody could say that it came up.
            Task::Start(_) => self.start_ended(turn, place, StartOutcome::Up),
            Task::None => {}
        }
        let Some(child) = self.children.get_mut(&place) else { return };
        match child.phase {
            Phase::Up(_) if child.gone.is_none() => {
                child.gone = Some(exit);
                self.mailbox.push_back(Mail::Exit(place, child.generation));
            }
            Phase::Up(_)
            | Phase::Created
            | Phase::Starting(_)
            | Phase::Stopping
            | Phase::Waiting(_)
            | Phase::Quarantined(_)
            | Phase::Parked(_)
            | Phase::Stopped
            | Phase::Finished => {}
        }
    }

    /// The child of this name.
    pub(super) fn find(&self, name: &ChildName) -> Option<(Place, &Child)> {
        for place in self.latest {
            if let Some(child) = self.children.get(&place)
                && child.spec.name == *name
            {
                return Some((place, child));
            }
        }
        let place = *self.places.get(name)?;
        self.children.get(&place).map(|child| (place, child.as_ref()))
    }

    /// Notes that the child is started or stopped.
    pub(super) fn acts_on(&mut self, place: Place) {
        let [before, _] = self.latest;
        self.latest = [place, before];
    }

    /// Checks what a child spec may not say under this supervisor.
    pub(super) fn check(&self, child: &ChildSpec) -> Result<(), SpecFault> {
        if child.significance == Significance::Ordinary {
            return Ok(());
        }
        if self.spec.auto_shutdown == AutoShutdown::Never {
            return Err(SpecFault::SignificantWithoutAutoShutdown);
        }
        if child.restart == RestartType::Permanent {
            return Err(SpecFault::SignificantPermanent);
        }
        Ok(())
    }

    /// Adds a child at the end of the start order.
    pub(super) fn add(&mut self, spec: Arc<ChildSpec>) -> Place {
        let place = self.next_place;
        self.next_place = Place(place.0.saturating_add(1));
        self.places.insert(spec.name.clone(), place);
        let generation = self.generations.last(&spec.name);
        self.children.insert(place, Box::new(Child::new(spec, generation)));
        place
    }

    /// Forgets a child; what waited for it is handled and finds it gone.
    pub(super) fn remove(&mut self, turn: &mut Turn, place: Place) {
        self.disappoint(turn, place);
        self.settle(place, Phase::Stopped);
        self.release_waiting(place);
        let Some(child) = self.children.remove(&place) else { return };
        self.places.remove(&child.spec.name);
        self.generations.raise(&child.spec.name, child.generation);
        let places = &self.places;
        self.generations.leave(&child.spec.name, |name| places.contains_key(name));
    }

    /// Puts a child into a phase in which nothing of it is under way and no timer runs.
    pub(super) fn settle(&mut self, place: Place, phase: Phase) {
        self.clear_timer(place);
        self.held.remove(&place);
        if self.tied.remove(&place) && self.tied.is_empty() {
            self.pending = None;
        }
        if let Some(child) = self.children.get_mut(&place) {
            child.phase = phase;
            child.retry = Retry::None;
            self.changed.push(child.spec.name.clone());
        }
    }

    /// Puts what waited for a child's task before everything else in the mailbox.
    pub(super) fn release_waiting(&mut self, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        while let Some(mail) = child.waiting.pop_back() {
            self.mailbox.push_front(mail);
        }
    }

    /// Sets a child's one timer.
    pub(super) fn set_timer(&mut self, place: Place, at: Instant) {
        self.clear_timer(place);
        if let Some(child) = self.children.get_mut(&place) {
            child.timer = Some(at);
            self.timers.insert((at, place));
        }
    }

    pub(super) fn clear_timer(&mut self, place: Place) {
        let Some(child) = self.children.get_mut(&place) else { return };
        child.timer_token = child.timer_token.wrapping_add(1);
        if let Some(at) = child.timer.take() {
            self.timers.remove(&(at, place));
        }
    }

    /// Puts everything that is due into the mailbox.
    fn ring(&mut self, now: Instant) {
        while let Some((at, place)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, place));
            let Some(child) = self.children.get_mut(&place) else { continue };
            child.timer = None;
            self.mailbox.push_back(Mail::Due(place, child.timer_token));
        }
        if self.pending.as_mut().is_some_and(|pending| pending.rings(now)) {
            self.mailbox.push_back(Mail::GroupDue);
        }
    }
}
