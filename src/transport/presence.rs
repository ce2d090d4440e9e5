//! One daemon per subject prefix: who claims it, and who has to give way.
//!
//! A daemon subscribes to `system.presence`, asks there who else is, and answers others for as
//! long as it lives. What does not answer does not count: a dead daemon has no connection. Two
//! that start at the same moment hear each other's question; the older one (by its UUID v7) stays.
//! After each reconnect the question is asked again, because two halves of a network may have had
//! a daemon each.

use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ports::{BoxFuture, Ready, Service, ServiceError};
use crate::protocol::id::NodeName;
use crate::protocol::subject::Subject;
use crate::transport::connect::Connection;
use crate::transport::failure::CallError;
use crate::transport::link::ConnectionState;
use crate::transport::slot::ConnectionSlot;

/// How long an answer is waited for when somebody listens.
pub const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How long one that starts at the same moment is waited for when nobody listened before us.
pub const QUIET_WAIT: Duration = Duration::from_millis(200);

/// Largest message that is read here.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Who a daemon is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    /// Node.
    pub node: NodeName,
    /// This run of the daemon; a UUID v7, so that the older one sorts first.
    pub instance: Uuid,
    /// Process id.
    pub pid: u32,
    /// Host.
    pub host: String,
    /// Since when it runs.
    pub since: Timestamp,
}

/// How far a claim has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Asking.
    Claiming,
    /// Nobody objected.
    Holding,
}

/// Question and answer alike: who I am and how far I have come.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Card {
    #[serde(flatten)]
    identity: Identity,
    stage: Stage,
}

/// Reasons the prefix is not ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PresenceError {
    /// Another daemon has it.
    #[error(
        "another provost daemon is here already: node {} (pid {} on {}, since {}); stop it, or set \
         provost.subject_prefix to a prefix of its own",
        .by.node, .by.pid, .by.host, .by.since
    )]
    Taken {
        /// That daemon.
        by: Box<Identity>,
    },
    /// NATS did not do its part.
    #[error("cannot ask whether another daemon is here: {0}")]
    Call(#[from] CallError),
    /// The claim ended with the connection.
    #[error("the connection to nats was closed")]
    Closed,
}

/// Whether the owner of `mine` gives way to the sender of `other`.
fn gives_way(mine: &Card, other: &Card) -> bool {
    if mine.identity.instance == other.identity.instance {
        return false;
    }
    match (mine.stage, other.stage) {
        (Stage::Claiming, Stage::Holding) => true,
        (Stage::Holding, Stage::Claiming) => false,
        (Stage::Claiming, Stage::Claiming) | (Stage::Holding, Stage::Holding) => {
            other.identity.instance < mine.identity.instance
        }
    }
}

/// A claim that was granted. Others are answered while [`Self::hold`] runs.
#[derive(Debug)]
pub struct Presence {
    connection: Connection,
    card: Card,
    subject: String,
    inbox: String,
    questions: Subscriber,
    answers: Subscriber,
}

impl Presence {
    /// Claims the connection's prefix for one daemon.
    ///
    /// # Errors
    ///
    /// [`PresenceError::Taken`] names the daemon that has it.
    pub async fn claim(connection: &Connection, identity: Identity) -> Result<Self, PresenceError> {
        let subject = Subject::SystemPresence.under(connection.prefix());
        let inbox = connection.client().new_inbox();
        let card = Card { identity, stage: Stage::Claiming };
        // Before we listen ourselves, "nobody answers" is the server's word and comes at once.
        let wait = match connection.request(&subject, encoded(&card), ANSWER_WAIT).await {
            Ok(message) => {
                give_way(&card, &message)?;
                ANSWER_WAIT
            }
            Err(CallError::NoResponders { .. }) => QUIET_WAIT,
            Err(CallError::TimedOut { .. }) => ANSWER_WAIT,
            Err(error) => return Err(error.into()),
        };
        let answers = connection.subscribe_confirmed(&inbox).await?;
        let questions = connection.subscribe_confirmed(&subject).await?;
        let connection = connection.clone();
        let mut presence = Self { connection, card, subject, inbox, questions, answers };
        presence.ask().await?;
        let quiet_at = Instant::now() + wait;
        loop {
            // Cancelling one of these loses nothing: messages stay in their subscription.
            tokio::select! {
                () = sleep_until(quiet_at) => break,
                message = presence.questions.next() => presence.on_question(message).await?,
                message = presence.answers.next() => presence.on_answer(message)?,
            }
        }
        presence.card.stage = Stage::Holding;
        Ok(presence)
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.card.identity
    }

    /// Answers others until the claim is lost.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave one question unanswered.
    pub async fn hold(&mut self) -> PresenceError {
        let mut link = self.connection.link();
        let mut reconnects = link.borrow_and_update().reconnects;
        loop {
            // Cancelling one of these loses nothing: messages stay in their subscription, and the
            // state stays in its channel.
            let step = tokio::select! {
                message = self.questions.next() => self.on_question(message).await,
                message = self.answers.next() => self.on_answer(message),
                changed = link.changed() => {
                    let (seen, state) = {
                        let now = link.borrow_and_update();
                        (now.reconnects, now.state.clone())
                    };
                    let again = seen != reconnects && state == ConnectionState::Connected;
                    if changed.is_err() || matches!(state, ConnectionState::Closed { .. }) {
                        Err(PresenceError::Closed)
                    } else if again {
                        reconnects = seen;
                        self.ask().await
                    } else {
                        Ok(())
                    }
                }
            };
            match step {
                Ok(()) => {}
                // NATS being away is no reason to give up; the next reconnect asks again.
                Err(PresenceError::Call(error)) if !matches!(error, CallError::Closed { .. }) => {
                    tracing::debug!(error = %error, "presence was not told");
                }
                Err(error) => return error,
            }
        }
    }

    async fn ask(&self) -> Result<(), PresenceError> {
        let client = self.connection.client();
        let asking = client.publish_with_reply(
            self.subject.clone(),
            self.inbox.clone(),
            encoded(&self.card),
        );
        let sent = tokio::time::timeout(self.connection.timeout(), asking).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(CallError::Closed { error: None }.into());
        }
        Ok(())
    }

    async fn on_question(&self, message: Option<Message>) -> Result<(), PresenceError> {
        let message = message.ok_or(PresenceError::Closed)?;
        let Some(card) = decoded(&message) else { return Ok(()) };
        if card.identity.instance == self.card.identity.instance {
            return Ok(());
        }
        if let Some(reply) = &message.reply {
            self.connection.publish(reply, None, encoded(&self.card)).await?;
        }
        give_way_to(&self.card, card)
    }

    fn on_answer(&self, message: Option<Message>) -> Result<(), PresenceError> {
        give_way(&self.card, &message.ok_or(PresenceError::Closed)?)
    }
}

fn give_way(mine: &Card, message: &Message) -> Result<(), PresenceError> {
    decoded(message).map_or(Ok(()), |card| give_way_to(mine, card))
}

fn give_way_to(mine: &Card, other: Card) -> Result<(), PresenceError> {
    if gives_way(mine, &other) {
        Err(PresenceError::Taken { by: Box::new(other.identity) })
    } else {
        Ok(())
    }
}

fn encoded(card: &Card) -> Bytes {
    // A card holds text and numbers only, so it can always be written.
    serde_json::to_vec(card).unwrap_or_default().into()
}

fn decoded(message: &Message) -> Option<Card> {
    if MESSAGE_BYTES_MAX < message.payload.len() {
        tracing::debug!(bytes = message.payload.len(), "a presence message is too large");
        return None;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(card) => Some(card),
        Err(error) => {
            tracing::debug!(error = %error, "a presence message cannot be read");
            None
        }
    }
}

/// Claims the prefix and holds it; ends with an error when another daemon has it.
#[derive(Clone, Debug)]
pub struct PresenceService {
    slot: ConnectionSlot,
    identity: Identity,
}

impl PresenceService {
    /// A service that claims the prefix of the slot's connection.
    #[must_use]
    pub fn new(slot: ConnectionSlot, identity: Identity) -> Self {
        Self { slot, identity }
    }

    async fn claim_and_hold(
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
            let work = async {
                let mut presence = Presence::claim(&connection, self.identity.clone()).await?;
                ready.take().map(Ready::tell).unwrap_or_default();
                Err::<(), _>(presence.hold().await)
            };
            // Cancelling the work drops its subscriptions, which is what stopping means.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.slot.replaced(&connection) => {}
                Err(error) = work => return Err(ServiceError::new(error.to_string())),
            }
        }
    }
}

impl Service for PresenceService {
    fn run(
        &self,
        stop: CancellationToken,
        ready: Ready,
    ) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.clone().claim_and_hold(stop, ready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(age: u128, stage: Stage) -> Card {
        let identity = Identity {
            node: "n".parse().unwrap(),
            instance: Uuid::from_u128(age),
            pid: 1,
            host: "h".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        };
        Card { identity, stage }
    }

    #[test]
    fn exactly_one_of_two_gives_way() {
        for one in [Stage::Claiming, Stage::Holding] {
            for other in [Stage::Claiming, Stage::Holding] {
                let (older, younger) = (card(1, one), card(2, other));
                let outcomes = (gives_way(&older, &younger), gives_way(&younger, &older));
                let younger_stays = one == Stage::Claiming && other == Stage::Holding;
                assert_eq!(outcomes, (younger_stays, !younger_stays), "{one:?} {other:?}");
            }
        }
        assert!(!gives_way(&card(1, Stage::Claiming), &card(1, Stage::Holding)));
    }

    #[test]
    fn a_refusal_names_the_other_daemon() {
        let by = Box::new(card(7, Stage::Holding).identity);
        let text = PresenceError::Taken { by }.to_string();
        assert!(
            text.starts_with("another provost daemon is here already: node n (pid 1 on h, since")
        );
    }
}
