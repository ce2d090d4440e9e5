//! Limits of runs that are processes, whatever starts them, and what their processes use together.
//!
//! | limit | held by |
//! |---|---|
//! | memory | the kernel, for the run's control group where that has the controller: at the limit all processes are killed together. Else the sampler: a look a second, then the run is killed |
//! | processes and threads, processor share | the kernel, for a control group with the controller; nobody else. A look a second is no match for a fork bomb, and the kernel's other limit (`RLIMIT_NPROC`) counts all processes of the user |
//! | open files, core size | the kernel, for each process |
//! | output | the sampler: a run that writes on and on is killed. The disk is bounded by rotation without it |
//! | run time | a timer: stop signal, grace, kill |
//!
//! Words: a *breach* is a limit that a run went beyond; the *cause* is why this wrapper ends a run.
//!
//! [`Limited`] is the innermost wrapper around what runs an agent, so that probes and exit rules see
//! why a run was ended.

mod confine;
mod oom;
mod sampler;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ports::{AgentRuntime, BoxFuture, RunFace, RunNews, RunOrigin, RunningAgent};
use crate::protocol::exit::{ChildExit, ExitAction, ExitClass, ExitCodes, Judged, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::Generation;
use crate::protocol::spec::AgentSpec;
use crate::protocol::status::LimitHold;
use crate::runtimes::keeper::proc;
pub(crate) use crate::runtimes::limits::confine::{account_of, confines, login};
use crate::runtimes::limits::sampler::{Breach, OutputWatch, Watch};
pub use crate::runtimes::limits::sampler::{SAMPLE_EVERY, Sampler};
pub(crate) use crate::runtimes::limits::tree::MARKS;
use crate::runtimes::limits::tree::{RunTree, open_files};

/// Holds the runs of another runtime to their limits.
#[derive(Clone, Debug)]
pub struct Limited {
    inner: Arc<dyn AgentRuntime>,
    sampler: Sampler,
    spec: Arc<AgentSpec>,
    /// File that standard output and error go to.
    log_file: PathBuf,
}

impl Limited {
    /// Wraps the runtime of one agent.
    #[must_use]
    pub fn new(
        inner: Arc<dyn AgentRuntime>,
        sampler: Sampler,
        spec: Arc<AgentSpec>,
        log_file: PathBuf,
    ) -> Self {
        Self { inner, sampler, spec, log_file }
    }

    /// Takes a run that has begun; `output` was looked at before.
    fn hold(&self, inner: Box<dyn RunningAgent>, output: Option<OutputWatch>) -> RunningLimited {
        let tree = inner.pid().and_then(RunTree::of);
        let origin = inner.face().origin;
        let run_time = self.spec.care.limits.run_time;
        let holds = tree.as_ref().map(|tree| self.holds(tree)).unwrap_or_default();
        let age = match origin {
            RunOrigin::Begun => Duration::ZERO,
            RunOrigin::Adopted => tree.as_ref().map_or(Duration::ZERO, RunTree::age),
        };
        let run_until =
            run_time.and_then(|longest| Instant::now().checked_add(longest.saturating_sub(age)));
        let breach = tree.as_ref().and_then(|tree| self.watch(tree, &holds, output));
        RunningLimited {
            inner,
            meter: tree.map(|tree| Meter::new(tree, self.sampler.clone())),
            breach,
            run_until,
            run_time: run_time.unwrap_or_default(),
            grace: self.spec.stop.grace,
            kill_at: None,
            cause: None,
            holds,
            oom_kills: self.sampler.oom_kills(),
            began: proc::monotonic().saturating_sub(age),
        }
    }

    /// Limits that are set, and who holds them for this run.
    fn holds(&self, tree: &RunTree) -> BTreeMap<String, LimitHold> {
        let limits = &self.spec.care.limits;
        let by_kernel = |file: &str, otherwise: LimitHold| {
            if tree.kernel_limit(file).is_some() { LimitHold::Kernel } else { otherwise }
        };
        let all = [
            (
                "memory",
                self.spec.max_memory_mb.map(|_| by_kernel("memory.max", LimitHold::Sampled)),
            ),
            ("pids", limits.pids.map(|_| by_kernel("pids.max", LimitHold::Nobody))),
            ("cpu_weight", limits.cpu_weight.map(|_| by_kernel("cpu.weight", LimitHold::Nobody))),
            ("open_files", limits.open_files.map(|_| LimitHold::Kernel)),
            ("core_size", limits.core_bytes.map(|_| LimitHold::Kernel)),
            ("output_size", limits.output_bytes.map(|_| LimitHold::Sampled)),
            ("run_time", limits.run_time.map(|_| LimitHold::Timer)),
        ];
        let set = all.into_iter().filter_map(|(name, hold)| Some((name.to_owned(), hold?)));
        set.collect()
    }

    /// Has the sampler look at what nobody else holds, and tells once what does not hold at all.
    fn watch(
        &self,
        tree: &RunTree,
        holds: &BTreeMap<String, LimitHold>,
        output: Option<OutputWatch>,
    ) -> Option<oneshot::Receiver<Breach>> {
        for (limit, _) in holds.iter().filter(|(_, hold)| **hold == LimitHold::Nobody) {
            if self.sampler.first(limit) {
                tracing::warn!(
                    limit,
                    "limit does not hold: no delegated cgroup with its controller"
                );
            }
        }
        let sampled = holds.get("memory") == Some(&LimitHold::Sampled);
        let memory = confine::memory_limit(&self.spec).filter(|_| sampled);
        if sampled && self.sampler.first("memory") {
            tracing::info!(
                "memory limits are sampled once a second: no delegated cgroup with the controller"
            );
        }
        (memory.is_some() || output.is_some())
            .then(|| self.sampler.watch(Watch { tree: tree.clone(), memory, output }))
    }
}

impl AgentRuntime for Limited {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let this = self.clone();
        let limit = self.spec.care.limits.output_bytes;
        let output = limit.map(|limit| OutputWatch::new(self.log_file.clone(), limit));
        let start = self.inner.start(generation);
        Box::pin(async move {
            let running = start.await?;
            Ok(Box::new(this.hold(running, output)) as Box<dyn RunningAgent>)
        })
    }

    fn start_timeout(&self) -> Option<Duration> {
        self.inner.start_timeout()
    }
}

/// One run that is held to its limits.
#[derive(Debug)]
struct RunningLimited {
    inner: Box<dyn RunningAgent>,
    meter: Option<Meter>,
    breach: Option<oneshot::Receiver<Breach>>,
    run_until: Option<Instant>,
    run_time: Duration,
    grace: Duration,
    /// When the run is killed that was asked to stop because of its age.
    kill_at: Option<Instant>,
    cause: Option<Cause>,
    holds: BTreeMap<String, LimitHold>,
    /// Kills for want of memory that the kernel had counted when the daemon began.
    oom_kills: Option<u64>,
    /// When the run was taken over, on the clock of processes.
    began: Duration,
}

/// Why this wrapper ends the run.
#[derive(Debug)]
enum Cause {
    Breach(Breach),
    RunTime,
}

/// What comes next.
enum Next {
    News(RunNews),
    Breach(Option<Breach>),
    TooOld,
    Overdue,
}

impl RunningLimited {
    async fn news(&mut self) -> RunNews {
        loop {
            let next = tokio::select! {
                // An exit goes before what it makes pointless. All are cancel safe: the inner run
                // keeps its news, the receiver what was sent, the times are in this state.
                biased;
                news = self.inner.next() => Next::News(news),
                breach = received(&mut self.breach) => Next::Breach(breach),
                () = at(self.run_until) => Next::TooOld,
                () = at(self.kill_at) => Next::Overdue,
            };
            match next {
                // Cancelling what is asked about an end loses nothing: the inner run keeps it.
                Next::News(RunNews::Exited(exit)) => {
                    return RunNews::Exited(self.explained(exit).await);
                }
                Next::News(news @ RunNews::Health(_)) => return news,
                Next::Breach(breach) => self.on_breach(breach),
                Next::TooOld => self.on_too_old(),
                Next::Overdue => {
                    self.kill_at = None;
                    self.inner.kill();
                }
            }
        }
    }

    /// The sampler found a breach, or watches no more.
    fn on_breach(&mut self, breach: Option<Breach>) {
        self.breach = None;
        let Some(breach) = breach else { return };
        self.cause.get_or_insert(Cause::Breach(breach));
        self.inner.kill();
    }

    fn on_too_old(&mut self) {
        self.run_until = None;
        self.cause.get_or_insert(Cause::RunTime);
        self.kill_at = Instant::now().checked_add(self.grace);
        self.inner.ask_to_stop();
    }

    /// The end with its cause, or with what the kernel says of a kill that nobody here has sent.
    async fn explained(&mut self, exit: ChildExit) -> ChildExit {
        const SIGKILL: i32 = 9;
        let killed = exit == ChildExit::Signaled { signal: SIGKILL };
        let known = self.cause.is_some() || oom::kills() == self.oom_kills;
        let (true, false, Some(pid)) = (killed, known, self.inner.pid()) else {
            return self.told(exit);
        };
        let began = self.began;
        let asked = tokio::task::spawn_blocking(move || oom::evidence(pid, began)).await;
        match asked.ok().flatten() {
            Some(message) => ChildExit::OutOfMemory { message, codes: exit.code_and_signal() },
            None => exit,
        }
    }

    /// The end with its cause. An end of another kind than what the cause leads to happened by
    /// itself in that moment and is told as it was.
    fn told(&self, exit: ChildExit) -> ChildExit {
        const SIGKILL: i32 = 9;
        let killed = matches!(exit, ChildExit::Killed | ChildExit::Signaled { signal: SIGKILL });
        let codes = if exit == ChildExit::Killed {
            ExitCodes { code: None, signal: Some(SIGKILL) }
        } else {
            exit.code_and_signal()
        };
        match &self.cause {
            Some(Cause::Breach(breach)) if killed => over(breach, codes),
            Some(Cause::RunTime) if killed || matches!(exit, ChildExit::Stopped) => {
                let limit = self.run_time.as_secs_f64();
                let message = format!("limits.run_time allows {limit} s");
                ChildExit::RanTooLong { message, codes }
            }
            Some(Cause::Breach(_) | Cause::RunTime) | None => exit,
        }
    }
}

/// The end of a run that was killed for a breach.
fn over(breach: &Breach, codes: ExitCodes) -> ChildExit {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match breach {
        Breach::Memory { used, limit, processes } => ChildExit::OutOfMemory {
            message: format!(
                "{} MiB in {processes} processes; max_memory_mb allows {}; killed by provost, which \
                 samples every {} s here",
                mib(*used),
                mib(*limit),
                SAMPLE_EVERY.as_secs()
            ),
            codes,
        },
        Breach::Output { written, limit } => {
            let reason = format!(
                "over its output: {written} bytes written, limits.output_size allows {limit}; killed \
                 by provost"
            );
            let judged =
                Judged { class: ExitClass::Crash, action: ExitAction::Restart, reason, rule: None };
            let exit = Box::new(ChildExit::Signaled { signal: codes.signal.unwrap_or_default() });
            ChildExit::Judged { exit, judged }
        }
    }
}

async fn received(breach: &mut Option<oneshot::Receiver<Breach>>) -> Option<Breach> {
    match breach {
        Some(receiver) => receiver.await.ok(),
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl RunningAgent for RunningLimited {
    fn pid(&self) -> Option<u32> {
        self.inner.pid()
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            // Cancel safe: all that happens is in this state.
            let mut news = self.news().await;
            loop {
                match news {
                    RunNews::Exited(exit) => return exit,
                    RunNews::Health(_) => news = self.news().await,
                }
            }
        })
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(self.news())
    }

    fn face(&self) -> RunFace {
        let containment = self.meter.as_ref().map(|meter| meter.tree.containment());
        let face = self.inner.face();
        let limits = self.holds.clone();
        RunFace { containment: face.containment.or(containment), limits, ..face }
    }

    fn ask_to_stop(&mut self) {
        self.inner.ask_to_stop();
    }

    fn kill(&mut self) {
        self.inner.kill();
    }

    fn measure(&mut self) -> HealthMetrics {
        let metrics = self.inner.measure();
        match &mut self.meter {
            Some(meter) => meter.measure(metrics),
            None => metrics,
        }
    }
}

/// Measures all processes of a run together.
#[derive(Debug)]
struct Meter {
    tree: RunTree,
    sampler: Sampler,
    last: Option<CpuSample>,
}

#[derive(Clone, Copy, Debug)]
struct CpuSample {
    at: Instant,
    used: Duration,
}

impl Meter {
    /// Takes the first sample, so that the first measurement covers the time from the start.
    fn new(tree: RunTree, sampler: Sampler) -> Self {
        let mut meter = Self { tree, sampler, last: None };
        meter.measure(HealthMetrics::default());
        meter
    }

    fn measure(&mut self, metrics: HealthMetrics) -> HealthMetrics {
        let members = self.sampler.with_strays(|strays| self.tree.members(strays));
        let usage = self.tree.usage(&members);
        if usage.processes == 0 {
            return metrics;
        }
        let sample = CpuSample { at: Instant::now(), used: usage.cpu };
        let cpu_usage = self.last.and_then(|last| sample.cores_since(last));
        self.last = Some(sample);
        let mib = usage.resident_bytes / (1 << 10);
        HealthMetrics {
            cpu_usage,
            memory_mb: u32::try_from(mib).ok().map(|kib| f64::from(kib) / 1024.0),
            open_files: open_files(&members),
            ..metrics
        }
    }
}

impl CpuSample {
    /// Cores in use from an earlier sample to this one; none if no time has passed. Time of ended
    /// processes that nobody counted any more is missing.
    fn cores_since(self, earlier: Self) -> Option<f64> {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let used = self.used.saturating_sub(earlier.used).as_secs_f64();
        (seconds > 0.0).then(|| used / seconds)
    }
}
