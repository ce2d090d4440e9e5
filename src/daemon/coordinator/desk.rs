//! The coordinator at work: one loop over everything that can happen to tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::daemon::coordinator::Parts;
use crate::daemon::coordinator::broadcasts::Broadcasts;
use crate::daemon::coordinator::hands::Hands;
use crate::daemon::coordinator::questions::Question;
use crate::daemon::coordinator::start::{self, Open};
use crate::logic::ledger::{self, Foreign, Gone, Ledger, Moment, TaskKey};
use crate::logic::routing::Needs;
use crate::ports::{BoxFuture, ServiceError};
use crate::protocol::agent::FromAgent;
use crate::protocol::command::TasksStatus;
use crate::protocol::id::AgentId;
use crate::protocol::spec::RuntimeKind;
use crate::runtimes::channels::{Offer, Present};
use crate::transport::tasks::cancels::{self, Asked};
use crate::transport::tasks::feed::{self, Arrived, Fed};
use crate::transport::tasks::journal::{Journal, Outcome};
use crate::transport::tasks::messages::Writer;
use crate::transport::tasks::replies::{self, Begin, Reply};

/// Messages of each kind that may wait for the coordinator; who brings more waits.
const QUEUE_MAX: usize = 1_024;

/// Records and results being stored at a time; while there are more, no submission is taken.
const WRITES_MAX: usize = 8_192;

/// How often agents that could not be told apart from busy ones are looked at again, and the status
/// is written.
const TICK: Duration = Duration::from_millis(50);

/// Longest time that the end of the daemon waits for records under way.
const CLOSE: Duration = Duration::from_secs(3);

/// Time that a remote agent has to be heard again after a restart before its tasks are given out.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// How much earlier than the oldest open attempt replies are read after a restart.
const EARLIER: Duration = Duration::from_secs(60);

/// What was heard through an agent's channel; nothing more when its run is over.
#[derive(Debug)]
pub(super) struct Heard {
    agent: AgentId,
    number: u64,
    offer: Arc<Offer>,
    message: Option<FromAgent>,
}

/// Whether somebody still listens to the run before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ear {
    There,
    Gone,
}

/// Something that was stored.
#[derive(Debug)]
pub(super) enum Done {
    /// A record of this task, or what stands in its place.
    Record(TaskKey, Outcome),
    /// Everything about the end of this task.
    End(TaskKey),
}

/// The coordinator's state. Dropping it ends all that it has begun.
#[derive(Debug)]
pub struct Desk {
    pub(super) parts: Parts,
    pub(super) journal: Journal,
    pub(super) writer: Writer,
    pub(super) ledger: Ledger,
    pub(super) hands: Hands,
    /// Submissions of all tasks in the ledger, and of those whose end is being told.
    pub(super) bodies: BTreeMap<TaskKey, Arc<Arrived>>,
    pub(super) writes: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Broadcasts and their parts.
    pub(super) broadcasts: Broadcasts,
    /// Who waits for the end of a task.
    pub(super) askers: BTreeMap<TaskKey, Vec<String>>,
    pub(super) status: TasksStatus,
    submissions: mpsc::Receiver<Fed>,
    replies: mpsc::Receiver<Reply>,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    asked: mpsc::Receiver<Asked>,
    questions: OwnedMutexGuard<mpsc::Receiver<Question>>,
    changes: watch::Receiver<u64>,
    /// Listens to agents' channels.
    ears: JoinSet<()>,
    /// Reads what comes over NATS.
    feeds: JoinSet<()>,
    opened: (Instant, Timestamp),
    /// The last task that nobody could be given.
    pub(super) refused: Option<(Arc<ledger::Needs>, String)>,
}

impl Desk {
    /// Reads what is open and goes on from there.
    ///
    /// # Errors
    ///
    /// What is stored cannot be read.
    pub async fn open(parts: Parts, journal: Journal) -> Result<Self, ServiceError> {
        let mut feeds = JoinSet::new();
        let (give, mut submissions) = mpsc::channel(QUEUE_MAX);
        feeds.spawn(feed::feed(journal.clone(), give));
        let open = start::open(&journal, &mut submissions).await?;
        let now = parts.clock.now();
        let known = open.tasks.iter().filter_map(|(_, record)| record.as_ref());
        let oldest = known.chain(open.parts.values()).filter_map(|(_, record)| {
            (record.state.is_held() && is_remote(record.run.as_deref())).then_some(record.time)
        });
        let begin = match oldest.min() {
            Some(oldest) => Begin::Since(oldest.checked_sub(EARLIER).unwrap_or(oldest)),
            None => Begin::Behind(replies::position(&journal).await.map_err(ServiceError::new)?),
        };
        let (give, replies) = mpsc::channel(QUEUE_MAX);
        feeds.spawn(replies::feed(journal.clone(), begin, give));
        let (give, asked) = mpsc::channel(QUEUE_MAX);
        feeds.spawn(cancels::listen(parts.slot.clone(), give));
        let mut changes = parts.channels.changes();
        changes.mark_changed();
        let mut desk = Self {
            writer: Writer::new(parts.prefix.clone(), parts.node.clone()),
            ledger: Ledger::new(parts.policies.clone()),
            hands: Hands::new(parts.routing),
            bodies: BTreeMap::new(),
            writes: FuturesUnordered::new(),
            broadcasts: Broadcasts::default(),
            askers: BTreeMap::new(),
            status: TasksStatus::default(),
            submissions,
            replies,
            heard: mpsc::channel(QUEUE_MAX),
            asked,
            questions: parts.questions.listen().await,
            changes,
            ears: JoinSet::new(),
            feeds,
            opened: (Instant::now(), now),
            refused: None,
            parts,
            journal,
        };
        desk.look_at_channels();
        desk.restore(open);
        Ok(desk)
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    ///
    /// Somebody else writes the log too, or a feed has ended.
    pub async fn work(&mut self, stop: &CancellationToken) -> Result<(), ServiceError> {
        let mut tick = ticks();
        loop {
            self.sweep();
            let deadline = self.ledger.deadline(Instant::now().into_std());
            let writing = !self.writes.is_empty();
            let room = self.writes.len() < WRITES_MAX;
            // Cancelling one of these loses nothing: what waits stays in its queue or set.
            tokio::select! {
                () = stop.cancelled() => {
                    self.close().await;
                    return Ok(());
                }
                Some(done) = self.writes.next(), if writing => {
                    self.done(done).map_err(|foreign| ServiceError::new(foreign.to_string()))?;
                }
                Some(heard) = self.heard.1.recv() => self.on_heard(heard),
                Some(reply) = self.replies.recv() => self.on_reply(reply),
                Some(fed) = self.submissions.recv(), if room => match fed {
                    Fed::Arrived(arrived) => self.arrived(Arc::new(*arrived), None),
                    Fed::CaughtUp => {}
                },
                Some(asked) = self.asked.recv() => self.cancel(asked).await,
                Some(question) = self.questions.recv() => self.explain(question),
                Ok(()) = self.changes.changed() => self.look_at_channels(),
                Some(_) = self.ears.join_next(), if !self.ears.is_empty() => {}
                ended = self.feeds.join_next() => {
                    return Err(ServiceError::new(format!("a feed has ended: {ended:?}")));
                }
                () = sleep_until_some(deadline) => {
                    let steps = self.ledger.on_deadline(self.moment());
                    self.carry_out(steps);
                }
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    /// Waits for what is being stored; what is not stored then is decided anew at the next start.
    async fn close(&mut self) {
        let storing = async {
            let mut ours = true;
            while ours && let Some(done) = self.writes.next().await {
                ours = self.done(done).is_ok();
            }
        };
        if timeout(CLOSE, storing).await.is_err() {
            tracing::warn!(records = self.writes.len(), "records of tasks were not stored in time");
        }
        self.status.state = "off".to_owned();
        self.parts.status.send_replace(self.status.clone());
    }

    /// Now, in all its forms.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            now: Instant::now().into_std(),
            wall: self.parts.clock.now(),
            jitter: self.parts.jitter.fraction(),
        }
    }

    fn done(&mut self, done: Done) -> Result<(), Foreign> {
        let (key, outcome) = match done {
            Done::Record(key, outcome) => (key, outcome),
            Done::End(key) => {
                self.end_told(key);
                return Ok(());
            }
        };
        let moment = self.moment();
        let steps = match outcome {
            Outcome::Stored(sequence) => self.ledger.written(moment, key, sequence),
            Outcome::Conflict(found) => {
                let found =
                    found.map(|(sequence, payload)| (sequence, serde_json::from_slice(&payload)));
                match found {
                    None => self.ledger.conflict(moment, key, None)?,
                    Some((sequence, Ok(record))) => {
                        self.ledger.conflict(moment, key, Some((sequence, record)))?
                    }
                    Some((sequence, Err(error))) => {
                        tracing::error!(sequence, %error, "a record of a task cannot be read");
                        let id = self.bodies.get(&key).map(|body| body.id.clone());
                        return id.map_or(Ok(()), |id| Err(Foreign { id, sequence }));
                    }
                }
            }
            Outcome::Impossible(said) => {
                // Everything that goes into a record is bounded; this is a fault of provost.
                tracing::error!(task = key.0, said, "a record of a task can never be stored");
                Vec::new()
            }
        };
        self.carry_out(steps);
        Ok(())
    }

    fn explain(&mut self, question: Question) {
        let Question { mut query, answer } = question;
        let now = Instant::now().into_std();
        query.avoid.extend(self.ledger.sick(now).map(|agent| agent.as_str().to_owned()));
        let needs = Needs::new(query);
        let said = self.hands.explain(&self.parts.board, &needs, fastrand::u64(..));
        // Who asked may have gone.
        drop(answer.send(said));
    }

    fn on_heard(&mut self, heard: Heard) {
        let Heard { agent, number, offer, message } = heard;
        match message {
            Some(FromAgent::Event(event)) => self.on_news(&agent, event),
            Some(FromAgent::Beat(beat)) => {
                self.hands.beat(&agent, &beat);
                let every = Duration::from_millis(beat.every_ms);
                let steps = self.ledger.beat(self.moment(), &agent, (&beat.inflight, every));
                self.carry_out(steps);
            }
            None => {
                let run = self.run_of(number, &offer);
                let (why, said) = self.why_gone(&agent, number);
                self.hands.leave(&agent, number);
                let steps = self.ledger.agent_gone(self.moment(), &agent, Some(&run), (why, &said));
                self.carry_out(steps);
            }
        }
    }

    /// Whether an agent whose run is over was stopped or has crashed.
    fn why_gone(&self, agent: &AgentId, number: u64) -> (Gone, String) {
        use crate::protocol::status::AgentState;
        let name = self.hands.get(agent).map(|hand| hand.offer.name.clone());
        let state = name.and_then(|name| self.parts.board.read(&name, |entry| entry.state));
        match state {
            Some(AgentState::Stopping | AgentState::Stopped | AgentState::Terminated) => {
                (Gone::Stopped, format!("agent {agent} was stopped"))
            }
            _ => (Gone::Crashed, format!("run {number} of agent {agent} is over")),
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        let Reply { agent, event, stored_at } = reply;
        // What was said about tasks that ended before we began is no news.
        if stored_at < self.opened.1 && self.ledger.key_of(&event.id).is_none() {
            return;
        }
        self.on_news(&agent, event);
    }

    /// Takes the channels that are new, and listens to them.
    fn look_at_channels(&mut self) {
        self.changes.mark_unchanged();
        for (agent, present) in self.parts.channels.present() {
            if self.hands.get(&agent).is_some_and(|hand| hand.number == present.number) {
                continue;
            }
            // An older run of it still has an ear, which tells of its end after all that it said.
            let older = self.hands.enter(&agent, &present);
            let here = self.run_of(present.number, &present.offer);
            let ear = if older.is_some() { Ear::There } else { Ear::Gone };
            self.look_at_tasks(&agent, &here, ear);
            self.ears.spawn(listen(agent, present, self.heard.0.clone()));
        }
    }

    /// A run has begun: tasks of it take its slots, those of a run that nobody hears are given out.
    fn look_at_tasks(&mut self, agent: &AgentId, here: &str, ear: Ear) {
        for (id, attempt, run) in self.ledger.held_by(agent) {
            if run.as_ref().is_none_or(|run| run == here) {
                self.hands.take(agent, (&id, attempt));
            } else if ear == Ear::Gone {
                self.ended_unseen(agent, run.as_deref());
            }
        }
    }

    fn restore(&mut self, open: Open) {
        self.broadcasts.known(open.parts);
        for (arrived, record) in open.tasks {
            self.arrived(Arc::new(*arrived), record);
        }
        let holders: Vec<AgentId> = self.ledger.holders().cloned().collect();
        for agent in holders {
            let hand = self.hands.get(&agent);
            match hand.map(|hand| self.run_of(hand.number, &hand.offer)) {
                Some(here) => self.look_at_tasks(&agent, &here, Ear::Gone),
                None => self.wait_for(&agent),
            }
        }
    }

    /// No run of an agent is there: one that outlives the daemon may not have been adopted yet.
    fn wait_for(&mut self, agent: &AgentId) {
        for (_, _, run) in self.ledger.held_by(agent) {
            if run.as_deref().is_some_and(|run| !is_kept(run)) {
                self.ended_unseen(agent, run.as_deref());
            }
        }
    }

    /// A run has ended while nobody listened.
    fn ended_unseen(&mut self, agent: &AgentId, run: Option<&str>) {
        let why = (Gone::Stopped, "its run ended while no daemon was there");
        let steps = self.ledger.agent_gone(self.moment(), agent, run, why);
        self.carry_out(steps);
    }

    fn on_tick(&mut self) {
        self.hands.forget_ghosts();
        self.hands.look_again(&self.parts.board);
        self.look_for_members();
        if BACK_WITHIN <= self.opened.0.elapsed() {
            let away = self.ledger.holders().filter(|agent| self.hands.get(agent).is_none());
            let away: Vec<AgentId> = away.cloned().collect();
            for agent in away {
                let why = (Gone::Crashed, "the agent does not run");
                let steps = self.ledger.agent_gone(self.moment(), &agent, None, why);
                self.carry_out(steps);
            }
        }
        self.tell_status();
    }

    fn tell_status(&mut self) {
        let counts = self.ledger.counts();
        let trouble = self.journal.trouble();
        let state = if trouble.is_some() { "stuck" } else { "on" };
        self.status.state = state.to_owned();
        let refused = self.refused.as_ref().filter(|_| 0 < counts.ready);
        self.status.trouble =
            trouble.or_else(|| refused.map(|(needs, refusal)| in_words(needs, refusal)));
        (self.status.ready, self.status.delayed) = (counts.ready, counts.delayed);
        self.status.held = counts.held.saturating_add(counts.ending);
        let status = &self.status;
        self.parts.status.send_if_modified(|told| {
            let differs = told != status;
            if differs {
                told.clone_from(status);
            }
            differs
        });
    }

    /// Names one run of an agent for all time: one that ends with the daemon by this life of the
    /// daemon, one that is adopted by its generation.
    pub(super) fn run_of(&self, number: u64, offer: &Offer) -> String {
        match offer.runtime {
            RuntimeKind::Stdio => format!("{KEPT}{}", offer.generation),
            RuntimeKind::Remote => format!("{REMOTE}{}.{number}", self.parts.instance),
            RuntimeKind::Process | RuntimeKind::Exec | RuntimeKind::InProcess => {
                format!("{}.{number}", self.parts.instance)
            }
        }
    }
}

/// Beginning of the name of a run that the next daemon adopts.
const KEPT: &str = "kept.";

/// Whether a run may be adopted by the next daemon.
fn is_kept(run: &str) -> bool {
    run.starts_with(KEPT)
}

/// Beginning of the name of a run that does not end with the daemon.
const REMOTE: &str = "remote.";

/// Whether a run outlives the daemon.
pub(super) fn is_remote(run: Option<&str>) -> bool {
    run.is_some_and(|run| run.starts_with(REMOTE))
}

fn in_words(needs: &ledger::Needs, refused: &str) -> String {
    format!("tasks of type {} wait: {refused}", needs.task_type)
}

fn ticks() -> Interval {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn sleep_until_some(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

/// Hands on all that an agent says, and that its run is over.
async fn listen(agent: AgentId, present: Present, to: mpsc::Sender<Heard>) {
    let Present { channel, offer, number } = present;
    loop {
        let message = channel.receive().await;
        let over = message.is_none();
        let heard = Heard { agent: agent.clone(), number, offer: Arc::clone(&offer), message };
        if to.send(heard).await.is_err() || over {
            return;
        }
    }
}
