//! The breaker of many threads, without clock and without tasks.
//!
//! One word tells state and generation. A result is counted only if the word still shows the
//! generation of its permit *after* the epoch of the window was read: a new generation is published
//! in the word first and in the epoch second, so a late result can only reach an epoch that nobody
//! sums any more; and it lets calls pass only when its window is empty, so no new result is lost.
//!
//! A judgement needs all stripes, so it is made only where it can have an effect: when the bad
//! results that were to go are used up, at the first result of a slice, and at each result while a
//! share is only waiting for the volume.

use crate::adapters::breaker::gate::{Gate, Kind};
use crate::adapters::breaker::ring::Ring;
use crate::adapters::breaker::snapshot::Snapshot;
use crate::adapters::breaker::stripes::Stripes;
use crate::adapters::breaker::sync::{
    AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, SLICES, draw,
};
use crate::logic::breaker::config::millis;
use crate::logic::breaker::outcome::{Class, Result, Run, Speed};
use crate::logic::breaker::{
    Admission, BreakerConfig, Cause, Control, Counts, Force, Grant, Mode, Outcome, Rejection,
    State, Transition, Window,
};
use crate::protocol::status::CircuitState;

/// Transitions that may wait to be taken.
pub const TRANSITIONS_MAX: usize = 64;

/// Tries of a judgement to see a state that nobody changes meanwhile; the next result judges again.
const TRIES_MAX: usize = 64;

/// Bits of the run word: 16 of the generation, 24 of bad results to go, 24 of failures in a row.
const TO_GO_SHIFT: u32 = 24;
const PART: u64 = (1 << 24) - 1;
const GENERATION_SHIFT: u32 = 48;

/// The breaker of many threads. The order of the fields is that in memory: what each call reads
/// comes first, what each failure writes last, with what is seldom touched and the stripes between,
/// so that they share no cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Engine {
    gate: AtomicU64,
    /// When the control has something to do; `u64::MAX` for never.
    deadline_ms: AtomicU64,
    /// When the next slice begins; `u64::MAX` for never.
    turn_ms: AtomicU64,
    epoch: AtomicU64,
    /// A call that takes as many nanoseconds is slow.
    slow_ns: AtomicU64,
    /// Whether probes may pass.
    has_slots: AtomicU32,
    /// Whether each result is to be judged.
    judges_all: AtomicU32,
    inner: Mutex<Inner>,
    results: Results,
    run: AtomicU64,
    late: AtomicU64,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a pointer more on the way of each call costs more")]
enum Results {
    Time(Stripes),
    Calls(Ring),
}

/// What the lock guards.
#[derive(Debug)]
struct Inner {
    control: Control,
    /// Difference between the epoch and the number of the slice.
    skew: u64,
    now_ms: u64,
    log: Vec<Transition>,
    missed: u64,
    would_have_opened: u64,
}

impl Engine {
    pub(crate) fn new(control: Control, now_ms: u64) -> Self {
        let config = *control.config();
        let results = match config.window {
            Window::Time(_) => Results::Time(Stripes::new()),
            Window::Calls(calls) => Results::Calls(Ring::new(calls)),
        };
        let inner = Inner {
            control,
            // An epoch is never 0, which stands for an empty word.
            skew: SLICES as u64,
            now_ms,
            log: Vec::new(),
            missed: 0,
            would_have_opened: 0,
        };
        let engine = Self {
            gate: AtomicU64::new(0),
            deadline_ms: AtomicU64::new(u64::MAX),
            turn_ms: AtomicU64::new(config.slice_end(now_ms)),
            epoch: AtomicU64::new(config.slice(now_ms) + SLICES as u64),
            slow_ns: AtomicU64::new(u64::MAX),
            has_slots: AtomicU32::new(0),
            judges_all: AtomicU32::new(0),
            run: AtomicU64::new(0),
            results,
            late: AtomicU64::new(0),
            inner: Mutex::new(inner),
        };
        let inner = engine.inner.lock();
        engine.publish(&inner);
        engine.begin_run(&inner.control);
        drop(inner);
        engine
    }

    /// State and generation.
    #[inline]
    pub(crate) fn gate(&self) -> Gate {
        Gate(self.gate.load(Ordering::Acquire))
    }

    /// The rejection of a call, if nothing has fallen due and no probe may pass.
    #[inline]
    pub(crate) fn rejects(&self, gate: Gate, now_ms: u64) -> Option<Rejection> {
        let due = self.deadline_ms.load(Ordering::Acquire);
        let is_due = due <= now_ms;
        let state = match gate.kind() {
            Kind::Open if !is_due => CircuitState::Open,
            Kind::HalfOpen if !is_due && self.has_slots.load(Ordering::Acquire) == 0 => {
                CircuitState::HalfOpen
            }
            Kind::ForcedOpen => {
                return Some(Rejection { state: CircuitState::ForcedOpen, retry_after_ms: None });
            }
            Kind::Open
            | Kind::HalfOpen
            | Kind::Closed
            | Kind::ForcedClosed
            | Kind::Disabled
            | Kind::Turning => {
                return None;
            }
        };
        let retry_after_ms = (due != u64::MAX).then(|| due.saturating_sub(now_ms));
        Some(Rejection { state, retry_after_ms })
    }

    /// Lets a call pass or not, and whether the state has changed.
    pub(crate) fn admit(&self, now_ms: u64) -> (std::result::Result<Grant, Rejection>, bool) {
        let mut inner = self.inner.lock();
        let now_ms = inner.at(now_ms);
        let changed = self.change(&mut inner, |control, log| control.advance(now_ms, draw(), log));
        let admission = inner.control.admit(now_ms);
        self.publish(&inner);
        let admission = match admission {
            Admission::Granted(grant) => Ok(grant),
            Admission::Rejected(rejection) => Err(rejection),
        };
        (admission, changed)
    }

    /// Takes what a call came to; tells whether the state has changed.
    #[inline]
    pub(crate) fn settle(
        &self,
        generation: u64,
        now_ms: u64,
        took_ns: Option<u64>,
        outcome: Outcome,
    ) -> bool {
        let gate = self.gate();
        if gate.generation() != generation {
            self.late.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let slow = took_ns.is_some_and(|took| self.slow_ns.load(Ordering::Relaxed) <= took);
        let speed = if slow { Speed::Slow } else { Speed::InTime };
        match gate.kind() {
            Kind::Closed | Kind::ForcedClosed => {}
            Kind::Disabled | Kind::Open | Kind::ForcedOpen | Kind::Turning => return false,
            Kind::HalfOpen => return self.settle_probe(generation, now_ms, outcome.means(speed)),
        }
        match outcome.means(speed) {
            Some(result) => self.count(generation, now_ms, result),
            None => false,
        }
    }

    pub(crate) fn advance(&self, now_ms: u64) -> bool {
        let mut inner = self.inner.lock();
        let now_ms = inner.at(now_ms);
        self.change(&mut inner, |control, log| control.advance(now_ms, draw(), log))
    }

    pub(crate) fn force(&self, now_ms: u64, force: Force) -> bool {
        let mut inner = self.inner.lock();
        let now_ms = inner.at(now_ms);
        self.change(&mut inner, |control, log| {
            control.advance(now_ms, draw(), log);
            control.force(now_ms, force, log);
        })
    }

    /// `None` if the window is of another shape.
    pub(crate) fn reconfigure(&self, now_ms: u64, config: BreakerConfig) -> Option<bool> {
        let mut inner = self.inner.lock();
        if inner.control.config().window != config.window {
            return None;
        }
        let now_ms = inner.at(now_ms);
        let changed = self.change(&mut inner, |control, log| {
            control.advance(now_ms, draw(), log);
            control.reconfigure(now_ms, config, log);
        });
        self.publish(&inner);
        // How many bad results are to go is not known under the new rules: the next judges.
        self.judges_all.store(1, Ordering::SeqCst);
        Some(changed)
    }

    pub(crate) fn take_transitions(&self) -> Vec<Transition> {
        std::mem::take(&mut self.inner.lock().log)
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let due = self.deadline_ms.load(Ordering::Acquire);
        (due != u64::MAX).then_some(due)
    }

    pub(crate) fn control(&self) -> Control {
        self.inner.lock().control.clone()
    }

    pub(crate) fn snapshot(&self, now_ms: u64) -> Snapshot {
        let mut inner = self.inner.lock();
        self.turn(&mut inner, now_ms);
        Snapshot {
            state: inner.control.state(),
            generation: inner.control.generation(),
            counts: self.sum(self.run.load(Ordering::SeqCst)),
            late: self.late.load(Ordering::Relaxed),
            would_have_opened: inner.would_have_opened,
            transitions_missed: inner.missed,
        }
    }

    /// Counts a result of the closed circuit.
    #[inline]
    fn count(&self, generation: u64, now_ms: u64, result: Result) -> bool {
        if self.turn_ms.load(Ordering::Acquire) <= now_ms {
            let mut inner = self.inner.lock();
            self.turn(&mut inner, now_ms);
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        if self.gate().generation() != generation {
            self.late.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match &self.results {
            Results::Time(stripes) => stripes.add(epoch, result.class),
            Results::Calls(ring) => ring.add(result.class),
        }
        let due = self.add_to_run(generation, result);
        let asked = result.retry_after_ms.is_some();
        if due.is_some() || asked || self.judges_all.load(Ordering::SeqCst) != 0 {
            let wish = result.retry_after_ms;
            return self.judge(generation, now_ms, (wish, due.unwrap_or(0)));
        }
        false
    }

    /// Adds to the run of failures; how long it is, if a judgement is due.
    #[inline]
    fn add_to_run(&self, generation: u64, result: Result) -> Option<u64> {
        let bad = result.class != Class::Ok;
        let mut seen = self.run.load(Ordering::SeqCst);
        loop {
            if seen >> GENERATION_SHIFT != generation & 0xffff {
                return None;
            }
            let row = match result.run {
                Run::Extends => (seen & PART).saturating_add(1).min(PART),
                Run::Keeps => seen & PART,
                Run::Ends => 0,
            };
            let to_go = seen >> TO_GO_SHIFT & PART;
            let left = if bad { to_go.saturating_sub(1) } else { to_go };
            let next = seen >> GENERATION_SHIFT << GENERATION_SHIFT | left << TO_GO_SHIFT | row;
            let due = (bad && left == 0).then_some(row);
            if next == seen {
                return due;
            }
            let swapped =
                self.run.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::SeqCst);
            match swapped {
                Ok(_) => return due,
                Err(found) => seen = found,
            }
        }
    }

    /// Judges the window and opens if a condition is met. A run of failures that was reached counts,
    /// although a success of another thread may have ended it meanwhile.
    #[cold]
    fn judge(&self, generation: u64, now_ms: u64, (wish, row): (Option<u64>, u64)) -> bool {
        let mut inner = self.inner.lock();
        let now_ms = inner.at(now_ms);
        // Another thread may have decided meanwhile; then there is nothing to judge any more.
        if inner.control.generation() != generation {
            return false;
        }
        if inner.control.state() != State::Closed {
            self.judges_all.store(0, Ordering::SeqCst);
            return false;
        }
        let config = *inner.control.config();
        for _ in 0..TRIES_MAX {
            let seen = self.run.load(Ordering::SeqCst);
            let counts = self.sum(seen & !PART | row.max(seen & PART));
            let cause = counts.judge(&config);
            if wish.is_some() || cause.is_some() {
                return self.carry_out(&mut inner, now_ms, (wish, cause), counts);
            }
            if self.rest_until_due(&config, &counts, seen) {
                return false;
            }
        }
        // Others changed the counts all the while: the next result judges.
        self.judges_all.store(1, Ordering::SeqCst);
        false
    }

    /// Opens, or counts that it would have opened.
    fn carry_out(
        &self,
        inner: &mut MutexGuard<'_, Inner>,
        now_ms: u64,
        (wish, cause): (Option<u64>, Option<Cause>),
        counts: Counts,
    ) -> bool {
        if inner.control.config().mode == Mode::MetricsOnly {
            inner.would_have_opened = inner.would_have_opened.saturating_add(1);
            self.empty(inner);
            return false;
        }
        self.change(inner, |control, log| match (wish, cause) {
            (Some(wish), _) => control.throttle(now_ms, wish, counts, log),
            (None, Some(cause)) => control.trip(now_ms, (cause, counts), draw(), log),
            (None, None) => {}
        })
    }

    /// Notes how many bad results are to go; `false` if the counts have changed meanwhile.
    fn rest_until_due(&self, config: &BreakerConfig, counts: &Counts, seen: u64) -> bool {
        let to_go = to_go(config, counts);
        let waits = to_go == 0 && counts.calls < config.volume();
        let before = self.judges_all.swap(u32::from(waits), Ordering::SeqCst);
        if waits && before == 0 {
            // Results may have been added that did not see this: look again.
            return false;
        }
        let row = seen & PART;
        let next = seen >> GENERATION_SHIFT << GENERATION_SHIFT | to_go << TO_GO_SHIFT | row;
        self.run.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[cold]
    fn settle_probe(&self, generation: u64, now_ms: u64, result: Option<Result>) -> bool {
        let mut inner = self.inner.lock();
        let now_ms = inner.at(now_ms);
        let mut is_late = false;
        let changed = self.change(&mut inner, |control, log| {
            control.advance(now_ms, draw(), log);
            is_late = control.generation() != generation;
            if !is_late {
                control.settle_probe(now_ms, result, draw(), log);
            }
        });
        if is_late {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
        self.publish(&inner);
        changed
    }

    /// Lets the control do something and publishes what came of it.
    fn change(
        &self,
        inner: &mut MutexGuard<'_, Inner>,
        act: impl FnOnce(&mut Control, &mut Vec<Transition>),
    ) -> bool {
        // Does not allocate unless something happens.
        let mut log = Vec::new();
        act(&mut inner.control, &mut log);
        if log.is_empty() {
            return false;
        }
        for transition in log {
            if inner.log.len() == TRANSITIONS_MAX {
                inner.log.remove(0);
                inner.missed = inner.missed.saturating_add(1);
            }
            inner.log.push(transition);
        }
        // First the generation, then the window, then the state: see the head of this file.
        self.gate.store(Gate::new(&inner.control).turning().0, Ordering::SeqCst);
        self.empty(inner);
        self.publish(inner);
        true
    }

    /// Publishes where the control stands.
    fn publish(&self, inner: &Inner) {
        let control = &inner.control;
        let slow = control.config().slow_call.filter(|_| control.config().mode != Mode::Disabled);
        let slow = slow.map_or(u64::MAX, |slow| millis(slow).saturating_mul(1_000_000));
        let slots = match control.state() {
            State::HalfOpen { under_way, .. } => under_way < control.config().half_open_probes,
            State::Closed | State::Open { .. } | State::ForcedOpen | State::ForcedClosed => false,
        };
        self.slow_ns.store(slow, Ordering::Relaxed);
        self.has_slots.store(u32::from(slots), Ordering::Release);
        self.deadline_ms.store(control.deadline().unwrap_or(u64::MAX), Ordering::Release);
        self.gate.store(Gate::new(control).0, Ordering::SeqCst);
    }

    /// Empties the window and the run.
    fn empty(&self, inner: &mut Inner) {
        match &self.results {
            Results::Time(stripes) => {
                inner.skew = inner.skew.saturating_add(SLICES as u64);
                let now = self.epoch.load(Ordering::SeqCst);
                let next = now.saturating_add(SLICES as u64);
                stripes.clear(now + 1, next);
                self.epoch.store(next, Ordering::SeqCst);
            }
            Results::Calls(ring) => ring.clear(),
        }
        self.begin_run(&inner.control);
    }

    fn begin_run(&self, control: &Control) {
        let to_go = match control.state() {
            State::Closed => to_go(control.config(), &Counts::default()),
            // Nothing is judged; none is due.
            State::Open { .. }
            | State::HalfOpen { .. }
            | State::ForcedOpen
            | State::ForcedClosed => PART,
        };
        let run = (control.generation() & 0xffff) << GENERATION_SHIFT | to_go << TO_GO_SHIFT;
        self.run.store(run, Ordering::SeqCst);
        self.judges_all.store(0, Ordering::SeqCst);
    }

    /// Begins the slice that `now_ms` lies in, unless it is begun.
    fn turn(&self, inner: &mut Inner, now_ms: u64) {
        let now_ms = inner.at(now_ms);
        let Results::Time(stripes) = &self.results else { return };
        let config = inner.control.config();
        let before = self.epoch.load(Ordering::SeqCst);
        let now = config.slice(now_ms).saturating_add(inner.skew);
        if before < now {
            stripes.clear(before + 1, now);
            self.epoch.store(now, Ordering::SeqCst);
            // Old results have left the window: whoever comes next judges what remains.
            self.judges_all.store(1, Ordering::SeqCst);
        }
        self.turn_ms.store(config.slice_end(now_ms), Ordering::SeqCst);
    }

    fn sum(&self, run: u64) -> Counts {
        let counts = match &self.results {
            Results::Time(stripes) => stripes.sum(self.epoch.load(Ordering::SeqCst)),
            Results::Calls(ring) => ring.sum(),
        };
        Counts { consecutive: u32::try_from(run & PART).unwrap_or(u32::MAX), ..counts }
    }
}

impl Inner {
    /// Time as the lock's holders see it, which never goes back.
    fn at(&mut self, now_ms: u64) -> u64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }
}

/// Bad results until a judgement is due: of a share or of the run of failures.
fn to_go(config: &BreakerConfig, counts: &Counts) -> u64 {
    let run = config.failure_threshold.map_or(u64::MAX, |threshold| {
        u64::from(threshold).saturating_sub(u64::from(counts.consecutive))
    });
    counts.bad_results_to_go(config).min(run).min(PART)
}
