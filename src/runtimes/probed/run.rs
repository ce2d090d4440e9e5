//! One run with probes: carries out what the health machine orders, and brings it what comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::logic::health::{
    Beat, Beginning, Health, Notice, Order, Outcome, Role, Shown, Stage, Verdict, VerdictKind,
};
use crate::ports::{BoxFuture, RunFace, RunHealth, RunNews, RunOrigin, RunningAgent};
use crate::protocol::exit::{ChildExit, ExitCodes};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::status::{HealthStatus, Readiness};
use crate::runtimes::probed::ProbedSettings;
use crate::runtimes::probed::beats::{BeatFeed, Heartbeat};
use crate::runtimes::probed::look::{Question, look};
use crate::runtimes::probed::notify::NotifySocket;
use crate::runtimes::probed::output::{OutputWatch, Stamp, stamp};
use crate::runtimes::probed::started::Started;

/// What hears a run.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) notify: Option<NotifySocket>,
    pub(super) beats: Option<BeatFeed>,
    pub(super) output: Option<OutputWatch>,
}

/// What a task of the run came back with.
#[derive(Debug)]
enum Done {
    Looked(Role, u64, Outcome),
    Output(Option<Stamp>),
    Marked,
}

/// What the run waited for.
#[derive(Debug)]
enum Event {
    Inner(RunNews),
    Done(Done),
    Notice(Notice),
    Beat(Heartbeat),
    LookForOutput,
    Due,
}

/// Who wants the run to end.
#[derive(Debug)]
enum Wish {
    Nobody,
    /// Whoever owns the run.
    Owner,
    /// The probes.
    Sentenced(Verdict),
}

/// One run under way, with its probes.
#[derive(Debug)]
pub(super) struct ProbedRun {
    settings: Arc<ProbedSettings>,
    inner: Box<dyn RunningAgent>,
    machine: Health,
    ears: Ears,
    /// Questions under way; dropping the run drops them, and what they have started.
    jobs: JoinSet<Done>,
    news: VecDeque<RunNews>,
    /// What the runtime below says of the run's health.
    below: RunHealth,
    own: RunHealth,
    started: Option<Started>,
    wish: Wish,
    exit: Option<ChildExit>,
}

impl ProbedRun {
    /// Begins to look after a run that has just begun, or was adopted.
    pub(super) async fn begin(
        settings: Arc<ProbedSettings>,
        inner: Box<dyn RunningAgent>,
        mut ears: Ears,
    ) -> Self {
        let agent = settings.agent();
        let started = Started::of(&settings.state_dir, &agent.name, inner.pid());
        let beginning = match (inner.face().origin, &started) {
            (RunOrigin::Begun, _) => Beginning::Fresh,
            (RunOrigin::Adopted, None) => Beginning::AdoptedStarted,
            (RunOrigin::Adopted, Some(mark)) => {
                if mark.is_set().await {
                    Beginning::AdoptedStarted
                } else {
                    Beginning::AdoptedStarting
                }
            }
        };
        if let Some(notify) = &mut ears.notify {
            notify.serves(inner.pid());
        }
        let at = (Instant::now().into_std(), settings.jitter.fraction());
        let machine = Health::new(&agent.care.probes, agent.stop.grace, beginning, at);
        let mut run = Self {
            inner,
            machine,
            ears,
            jobs: JoinSet::new(),
            news: VecDeque::new(),
            below: RunHealth::default(),
            own: RunHealth::default(),
            started,
            wish: Wish::Nobody,
            exit: None,
            settings,
        };
        let orders = run.machine.on_start(at.0);
        run.carry_out(orders);
        run
    }

    async fn end(&mut self) -> ChildExit {
        loop {
            if let RunNews::Exited(exit) = self.told().await {
                return exit;
            }
        }
    }

    async fn told(&mut self) -> RunNews {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            if let Some(exit) = &self.exit {
                return RunNews::Exited(exit.clone());
            }
            // Cancel safe: an event is handled in the same step that took it.
            let event = self.event().await;
            self.on_event(event);
        }
    }

    async fn event(&mut self) -> Event {
        let due = self.machine.deadline().map(Instant::from_std);
        let Self { inner, jobs, ears: Ears { notify, beats, output }, .. } = self;
        let look_at = output.as_ref().and_then(OutputWatch::next);
        tokio::select! {
            // The end first, then what is due, so that no stream of signs holds it back.
            biased;
            // Cancel safe by contract.
            news = inner.next() => Event::Inner(news),
            // Timers are made anew from the state.
            () = at(due) => Event::Due,
            () = at(look_at) => Event::LookForOutput,
            // Cancel safe: the result of a task stays in the set.
            Some(done) = jobs.join_next() => match done {
                Ok(done) => Event::Done(done),
                // A look cannot panic, and nobody else aborts it: only a shutdown ends here.
                Err(_ended) => Event::Done(Done::Marked),
            },
            // Cancel safe, both.
            notice = heard(notify) => Event::Notice(notice),
            beat = beaten(beats) => Event::Beat(beat),
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now().into_std();
        let orders = match event {
            Event::Inner(RunNews::Exited(exit)) => {
                let exit = self.told_as(exit);
                self.jobs.abort_all();
                self.exit = Some(exit.clone());
                self.news.push_back(RunNews::Exited(exit));
                Vec::new()
            }
            Event::Inner(RunNews::Health(health)) => {
                self.below = health;
                self.tell_health();
                Vec::new()
            }
            Event::Done(Done::Looked(role, number, outcome)) => {
                tracing::debug!(agent = %self.settings.agent().name, %role, ?outcome, "probed");
                self.machine.on_result(now, (role, number), outcome)
            }
            Event::Done(Done::Output(stamp)) => {
                let output = self.ears.output.as_mut();
                if output.is_some_and(|output| output.seen(Instant::now(), stamp)) {
                    self.machine.on_output(now)
                } else {
                    Vec::new()
                }
            }
            Event::Done(Done::Marked) => Vec::new(),
            Event::Notice(notice) => {
                let mut orders = self.machine.on_notice(now, &notice);
                if notice.stage == Some(Stage::Ready) && !orders.contains(&Order::Started) {
                    orders.push(Order::Started);
                }
                orders
            }
            Event::Beat(beat) => {
                let beat = Beat { every: beat.every, ready: beat.ready };
                self.machine.on_beat(now, beat)
            }
            Event::LookForOutput => {
                self.look_for_output();
                Vec::new()
            }
            Event::Due => self.machine.on_deadline(now),
        };
        self.carry_out(orders);
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Probe { role, number } => self.look(role, number),
                Order::Started => self.mark(),
                Order::Show(Shown { status, readiness, message }) => {
                    self.own = RunHealth { status, readiness, message };
                    self.tell_health();
                }
                Order::End(verdict) => {
                    tracing::info!(
                        agent = %self.settings.agent().name,
                        reason = verdict.message,
                        "ends a run"
                    );
                    self.wish = Wish::Sentenced(verdict);
                    self.jobs.abort_all();
                    self.inner.ask_to_stop();
                }
                Order::Kill => self.inner.kill(),
            }
        }
    }

    fn look(&mut self, role: Role, number: u64) {
        let probes = &self.settings.agent().care.probes;
        let spec = match role {
            Role::Startup => &probes.startup,
            Role::Readiness => &probes.readiness,
            Role::Liveness => &probes.liveness,
        };
        let Some(spec) = spec.clone() else { return };
        let settings = Arc::clone(&self.settings);
        let looking = look(settings, spec, Question { role, number });
        self.jobs.spawn(async move { Done::Looked(role, number, looking.await) });
    }

    fn look_for_output(&mut self) {
        let Some(output) = &mut self.ears.output else { return };
        output.looking();
        let file = output.file.clone();
        self.jobs.spawn(async move { Done::Output(stamp(file).await) });
    }

    /// Remembers for a later daemon that the run has started.
    fn mark(&mut self) {
        let Some(mark) = self.started.take() else { return };
        self.jobs.spawn(async move {
            if let Err(error) = mark.set().await {
                tracing::warn!(error = %error, "cannot remember that a run has started");
            }
            Done::Marked
        });
    }

    fn tell_health(&mut self) {
        if matches!(self.wish, Wish::Owner) {
            return;
        }
        let both = worse(&self.own, &self.below);
        self.news.push_back(RunNews::Health(both.clone()));
    }

    /// The end in the light of who wanted it.
    fn told_as(&self, exit: ChildExit) -> ChildExit {
        let Wish::Sentenced(verdict) = &self.wish else { return exit };
        // What took it may have been something else.
        let otherwise = matches!(
            exit,
            ChildExit::Lost { .. } | ChildExit::OutOfMemory { .. } | ChildExit::RanTooLong { .. }
        );
        if otherwise {
            return exit;
        }
        let codes = match self.inner.codes() {
            // A runtime that knows no codes of its own.
            ExitCodes { code: None, signal: None } => exit.code_and_signal(),
            known => known,
        };
        let message = verdict.message.clone();
        match verdict.kind {
            VerdictKind::ProbeFailed => ChildExit::ProbeFailed { message, codes },
            VerdictKind::Watchdog => ChildExit::Watchdog { message, codes },
            VerdictKind::Hung => ChildExit::Hung { message, codes },
        }
    }

    fn owner_ends_it(&mut self) {
        self.wish = Wish::Owner;
        self.machine.on_stopping();
        self.jobs.abort_all();
    }
}

impl RunningAgent for ProbedRun {
    fn pid(&self) -> Option<u32> {
        self.inner.pid()
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(self.end())
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(self.told())
    }

    fn face(&self) -> RunFace {
        let face = self.inner.face();
        let below = face.health.as_ref().unwrap_or(&self.below);
        let health = Some(worse(&self.own, below));
        RunFace { health, ..face }
    }

    fn codes(&self) -> ExitCodes {
        self.inner.codes()
    }

    fn ask_to_stop(&mut self) {
        self.owner_ends_it();
        self.inner.ask_to_stop();
    }

    fn kill(&mut self) {
        self.owner_ends_it();
        self.inner.kill();
    }

    fn measure(&mut self) -> HealthMetrics {
        let mut metrics = self.inner.measure();
        if let Some(took) = self.machine.response_time() {
            metrics.response_time_ms = Some(took.as_secs_f64() * 1_000.0);
        }
        metrics
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn heard(notify: &mut Option<NotifySocket>) -> Notice {
    match notify {
        Some(notify) => notify.next().await,
        None => std::future::pending().await,
    }
}

async fn beaten(beats: &mut Option<BeatFeed>) -> Heartbeat {
    match beats {
        Some(beats) => beats.next().await,
        None => std::future::pending().await,
    }
}

/// What two that look at one run say together: the worse of both, in the words of the worse.
fn worse(own: &RunHealth, below: &RunHealth) -> RunHealth {
    let rank = |health: &RunHealth| {
        let status = match health.status {
            HealthStatus::Unknown => 0,
            HealthStatus::Healthy => 1,
            HealthStatus::Degraded => 2,
            HealthStatus::Unhealthy => 3,
        };
        let readiness = match health.readiness {
            Readiness::Ready => 0,
            Readiness::NotReady => 1,
            Readiness::Starting => 2,
        };
        (status, readiness)
    };
    let (own_rank, below_rank) = (rank(own), rank(below));
    let status = if own_rank.0 < below_rank.0 { below.status } else { own.status };
    let readiness = if own_rank.1 < below_rank.1 { below.readiness } else { own.readiness };
    let words = if own_rank < below_rank && !below.message.is_empty() { below } else { own };
    RunHealth { status, readiness, message: words.message.clone() }
}
