//! The open endpoint on one connection: requests, time and runs, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::logic::resources::{Ask, Changes, Pool, Refused, ResourceSpec, Turn, Waiter};
use crate::ports::{ServiceError, WallClock};
use crate::protocol::id::SubjectId;
use crate::protocol::resource::{
    HolderRun, REQUEST_BYTES_MAX, ResourceAnswer, ResourceError, ResourceErrorKind, ResourceOp,
    ResourceRequest, TTL_MS_DEFAULT,
};
use crate::protocol::subject::Subject;
use crate::transport::connect::Connection;
use crate::transport::micro;
use crate::transport::resources::ResourceSettings;
use crate::transport::resources::holders::{Holders, Who};
use crate::transport::resources::store::ResourceStore;

/// How often the runs of holders are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Most resources of which something is given or waited for.
const RESOURCES_MAX: usize = 10_000;

/// Most requests that wait, of all resources.
const WAITING_MAX: usize = 10_000;

/// Longest sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// One resource in use.
#[derive(Debug)]
struct InUse {
    pool: Pool,
    revision: u64,
}

/// A request that waits, or that is being answered.
#[derive(Clone, Debug)]
struct Asker {
    resource: SubjectId,
    reply: String,
}

/// The endpoint.
pub(crate) struct Desk<'a> {
    connection: Connection,
    settings: Arc<ResourceSettings>,
    clock: Arc<dyn WallClock>,
    holders: &'a mut Holders,
    store: ResourceStore,
    requests: Subscriber,
    in_use: BTreeMap<SubjectId, InUse>,
    waiting: BTreeMap<Waiter, Asker>,
    asked: u64,
}

type Answered = Result<Option<ResourceAnswer>, ResourceError>;

impl<'a> Desk<'a> {
    pub(crate) async fn open(
        connection: &Connection,
        settings: &Arc<ResourceSettings>,
        clock: &Arc<dyn WallClock>,
        holders: &'a mut Holders,
    ) -> Result<Self, ServiceError> {
        let store = ResourceStore::open(connection, settings.replicas).await?;
        let subject = connection.prefix().apply("coordination.resources.*");
        let requests = connection.queue_subscribe_confirmed(&subject, micro::QUEUE_GROUP).await;
        Ok(Self {
            connection: connection.clone(),
            settings: Arc::clone(settings),
            clock: Arc::clone(clock),
            holders,
            store,
            requests: requests.map_err(|error| ServiceError::new(error.to_string()))?,
            in_use: BTreeMap::new(),
            waiting: BTreeMap::new(),
            asked: 0,
        })
    }

    /// Works until the subscription ends.
    pub(crate) async fn serve(&mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.due();
            // Requests stay in their subscription; timers are without state.
            tokio::select! {
                request = self.requests.next() => match request {
                    Some(request) => self.take(request).await,
                    None => return,
                },
                () = sleep_until(due) => self.pass().await,
                _ = look.tick() => self.look().await,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0)
    }

    fn due(&self) -> Instant {
        let next = self.in_use.values().filter_map(|it| it.pool.deadline_ms()).min();
        let wait = next.map(|at| Duration::from_millis(at.saturating_sub(self.now_ms())));
        // A lease ends a moment late rather than early.
        Instant::now() + wait.map_or(IDLE, |wait| wait.min(IDLE) + Duration::from_millis(1))
    }

    async fn take(&mut self, request: Message) {
        let Some(reply) = request.reply.as_ref().map(ToString::to_string) else {
            tracing::debug!(subject = %request.subject, "request without reply subject ignored");
            return;
        };
        let subject = self.connection.prefix().strip(request.subject.as_str());
        let answer = match subject.and_then(Subject::parse) {
            Some(Subject::Resources(resource)) => match read(&request.payload) {
                Ok(wanted) => self.carry_out(&resource, wanted, &reply).await,
                Err(error) => Err(error),
            },
            _ => {
                let message = format!("{} names no resource", request.subject);
                let hint = "the last token is the name: 1 to 64 of A-Z a-z 0-9 _ -";
                Err(ResourceError::new(ResourceErrorKind::InvalidRequest, message, hint))
            }
        };
        match answer {
            Ok(None) => {}
            Ok(Some(answer)) => self.send(&reply, &answer).await,
            Err(error) => self.send(&reply, &error.into()).await,
        }
    }

    async fn carry_out(
        &mut self,
        name: &SubjectId,
        wanted: ResourceRequest,
        reply: &str,
    ) -> Answered {
        let spec = self.settings.spec(name).ok_or_else(|| {
            let message = format!("no resource {name} is declared");
            let hint = "declare it as [resources.<name>], or set coordination.undeclared_resources";
            ResourceError::new(ResourceErrorKind::UnknownResource, message, hint)
        })?;
        self.fetch(name, spec).await?;
        // What is over by now must not stand in the way.
        self.settle(name).await?;
        let now_ms = self.now_ms();
        let holder = wanted.holder.clone().unwrap_or_default();
        let answer = match wanted.op {
            ResourceOp::Status => {
                let view = self.pool(name)?.view(name.clone(), now_ms);
                Ok(Some(ResourceAnswer::resource(view)))
            }
            ResourceOp::Acquire => self.acquire(name, wanted, reply).await,
            ResourceOp::Renew => {
                let lease = wanted.lease.as_deref();
                let renewed = self.pool(name)?.renew(now_ms, &holder, lease, wanted.ttl_ms)?;
                self.keep(name).await?;
                Ok(Some(ResourceAnswer::done(renewed)))
            }
            ResourceOp::Release => {
                let changes = self.pool(name)?.release(now_ms, &holder, wanted.lease.as_deref())?;
                let ended = changes.ended.clone();
                self.apply(name, changes).await?;
                Ok(Some(ResourceAnswer::done(ended)))
            }
        };
        self.forget_idle(name);
        answer
    }

    async fn acquire(
        &mut self,
        name: &SubjectId,
        wanted: ResourceRequest,
        reply: &str,
    ) -> Answered {
        let holder = wanted.holder.unwrap_or_default();
        let run = match self.holders.who(&holder) {
            Who::Other => None,
            Who::Run(run) => Some(run),
            Who::Down => return Err(Refused::HolderDown { holder }.into()),
        };
        self.asked += 1;
        let waiter = Waiter(self.asked);
        let now_ms = self.now_ms();
        let room = self.waiting.len() < WAITING_MAX;
        let ask = Ask {
            lease: wanted.lease.unwrap_or_else(|| format!("{now_ms:x}-{:x}", fastrand::u64(..))),
            holder,
            run,
            amount: wanted.amount.unwrap_or(1),
            ttl_ms: wanted.ttl_ms.unwrap_or(TTL_MS_DEFAULT),
            wait_ms: if room { wanted.wait_ms.unwrap_or(0) } else { 0 },
            waiter,
        };
        match self.pool(name)?.acquire(now_ms, ask)? {
            Turn::Granted(lease) => {
                self.keep(name).await?;
                Ok(Some(ResourceAnswer::lease(lease)))
            }
            Turn::Known(lease) => Ok(Some(ResourceAnswer::lease(lease))),
            Turn::Waits => {
                let asker = Asker { resource: name.clone(), reply: reply.to_owned() };
                self.waiting.insert(waiter, asker);
                Ok(None)
            }
        }
    }

    /// Reads a resource that is not in use.
    async fn fetch(&mut self, name: &SubjectId, spec: ResourceSpec) -> Result<(), ResourceError> {
        if self.in_use.contains_key(name) {
            return Ok(());
        }
        if RESOURCES_MAX <= self.in_use.len() {
            let message = format!("{RESOURCES_MAX} resources are in use; no more are allowed");
            return Err(away(message));
        }
        let found = self.store.load(name).await.map_err(away)?;
        let pool = Pool::restore(spec, found.kept);
        self.in_use.insert(name.clone(), InUse { pool, revision: found.revision });
        let runs: BTreeSet<HolderRun> = self.pool(name)?.runs().cloned().collect();
        let ended = self.holders.ended(runs);
        let now_ms = self.now_ms();
        let changes = self.pool(name)?.on_runs(now_ms, |run| ended.contains(run));
        self.apply(name, changes).await
    }

    fn pool(&mut self, name: &SubjectId) -> Result<&mut Pool, ResourceError> {
        let found = self.in_use.get_mut(name).map(|it| &mut it.pool);
        found.ok_or_else(|| away(format!("resource {name} was put away")))
    }

    /// Ends what is over by now.
    async fn settle(&mut self, name: &SubjectId) -> Result<(), ResourceError> {
        let now_ms = self.now_ms();
        if self.pool(name)?.deadline_ms().is_none_or(|at| now_ms < at) {
            return Ok(());
        }
        let changes = self.pool(name)?.on_deadline(now_ms);
        self.apply(name, changes).await
    }

    /// Keeps what has changed, then tells those who waited.
    async fn apply(&mut self, name: &SubjectId, changes: Changes) -> Result<(), ResourceError> {
        if changes.touch_leases() {
            self.keep(name).await?;
        }
        for grant in changes.granted {
            self.tell(grant.waiter, ResourceAnswer::lease(grant.lease)).await;
        }
        for (waiter, refused) in changes.given_up {
            self.tell(waiter, ResourceError::from(refused).into()).await;
        }
        Ok(())
    }

    /// Writes what a resource has given. When that fails, nobody knows what is kept: the resource is
    /// put away and read again when it is next asked for.
    async fn keep(&mut self, name: &SubjectId) -> Result<(), ResourceError> {
        let Some(it) = self.in_use.get_mut(name) else { return Ok(()) };
        match self.store.save(name, &it.pool.kept(), it.revision).await {
            Ok(revision) => {
                it.revision = revision;
                Ok(())
            }
            Err(said) => {
                tracing::warn!(resource = %name, said, "leases could not be kept");
                self.in_use.remove(name);
                let error = away(said);
                let of = |asker: &Asker| asker.resource == *name;
                let lost: Vec<Waiter> =
                    self.waiting.iter().filter(|(_, it)| of(it)).map(|(id, _)| *id).collect();
                for waiter in lost {
                    self.tell(waiter, error.clone().into()).await;
                }
                Err(error)
            }
        }
    }

    async fn tell(&mut self, waiter: Waiter, answer: ResourceAnswer) {
        if let Some(asker) = self.waiting.remove(&waiter) {
            self.send(&asker.reply, &answer).await;
        }
    }

    /// Time has passed.
    async fn pass(&mut self) {
        let now_ms = self.now_ms();
        let due = |it: &InUse| it.pool.deadline_ms().is_some_and(|at| at <= now_ms);
        let names: Vec<SubjectId> =
            self.in_use.iter().filter(|(_, it)| due(it)).map(|(name, _)| name.clone()).collect();
        for name in names {
            // Whoever was to be told has been told by `keep`.
            self.settle(&name).await.unwrap_or_default();
            self.forget_idle(&name);
        }
    }

    /// Looks at the runs of all holders.
    async fn look(&mut self) {
        let runs = self.in_use.values().flat_map(|it| it.pool.runs()).cloned();
        let ended = self.holders.ended(runs.collect());
        if ended.is_empty() {
            return;
        }
        let now_ms = self.now_ms();
        let names: Vec<SubjectId> = self.in_use.keys().cloned().collect();
        for name in names {
            let Ok(pool) = self.pool(&name) else { continue };
            let changes = pool.on_runs(now_ms, |run| ended.contains(run));
            self.apply(&name, changes).await.unwrap_or_default();
            self.forget_idle(&name);
        }
    }

    /// A resource of which nothing is given is not held in memory; what is kept of it stays.
    fn forget_idle(&mut self, name: &SubjectId) {
        if self.in_use.get(name).is_some_and(|it| it.pool.is_idle()) {
            self.in_use.remove(name);
        }
    }

    async fn send(&self, reply: &str, answer: &ResourceAnswer) {
        let payload = serde_json::to_vec(answer).unwrap_or_default();
        if let Err(error) = self.connection.publish(reply, None, payload.into()).await {
            tracing::warn!(%error, "an answer about a resource could not be sent");
        }
    }
}

fn read(payload: &[u8]) -> Result<ResourceRequest, ResourceError> {
    let invalid = |message: String| {
        let hint = r#"send {"op":"acquire","holder":"…","amount":1,"ttl_ms":30000,"wait_ms":0}"#;
        ResourceError::new(ResourceErrorKind::InvalidRequest, message, hint)
    };
    if REQUEST_BYTES_MAX < payload.len() {
        let bytes = payload.len();
        let bound = format!("at most {REQUEST_BYTES_MAX} are allowed");
        return Err(invalid(format!("request is {bytes} bytes; {bound}")));
    }
    let request: ResourceRequest = serde_json::from_slice(payload)
        .map_err(|error| invalid(format!("request cannot be read: {error}")))?;
    request.check()?;
    Ok(request)
}

fn away(said: impl std::fmt::Display) -> ResourceError {
    let message = format!("the state of the resource cannot be kept or read now: {said}");
    let hint = "ask again; with a lease name of your own nothing is given twice";
    ResourceError::new(ResourceErrorKind::Unavailable, message, hint)
}
