//! Reads the configuration again and carries out what has changed, without a restart of the daemon.
//!
//! One reload at a time. What is written is read whole, checked whole and compared
//! ([`crate::logic::reload`]); everything that can be known to fail is tried before anything is
//! touched, so a wrong configuration leaves everything as it is. What then fails on the way (a
//! supervisor that is just being restarted) is named, remembered, and done by the next reload.
//! Settings that only a start reads are held, and said.
//!
//! Not for deciding what a change takes (`logic`), nor for building nodes (`nodes`).

mod carry;
mod nodes;
mod tell;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actors::tree::TreeHandle;
use crate::adapters::care::Desk;
use crate::config::{AgentEntry, Config, Faults, Loaded, Sources, Written, blueprints};
use crate::daemon::agents::AgentMaker;
use crate::logic::reload::{Blueprint, Difference, compare};
use crate::protocol::command::{Answer, CommandError, ErrorKind};
use crate::protocol::id::ChildName;
use crate::protocol::reload::{ConfigPlan, ConfigStatus, Effect, ReloadRequest};

/// Reloads that may be under way or wait; more are refused.
const RELOADS_MAX: usize = 8;

/// Faults that a refusal lists; the rest is counted.
const FAULTS_SHOWN_MAX: usize = 20;

/// How old the comparison with the files may be that `status` shows.
const FRESH: Duration = Duration::from_secs(1);

/// Where a reload comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Via {
    /// A request.
    Request,
    /// SIGHUP.
    Signal,
}

impl Via {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "system.control",
            Self::Signal => "SIGHUP",
        }
    }
}

/// Reloads the configuration of one daemon. Clones are the same.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

/// What a reloader works with.
#[derive(Debug)]
pub struct ReloadParts {
    /// The tree.
    pub tree: TreeHandle,
    /// Makes agents, and knows the settings that are read when they are needed.
    pub maker: AgentMaker,
    /// The downstreams there are.
    pub desk: Desk,
    /// Where it runs.
    pub outside: Handle,
    /// The supervisor of what stands in no group.
    pub top: ChildName,
}

struct Inner {
    parts: ReloadParts,
    sources: Sources,
    running: AsyncMutex<Running>,
    told: Mutex<Told>,
    tasks: Mutex<JoinSet<()>>,
}

/// What runs.
#[derive(Debug)]
struct Running {
    written: Written,
    /// What an earlier reload did not get through with.
    unfinished: BTreeSet<ChildName>,
}

/// What `status` tells.
#[derive(Debug)]
struct Told {
    status: ConfigStatus,
    /// When it was compared with the files.
    at: Option<Instant>,
}

/// What is written, held against what runs.
struct Comparison {
    wanted: Written,
    warnings: Vec<String>,
    difference: Difference,
    from: Blueprint,
    to: Blueprint,
    fingerprint: String,
}

type Outcome = Result<Answer, CommandError>;

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloader").field(&self.0.sources.files).finish()
    }
}

impl Reloader {
    /// A reloader of a daemon that runs what was loaded.
    #[must_use]
    pub fn new(parts: ReloadParts, loaded: &Loaded, loaded_at: Timestamp) -> Self {
        let files = loaded.files.iter().map(|file| file.display().to_string()).collect();
        let status = ConfigStatus { files, loaded_at: Some(loaded_at), ..ConfigStatus::default() };
        let written = Written::of(loaded);
        Self(Arc::new(Inner {
            parts,
            sources: loaded.sources.clone(),
            running: AsyncMutex::new(Running { written, unfinished: BTreeSet::new() }),
            told: Mutex::new(Told { status, at: None }),
            tasks: Mutex::new(JoinSet::new()),
        }))
    }

    /// Reloads, or tells what a reload would change.
    ///
    /// # Errors
    ///
    /// The configuration has faults, the plan is stale, or something stands in the way; then
    /// everything is as it was. `unavailable` when something failed on the way.
    ///
    /// # Cancel safety
    ///
    /// What has begun goes on when the caller goes away.
    pub async fn reload(&self, request: ReloadRequest, via: Via) -> Outcome {
        let told = self.begin(request, via)?;
        let lost = || {
            let message = "the reload ended without an answer";
            CommandError::new(ErrorKind::Internal, message, "see the daemon's log")
        };
        told.await.map_err(|_lost| lost())?
    }

    /// Begins a reload and returns at once; its end is logged and told as an event.
    pub fn on_signal(&self) {
        if let Err(error) = self.begin(ReloadRequest::default(), Via::Signal) {
            tracing::error!(error = error.message, hint = error.hint, "SIGHUP: not reloaded");
        }
    }

    fn begin(
        &self,
        request: ReloadRequest,
        via: Via,
    ) -> Result<oneshot::Receiver<Outcome>, CommandError> {
        if self.0.sources.files.is_empty() {
            return Err(CommandError::new(
                ErrorKind::WrongState,
                "this daemon was started without a configuration file: there is nothing to reload",
                "start it with `provost up -f FILE`",
            ));
        }
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        if RELOADS_MAX <= tasks.len() {
            return Err(CommandError::new(
                ErrorKind::Unavailable,
                format!("{RELOADS_MAX} reloads are under way, which is the most"),
                "try again in a moment",
            ));
        }
        let (tell, told) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let outside = inner.parts.outside.clone();
        // Ends with its set, which this reloader owns.
        tasks.spawn_on(
            async move {
                let outcome = inner.carry_out(&request, via).await;
                if tell.send(outcome).is_err() {
                    tracing::debug!("nobody waits for the end of the reload");
                }
            },
            &outside,
        );
        Ok(told)
    }

    /// How the configuration on disk stands to what runs; `None` without files.
    pub async fn status(&self) -> Option<ConfigStatus> {
        if self.0.sources.files.is_empty() {
            return None;
        }
        let is_fresh = |at: Instant| at.elapsed() < FRESH;
        let (status, fresh) = {
            let told = self.0.told();
            (told.status.clone(), told.at.is_some_and(is_fresh))
        };
        // While a reload is under way the last comparison stands.
        let running = match self.0.running.try_lock() {
            Ok(running) if !fresh => running,
            Ok(_) | Err(_) => return Some(status),
        };
        let compared = self.0.compare(&running).await;
        let mut told = self.0.told();
        told.at = Some(Instant::now());
        match compared {
            Ok(comparison) => told.compared(&comparison.difference),
            Err(faults) => told.status.faults = shown(&faults),
        }
        Some(told.status.clone())
    }
}

impl Told {
    fn compared(&mut self, difference: &Difference) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let held = |effect: Effect| effect == Effect::RestartsDaemon;
        self.status.faults.clear();
        self.status.changes = count(difference.changes.len());
        let held = difference.changes.iter().filter(|change| held(change.effect)).count();
        self.status.held = count(held);
    }
}

impl Inner {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is written and holds it against what runs.
    async fn compare(&self, running: &Running) -> Result<Comparison, Faults> {
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(sources)).await;
        let loaded = match read {
            Ok(loaded) => loaded?,
            Err(error) => return Err(Faults::unreadable(&error.to_string())),
        };
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        let wanted = Written::of(&loaded);
        let spawned: Vec<AgentEntry> = {
            let known = self.parts.maker.registry().spawned_before();
            known
                .into_iter()
                .map(|(name, request)| AgentEntry::from_request(request, name))
                .collect()
        };
        let (from, to) =
            blueprints(&running.written, &wanted, (&self.parts.top, spawned.as_slice()));
        let difference = compare(&from, &to, &running.unfinished);
        let fingerprint = fingerprint(&difference, &from, &to);
        Ok(Comparison { wanted, warnings, difference, from, to, fingerprint })
    }

    async fn carry_out(&self, request: &ReloadRequest, via: Via) -> Outcome {
        let mut running = self.running.lock().await;
        let comparison = match self.compare(&running).await {
            Ok(comparison) => comparison,
            Err(faults) => {
                let error = refused_faults(&faults);
                self.told().status.faults = shown(&faults);
                return Err(self.refuse(request, via, error));
            }
        };
        if let Some(plan) = &request.plan
            && *plan != comparison.fingerprint
        {
            let error = CommandError::new(
                ErrorKind::WrongState,
                format!(
                    "plan {plan} is stale: what would change now is {}",
                    comparison.fingerprint
                ),
                "look at it again with `provost plan`, then apply that",
            );
            return Err(self.refuse(request, via, error));
        }
        if request.dry_run {
            self.told().compared(&comparison.difference);
            return Ok(self.answer(&comparison, Done::No));
        }
        let done = self.apply(&mut running, &comparison, request).await;
        self.told().at = None;
        match done {
            Ok(()) => {
                self.told().status.refused = None;
                if !comparison.difference.changes.is_empty() {
                    self.told().status.loaded_at = Some(self.parts.tree.ports().clock.now());
                    self.tell_done(request, via, &comparison);
                }
                Ok(self.answer(&comparison, Done::Yes))
            }
            Err(error) => Err(self.refuse(request, via, error)),
        }
    }

    fn answer(&self, comparison: &Comparison, done: Done) -> Answer {
        let files = self.sources.files.iter().map(|file| file.display().to_string()).collect();
        let plan = ConfigPlan {
            fingerprint: comparison.fingerprint.clone(),
            files,
            changes: comparison.difference.changes.clone(),
            done: done == Done::Yes,
            warnings: comparison.warnings.clone(),
        };
        Answer { plan: Some(Box::new(plan)), ..Answer::done() }
    }
}

/// Whether the changes were carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Done {
    Yes,
    No,
}

fn shown(faults: &Faults) -> Vec<String> {
    faults.list().iter().take(FAULTS_SHOWN_MAX).map(ToString::to_string).collect()
}

fn refused_faults(faults: &Faults) -> CommandError {
    let count = faults.count();
    let plural = if count == 1 { "fault" } else { "faults" };
    let listed = shown(faults);
    let more = count.saturating_sub(listed.len());
    let mut message = format!(
        "the configuration has {count} {plural}; what runs stays as it is: {}",
        listed.join("; ")
    );
    if 0 < more {
        message.push_str(&format!("; and {more} more"));
    }
    let hint = "correct them; `provost config validate` checks without a daemon";
    CommandError::new(ErrorKind::InvalidRequest, message, hint)
}

/// Names exactly these changes: what is shown of them, and the values that are not.
fn fingerprint(difference: &Difference, from: &Blueprint, to: &Blueprint) -> String {
    let mut text = format!("{:?}", difference.changes);
    for change in &difference.changes {
        for blueprint in [from, to] {
            let setting = blueprint.settings.get(&change.name).map(|aspect| aspect.print);
            let member = change.name.parse::<ChildName>().ok();
            let member = member.and_then(|name| blueprint.members.get(&name));
            let prints = member.map(|member| {
                let aspects = member.aspects.iter();
                aspects.map(|(key, aspect)| (key.as_str(), aspect.print)).collect::<Vec<_>>()
            });
            text.push_str(&format!("{setting:?}{prints:?}"));
        }
    }
    format!("{:016x}", crate::config::print_of(&text))
}
