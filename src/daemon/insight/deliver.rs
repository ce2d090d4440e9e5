//! Hands alerts to their receivers: a command, or a signed webhook.
//!
//! Each receiver has a queue ([`QUEUE_MAX`]) and one task that works on it, so that one that is slow
//! or away holds up neither the others nor anything else; what finds no room is told in the log and
//! counted in `provost_alert_deliveries_total{outcome="dropped"}`. An attempt has a longest time; between attempts the pause
//! grows from [`PAUSE`] to [`PAUSE_MAX`]. What was not delivered when the daemon ends is not delivered
//! later: the alert is an event in the stream all the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::actors::defaults::{SystemClock, SystemIds};
use crate::adapters::webhook::Webhook;
use crate::config::{Config, Environment, Receiver, ReceiverKind, Resolved};
use crate::logic::alerts::Receivers;
use crate::metrics::{self, Delivery};
use crate::ports::{Ids, WallClock};
use crate::protocol::event::Envelope;
use crate::protocol::exit::ChildExit;
use crate::protocol::insight::{AlertChanged, AlertState};
use crate::protocol::spec::{SignalName, StopSpec};
use crate::runtimes::keeper::{IoMode, KeeperSlot, ProcessRun};
use crate::transport::files::write_private;

/// Alerts that may wait for one receiver.
pub const QUEUE_MAX: usize = 100;

/// First pause after a failed attempt.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a killed command.
const GONE_MAX: Duration = Duration::from_secs(5);

/// Output of a command that is kept, in bytes.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// Names one run of a command in its environment.
const MARK: &str = "PROVOST_ALERT_RUN";

/// What receivers are told by.
#[derive(Clone, Debug)]
pub struct Means {
    /// Starts commands.
    pub keeper: KeeperSlot,
    /// Where their files are.
    pub state_dir: PathBuf,
    /// Their environment.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Marks their runs.
    pub ids: Arc<dyn Ids>,
    /// Dates signatures.
    pub clock: Arc<dyn WallClock>,
}

impl Means {
    /// The daemon's own means.
    #[must_use]
    pub fn new(environment: &Environment, config: &Config, keeper: KeeperSlot) -> Self {
        let variables = environment.iter();
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            keeper,
            state_dir: config.provost.state_dir.clone(),
            environment: Arc::new(variables.collect()),
            ids: Arc::new(SystemIds),
            clock: Arc::new(SystemClock),
        }
    }
}

/// One alert on its way.
#[derive(Clone, Debug)]
struct Letter {
    alert: Arc<AlertChanged>,
    id: String,
    body: Arc<[u8]>,
}

/// All receivers. Dropping it ends what is under way.
#[derive(Debug)]
pub struct Post {
    boxes: BTreeMap<String, (Receiver, mpsc::Sender<Letter>)>,
    _workers: JoinSet<()>,
}

impl Post {
    /// Begins to work for these receivers.
    #[must_use]
    pub fn open(receivers: &BTreeMap<String, Receiver>, means: &Means) -> Self {
        let mut workers = JoinSet::new();
        let mut boxes = BTreeMap::new();
        for (name, receiver) in receivers {
            let (give, take) = mpsc::channel(QUEUE_MAX);
            boxes.insert(name.clone(), (receiver.clone(), give));
            let (name, receiver, means) = (name.clone(), receiver.clone(), means.clone());
            workers.spawn(work(name, receiver, means, take));
        }
        Self { boxes, _workers: workers }
    }

    /// Hands an alert over; returns at once.
    pub fn send(&self, alert: &AlertChanged, envelope: &Envelope, to: &Receivers) {
        let Ok(body) = serde_json::to_vec(envelope) else { return };
        let letter = Letter {
            alert: Arc::new(alert.clone()),
            id: envelope.id.to_string(),
            body: body.into(),
        };
        for (name, (receiver, give)) in &self.boxes {
            let is_named = match to {
                Receivers::All => true,
                Receivers::Named(names) => names.contains(name),
            };
            let is_kept =
                alert.state == AlertState::Resolved && receiver.resolved == Resolved::Kept;
            if !is_named || is_kept || alert.severity < receiver.min_severity {
                continue;
            }
            if give.try_send(letter.clone()).is_err() {
                metrics::alert_delivered(Delivery::Dropped);
                tracing::warn!(
                    receiver = name,
                    alert = alert.alert,
                    waiting = QUEUE_MAX,
                    "alert not delivered: too many wait for the receiver"
                );
            }
        }
    }
}

/// Works on the queue of one receiver.
async fn work(name: String, receiver: Receiver, means: Means, mut take: mpsc::Receiver<Letter>) {
    while let Some(letter) = take.recv().await {
        let mut pause = PAUSE;
        for attempt in 1..=receiver.max_attempts {
            match once(&name, &receiver, &means, &letter).await {
                Ok(()) => {
                    metrics::alert_delivered(Delivery::Done);
                    break;
                }
                Err(Undelivered { message, again: Again::MayHelp })
                    if attempt < receiver.max_attempts =>
                {
                    tracing::debug!(receiver = name, attempt, error = message, "alert waits");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
                Err(Undelivered { message, .. }) => {
                    metrics::alert_delivered(Delivery::Failed);
                    let alert = &letter.alert.alert;
                    tracing::error!(
                        receiver = name,
                        alert,
                        attempt,
                        error = message,
                        "alert not delivered"
                    );
                    break;
                }
            }
        }
    }
}

/// Why an attempt did not succeed.
struct Undelivered {
    message: String,
    again: Again,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Again {
    MayHelp,
    CannotHelp,
}

fn undelivered(message: impl ToString, again: Again) -> Undelivered {
    Undelivered { message: message.to_string(), again }
}

async fn once(
    name: &str,
    receiver: &Receiver,
    means: &Means,
    letter: &Letter,
) -> Result<(), Undelivered> {
    match &receiver.by {
        ReceiverKind::Webhook { url, secret } => {
            let webhook =
                Webhook::new(url, secret).map_err(|error| undelivered(error, Again::CannotHelp))?;
            let stamp = means.clock.now().as_second();
            let posted = webhook.post((&letter.id, stamp), letter.body.to_vec(), receiver.timeout);
            posted.await.map_err(|error| {
                let again = if error.may_pass() { Again::MayHelp } else { Again::CannotHelp };
                undelivered(error, again)
            })
        }
        ReceiverKind::Command { command, folder } => {
            let run = prepared(name, means, letter, (command, folder)).await?;
            let mut process = means
                .keeper
                .start(run)
                .await
                .map_err(|error| undelivered(error, Again::MayHelp))?;
            // Cancel safe: dropping the handle kills the command and all that it started.
            match tokio::time::timeout(receiver.timeout, process.exited()).await {
                Ok(ChildExit::Exited { code: 0 }) => Ok(()),
                Ok(exit) => Err(undelivered(exit, Again::MayHelp)),
                Err(_elapsed) => {
                    process.kill();
                    tokio::time::timeout(GONE_MAX, process.exited()).await.ok();
                    let limit = receiver.timeout.as_secs_f64();
                    Err(undelivered(format!("took longer than {limit} s"), Again::MayHelp))
                }
            }
        }
    }
}

/// The run of a command: the document is a file that it reads as its standard input.
async fn prepared(
    name: &str,
    means: &Means,
    letter: &Letter,
    (command, folder): (&[String], &PathBuf),
) -> Result<ProcessRun, Undelivered> {
    let files = means.state_dir.join("alerts");
    let (stdin, stdout) = (files.join(format!("{name}.in")), files.join(format!("{name}.out")));
    let (input, output, body) = (stdin.clone(), stdout.clone(), Arc::clone(&letter.body));
    let written = tokio::task::spawn_blocking(move || {
        write_private(&input, &body)?;
        write_private(&output, b"")
    });
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    written.map_err(|error| undelivered(error, Again::MayHelp))?;
    let log = means.state_dir.join("logs").join(format!("alert-{name}.log"));
    let mut run = ProcessRun::new(command.to_vec(), log);
    run.cwd.clone_from(folder);
    run.log.max_bytes = OUTPUT_BYTES_MAX;
    run.log.keep = 0;
    run.stop = StopSpec { signal: SignalName::Kill, grace: Duration::ZERO };
    run.io = IoMode::Files { stdin: Some(stdin), stdout };
    let passed = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER"];
    let passed = passed.into_iter().filter_map(|key| {
        let value = means.environment.get(key)?;
        Some((key.to_owned(), value.clone()))
    });
    let alert = &letter.alert;
    let own = [
        ("PROVOST_ALERT", alert.alert.clone()),
        ("PROVOST_ALERT_STATE", alert.state.as_str().to_owned()),
        ("PROVOST_ALERT_SEVERITY", alert.severity.as_str().to_owned()),
        ("PROVOST_ALERT_SCOPE", alert.scope.clone()),
        (MARK, means.ids.uuid().to_string()),
    ];
    run.env = passed.chain(own.map(|(key, value)| (key.to_owned(), value))).collect();
    run.marks = vec![MARK.to_owned()];
    Ok(run)
}
