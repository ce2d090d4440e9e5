//! The command endpoints: `agent.command` and `system.control`, as a NATS micro service.
//!
//! Every request with a reply subject gets exactly one typed answer, whatever it holds. What is
//! bounded: the size of a request, the requests under way, those waiting and their bytes, the time
//! of one, the size of an answer. Beyond a bound the answer is `unavailable`, at once. What a
//! command does is the handler's business.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::ports::{BoxFuture, CommandHandler, Ready, Service, ServiceError};
use crate::protocol::command::{
    AgentCommand, Answer, COMMAND_BYTES_MAX, CommandError, ControlCommand, ErrorKind,
};
use crate::protocol::subject::Subject;
use crate::transport::connect::Connection;
use crate::transport::failure::CallError;
use crate::transport::micro::{self, Endpoint, MicroIdentity, Verb};
use crate::transport::request::{parse_agent_command, parse_control_command, too_large};
use crate::transport::slot::ConnectionSlot;

/// Bounds of the endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommandLimits {
    /// Commands carried out at the same time.
    pub running_max: usize,
    /// Commands waiting for their turn.
    pub waiting_max: usize,
    /// Bytes of all requests running and waiting.
    pub bytes_max: usize,
    /// Longest time of one command, its wait included.
    pub timeout: Duration,
    /// Longest time that commands under way are waited for at the end.
    pub drain: Duration,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self {
            running_max: 64,
            waiting_max: 4_096,
            bytes_max: 16 * 1024 * 1024,
            timeout: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// A parsed request.
#[derive(Debug)]
enum Command {
    Agent(AgentCommand),
    Control(ControlCommand),
}

/// Which endpoint, or which question about the service.
#[derive(Clone, Copy, Debug)]
enum Door {
    Agent,
    Control,
    Discovery(Verb),
}

/// Answers commands on the slot's connection.
#[derive(Clone, Debug)]
pub struct CommandService {
    slot: ConnectionSlot,
    handler: Arc<dyn CommandHandler>,
    identity: MicroIdentity,
    limits: CommandLimits,
}

impl CommandService {
    /// A service with the default bounds.
    #[must_use]
    pub fn new(
        slot: ConnectionSlot,
        handler: Arc<dyn CommandHandler>,
        identity: MicroIdentity,
    ) -> Self {
        Self { slot, handler, identity, limits: CommandLimits::default() }
    }

    /// The service with other bounds.
    #[must_use]
    pub fn with_limits(self, limits: CommandLimits) -> Self {
        Self { limits, ..self }
    }

    async fn answer_until_stopped(
        self,
        stop: CancellationToken,
        ready: Ready,
    ) -> Result<(), ServiceError> {
        let mut ready = Some(ready);
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                connection = self.slot.connection() => connection,
            };
            let opening = Desk::open(&connection, &self);
            let mut desk = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.slot.replaced(&connection) => continue,
                desk = opening => desk.map_err(|error| ServiceError::new(error.to_string()))?,
            };
            if let Some(ready) = ready.take() {
                ready.tell();
            }
            tokio::select! {
                () = stop.cancelled() => {
                    desk.close().await;
                    return Ok(());
                }
                // Who asked through the old connection cannot be answered any more.
                () = self.slot.replaced(&connection) => {}
                () = desk.serve() => {
                    return Err(ServiceError::new("the command subscriptions ended"));
                }
            }
        }
    }
}

impl Service for CommandService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().answer_until_stopped(stop, ready))
    }
}

type Incoming = SelectAll<std::pin::Pin<Box<dyn Stream<Item = (Door, Message)> + Send>>>;

/// What everybody at work needs.
#[derive(Debug)]
struct Shared {
    connection: Connection,
    handler: Arc<dyn CommandHandler>,
    identity: MicroIdentity,
    limits: CommandLimits,
    agent: Endpoint,
    control: Endpoint,
    turns: Semaphore,
}

/// The open endpoints on one connection. Dropping it ends what is under way.
struct Desk {
    shared: Arc<Shared>,
    incoming: Incoming,
    work: JoinSet<()>,
    bytes: Arc<Semaphore>,
}

impl Desk {
    async fn open(connection: &Connection, service: &CommandService) -> Result<Self, CallError> {
        let prefix = connection.prefix();
        let shared = Shared {
            connection: connection.clone(),
            handler: Arc::clone(&service.handler),
            identity: service.identity.clone(),
            limits: service.limits,
            agent: Endpoint::new("agent-command", Subject::AgentCommand.under(prefix)),
            control: Endpoint::new("system-control", Subject::SystemControl.under(prefix)),
            turns: Semaphore::new(service.limits.running_max),
        };
        let mut doors = Vec::new();
        let client = connection.client();
        let bad = |subject: &str, error: &dyn std::error::Error| CallError::BadSubject {
            subject: subject.to_owned(),
            said: error.to_string(),
        };
        for verb in Verb::ALL {
            for subject in verb.subjects(&shared.identity.id) {
                let subscriber = client.subscribe(subject.clone()).await;
                let subscriber = subscriber.map_err(|error| bad(&subject, &error))?;
                doors.push(door(Door::Discovery(verb), subscriber));
            }
        }
        for (kind, endpoint) in [(Door::Agent, &shared.agent), (Door::Control, &shared.control)] {
            let subject = endpoint.subject();
            let group = micro::QUEUE_GROUP;
            // The round trip confirms the subscriptions made before, too.
            let subscriber = connection.queue_subscribe_confirmed(subject, group).await?;
            doors.push(door(kind, subscriber));
        }
        let bytes = Arc::new(Semaphore::new(service.limits.bytes_max));
        let incoming = select_all(doors);
        Ok(Self { shared: Arc::new(shared), incoming, work: JoinSet::new(), bytes })
    }

    /// Takes requests until the subscriptions end.
    async fn serve(&mut self) {
        loop {
            // Cancelling one of these loses nothing: requests stay in their subscription, ended
            // work in its set.
            tokio::select! {
                Some(ended) = self.work.join_next(), if !self.work.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(error = %error, "answering a command failed");
                    }
                }
                incoming = self.incoming.next() => match incoming {
                    Some((door, message)) => self.take(door, message).await,
                    None => return,
                },
            }
        }
    }

    /// Takes no more requests and waits for those under way.
    async fn close(self) {
        let Self { shared, incoming, mut work, .. } = self;
        drop(incoming);
        let limits = shared.limits;
        let draining = async { while work.join_next().await.is_some() {} };
        if timeout(limits.drain, draining).await.is_err() {
            tracing::warn!(unanswered = work.len(), "commands are still under way at the end");
        }
        // The answers are on their way only when the server has been reached after them.
        if let Err(error) = shared.connection.round_trip().await {
            tracing::debug!(error = %error, "the last answers may be lost");
        }
    }

    async fn take(&mut self, door: Door, message: Message) {
        let Some(reply) = message.reply.as_ref().map(ToString::to_string) else {
            tracing::debug!(subject = %message.subject, "request without reply subject ignored");
            return;
        };
        let shared = Arc::clone(&self.shared);
        let (endpoint, parsed) = match door {
            Door::Discovery(verb) => {
                let endpoints = [&shared.agent, &shared.control].into_iter();
                let answer = micro::answer(verb, &shared.identity, endpoints);
                shared.send(&reply, None, answer.into()).await;
                return;
            }
            Door::Agent => {
                (&shared.agent, parsed(&message.payload, parse_agent_command, Command::Agent))
            }
            Door::Control => {
                (&shared.control, parsed(&message.payload, parse_control_command, Command::Control))
            }
        };
        let admitted = parsed.and_then(|command| Ok((command, self.admit(&message.payload)?)));
        drop(message);
        let (command, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                shared.answer(&reply, endpoint, Duration::ZERO, error.into()).await;
                return;
            }
        };
        self.work.spawn(async move {
            let started = Instant::now();
            let (answer, endpoint) = shared.carry_out(command).await;
            shared.answer(&reply, endpoint, started.elapsed(), answer).await;
            drop(permit);
        });
    }

    /// Admits a request within the bounds; the permit stands for its bytes.
    fn admit(&self, payload: &Bytes) -> Result<OwnedSemaphorePermit, CommandError> {
        let limits = self.shared.limits;
        let busy = |message: String| {
            CommandError::new(ErrorKind::Unavailable, message, "try again in a moment")
        };
        if limits.running_max.saturating_add(limits.waiting_max) <= self.work.len() {
            return Err(busy(format!(
                "{} commands are under way; at most {} run and {} wait",
                self.work.len(),
                limits.running_max,
                limits.waiting_max
            )));
        }
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_none_left| {
            busy(format!("commands under way hold {} bytes, which is the most", limits.bytes_max))
        })
    }
}

fn door(
    kind: Door,
    subscriber: Subscriber,
) -> std::pin::Pin<Box<dyn Stream<Item = (Door, Message)> + Send>> {
    Box::pin(subscriber.map(move |message| (kind, message)))
}

fn parsed<T>(
    payload: &Bytes,
    parse: impl Fn(&[u8]) -> Result<T, CommandError>,
    wrap: impl Fn(T) -> Command,
) -> Result<Command, CommandError> {
    if COMMAND_BYTES_MAX < payload.len() {
        return Err(too_large(payload.len()));
    }
    parse(payload).map(wrap)
}

impl Shared {
    /// Waits for a turn, calls the handler, and turns every way of failing into an answer.
    async fn carry_out(&self, command: Command) -> (Answer, &Endpoint) {
        let endpoint = match command {
            Command::Agent(_) => &self.agent,
            Command::Control(_) => &self.control,
        };
        let handling = async {
            // The semaphore is never closed; without a turn we would run all the same.
            let turn = self.turns.acquire().await.ok();
            let answer = match command {
                Command::Agent(command) => self.handler.agent_command(command).await,
                Command::Control(command) => self.handler.control(command).await,
            };
            drop(turn);
            answer
        };
        let guarded = AssertUnwindSafe(handling).catch_unwind();
        let answer = match timeout(self.limits.timeout, guarded).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => {
                tracing::error!("a command's handler panicked");
                let message = "carrying out the command failed inside provost";
                CommandError::new(ErrorKind::Internal, message, "see the daemon's log").into()
            }
            Err(_) => {
                let message = format!("no outcome within {:?}", self.limits.timeout);
                let hint = "it may still be carried out; ask for the status";
                CommandError::new(ErrorKind::Unavailable, message, hint).into()
            }
        };
        (answer, endpoint)
    }

    async fn answer(&self, reply: &str, endpoint: &Endpoint, took: Duration, answer: Answer) {
        let (answer, payload) = self.written(answer);
        let headers = answer.error.as_ref().map(|error| {
            endpoint.refused(took, &format!("{}: {}", error.code, error.message));
            error_headers(error)
        });
        if headers.is_none() {
            endpoint.answered(took);
        }
        self.send(reply, headers, payload).await;
    }

    /// The answer as bytes; one that the server would not take is replaced.
    fn written(&self, answer: Answer) -> (Answer, Bytes) {
        /// Room for the headers.
        const HEADERS: usize = 4_096;
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        let bytes_max = self.connection.client().max_payload().saturating_sub(HEADERS);
        if !bytes.is_empty() && bytes.len() <= bytes_max {
            return (answer, bytes.into());
        }
        let error = CommandError::new(
            ErrorKind::Unavailable,
            format!("the answer is {} bytes; the server takes at most {bytes_max}", bytes.len()),
            "ask for less (for logs: fewer lines), or raise max_payload at the server",
        );
        let answer = Answer::from(error);
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        (answer, bytes.into())
    }

    async fn send(&self, reply: &str, headers: Option<HeaderMap>, payload: Bytes) {
        if let Err(error) = self.connection.publish(reply, headers, payload).await {
            tracing::warn!(error = %error, "an answer could not be sent");
        }
    }
}

/// The headers by which generic micro clients see that it is an error.
fn error_headers(error: &CommandError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A header is one line.
    let text: String =
        error.message.chars().filter(|found| !found.is_control()).take(512).collect();
    headers.insert(micro::ERROR_HEADER, text.as_str());
    headers.insert(micro::ERROR_CODE_HEADER, status(error.kind));
    headers
}

/// The number for generic clients, in the sense of HTTP.
fn status(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest => "400",
        ErrorKind::NotPermitted => "403",
        ErrorKind::UnknownAgentType | ErrorKind::UnknownAgent => "404",
        ErrorKind::AlreadyExists | ErrorKind::WrongState => "409",
        ErrorKind::PoolFull => "429",
        ErrorKind::Internal => "500",
        ErrorKind::Unavailable => "503",
    }
}
