//! One subscription that all answers come back on.
//!
//! The library's own requests keep an entry for each that is not answered in time, for ever; these
//! do not. They also know which connection they left on, so that those who wait for an answer over
//! one that is gone are told at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::adapters::message::{late, not_connected};
use crate::adapters::nats::{gone, nobody};
use crate::ports::{AttemptError, BoxFuture, ServiceError};

/// Answers that may be waited for; the oldest is given up beyond it.
const OPEN_MAX: usize = 10_000;

/// Prefix of subjects that confirm messages of JetStream.
pub(super) const ACK_PREFIX: &str = "$JS.ACK.";

/// All answers of one client.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    client: Client,
    prefix: Arc<str>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// Who waits, by number, and how many connections there had been when it was sent.
    open: BTreeMap<u64, (u64, oneshot::Sender<Message>)>,
}

impl Inbox {
    /// Subscribes; the future hands answers on and ends with the client.
    pub(super) async fn open(
        client: Client,
    ) -> Result<(Self, BoxFuture<'static, ServiceError>), ServiceError> {
        let prefix = client.new_inbox();
        let subscribed = client.subscribe(format!("{prefix}.*")).await;
        let answers = subscribed.map_err(|error| ServiceError::new(error.to_string()))?;
        let waiting = Arc::default();
        let inbox = Self { client, prefix: prefix.as_str().into(), waiting };
        let router = inbox.clone().route(answers);
        Ok((inbox, Box::pin(router)))
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    async fn route(self, mut answers: Subscriber) -> ServiceError {
        while let Some(message) = answers.next().await {
            let number = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            let waiting = number.and_then(|number: u64| self.lock().open.remove(&number));
            // Who gave up has taken the number out: there is nobody to tell.
            if let Some((_, reply)) = waiting {
                reply.send(message).ok();
            }
        }
        ServiceError::new("the client of nats has ended")
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Gives up what was sent on a connection that is gone.
    pub(super) fn give_up_lost(&self) {
        let now = self.connections();
        let connected = self.client.connection_state() == State::Connected;
        self.lock()
            .open
            .retain(|_, (sent_on, reply)| connected && *sent_on == now && !reply.is_closed());
    }

    /// Asks on a subject and waits for the answer, without bound; the caller bounds the attempt.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<Message, AttemptError> {
        let mut ticket = self.ticket()?;
        let reply = ticket.subject.clone();
        let payload = payload.into();
        let sent =
            self.client.publish_with_reply_and_headers(subject.clone(), reply, headers, payload);
        sent.await.map_err(|error| not_connected(&error.to_string()))?;
        let answer = (&mut ticket.answer).await.map_err(|_given_up| gone())?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(nobody(&subject));
        }
        Ok(answer)
    }

    /// As [`Self::ask`], on a subscription of its own: what JetStream hands out keeps the subject it
    /// was published on, so nothing but the subscription tells whom it is for.
    pub(super) async fn ask_alone(
        &self,
        subject: String,
        payload: Vec<u8>,
    ) -> Result<Message, AttemptError> {
        let mut ticket = self.ticket()?;
        let reply = self.client.new_inbox();
        let subscribed = self.client.subscribe(reply.clone()).await;
        let mut answers = subscribed.map_err(|error| not_connected(&error.to_string()))?;
        let sent = self.client.publish_with_reply(subject.clone(), reply, payload.into()).await;
        sent.map_err(|error| not_connected(&error.to_string()))?;
        let answer = tokio::select! {
            // Whatever is handed out and not received comes again, as it was not confirmed.
            answer = answers.next() => answer.ok_or_else(gone)?,
            // The ticket ends with the connection.
            _given_up = &mut ticket.answer => return Err(gone()),
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(nobody(&subject));
        }
        Ok(answer)
    }

    /// Publishes and waits until the server has taken the message: what is sent after it on the
    /// same connection has come back.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
    ) -> Result<(), AttemptError> {
        let mut ticket = self.ticket()?;
        let sent = self.client.publish_with_headers(subject, headers, payload.into());
        sent.await.map_err(|error| not_connected(&error.to_string()))?;
        self.echo(&mut ticket).await
    }

    /// One way to the server and back.
    pub(super) async fn round_trip(&self, within: Duration) -> Result<(), AttemptError> {
        let looked = async {
            let mut ticket = self.ticket()?;
            self.echo(&mut ticket).await
        };
        timeout(within, looked).await.unwrap_or_else(|_elapsed| Err(late(within)))
    }

    async fn echo(&self, ticket: &mut Ticket) -> Result<(), AttemptError> {
        let sent = self.client.publish(ticket.subject.clone(), "".into()).await;
        sent.map_err(|_error| gone())?;
        (&mut ticket.answer).await.map_err(|_given_up| gone())?;
        // It came back over another connection: what was sent before it may be lost.
        if self.connections() != ticket.sent_on {
            return Err(gone());
        }
        Ok(())
    }

    fn ticket(&self) -> Result<Ticket, AttemptError> {
        let sent_on = self.connections();
        if self.client.connection_state() != State::Connected {
            return Err(not_connected("nats is away"));
        }
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if OPEN_MAX <= waiting.open.len() {
            waiting.open.pop_first();
        }
        let number = waiting.next;
        waiting.next = waiting.next.wrapping_add(1);
        waiting.open.insert(number, (sent_on, reply));
        drop(waiting);
        let subject = format!("{}.{number}", self.prefix);
        Ok(Ticket { inbox: self.clone(), number, subject, sent_on, answer })
    }
}

/// The right to one answer; dropping it gives it up.
struct Ticket {
    inbox: Inbox,
    number: u64,
    subject: String,
    sent_on: u64,
    answer: oneshot::Receiver<Message>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.inbox.lock().open.remove(&self.number);
    }
}
