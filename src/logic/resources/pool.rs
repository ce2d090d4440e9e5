//! One resource: leases, those who wait, and what is given when.

use std::collections::{BTreeMap, VecDeque};

use crate::logic::resources::refused::Refused;
use crate::protocol::id::SubjectId;
use crate::protocol::resource::{
    HolderRun, KeptLease, KeptResource, LeaseView, ResourceKind, ResourceView, WaitingView,
};

/// Most leases of one resource: what is kept of it must fit into one message.
pub const LEASES_MAX: usize = 2_000;

/// What is taken of a quota is kept in so many parts of its period; what was taken within one comes
/// back at once, at its end.
const QUOTA_PARTS: u64 = 100;

/// Most holders that wait for one resource.
pub const WAITING_MAX: usize = 1_000;

/// Version of the document that is kept.
const KEPT_VERSION: u32 = 1;

/// What a resource is, as configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResourceSpec {
    /// Kind.
    pub kind: ResourceKind,
    /// How much there is; 1 for a lock.
    pub capacity: u32,
    /// Period of a quota, in milliseconds; of no meaning for others.
    pub period_ms: u64,
}

impl ResourceSpec {
    /// One holder at a time.
    pub const LOCK: Self = Self { kind: ResourceKind::Lock, capacity: 1, period_ms: 0 };

    /// So much at a time.
    #[must_use]
    pub fn pool(capacity: u32) -> Self {
        Self { kind: ResourceKind::Pool, capacity, period_ms: 0 }
    }

    /// So much in any period.
    #[must_use]
    pub fn quota(capacity: u32, period_ms: u64) -> Self {
        Self { kind: ResourceKind::Quota, capacity, period_ms }
    }
}

/// Names a request that waits, for whoever has to answer it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Waiter(pub u64);

/// A request for a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Who asks.
    pub holder: String,
    /// The agent that it is, and its run.
    pub run: Option<HolderRun>,
    /// How much; at least 1.
    pub amount: u32,
    /// How long the lease lasts.
    pub ttl_ms: u64,
    /// How long to wait.
    pub wait_ms: u64,
    /// Name of the lease: the caller's, or one that is not used yet.
    pub lease: String,
    /// Names the request, if it waits.
    pub waiter: Waiter,
}

/// What became of a request for a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Turn {
    /// The lease is given; it must be kept before it is told.
    Granted(LeaseView),
    /// There is this lease already, by the same holder: asked twice.
    Known(LeaseView),
    /// It waits; the answer comes in [`Changes`].
    Waits,
}

/// A lease for somebody who waited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Whose request it answers.
    pub waiter: Waiter,
    /// The lease.
    pub lease: LeaseView,
}

/// What else happened: with time, with a release, with the end of a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Changes {
    /// Leases that have ended.
    pub ended: Vec<LeaseView>,
    /// Leases given to those who waited.
    pub granted: Vec<Grant>,
    /// Requests that waited long enough, with the refusal.
    pub given_up: Vec<(Waiter, Refused)>,
}

impl Changes {
    /// Whether what is kept has changed.
    #[must_use]
    pub fn touch_leases(&self) -> bool {
        !self.ended.is_empty() || !self.granted.is_empty()
    }
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Pool {
    spec: ResourceSpec,
    leases: BTreeMap<String, KeptLease>,
    /// What was taken of a quota within the last period: when and how much.
    taken: VecDeque<(u64, u32)>,
    token: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    ask: Ask,
    until_ms: u64,
}

impl Pool {
    /// A resource of which nothing is given.
    #[must_use]
    pub fn new(spec: ResourceSpec) -> Self {
        Self {
            spec,
            leases: BTreeMap::new(),
            taken: VecDeque::new(),
            token: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A resource as it was kept. Leases beyond a capacity that is smaller now stay until they end.
    #[must_use]
    pub fn restore(spec: ResourceSpec, kept: KeptResource) -> Self {
        let taken = kept.taken.into();
        Self { spec, leases: kept.leases, taken, token: kept.token, waiting: VecDeque::new() }
    }

    /// What must be kept. Who waits is not: their answer goes with the daemon that was asked.
    #[must_use]
    pub fn kept(&self) -> KeptResource {
        KeptResource {
            v: KEPT_VERSION,
            token: self.token,
            leases: self.leases.clone(),
            taken: self.taken.iter().copied().collect(),
        }
    }

    /// Somebody asks for a lease.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why it is not given and does not wait.
    pub fn acquire(&mut self, now_ms: u64, ask: Ask) -> Result<Turn, Refused> {
        if let Some(lease) = self.leases.get(&ask.lease) {
            if lease.holder != ask.holder {
                return Err(Refused::NotHolder { lease: ask.lease, holder: ask.holder });
            }
            return Ok(Turn::Known(view(&ask.lease, lease, now_ms)));
        }
        if self.spec.capacity < ask.amount {
            let capacity = self.spec.capacity;
            return Err(Refused::TooMuch { amount: ask.amount, capacity });
        }
        if LEASES_MAX <= self.leases.len() {
            return Err(Refused::TooManyLeases);
        }
        if self.waiting.is_empty() && ask.amount <= self.free(now_ms) {
            return Ok(Turn::Granted(self.grant(now_ms, ask)));
        }
        if ask.wait_ms == 0 {
            return Err(self.exhausted(now_ms, ask.amount, self.waiting.len()));
        }
        if WAITING_MAX <= self.waiting.len() {
            return Err(Refused::TooManyWaiting);
        }
        let until_ms = now_ms.saturating_add(ask.wait_ms);
        self.waiting.push_back(Waiting { ask, until_ms });
        Ok(Turn::Waits)
    }

    /// A holder needs its lease for longer; without a lease, all that it has.
    ///
    /// # Errors
    ///
    /// [`Refused`] when there is no such lease, or it is another's.
    pub fn renew(
        &mut self,
        now_ms: u64,
        holder: &str,
        lease: Option<&str>,
        ttl_ms: Option<u64>,
    ) -> Result<Vec<LeaseView>, Refused> {
        let names = self.held(holder, lease)?;
        let mut renewed = Vec::with_capacity(names.len());
        for name in names {
            let Some(lease) = self.leases.get_mut(&name) else { continue };
            lease.ttl_ms = ttl_ms.unwrap_or(lease.ttl_ms);
            lease.ends_at_ms = now_ms.saturating_add(lease.ttl_ms);
            renewed.push(view(&name, lease, now_ms));
        }
        Ok(renewed)
    }

    /// A holder is done with its lease; without a lease, with all that it has. The ended leases
    /// stand in the changes.
    ///
    /// # Errors
    ///
    /// [`Refused`] when there is no such lease, or it is another's.
    pub fn release(
        &mut self,
        now_ms: u64,
        holder: &str,
        lease: Option<&str>,
    ) -> Result<Changes, Refused> {
        let names = self.held(holder, lease)?;
        Ok(self.end(now_ms, names))
    }

    /// Runs of agents have ended: the leases that they held end, and what they asked for is dropped.
    pub fn on_runs(&mut self, now_ms: u64, is_over: impl Fn(&HolderRun) -> bool) -> Changes {
        let over = |run: &Option<HolderRun>| run.as_ref().is_some_and(&is_over);
        let names: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, lease)| over(&lease.run))
            .map(|(name, _)| name.clone())
            .collect();
        let (gone, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| over(&it.ask.run));
        self.waiting = waiting;
        let mut changes = self.end(now_ms, names);
        let gone: VecDeque<Waiting> = gone;
        changes.given_up.extend(gone.into_iter().map(|it| {
            let holder = it.ask.holder;
            (it.ask.waiter, Refused::HolderDown { holder })
        }));
        changes
    }

    /// When [`Self::on_deadline`] is to be called.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let ends = self.leases.values().map(|lease| lease.ends_at_ms).min();
        let waits = self.waiting.iter().map(|it| it.until_ms).min();
        let refills = self.refills_at().filter(|_| !self.waiting.is_empty());
        [ends, waits, refills].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, now_ms: u64) -> Changes {
        let over = self.leases.iter().filter(|(_, lease)| lease.ends_at_ms <= now_ms);
        let names: Vec<String> = over.map(|(name, _)| name.clone()).collect();
        self.forget(now_ms);
        // Who can be served in this moment has not waited in vain.
        let mut changes = self.end(now_ms, names);
        let mut ahead = 0;
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        for waiting in std::mem::take(&mut self.waiting) {
            if now_ms < waiting.until_ms {
                ahead += 1;
                kept.push_back(waiting);
                continue;
            }
            let refused = self.exhausted(now_ms, waiting.ask.amount, ahead);
            changes.given_up.push((waiting.ask.waiter, refused));
        }
        self.waiting = kept;
        // Whoever gave up may have held up those behind.
        changes.granted.extend(self.serve(now_ms));
        changes
    }

    /// How much is free.
    #[must_use]
    pub fn free(&self, now_ms: u64) -> u32 {
        let used: u64 = match self.spec.kind {
            ResourceKind::Lock | ResourceKind::Pool => {
                self.leases.values().map(|lease| u64::from(lease.amount)).sum()
            }
            ResourceKind::Quota => {
                let within =
                    |(at, _): &&(u64, u32)| now_ms < at.saturating_add(self.spec.period_ms);
                self.taken.iter().filter(within).map(|(_, amount)| u64::from(*amount)).sum()
            }
        };
        let free = u64::from(self.spec.capacity).saturating_sub(used);
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// Whether nothing is given and nobody waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.leases.is_empty() && self.waiting.is_empty()
    }

    /// The runs of agents that hold or wait for something.
    pub fn runs(&self) -> impl Iterator<Item = &HolderRun> {
        let waiting = self.waiting.iter().filter_map(|it| it.ask.run.as_ref());
        self.leases.values().filter_map(|lease| lease.run.as_ref()).chain(waiting)
    }

    /// The resource, for readers.
    #[must_use]
    pub fn view(&self, name: SubjectId, now_ms: u64) -> ResourceView {
        let mut leases: Vec<LeaseView> =
            self.leases.iter().map(|(name, lease)| view(name, lease, now_ms)).collect();
        leases.sort_by_key(|lease| lease.token);
        let waiting = |it: &Waiting| WaitingView {
            holder: it.ask.holder.clone(),
            amount: it.ask.amount,
            gives_up_in_ms: it.until_ms.saturating_sub(now_ms),
        };
        ResourceView {
            name,
            kind: self.spec.kind,
            capacity: self.spec.capacity,
            free: self.free(now_ms),
            period_ms: (self.spec.kind == ResourceKind::Quota).then_some(self.spec.period_ms),
            leases,
            waiting: self.waiting.iter().map(waiting).collect(),
        }
    }

    fn held(&self, holder: &str, lease: Option<&str>) -> Result<Vec<String>, Refused> {
        let Some(name) = lease else {
            let own = self.leases.iter().filter(|(_, lease)| lease.holder == holder);
            let own: Vec<String> = own.map(|(name, _)| name.clone()).collect();
            if own.is_empty() {
                return Err(Refused::UnknownLease { lease: holder.to_owned() });
            }
            return Ok(own);
        };
        match self.leases.get(name) {
            None => Err(Refused::UnknownLease { lease: name.to_owned() }),
            Some(lease) if lease.holder != holder => {
                Err(Refused::NotHolder { lease: name.to_owned(), holder: holder.to_owned() })
            }
            Some(_) => Ok(vec![name.to_owned()]),
        }
    }

    /// Ends leases and serves those who wait.
    fn end(&mut self, now_ms: u64, names: Vec<String>) -> Changes {
        let mut changes = Changes::default();
        for name in names {
            if let Some(lease) = self.leases.remove(&name) {
                changes.ended.push(view(&name, &lease, now_ms));
            }
        }
        changes.granted = self.serve(now_ms);
        changes
    }

    /// Gives to those who wait, strictly in order.
    fn serve(&mut self, now_ms: u64) -> Vec<Grant> {
        let mut granted = Vec::new();
        while let Some(next) = self.waiting.front() {
            if self.free(now_ms) < next.ask.amount || LEASES_MAX <= self.leases.len() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            let waiter = next.ask.waiter;
            let lease = match self.leases.get(&next.ask.lease) {
                // Asked twice under one name, and both waited.
                Some(lease) if lease.holder == next.ask.holder => {
                    view(&next.ask.lease, lease, now_ms)
                }
                Some(_) | None => self.grant(now_ms, next.ask),
            };
            granted.push(Grant { waiter, lease });
        }
        granted
    }

    fn grant(&mut self, now_ms: u64, ask: Ask) -> LeaseView {
        self.token = self.token.saturating_add(1);
        if self.spec.kind == ResourceKind::Quota {
            self.take(now_ms, ask.amount);
        }
        let lease = KeptLease {
            holder: ask.holder,
            run: ask.run,
            amount: ask.amount,
            token: self.token,
            ttl_ms: ask.ttl_ms,
            ends_at_ms: now_ms.saturating_add(ask.ttl_ms),
        };
        let seen = view(&ask.lease, &lease, now_ms);
        self.leases.insert(ask.lease, lease);
        seen
    }

    /// Notes what was taken of a quota.
    fn take(&mut self, now_ms: u64, amount: u32) {
        self.forget(now_ms);
        let part = (self.spec.period_ms / QUOTA_PARTS).max(1);
        let at = now_ms.div_ceil(part).saturating_mul(part);
        match self.taken.back_mut() {
            Some(last) if last.0 == at => last.1 = last.1.saturating_add(amount),
            Some(_) | None => self.taken.push_back((at, amount)),
        }
    }

    /// Forgets what has come back to a quota.
    fn forget(&mut self, now_ms: u64) {
        let period_ms = self.spec.period_ms;
        self.taken.retain(|(at, _)| now_ms < at.saturating_add(period_ms));
    }

    fn exhausted(&self, now_ms: u64, amount: u32, ahead: usize) -> Refused {
        let comes_free = match self.spec.kind {
            ResourceKind::Quota => self.refills_at(),
            ResourceKind::Lock | ResourceKind::Pool => {
                self.leases.values().map(|lease| lease.ends_at_ms).min()
            }
        };
        Refused::Exhausted {
            amount,
            free: self.free(now_ms),
            capacity: self.spec.capacity,
            ahead,
            retry_after_ms: comes_free.map(|at| at.saturating_sub(now_ms)),
        }
    }

    /// When the oldest part of a quota comes back.
    fn refills_at(&self) -> Option<u64> {
        let oldest = self.taken.front().filter(|_| self.spec.kind == ResourceKind::Quota)?;
        Some(oldest.0.saturating_add(self.spec.period_ms))
    }
}

fn view(name: &str, lease: &KeptLease, now_ms: u64) -> LeaseView {
    LeaseView {
        lease: name.to_owned(),
        holder: lease.holder.clone(),
        amount: lease.amount,
        token: lease.token,
        expires_in_ms: lease.ends_at_ms.saturating_sub(now_ms),
    }
}
