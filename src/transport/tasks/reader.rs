//! Reads logs, results and submissions, for the coordinator's start and for the command line.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt as _;

/// After this time without us the server forgets a consumer of ours.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Messages asked for at once.
const BATCH: usize = 1_000;

/// One stored message.
#[derive(Clone, Debug)]
pub struct Found {
    /// Subject, prefix included.
    pub subject: String,
    /// Sequence in its stream.
    pub sequence: u64,
    /// The message.
    pub payload: Bytes,
}

/// Which messages of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// All of them.
    All,
    /// The last one of each subject.
    Last,
}

/// Gives every message of a stream that fits the pattern to `see`, oldest first.
///
/// # Errors
///
/// What was said, when they cannot be read.
pub async fn each(
    context: &Context,
    (stream, pattern): (&str, &str),
    which: Which,
    mut see: impl FnMut(Found),
) -> Result<(), String> {
    let stream = context.get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
    let config = pull::Config {
        deliver_policy: match which {
            Which::All => DeliverPolicy::All,
            Which::Last => DeliverPolicy::LastPerSubject,
        },
        ack_policy: AckPolicy::None,
        filter_subject: pattern.to_owned(),
        inactive_threshold: FORGOTTEN_AFTER,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let mut pending = consumer.cached_info().num_pending;
    while 0 < pending {
        let asked = consumer.fetch().max_messages(BATCH).messages().await;
        let mut batch = asked.map_err(|error| error.to_string())?;
        let before = pending;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| error.to_string())?;
            let info = message.info().map_err(|error| error.to_string())?;
            pending = info.pending;
            let sequence = info.stream_sequence;
            let subject = message.subject.to_string();
            see(Found { subject, sequence, payload: message.payload.clone() });
        }
        if pending == before {
            // The server counted messages that its limits have removed since.
            break;
        }
    }
    let name = consumer.cached_info().name.clone();
    if let Err(error) = stream.delete_consumer(&name).await {
        tracing::debug!(%error, "the server keeps our consumer for a while");
    }
    Ok(())
}
