//! Judges how the runs of an agent end: around any runtime, the outermost of all wrappers, so that it
//! sees every end as the others made it.
//!
//! The rules are logic's ([`crate::logic::exit_rules`]). Here is what they look at: whether the run
//! was asked to stop, and the end of its output, read from its log file and only where a rule looks at
//! it. A log that was rotated during the run may have lost what a rule would have matched.

use std::fmt;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::logic::exit_rules::{Asked, Facts, TAIL_BYTES_MAX, judge, needs_output};
use crate::ports::{AgentRuntime, BoxFuture, RunFace, RunNews, RunOrigin, RunningAgent, WallClock};
use crate::protocol::care::ExitRule;
use crate::protocol::exit::{ChildExit, StartError};
use crate::protocol::fact::HealthMetrics;
use crate::protocol::id::Generation;

/// Longest wait for the end of a log; a disk that stalls must not hold back a restart.
const TAIL_PATIENCE: Duration = Duration::from_secs(2);

/// Runs an agent by another runtime and judges the ends of its runs.
#[derive(Clone, Debug)]
pub struct JudgedRuntime {
    inner: Arc<dyn AgentRuntime>,
    rules: Arc<[ExitRule]>,
    log: Arc<Path>,
    clock: Arc<dyn WallClock>,
}

impl JudgedRuntime {
    /// Judges runs of `inner` by `rules`, which come before the built-in ones. Their output is in
    /// the file `log`.
    #[must_use]
    pub fn new(
        inner: Arc<dyn AgentRuntime>,
        rules: Vec<ExitRule>,
        log: PathBuf,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        Self { inner, rules: rules.into(), log: log.into(), clock }
    }
}

impl AgentRuntime for JudgedRuntime {
    fn start(
        &self,
        generation: Generation,
    ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
        let runtime = self.clone();
        Box::pin(async move {
            // What earlier runs wrote is none of this one's.
            let before = tokio::fs::metadata(&runtime.log).await.map_or(0, |found| found.len());
            let run = runtime.inner.start(generation).await?;
            let since = match run.face().origin {
                RunOrigin::Begun => before,
                // Where its output begins is not known; its end is all the same the file's end.
                RunOrigin::Adopted => 0,
            };
            let judged = JudgedRun { run, runtime, since, asked: Asked::Nothing, end: None };
            Ok(Box::new(judged) as Box<dyn RunningAgent>)
        })
    }

    fn start_timeout(&self) -> Option<Duration> {
        self.inner.start_timeout()
    }
}

/// One run whose end will be judged.
struct JudgedRun {
    run: Box<dyn RunningAgent>,
    runtime: JudgedRuntime,
    /// Length of the log when the run began.
    since: u64,
    asked: Asked,
    end: Option<End>,
}

/// How far the judgement is. Whoever drops a call between the two loses nothing.
#[derive(Clone, Debug)]
enum End {
    /// As the run told it.
    Told(ChildExit),
    Judged(ChildExit),
}

impl fmt::Debug for JudgedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgedRun").field("run", &self.run).field("end", &self.end).finish()
    }
}

impl JudgedRun {
    /// Judges an end that was told, once.
    async fn judged(&mut self, end: End) -> ChildExit {
        let exit = match end {
            End::Judged(exit) => return exit,
            End::Told(exit) => exit,
        };
        let JudgedRuntime { rules, log, clock, .. } = self.runtime.clone();
        let needed = needs_output(&exit, self.asked, &rules);
        let output = if needed { output(&log, self.since).await } else { String::new() };
        let facts = Facts { asked: self.asked, output: &output, now: clock.now() };
        let exit = judge(exit, &rules, &facts);
        self.end = Some(End::Judged(exit.clone()));
        exit
    }
}

/// The end of a run's output; empty, and said so, if it cannot be read.
async fn output(log: &Path, since: u64) -> String {
    match tokio::time::timeout(TAIL_PATIENCE, tail(log, since)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            tracing::warn!(log = %log.display(), %error, "exit rules see no output");
            String::new()
        }
        Err(_elapsed) => {
            tracing::warn!(log = %log.display(), "log not read in time; exit rules see no output");
            String::new()
        }
    }
}

impl RunningAgent for JudgedRun {
    fn pid(&self) -> Option<u32> {
        self.run.pid()
    }

    fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
        Box::pin(async move {
            let end = match self.end.clone() {
                Some(end) => end,
                // Cancel safe by contract, and the exit is kept before the next wait.
                None => End::Told(self.run.exited().await),
            };
            self.end = Some(end.clone());
            self.judged(end).await
        })
    }

    fn next(&mut self) -> BoxFuture<'_, RunNews> {
        Box::pin(async move {
            let end = match self.end.clone() {
                Some(end) => end,
                // Cancel safe by contract, and the exit is kept before the next wait.
                None => match self.run.next().await {
                    RunNews::Exited(exit) => End::Told(exit),
                    news @ RunNews::Health(_) => return news,
                },
            };
            self.end = Some(end.clone());
            RunNews::Exited(self.judged(end).await)
        })
    }

    fn face(&self) -> RunFace {
        self.run.face()
    }

    fn ask_to_stop(&mut self) {
        // One that has ended before was not asked in time.
        if self.end.is_none() {
            self.asked = Asked::Stop;
        }
        self.run.ask_to_stop();
    }

    fn kill(&mut self) {
        self.run.kill();
    }

    fn measure(&mut self) -> HealthMetrics {
        self.run.measure()
    }
}

/// The last bytes of a file, but not what stood there before `since`. A file that is shorter was
/// rotated meanwhile: then all of it counts.
async fn tail(log: &Path, since: u64) -> std::io::Result<String> {
    let mut file = match File::open(log).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata().await?.len();
    let since = if length < since { 0 } else { since };
    file.seek(SeekFrom::Start(since.max(length.saturating_sub(TAIL_BYTES_MAX)))).await?;
    let mut bytes = Vec::new();
    // Bounded: the log may grow while it is read.
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;
    use crate::protocol::care::{ParkFrom, ParkSpec, RuleAction};
    use crate::protocol::exit::{ExitAction, ExitClass, Judged};

    /// Starts runs that write some output and end so.
    #[derive(Debug)]
    struct Scripted {
        log: PathBuf,
        writes: Vec<u8>,
        exit: ChildExit,
        origin: RunOrigin,
    }

    #[derive(Debug)]
    struct Run {
        exit: ChildExit,
        face: RunFace,
    }

    impl AgentRuntime for Scripted {
        fn start(
            &self,
            _: Generation,
        ) -> BoxFuture<'static, Result<Box<dyn RunningAgent>, StartError>> {
            use std::io::Write;
            let mut log =
                std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
            log.write_all(&self.writes).unwrap();
            let face = RunFace { origin: self.origin, ..RunFace::default() };
            let run = Run { exit: self.exit.clone(), face };
            Box::pin(async move { Ok(Box::new(run) as Box<dyn RunningAgent>) })
        }
    }

    impl RunningAgent for Run {
        fn pid(&self) -> Option<u32> {
            None
        }

        fn exited(&mut self) -> BoxFuture<'_, ChildExit> {
            Box::pin(async { self.exit.clone() })
        }

        fn face(&self) -> RunFace {
            self.face.clone()
        }

        fn ask_to_stop(&mut self) {}

        fn kill(&mut self) {}
    }

    #[derive(Debug)]
    struct Noon(Mutex<u32>);

    impl WallClock for Noon {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap() += 1;
            "2026-11-21T12:00:00Z".parse().unwrap()
        }
    }

    fn rate_limit() -> ExitRule {
        let (after, max) = (Duration::from_secs(300), Duration::from_secs(3600));
        let action = RuleAction::Park(ParkSpec { after, from: ParkFrom::Output, max });
        ExitRule { output: vec!["rate limit".into()], action: Some(action), ..ExitRule::default() }
    }

    /// A runtime whose log has some text before the run.
    fn runtime(before: &str, writes: &[u8], exit: ChildExit) -> (tempfile::TempDir, JudgedRuntime) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("w1.log");
        std::fs::write(&log, before).unwrap();
        let origin = RunOrigin::Begun;
        let inner = Scripted { log: log.clone(), writes: writes.to_vec(), exit, origin };
        let clock = Arc::new(Noon(Mutex::new(0)));
        (folder, JudgedRuntime::new(Arc::new(inner), vec![rate_limit()], log, clock))
    }

    async fn end_of(runtime: &JudgedRuntime) -> ChildExit {
        let mut run = runtime.start(Generation(1)).await.unwrap();
        let RunNews::Exited(exit) = run.next().await else { panic!("no exit") };
        assert_eq!(run.exited().await, exit, "told twice, it is the same");
        exit
    }

    fn parked(exit: &ChildExit) -> Option<u64> {
        let ExitAction::Park { after_ms } = exit.judged()?.action else { return None };
        Some(after_ms)
    }

    const ONE: ChildExit = ChildExit::Exited { code: 1 };

    #[tokio::test]
    async fn the_output_of_the_run_is_judged_and_that_of_earlier_runs_is_not() {
        let (_folder, limited) = runtime("", b"rate limit, retry after 20s\n", ONE);
        assert_eq!(parked(&end_of(&limited).await), Some(20_000));
        let (_folder, other) = runtime("rate limit, retry after 20s\n", b"a fault\n", ONE);
        assert_eq!(end_of(&other).await, ONE);
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_output_counts_whatever_its_bytes() {
        let mut noise = b"rate limit, retry after 20s\n".to_vec();
        noise.extend(std::iter::repeat_n(0xff, 100_000));
        let (_folder, early) = runtime("", &noise, ONE);
        assert_eq!(end_of(&early).await, ONE);
        noise.extend(b"\nRate Limit\n");
        let (_folder, late) = runtime("", &noise, ONE);
        assert_eq!(parked(&end_of(&late).await), Some(300_000));
    }

    #[tokio::test]
    async fn an_adopted_run_is_judged_by_the_end_of_the_log() {
        let (folder, runtime) = runtime("rate limit\n", b"", ONE);
        let inner = Scripted {
            log: folder.path().join("w1.log"),
            writes: Vec::new(),
            exit: ONE,
            origin: RunOrigin::Adopted,
        };
        let runtime = JudgedRuntime { inner: Arc::new(inner), ..runtime };
        assert_eq!(parked(&end_of(&runtime).await), Some(300_000));
    }

    #[tokio::test]
    async fn without_a_log_the_exit_code_is_judged_all_the_same() {
        let (folder, runtime) = runtime("", b"", ChildExit::Exited { code: 127 });
        let mut run = runtime.start(Generation(1)).await.unwrap();
        std::fs::remove_file(folder.path().join("w1.log")).unwrap();
        let exit = run.exited().await;
        assert_eq!(exit.judged().map(|judged| judged.class), Some(ExitClass::ConfigFault));
        let (folder, runtime) = self::runtime("", b"rate limit\n", ONE);
        let mut run = runtime.start(Generation(1)).await.unwrap();
        std::fs::remove_file(folder.path().join("w1.log")).unwrap();
        assert_eq!(run.exited().await, ONE);
    }

    #[tokio::test]
    async fn whoever_was_asked_to_stop_has_stopped() {
        let (_folder, runtime) = runtime("", b"rate limit\n", ONE);
        let mut run = runtime.start(Generation(1)).await.unwrap();
        run.ask_to_stop();
        let exit = run.exited().await;
        let Judged { class, rule, .. } = exit.judged().unwrap();
        assert_eq!((*class, rule), (ExitClass::Stopped, &None));
        assert_eq!(*exit.bare(), ONE);
    }

    #[tokio::test]
    async fn one_that_had_ended_before_it_was_asked_to_stop_has_crashed() {
        let (_folder, runtime) = runtime("", b"", ONE);
        let mut run = runtime.start(Generation(1)).await.unwrap();
        assert_eq!(run.exited().await, ONE);
        run.ask_to_stop();
        assert_eq!(run.exited().await, ONE);
    }
}
