//! Reads a daemon's events from its stream: live, and once more from the beginning to count.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::message::Message;
use async_nats::jetstream::stream::Stream;
use async_nats::{ConnectOptions, ServerAddr};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::demo::LOOK_EVERY;
use crate::cli::demo::tally::Tally;
use crate::protocol::event::Envelope;

/// The stream that keeps what happened.
const STREAM: &str = "SUPERVISION";

/// The file in the state folder that tells where the embedded server listens.
const ADDRESS_FILE: &str = "nats.json";

/// Longest time from the daemon's start until its stream is there.
const THERE_WITHIN: Duration = Duration::from_secs(60);

/// Longest time that the next event of a finished reading may take.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Why events cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The daemon's stream did not come up in time.
    #[error("no stream {STREAM} within {} s: {last}", THERE_WITHIN.as_secs())]
    NotThere {
        /// What was missing at the last try.
        last: String,
    },
    /// The stream cannot be read any more.
    #[error("the stream {STREAM} cannot be read: {said}")]
    Lost {
        /// What the server or client said.
        said: String,
    },
}

/// The part of the address file that is needed here.
#[derive(Deserialize)]
struct Address {
    url: String,
}

/// A stream that is being read.
pub struct Watch {
    stream: Stream,
    live: Ordered,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Waits for the daemon's stream and reads it from its beginning.
    ///
    /// # Errors
    ///
    /// [`WatchError::NotThere`] when it does not come up in time.
    pub async fn open(state_dir: PathBuf) -> Result<Self, WatchError> {
        let deadline = Instant::now() + THERE_WITHIN;
        loop {
            let last = match Self::try_open(&state_dir.join(ADDRESS_FILE)).await {
                Ok(watch) => return Ok(watch),
                Err(last) => last,
            };
            if deadline <= Instant::now() {
                return Err(WatchError::NotThere { last });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn try_open(address: &std::path::Path) -> Result<Self, String> {
        let text = std::fs::read(address).map_err(|error| format!("no {ADDRESS_FILE}: {error}"))?;
        let address: Address = serde_json::from_slice(&text)
            .map_err(|error| format!("{ADDRESS_FILE} cannot be read: {error}"))?;
        let server: ServerAddr = address.url.parse().map_err(|error| format!("{error}"))?;
        // Credentials inside the address are not taken by the client itself.
        let options = match (server.username(), server.password()) {
            (Some(user), Some(password)) => {
                ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            }
            _ => ConnectOptions::new(),
        };
        let client = options.connect(&server).await.map_err(|error| error.to_string())?;
        let stream = jetstream::new(client).get_stream(STREAM).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let live = read_all(&stream).await?;
        Ok(Self { stream, live })
    }

    /// The next event; documents that are no events are passed over.
    ///
    /// # Errors
    ///
    /// The stream is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> Result<Envelope, WatchError> {
        loop {
            let message = next_of(&mut self.live).await?;
            if let Ok(event) = serde_json::from_slice(&message.payload) {
                return Ok(event);
            }
        }
    }

    /// Counts what the stream holds now, from its first document to its last.
    ///
    /// # Errors
    ///
    /// The stream cannot be read.
    pub async fn count(&mut self, tally: &mut Tally) -> Result<(), WatchError> {
        let info = self.stream.info().await.map_err(lost)?;
        tally.events_stored = info.state.messages;
        let last = info.state.last_sequence;
        if info.state.messages == 0 {
            return Ok(());
        }
        let mut all = read_all(&self.stream).await.map_err(lost)?;
        loop {
            let next = timeout(READ_WITHIN, next_of(&mut all)).await;
            let message = next.map_err(|late| lost(format!("no next document: {late}")))??;
            if let Ok(event) = serde_json::from_slice::<Envelope>(&message.payload) {
                tally.note(&event);
            }
            if last <= message.info().map_err(lost)?.stream_sequence {
                return Ok(());
            }
        }
    }
}

/// Reads a stream from its first document on, in order.
async fn read_all(stream: &Stream) -> Result<Ordered, String> {
    let consumer = stream.create_consumer(OrderedConfig::default()).await;
    let consumer = consumer.map_err(|error| error.to_string())?;
    consumer.messages().await.map_err(|error| error.to_string())
}

async fn next_of(messages: &mut Ordered) -> Result<Message, WatchError> {
    match messages.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(lost(error)),
        None => Err(lost("it ended")),
    }
}

fn lost(said: impl ToString) -> WatchError {
    WatchError::Lost { said: said.to_string() }
}
