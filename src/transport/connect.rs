//! One connection to NATS, told honestly.
//!
//! [`Connection::open`] ends in success or in an error that says which server said what; it never
//! retries without a word. After the first success the client reconnects by itself, and the state
//! can be watched. Calls have deadlines; what leaves the process through core NATS may still be
//! lost with the connection, so nothing that matters goes this way without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::context::Yes;
use async_nats::{
    Client, HeaderMap, Message, PublishErrorKind, Request, RequestErrorKind, Subscriber,
};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::protocol::command::NatsStatus;
use crate::protocol::subject::SubjectPrefix;
use crate::transport::dial::{chain, explained, options, worst};
use crate::transport::link::{ConnectionState, Link, LinkWriter};
use crate::transport::settings::{ConnectSettings, JetStreamApi, ServerUrl, SettingsError};
use crate::transport::version::{self, ServerVersion};

pub use crate::transport::failure::{Attempt, CallError, ConnectError};

/// Subject that nobody answers, for round trips; the prefix stands before it.
pub const ROUND_TRIP_SUBJECT: &str = "system.nobody";

/// A connection; clones share it. The last clone's drop closes it.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    writer: Arc<LinkWriter>,
    link: watch::Receiver<Link>,
    url: String,
    prefix: SubjectPrefix,
    timeout: Duration,
    jetstream: JetStreamApi,
}

impl Connection {
    /// Connects to the first server that takes us, and checks its version.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names every address that was tried and what was said.
    pub async fn open(settings: &ConnectSettings) -> Result<Self, ConnectError> {
        if settings.servers.is_empty() {
            return Err(SettingsError::NoServer.into());
        }
        let mut failures = Vec::new();
        for server in &settings.servers {
            match Self::open_one(settings, server).await {
                Ok(connection) => {
                    connection.add_other_servers(settings).await;
                    return Ok(connection);
                }
                Err(failure @ (ConnectError::Settings(_) | ConnectError::Version { .. })) => {
                    return Err(failure);
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(worst(failures))
    }

    async fn open_one(
        settings: &ConnectSettings,
        server: &ServerUrl,
    ) -> Result<Self, ConnectError> {
        let writer = LinkWriter::new();
        let started = Arc::new(AtomicBool::new(false));
        let options = options(settings, &writer, &started)?;
        let url = server.to_string();
        // The library bounds each attempt by its own timeout, but not the name lookup.
        let connecting = options.connect(server.address().clone());
        let client = match timeout(settings.timeout.saturating_mul(2), connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(explained(url, &error)),
            Err(_) => {
                let said = format!("no answer within {:?}", settings.timeout.saturating_mul(2));
                return Err(ConnectError::Unreachable { attempts: vec![Attempt { url, said }] });
            }
        };
        started.store(true, Ordering::Relaxed);
        writer.on_connected();
        let link = writer.receiver();
        let inner = Inner {
            client,
            writer,
            link,
            url,
            prefix: settings.prefix.clone(),
            timeout: settings.timeout,
            jetstream: settings.jetstream.clone(),
        };
        let connection = Self { inner: Arc::new(inner) };
        connection.require_version()?;
        Ok(connection)
    }

    /// Tells the client about the servers it was not opened with, so that it can move to them.
    async fn add_other_servers(&self, settings: &ConnectSettings) {
        if settings.servers.len() < 2 {
            return;
        }
        let mut pool: Vec<async_nats::ServerAddr> =
            settings.servers.iter().map(|server| server.address().clone()).collect();
        let known = timeout(settings.timeout, self.inner.client.server_pool()).await;
        for server in known.into_iter().flatten().flatten() {
            if !pool.contains(&server.addr) {
                pool.push(server.addr);
            }
        }
        let set = timeout(settings.timeout, self.inner.client.set_server_pool(pool.as_slice()));
        if !matches!(set.await, Ok(Ok(()))) {
            tracing::warn!("nats client knows only the server it is connected to");
        }
    }

    /// The client itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Prefix of every subject.
    #[must_use]
    pub fn prefix(&self) -> &SubjectPrefix {
        &self.inner.prefix
    }

    /// Address of the server that was reached first, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Longest time that a call waits, as configured.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.inner.timeout
    }

    /// The state, to be watched.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.inner.link.borrow().state.clone()
    }

    /// The connection as a status shows it; the caller knows whether the server is embedded.
    #[must_use]
    pub fn status(&self) -> NatsStatus {
        let link = self.inner.link.borrow();
        let error = link.state.error().map(ToOwned::to_owned).or_else(|| link.server_error.clone());
        NatsStatus {
            state: link.state.as_str().to_owned(),
            url: self.inner.url.clone(),
            server_version: Some(self.inner.client.server_info().version),
            error,
            ..NatsStatus::default()
        }
    }

    /// Whether two handles are one connection.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// JetStream under the configured domain or prefix, with our timeout for each request.
    #[must_use]
    pub fn jetstream(&self) -> jetstream::Context {
        self.jetstream_with(|builder| builder)
    }

    /// The same, with more that is set before it is built.
    #[must_use]
    pub fn jetstream_with(
        &self,
        set: impl FnOnce(jetstream::ContextBuilder<Yes>) -> jetstream::ContextBuilder<Yes>,
    ) -> jetstream::Context {
        let client = self.inner.client.clone();
        let builder = jetstream::ContextBuilder::new()
            .timeout(self.inner.timeout)
            .ack_timeout(self.inner.timeout);
        let builder = set(builder);
        match &self.inner.jetstream {
            JetStreamApi::Default => builder.build(client),
            JetStreamApi::Domain(domain) => builder.domain(domain).build(client),
            JetStreamApi::Prefix(prefix) => builder.api_prefix(prefix).build(client),
        }
    }

    /// Compares the state with what the client itself says, in case events were lost.
    pub fn reconcile(&self) {
        match self.inner.client.connection_state() {
            State::Connected => self.inner.writer.on_connected(),
            State::Disconnected => self.inner.writer.on_disconnected(),
            State::Pending => {}
        }
    }

    /// Checks the version of the server that we are connected to now.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Version`] names the version found and the one needed.
    pub fn require_version(&self) -> Result<ServerVersion, ConnectError> {
        let text = self.inner.client.server_info().version;
        version::check(&text)
            .map_err(|cause| ConnectError::Version { url: self.inner.url.clone(), cause })
    }

    /// Checks that our account has JetStream.
    ///
    /// # Errors
    ///
    /// [`ConnectError::JetStreamOff`] or [`ConnectError::JetStreamForbidden`]; any other failure as
    /// [`ConnectError::Call`].
    pub async fn require_jetstream(&self) -> Result<(), ConnectError> {
        use jetstream::ErrorCode;
        use jetstream::context::{AccountErrorKind, RequestErrorKind};

        let url = || self.inner.url.clone();
        let Err(error) = self.jetstream().query_account().await else { return Ok(()) };
        match error.kind() {
            AccountErrorKind::JetStream(cause)
                if cause.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
            {
                Err(ConnectError::JetStreamForbidden { url: url(), said: cause.to_string() })
            }
            AccountErrorKind::JetStream(cause) => {
                Err(ConnectError::JetStreamOff { url: url(), said: cause.to_string() })
            }
            AccountErrorKind::JetStreamUnavailable => {
                let said = "nobody answers its API".to_owned();
                Err(ConnectError::JetStreamOff { url: url(), said })
            }
            AccountErrorKind::TimedOut => Err(self.timed_out("jetstream's INFO").into()),
            AccountErrorKind::Other => {
                let said = chain(&error).join(": ");
                if said.contains(&RequestErrorKind::NoResponders.to_string()) {
                    Err(ConnectError::JetStreamOff { url: url(), said })
                } else {
                    Err(CallError::Closed { error: Some(said) }.into())
                }
            }
        }
    }

    /// Subscribes and returns once the server knows it: what is published afterwards arrives.
    ///
    /// # Errors
    ///
    /// [`CallError`]; a forbidden subject shows as a time-out with the server's error.
    pub async fn subscribe_confirmed(&self, subject: &str) -> Result<Subscriber, CallError> {
        let subscribing = self.inner.client.subscribe(subject.to_owned());
        self.confirmed(subject, subscribing).await
    }

    /// As [`Self::subscribe_confirmed`], as a member of a queue group.
    ///
    /// # Errors
    ///
    /// As [`Self::subscribe_confirmed`].
    pub async fn queue_subscribe_confirmed(
        &self,
        subject: &str,
        group: &str,
    ) -> Result<Subscriber, CallError> {
        let subscribing = self.inner.client.queue_subscribe(subject.to_owned(), group.to_owned());
        self.confirmed(subject, subscribing).await
    }

    async fn confirmed(
        &self,
        subject: &str,
        subscribing: impl Future<Output = Result<Subscriber, async_nats::SubscribeError>>,
    ) -> Result<Subscriber, CallError> {
        let what = || format!("a subscription to {subject}");
        let subscriber = timeout(self.inner.timeout, subscribing)
            .await
            .map_err(|_elapsed| self.timed_out(&what()))?
            .map_err(|error| CallError::BadSubject {
                subject: subject.to_owned(),
                said: chain(&error).join(": "),
            })?;
        self.round_trip().await?;
        Ok(subscriber)
    }

    /// Publishes without acknowledgement, waiting at most the configured time for room.
    ///
    /// # Errors
    ///
    /// [`CallError`]; success means only that the message is on its way.
    pub async fn publish(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), CallError> {
        let bytes = payload.len();
        let client = &self.inner.client;
        let subject_text = subject.to_owned();
        let sending = async {
            match headers {
                None => client.publish(subject_text, payload).await,
                Some(headers) => client.publish_with_headers(subject_text, headers, payload).await,
            }
        };
        let sent = timeout(self.inner.timeout, sending)
            .await
            .map_err(|_elapsed| self.timed_out(&format!("a message for {subject}")))?;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => self.too_large(subject, bytes),
            PublishErrorKind::InvalidSubject => bad_subject(subject, &error),
            PublishErrorKind::Send => self.closed(),
        })
    }

    /// As [`Self::publish`], naming the subject that answers go to.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub async fn publish_asking(
        &self,
        subject: &str,
        (reply, headers): (&str, HeaderMap),
        payload: Bytes,
    ) -> Result<(), CallError> {
        let bytes = payload.len();
        let (to, from) = (subject.to_owned(), reply.to_owned());
        let client = &self.inner.client;
        let sending = client.publish_with_reply_and_headers(to, from, headers, payload);
        let sent = timeout(self.inner.timeout, sending)
            .await
            .map_err(|_elapsed| self.timed_out(&format!("a message for {subject}")))?;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => self.too_large(subject, bytes),
            PublishErrorKind::InvalidSubject => bad_subject(subject, &error),
            PublishErrorKind::Send => self.closed(),
        })
    }

    /// Asks and waits for the first answer, at most `wait`.
    ///
    /// # Errors
    ///
    /// [`CallError::NoResponders`] at once when nobody listens.
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Message, CallError> {
        let bytes = payload.len();
        let request = Request::new().payload(payload).timeout(Some(wait));
        let what = || self.timed_out_after(&format!("a request on {subject}"), wait);
        let asked = self.inner.client.send_request(subject.to_owned(), request);
        // The library's own bound covers the answer, not the wait for room in its queue.
        let answer = timeout(wait.saturating_add(Duration::from_millis(50)), asked)
            .await
            .map_err(|_elapsed| what())?;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => what(),
            RequestErrorKind::NoResponders => {
                CallError::NoResponders { subject: subject.to_owned() }
            }
            RequestErrorKind::InvalidSubject => bad_subject(subject, &error),
            RequestErrorKind::MaxPayloadExceeded => self.too_large(subject, bytes),
            RequestErrorKind::Other => self.closed(),
        })
    }

    /// Goes to the server and back, after everything that was sent before; returns how long it
    /// took.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] when the server does not answer in the configured time.
    pub async fn round_trip(&self) -> Result<Duration, CallError> {
        let started = Instant::now();
        let subject = self.inner.prefix.apply(ROUND_TRIP_SUBJECT);
        match self.request(&subject, Bytes::new(), self.inner.timeout).await {
            // "Nobody answers" is the server's own answer.
            Ok(_) | Err(CallError::NoResponders { .. }) => Ok(started.elapsed()),
            Err(error) => Err(error),
        }
    }

    /// Sends what is on its way, then closes; waits at most the configured time.
    pub async fn close(&self) {
        if matches!(self.state(), ConnectionState::Connected)
            && let Err(error) = self.round_trip().await
        {
            tracing::debug!(error = %error, "nats did not take the last messages");
        }
        if timeout(self.inner.timeout, self.inner.client.drain()).await.is_err() {
            tracing::debug!("nats client did not drain in time");
        }
        self.inner.writer.on_closed(None);
    }

    fn timed_out(&self, what: &str) -> CallError {
        self.timed_out_after(what, self.inner.timeout)
    }

    fn timed_out_after(&self, what: &str, after: Duration) -> CallError {
        let link = self.inner.link.borrow();
        if let ConnectionState::Closed { error } = &link.state {
            return CallError::Closed { error: error.clone() };
        }
        let server_error =
            link.state.error().map(ToOwned::to_owned).or_else(|| link.server_error.clone());
        CallError::TimedOut { what: what.to_owned(), after, server_error }
    }

    fn too_large(&self, subject: &str, bytes: usize) -> CallError {
        let bytes_max = self.inner.client.max_payload();
        CallError::TooLarge { subject: subject.to_owned(), bytes, bytes_max }
    }

    fn closed(&self) -> CallError {
        let error = self.inner.link.borrow().state.error().map(ToOwned::to_owned);
        CallError::Closed { error }
    }
}

fn bad_subject(subject: &str, error: &dyn std::error::Error) -> CallError {
    CallError::BadSubject { subject: subject.to_owned(), said: chain(error).join(": ") }
}
