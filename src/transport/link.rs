//! What a connection knows about itself: its state, and what the server said last.
//!
//! Fed from the client's events, which are hints: they can be dropped. So the truth is compared at
//! intervals (see `connect`), and the end of the client is noticed by the drop of the callback, not
//! by an event.

use std::sync::Arc;

use async_nats::{ClientError, Event, Server, ServerError};
use tokio::sync::watch;

/// State of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ConnectionState {
    /// On its way to the first success.
    #[default]
    Connecting,
    /// Works.
    Connected,
    /// Was lost and is tried again.
    Reconnecting {
        /// What the last attempt said.
        error: Option<String>,
    },
    /// Was lost, and the server refuses us; tried again all the same, because credentials can be
    /// put right at the server.
    Refused {
        /// What the server said.
        error: String,
    },
    /// Given up or closed; a new connection is needed.
    Closed {
        /// Why.
        error: Option<String>,
    },
}

impl ConnectionState {
    /// The word that stands in a status.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Refused { .. } => "refused",
            Self::Closed { .. } => "closed",
        }
    }

    /// What went wrong, if something did.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Connecting | Self::Connected => None,
            Self::Reconnecting { error } | Self::Closed { error } => error.as_deref(),
            Self::Refused { error } => Some(error),
        }
    }
}

/// All that is known about a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// State.
    pub state: ConnectionState,
    /// How often the connection was made again.
    pub reconnects: u64,
    /// What the server said last without ending the connection, such as a forbidden subject.
    pub server_error: Option<String>,
    /// Messages that were dropped because a subscription of ours was too slow.
    pub dropped: u64,
}

/// What an event does to a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    Changed,
    Same,
}

impl Link {
    fn connected(&mut self) -> Effect {
        match self.state {
            ConnectionState::Closed { .. } | ConnectionState::Connected => return Effect::Same,
            ConnectionState::Connecting => {}
            ConnectionState::Reconnecting { .. } | ConnectionState::Refused { .. } => {
                self.reconnects = self.reconnects.saturating_add(1);
            }
        }
        self.state = ConnectionState::Connected;
        Effect::Changed
    }

    fn disconnected(&mut self) -> Effect {
        match self.state {
            ConnectionState::Connecting | ConnectionState::Connected => {
                self.state = ConnectionState::Reconnecting { error: None };
                Effect::Changed
            }
            ConnectionState::Reconnecting { .. }
            | ConnectionState::Refused { .. }
            | ConnectionState::Closed { .. } => Effect::Same,
        }
    }

    fn closed(&mut self, error: Option<String>) -> Effect {
        if matches!(self.state, ConnectionState::Closed { .. }) {
            return Effect::Same;
        }
        let error = error.or_else(|| self.state.error().map(ToOwned::to_owned));
        self.state = ConnectionState::Closed { error };
        Effect::Changed
    }

    fn attempt_failed(&mut self, said: &str) -> Effect {
        let next = match &self.state {
            ConnectionState::Connecting
            | ConnectionState::Connected
            | ConnectionState::Closed { .. } => return Effect::Same,
            ConnectionState::Reconnecting { .. } | ConnectionState::Refused { .. }
                if refuses(said) =>
            {
                ConnectionState::Refused { error: said.to_owned() }
            }
            // The client's event says no more than "IO error"; a fuller text stays.
            ConnectionState::Reconnecting { error: Some(_) } => return Effect::Same,
            ConnectionState::Reconnecting { error: None } | ConnectionState::Refused { .. } => {
                ConnectionState::Reconnecting { error: Some(said.to_owned()) }
            }
        };
        let effect = if next == self.state { Effect::Same } else { Effect::Changed };
        self.state = next;
        effect
    }

    fn attempts_explained(&mut self, said: String) -> Effect {
        match &mut self.state {
            ConnectionState::Reconnecting { error } if error.as_deref() != Some(&*said) => {
                *error = Some(said);
                Effect::Changed
            }
            ConnectionState::Connecting
            | ConnectionState::Connected
            | ConnectionState::Reconnecting { .. }
            | ConnectionState::Refused { .. }
            | ConnectionState::Closed { .. } => Effect::Same,
        }
    }

    fn server_said(&mut self, said: String) -> Effect {
        self.server_error = Some(said);
        Effect::Changed
    }
}

/// Whether a server's text means that it does not want us, as opposed to not reaching it.
pub(crate) fn refuses(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["authorization violation", "authentication", "failed signing nonce", "account"]
        .iter()
        .any(|word| said.contains(word))
}

/// The one writer of a link; its readers have the receiver.
#[derive(Debug)]
pub(crate) struct LinkWriter {
    link: watch::Sender<Link>,
}

impl LinkWriter {
    /// A link that is connecting.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { link: watch::Sender::new(Link::default()) })
    }

    pub(crate) fn receiver(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Takes one event of the client.
    pub(crate) fn on_event(&self, event: &Event) {
        match event {
            Event::Connected => self.on_connected(),
            Event::Disconnected => self.on_disconnected(),
            Event::Draining => tracing::debug!("nats connection drains"),
            Event::Closed => self.on_closed(None),
            Event::LameDuckMode => {
                tracing::info!("nats server is going down; the client will move to another one");
            }
            Event::SlowConsumer(_) => self.on_dropped(),
            Event::ServerError(ServerError::SlowConsumer(_)) => self.on_dropped(),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.on_server_error("authorization violation".to_owned());
            }
            Event::ServerError(ServerError::Other(said)) => self.on_server_error(said.clone()),
            Event::ClientError(ClientError::MaxReconnects) => {
                self.on_closed(Some("all attempts to reconnect failed".to_owned()));
            }
            Event::ClientError(ClientError::Other(said)) => {
                self.change(|link| link.attempt_failed(said));
            }
            Event::ClientError(ClientError::ServerNotInPool) => {}
        }
    }

    pub(crate) fn on_connected(&self) {
        if self.change(Link::connected) == Effect::Changed {
            tracing::info!("nats connected");
        }
    }

    pub(crate) fn on_disconnected(&self) {
        if self.change(Link::disconnected) == Effect::Changed {
            tracing::warn!("nats connection lost; trying again");
        }
    }

    pub(crate) fn on_closed(&self, error: Option<String>) {
        if self.change(|link| link.closed(error)) == Effect::Changed {
            tracing::info!("nats connection closed");
        }
    }

    /// Takes what the attempts at each server of the pool said, before the next round.
    pub(crate) fn on_attempts(&self, pool: &[Server]) {
        let said: Vec<String> = pool
            .iter()
            .filter_map(|server| {
                let error = server.last_error.as_ref()?;
                Some(format!("{}: {error}", server.addr.as_url_str().trim_end_matches('/')))
            })
            .collect();
        if !said.is_empty() {
            self.change(|link| link.attempts_explained(said.join("; ")));
        }
    }

    fn on_server_error(&self, said: String) {
        tracing::warn!(said, "nats server reports an error");
        self.change(|link| link.server_said(said));
    }

    /// A flood of drops must not become a flood of logs: powers of two are logged.
    fn on_dropped(&self) {
        let mut dropped = 0;
        self.link.send_modify(|link| {
            link.dropped = link.dropped.saturating_add(1);
            dropped = link.dropped;
        });
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, "nats messages dropped: a subscription is too slow");
        }
    }

    fn change(&self, apply: impl FnOnce(&mut Link) -> Effect) -> Effect {
        let mut effect = Effect::Same;
        self.link.send_if_modified(|link| {
            effect = apply(link);
            effect == Effect::Changed
        });
        effect
    }
}

/// Lives inside the client's callback: when the client's own task ends, so does this, and the link
/// is closed, whatever events were lost.
#[derive(Debug)]
pub(crate) struct EndOfClient(pub(crate) Arc<LinkWriter>);

impl Drop for EndOfClient {
    fn drop(&mut self) {
        self.0.on_closed(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> Link {
        let writer = LinkWriter::new();
        for event in events {
            writer.on_event(event);
        }
        writer.link.borrow().clone()
    }

    fn failed(said: &str) -> Event {
        Event::ClientError(ClientError::Other(said.to_owned()))
    }

    #[test]
    fn a_lost_connection_is_reconnecting_and_then_connected() {
        let lost = after(&[Event::Connected, Event::Disconnected]);
        assert_eq!(lost.state, ConnectionState::Reconnecting { error: None });
        let back = after(&[Event::Connected, Event::Disconnected, Event::Connected]);
        assert_eq!((back.state.as_str(), back.reconnects), ("connected", 1));
    }

    #[test]
    fn a_refusal_during_a_reconnect_is_told_and_taken_back() {
        let mut events =
            vec![Event::Connected, Event::Disconnected, failed("authorization violation")];
        let refused = after(&events);
        assert_eq!(refused.state.as_str(), "refused");
        assert_eq!(refused.state.error(), Some("authorization violation"));
        events.push(failed("IO error"));
        assert_eq!(after(&events).state.as_str(), "reconnecting");
        events.push(Event::Connected);
        assert_eq!(after(&events).state, ConnectionState::Connected);
    }

    #[test]
    fn what_is_closed_stays_closed() {
        let events = [
            Event::Connected,
            Event::Disconnected,
            Event::ClientError(ClientError::MaxReconnects),
            Event::Connected,
        ];
        assert_eq!(after(&events).state.error(), Some("all attempts to reconnect failed"));
    }

    #[test]
    fn the_end_of_the_client_closes_the_link_without_an_event() {
        let writer = LinkWriter::new();
        writer.on_event(&Event::Connected);
        drop(EndOfClient(Arc::clone(&writer)));
        assert_eq!(writer.receiver().borrow().state, ConnectionState::Closed { error: None });
    }

    #[test]
    fn a_forbidden_subject_is_remembered_and_the_connection_stays() {
        let said = "Permissions Violation for Publish to \"x\"";
        let link = after(&[
            Event::Connected,
            Event::ServerError(ServerError::Other(said.to_owned())),
            Event::SlowConsumer(3),
        ]);
        assert_eq!(link.state, ConnectionState::Connected);
        assert_eq!(link.server_error.as_deref(), Some(said));
        assert_eq!(link.dropped, 1);
    }
}
