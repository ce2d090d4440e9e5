//! `provost demo`: runs `provost up` on a demonstration's configuration and shows what happens.
//!
//! The daemon is a child process with a fresh state folder and its own embedded NATS server; what
//! is shown and counted is read from the JetStream stream, as any outside program could. The verb
//! is hidden: it serves `make demo`.
//!
//! Words: the *scene* is the folder that holds the daemon's log and state; it goes when all is
//! over.

pub mod scene;
pub mod tally;
pub mod watch;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::cli::Exit;
use crate::cli::demo::scene::Scene;
use crate::cli::demo::tally::Tally;
use crate::cli::demo::watch::{Watch, WatchError};
use crate::cli::event_text::{Detail, live_line};
use crate::protocol::event::Envelope;
use crate::protocol::fact::Fact;

/// How often the daemon is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to show.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Configuration of the daemon.
    pub config: PathBuf,
    /// Ends by itself after so many seconds of running; never when `None`.
    pub seconds: Option<u64>,
}

/// Why a demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something about files, signals or the runtime.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The daemon ended before it was asked to.
    #[error("the daemon ended by itself ({status}); the end of its log:\n{log}")]
    DaemonEnded {
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The daemon ended badly after it was asked to stop.
    #[error("the daemon did not stop in order ({status}); the end of its log:\n{log}")]
    BadEnd {
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// The daemon is there but its events cannot be read.
    #[error("cannot read the events: {error}; the end of the daemon's log:\n{log}")]
    Events {
        /// Why.
        error: WatchError,
        /// The last lines of the daemon's log.
        log: String,
    },
}

/// Runs the demonstration until its time is over, or a signal (Ctrl-C) ends it.
///
/// The last line on stdout is [`Tally`]'s, counted from the stream. The exit code is 0 when
/// the daemon did its part: it ran to the end and then stopped in order.
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line's own output")]
pub fn demo(options: &DemoOptions) -> Exit {
    match run(options) {
        Ok(tally) => {
            println!("{tally}");
            Exit::Done
        }
        Err(error) => {
            eprintln!("demo: {error}");
            exit_of(&error)
        }
    }
}

/// The daemon's own code where it gave one (2: invalid configuration), 5 where its events cannot be
/// read, else 1.
fn exit_of(error: &DemoError) -> Exit {
    let known = |code: i32| Exit::ALL.into_iter().find(|exit| i32::from(exit.code()) == code);
    match error {
        DemoError::DaemonEnded { status, .. } | DemoError::BadEnd { status, .. } => {
            status.code().filter(|code| *code != 0).and_then(known).unwrap_or(Exit::Bad)
        }
        DemoError::Events { .. } => Exit::Unreachable,
        DemoError::System { .. } => Exit::Bad,
    }
}

fn run(options: &DemoOptions) -> Result<Tally, DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(async {
        let mut ends = Ends::listen(options.seconds)?;
        let mut scene = Scene::open(&options.config)?;
        let played = Box::pin(play(&mut scene, &mut ends)).await;
        // Whatever happened, the daemon is stopped in order before anything is told.
        let stopped = scene.stop().await;
        let tally = played?;
        stopped?;
        // After a fault the folder stays: the message has told where the log is.
        scene.clear()?;
        Ok(tally)
    })
}

/// Shows events until an end comes; then counts.
#[expect(clippy::print_stdout, reason = "the command line's own output")]
async fn play(scene: &mut Scene, ends: &mut Ends) -> Result<Tally, DemoError> {
    let mut tally = Tally::default();
    let watched = tokio::select! {
        // Cancelling the opening loses nothing: the connection goes with it.
        watched = Watch::open(scene.state_dir()) => watched,
        // Both only look; nothing is taken that another would miss.
        () = ends.signal() => return Ok(tally),
        error = scene.ended() => return Err(error),
    };
    let mut watch = watched.map_err(|error| scene.unreadable(error))?;
    ends.start_the_clock();
    println!("{}", scene.opening());
    let zone = TimeZone::system();
    let mut told = false;
    loop {
        tokio::select! {
            // Cancel safe: an event that is not handed out stays in the subscription.
            event = watch.next() => {
                let event = event.map_err(|error| scene.unreadable(error))?;
                if let Some(line) = live_line(&event, Detail::Brief, &zone) {
                    anstream::println!("{line}");
                }
                if let Some(pid) = process_of(&event, "steady").filter(|_| !told) {
                    told = true;
                    println!("{}", scene.what_to_try(pid));
                }
            }
            () = ends.any() => break,
            error = scene.ended() => return Err(error),
        }
    }
    watch.count(&mut tally).await.map_err(|error| scene.unreadable(error))?;
    Ok(tally)
}

/// The process that an event says the agent of this name now runs as.
fn process_of(event: &Envelope, agent: &str) -> Option<u32> {
    match Fact::read(&event.event_type, &event.data) {
        Ok(Some(Fact::AgentStateChanged(change))) if change.name.as_str() == agent => change.pid,
        _ => None,
    }
}

/// What ends a demonstration in order: Ctrl-C, SIGTERM, a closed terminal, or its time.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    seconds: Option<u64>,
    deadline: Option<Instant>,
}

impl Ends {
    fn listen(seconds: Option<u64>) -> Result<Self, DemoError> {
        let listen = |kind| signal(kind).map_err(system("listen to signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            seconds,
            deadline: None,
        })
    }

    /// The time counts from when the daemon works: a slow start shortens no demonstration.
    fn start_the_clock(&mut self) {
        let length = self.seconds.map(Duration::from_secs);
        self.deadline = length.and_then(|length| Instant::now().checked_add(length));
    }

    async fn signal(&mut self) {
        // Cancel safe: a signal that was not taken is seen by the next call.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    async fn any(&mut self) {
        let deadline = self.deadline;
        let time = async move {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // Cancel safe: the deadline is kept outside, signals as above.
        tokio::select! {
            () = self.signal() => {}
            () = time => {}
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::System { what, source }
}
