//! Rust code inside the daemon as a child: the daemon's own parts, and agents of library users.
//!
//! A run is one task. It is never left alone: dropping the run aborts it, and its end is told only
//! when the task is really gone. Code that never awaits cannot be aborted; it belongs on a thread
//! of its own.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::ports::{AgentRuntime, BoxFuture, Ready, RunningAgent, Service, ServiceError};
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::id::Generation;

/// Longest wait for a task that was aborted because its start took too long.
const ABORT_MAX: Duration = Duration::from_secs(5);

/// Start timeout of [`service_fn`], unless set.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one service as a child.
#[derive(Clone, Debug)]
pub struct ServiceRuntime {
    service: Arc<dyn Service>,
}

impl ServiceRuntime {
    /// A runtime whose every run is one call of the service's `run`.
    #[must_use]
    pub fn new(service: Arc<dyn Service>) -> Self {
        Self { service }
    }
}

impl AgentRuntime for ServiceRuntime {
    fn start(
        &self,
        _generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            let running = start(service).await?;
            Ok(Box::new(running) as Box<dyn RunningAgent>)
        })
    }
}

async fn start(service: Arc<dyn Service>) -> Result<RunningService, StartError> {
    let limit = service.start_timeout();
    let stop = CancellationToken::new();
    let (tell, told) = oneshot::channel();
    // Nobody listens any more only when the start was given up.
    let ready = Ready::new(move || tell.send(()).unwrap_or_default());
    let token = stop.clone();
    // `run` itself is called inside the task, so that a panic in it is caught, too.
    let body = async move { service.run(token, ready).await };
    #[expect(clippy::disallowed_methods, reason = "the handle is kept and aborts on drop")]
    let task = tokio::spawn(body);
    let mut run = RunningService { task: Task(task), stop, end: End::Running, killed: false };
    let started = tokio::time::timeout(limit, run.until_ready(told)).await;
    match started {
        Ok(Ok(())) => Ok(run),
        Ok(Err(message)) => Err(StartError::Failed { message }),
        Err(_elapsed) => {
            run.kill();
            // Nothing of it may be left, as far as that can be achieved.
            tokio::time::timeout(ABORT_MAX, run.end()).await.ok();
            let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(StartError::Timeout { timeout_ms })
        }
    }
}

/// One task under way.
#[derive(Debug)]
struct RunningService {
    task: Task,
    stop: CancellationToken,
    end: End,
    killed: bool,
}

#[derive(Debug)]
enum End {
    Running,
    Over(ChildExit),
}

/// A task that is aborted when this is dropped.
#[derive(Debug)]
struct Task(JoinHandle<Result<(), ServiceError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunningService {
    /// Waits until the service works; gives what happened if it ended first.
    async fn until_ready(&mut self, mut told: oneshot::Receiver<()>) -> Result<(), String> {
        let exit = tokio::select! {
            // First, so that a service which works and ends at once has started.
            biased;
            // Cancelling loses nothing: if the task ends first, nobody needs the word.
            Ok(()) = &mut told => return Ok(()),
            // Cancel safe: the end is kept.
            exit = self.end() => exit,
        };
        if told.try_recv().is_ok() {
            return Ok(());
        }
        if matches!(exit, ChildExit::Finished | ChildExit::Stopped) {
            return Err("it ended before it was ready".to_owned());
        }
        Err(if let ChildExit::Failed { message } = exit { message } else { exit.to_string() })
    }

    async fn end(&mut self) -> ChildExit {
        if let End::Over(exit) = &self.end {
            return exit.clone();
        }
        // Cancel safe: a join handle keeps its result until it was given out.
        let exit = match (&mut self.task.0).await {
            Ok(Ok(())) if self.stop.is_cancelled() => ChildExit::Stopped,
            Ok(Ok(())) => ChildExit::Finished,
            Ok(Err(error)) => ChildExit::Failed { message: error.message },
            Err(error) => self.ended_badly(error),
        };
        self.end = End::Over(exit.clone());
        exit
    }

    fn ended_badly(&self, error: JoinError) -> ChildExit {
        match error.try_into_panic() {
            Ok(payload) => ChildExit::Panicked { message: panic_text(payload.as_ref()) },
            Err(_cancelled) if self.killed => ChildExit::Killed,
            Err(_cancelled) => {
                ChildExit::Lost { message: "the runtime it ran on was shut down".to_owned() }
            }
        }
    }
}

impl RunningAgent for RunningService {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(self.end())
    }

    fn ask_to_stop(&mut self) {
        self.stop.cancel();
    }

    fn kill(&mut self) {
        self.killed = true;
        self.task.0.abort();
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned())
}

/// Makes a service from a closure; each run is one call of it.
///
/// ```
/// use std::sync::Arc;
/// use provost::runtimes::in_process::{ServiceRuntime, service_fn};
///
/// let ticker = service_fn("ticker", |stop, ready| async move {
///     ready.tell();
///     stop.cancelled().await;
///     Ok(())
/// });
/// let runtime = ServiceRuntime::new(Arc::new(ticker));
/// ```
pub fn service_fn<F, R>(name: &'static str, run: F) -> ServiceFn<F>
where
    F: Fn(CancellationToken, Ready) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), ServiceError>> + Send + 'static,
{
    ServiceFn { name, run, start_timeout: START_TIMEOUT }
}

/// A service made by [`service_fn`].
#[derive(Clone)]
pub struct ServiceFn<F> {
    name: &'static str,
    run: F,
    start_timeout: Duration,
}

impl<F> ServiceFn<F> {
    /// The same service with another limit from start to ready; 30 s otherwise.
    #[must_use]
    pub fn with_start_timeout(self, start_timeout: Duration) -> Self {
        Self { start_timeout, ..self }
    }
}

impl<F> fmt::Debug for ServiceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F, R> Service for ServiceFn<F>
where
    F: Fn(CancellationToken, Ready) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), ServiceError>> + Send + 'static,
{
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin((self.run)(stop, ready))
    }

    fn start_timeout(&self) -> Duration {
        self.start_timeout
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn started(service: impl Service) -> Result<Box<dyn RunningAgent>, StartError> {
        ServiceRuntime::new(Arc::new(service)).start(Generation(1)).await
    }

    /// Starts a service that is ready at once and then does `body`; gives how it ended.
    async fn check<R>(body: fn(CancellationToken) -> R, act: fn(&mut dyn RunningAgent)) -> ChildExit
    where
        R: Future<Output = Result<(), ServiceError>> + Send + 'static,
    {
        let service = service_fn("test", move |stop, ready| {
            ready.tell();
            body(stop)
        });
        let mut running = started(service).await.unwrap();
        assert_eq!(running.pid(), None);
        act(running.as_mut());
        let exit = running.exited().await;
        assert_eq!(running.exited().await, exit, "the exit is kept");
        exit
    }

    fn leave_alone(_: &mut dyn RunningAgent) {}

    #[tokio::test(start_paused = true)]
    async fn an_end_without_being_asked_is_finished() {
        let exit = check(|_stop| async { Ok(()) }, leave_alone).await;
        assert_eq!(exit, ChildExit::Finished);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_on_request_is_stopped() {
        let wait = |stop: CancellationToken| async move {
            stop.cancelled().await;
            Ok(())
        };
        assert_eq!(check(wait, RunningAgent::ask_to_stop).await, ChildExit::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_failed_with_its_text() {
        let exit = check(|_stop| async { Err(ServiceError::new("no disk")) }, leave_alone).await;
        assert_eq!(exit, ChildExit::Failed { message: "no disk".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_caught_with_its_text() {
        let exit = check(|_stop| async { panic!("bug {}", 7) }, leave_alone).await;
        assert_eq!(exit, ChildExit::Panicked { message: "bug 7".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_stop_is_killed() {
        let deaf = |_stop| pending::<Result<(), ServiceError>>();
        let act = |running: &mut dyn RunningAgent| {
            running.ask_to_stop();
            running.kill();
        };
        assert_eq!(check(deaf, act).await, ChildExit::Killed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_fails_when_the_service_ends_or_panics_before_it_is_ready() {
        let failed = |message: &str| StartError::Failed { message: message.to_owned() };
        let ends = service_fn("test", |_stop, _ready| async { Ok(()) });
        assert_eq!(started(ends).await.unwrap_err(), failed("it ended before it was ready"));
        let fails = service_fn("test", |_stop, _ready| async { Err(ServiceError::new("port")) });
        assert_eq!(started(fails).await.unwrap_err(), failed("port"));
        let panics = service_fn("test", |_stop, _ready| -> std::future::Pending<_> { panic!("x") });
        assert_eq!(started(panics).await.unwrap_err(), failed("panicked: x"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_ready_and_ends_at_once_has_started() {
        let service = service_fn("test", |_stop, ready: Ready| {
            ready.tell();
            std::future::ready(Err(ServiceError::new("later")))
        });
        let exit = started(service).await.unwrap().exited().await;
        assert_eq!(exit, ChildExit::Failed { message: "later".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_too_long_is_ended() {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        let service = service_fn("test", |_stop, _ready| async {
            let _live = Counted::new(&LIVE);
            pending().await
        });
        let begun = tokio::time::Instant::now();
        let error = started(service.with_start_timeout(Duration::from_secs(7))).await.unwrap_err();
        assert_eq!(error, StartError::Timeout { timeout_ms: 7_000 });
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_a_start_or_a_run_ends_the_service() {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        let service = Arc::new(service_fn("test", |_stop, ready: Ready| async {
            let _live = Counted::new(&LIVE);
            tokio::time::sleep(Duration::from_secs(1)).await;
            ready.tell();
            pending().await
        }));
        let runtime = ServiceRuntime::new(service);
        let early = tokio::time::timeout(Duration::from_millis(10), runtime.start(Generation(1)));
        assert!(early.await.is_err());
        let running = runtime.start(Generation(2)).await.unwrap();
        assert_eq!(LIVE.load(Ordering::SeqCst), 1, "only the second lives");
        drop(running);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }

    /// Counts while it lives.
    struct Counted(&'static AtomicUsize);

    impl Counted {
        fn new(count: &'static AtomicUsize) -> Self {
            count.fetch_add(1, Ordering::SeqCst);
            Self(count)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
