//! What remote agents say about their tasks, out of the stream that keeps it.
//!
//! Read without acknowledgements: whoever receives a reply knows by task, attempt and agent whether
//! it still counts. After a break it goes on behind the last reply seen.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::protocol::agent::{FromAgent, TaskEvent};
use crate::protocol::id::{AgentId, SubjectId};
use crate::protocol::subject::Subject;
use crate::transport::tasks::REPLIES;
use crate::transport::tasks::journal::Journal;

/// Pause before a broken feed goes on.
const PAUSE: Duration = Duration::from_millis(500);

/// After this time without us the server forgets the consumer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Who said it.
    pub agent: AgentId,
    /// What.
    pub event: TaskEvent,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Where a feed begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begin {
    /// Behind this sequence.
    Behind(u64),
    /// With the first reply stored at that time or later.
    Since(Timestamp),
}

/// Sequence of the last reply that is stored now.
///
/// # Errors
///
/// What was said, when it cannot be known.
pub async fn position(journal: &Journal) -> Result<u64, String> {
    let context = journal.jetstream().await;
    let name = journal.prefix().stream_name(REPLIES);
    let stream = context.get_stream(&name).await.map_err(|error| error.to_string())?;
    Ok(stream.cached_info().state.last_sequence)
}

/// Feeds replies for ever.
///
/// # Cancel safety
///
/// Cancelling loses nothing that the next feed does not read again, if it begins early enough.
pub async fn feed(journal: Journal, mut begin: Begin, to: mpsc::Sender<Reply>) {
    loop {
        match feed_once(&journal, &mut begin, &to).await {
            Ok(()) => return,
            Err(said) => tracing::warn!(error = said, "replies cannot be read; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn feed_once(
    journal: &Journal,
    begin: &mut Begin,
    to: &mpsc::Sender<Reply>,
) -> Result<(), String> {
    let context = journal.jetstream().await;
    let connection = journal.slot().connection().await;
    let name = journal.prefix().stream_name(REPLIES);
    let stream = context.get_stream_no_info(&name).await.map_err(|error| error.to_string())?;
    let config = pull::Config {
        description: Some("Replies of remote agents.".to_owned()),
        deliver_policy: deliver(*begin)?,
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGOTTEN_AFTER,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(500)
        .expires(Duration::from_secs(10))
        .heartbeat(Duration::from_secs(2))
        .messages()
        .await
        .map_err(|error| error.to_string())?;
    loop {
        let message = tokio::select! {
            // What is not taken is read again from the last one on.
            message = messages.next() => message,
            () = journal.slot().replaced(&connection) => return Err("connection replaced".into()),
        };
        let Some(message) = message else { return Err("the consumer has ended".to_owned()) };
        let message = message.map_err(|error| error.to_string())?;
        let subject = journal.prefix().strip(message.subject.as_str()).unwrap_or_default();
        let info = message.info().map_err(|error| error.to_string())?;
        let stored_at = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos());
        let sequence = info.stream_sequence;
        match read(subject, &message.payload, stored_at.unwrap_or_default()) {
            Ok(reply) => {
                if to.send(reply).await.is_err() {
                    return Ok(());
                }
            }
            Err(said) => tracing::warn!(subject, said, "a reply is not understood"),
        }
        *begin = Begin::Behind(sequence);
    }
}

fn deliver(begin: Begin) -> Result<DeliverPolicy, String> {
    match begin {
        Begin::Behind(last) => {
            Ok(DeliverPolicy::ByStartSequence { start_sequence: last.saturating_add(1) })
        }
        Begin::Since(time) => {
            // The client library's own type for times is not ours; both agree on RFC 3339.
            let document = serde_json::json!({
                "deliver_policy": "by_start_time",
                "opt_start_time": time.to_string(),
            });
            serde_json::from_value(document).map_err(|error| error.to_string())
        }
    }
}

/// Reads a reply: what it says must be about the task and attempt of its subject.
fn read(subject: &str, payload: &[u8], stored_at: Timestamp) -> Result<Reply, String> {
    let Some(Subject::AgentReply { agent, task, attempt }) = Subject::parse(subject) else {
        return Err("its subject is no reply subject".to_owned());
    };
    let agent: AgentId = agent.as_str().parse().map_err(|_same_rules| "no agent".to_owned())?;
    match FromAgent::parse(payload) {
        Ok(FromAgent::Event(event)) => {
            let same = SubjectId::from(&event.id) == task && event.attempt == attempt;
            same.then_some(Reply { agent, event, stored_at })
                .ok_or_else(|| "it is about another task or attempt than its subject".to_owned())
        }
        Ok(FromAgent::Beat(_)) => Err("a beat is no reply".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_about_the_task_and_attempt_of_its_subject() {
        let working = br#"{"id":"t1","attempt":2,"state":"working"}"#;
        let reply = read("agent.reply.a1.t1.2", working, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((reply.agent.as_str(), reply.event.attempt), ("a1", 2));
        for subject in ["agent.reply.a1.t2.2", "agent.reply.a1.t1.1", "agent.a1.beat"] {
            assert!(read(subject, working, Timestamp::UNIX_EPOCH).is_err(), "{subject}");
        }
        let bad = |text: &[u8]| read("agent.reply.a1.t1.2", text, Timestamp::UNIX_EPOCH);
        assert!(bad(br#"{"op":"beat","id":"a1"}"#).is_err());
        assert!(bad(b"done").is_err());
    }
}
