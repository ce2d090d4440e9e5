//! The watch: the child of the tree that looks at what the tap brings, and answers about alerts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::daemon::insight::Insight;
use crate::daemon::insight::station::Station;
use crate::daemon::insight::tap::Noticed;
use crate::logic::alerts::SilenceFault;
use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::command::{Answer, CommandError, ErrorKind};
use crate::protocol::insight::{AlertList, SilenceRequest};
use crate::runtimes::stdio::sleep_until_some;

/// Requests about alerts that may wait; more are refused.
const REQUESTS_MAX: usize = 64;

/// Longest time that an answer about alerts takes.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Notices that are taken at once.
const BATCH: usize = 1_024;

/// Pause after a batch, so that a flood of notices is looked at in batches and not one by one.
const BREATH: Duration = Duration::from_millis(5);

/// A request about alerts.
#[derive(Debug)]
pub enum AlertAsk {
    /// What stands?
    List,
    /// Silence something.
    Silence(SilenceRequest),
    /// End a silence.
    Unsilence(String),
    /// An alert is dealt with.
    Resolve(String),
}

type Request = (AlertAsk, oneshot::Sender<Answer>);

/// Asks the watch.
#[derive(Clone, Debug)]
pub struct AlertDesk(mpsc::Sender<Request>);

impl AlertDesk {
    /// Asks and waits for the answer.
    ///
    /// # Errors
    ///
    /// `unavailable` when the watch does not answer, else what is wrong with the request.
    pub async fn ask(&self, ask: AlertAsk) -> Result<Answer, CommandError> {
        let away = || {
            let hint = "see `provost tree` and the log";
            CommandError::new(ErrorKind::Unavailable, "the part `insight` does not answer", hint)
        };
        let (give, take) = oneshot::channel();
        self.0.try_send((ask, give)).map_err(|_full_or_gone| away())?;
        let answer = tokio::time::timeout(ANSWER_MAX, take).await;
        answer.ok().and_then(Result::ok).ok_or_else(away)
    }
}

/// What the lives of the watch have in common.
#[derive(Debug)]
struct Inbox {
    notices: mpsc::Receiver<Noticed>,
    requests: mpsc::Receiver<Request>,
}

/// The watch as a child of the tree. A new life begins with detectors that have seen nothing, and with the
/// alerts that are kept.
#[derive(Clone, Debug)]
pub struct InsightService {
    insight: Insight,
    inbox: Arc<Mutex<Inbox>>,
}

/// Where requests about alerts wait.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Request>);

/// The door for requests, and where they wait.
#[must_use]
pub fn door() -> (AlertDesk, Requests) {
    let (give, take) = mpsc::channel(REQUESTS_MAX);
    (AlertDesk(give), Requests(take))
}

impl InsightService {
    /// A watch over what a tap brings.
    #[must_use]
    pub fn new(insight: Insight, notices: mpsc::Receiver<Noticed>, requests: Requests) -> Self {
        let inbox = Inbox { notices, requests: requests.0 };
        Self { insight, inbox: Arc::new(Mutex::new(inbox)) }
    }

    async fn watch(self, stop: CancellationToken, ready: Ready) -> Result<(), ServiceError> {
        let mut inbox = self.inbox.lock().await;
        let Inbox { notices, requests } = &mut *inbox;
        let mut station = Station::open(self.insight).await;
        ready.tell();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = station.deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    keep(&mut station).await;
                    return Ok(());
                }
                // Cancel safe, all: what is not received stays in its queue, and the time stays.
                Some((ask, reply)) = requests.recv() => {
                    let answer = answer(&mut station, ask).await;
                    if reply.send(answer).is_err() {
                        tracing::debug!("nobody waits for the answer about alerts");
                    }
                }
                () = sleep_until_some(due) => station.on_deadline(),
                _ = notices.recv_many(&mut batch, BATCH) => {
                    batch.drain(..).for_each(|noticed| station.noticed(noticed));
                    // Whoever notes something meanwhile wakes nobody.
                    tokio::time::sleep(BREATH).await;
                }
            }
            station.count();
            keep(&mut station).await;
        }
    }
}

/// Writes what has changed; a disk that takes nothing is told and stops nothing.
async fn keep(station: &mut Station) {
    if let Err(error) = station.save().await {
        tracing::warn!(error, "firing alerts are not kept for the next daemon");
    }
}

async fn answer(station: &mut Station, ask: AlertAsk) -> Answer {
    let moment = station.moment();
    let unknown = |what: &str, id: &str| {
        let message = format!("there is no {what} {id}");
        CommandError::new(ErrorKind::InvalidRequest, message, "see `provost alert list`")
    };
    let steps = match ask {
        AlertAsk::List => return shown(station),
        AlertAsk::Silence(request) => {
            let id = station.new_id();
            let silenced = station.alerts.silence(moment, id, request);
            silenced.map(|_| Vec::new()).map_err(|fault| refused(&fault))
        }
        AlertAsk::Unsilence(id) => {
            station.alerts.unsilence(moment, &id).ok_or_else(|| unknown("silence", &id))
        }
        AlertAsk::Resolve(id) => {
            station.alerts.resolve(moment, &id).ok_or_else(|| unknown("firing alert", &id))
        }
    };
    match steps {
        Ok(steps) => {
            station.carry_out(steps);
            station.has_changed();
        }
        Err(error) => return error.into(),
    }
    if let Err(message) = station.save().await {
        let hint = "it holds until the daemon ends; check the state folder's space and permissions";
        return CommandError::new(ErrorKind::Internal, message, hint).into();
    }
    shown(station)
}

fn shown(station: &Station) -> Answer {
    let alerts: AlertList = station.alerts.list();
    Answer { alerts: Some(Box::new(alerts)), ..Answer::done() }
}

fn refused(fault: &SilenceFault) -> CommandError {
    let (kind, hint) = match fault {
        SilenceFault::Everything | SilenceFault::Length { .. } | SilenceFault::Reason { .. } => {
            (ErrorKind::InvalidRequest, "see `provost alert silence --help`")
        }
        SilenceFault::Full => (ErrorKind::WrongState, "end some with `provost alert unsilence`"),
    };
    CommandError::new(kind, fault.to_string(), hint)
}

impl Service for InsightService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().watch(stop, ready))
    }
}
