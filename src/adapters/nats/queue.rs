//! Queues in JetStream: a stream holds the messages, a durable pull consumer hands them out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap, Message};
use serde_json::{Value, json};

use crate::adapters::message::{GROUP, Take, failed, topic, value_of, wrong};
use crate::adapters::nats::in_full;
use crate::adapters::nats::inbox::{ACK_PREFIX, Inbox};
use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind, CallRequest};

/// Longest time for a question about streams and consumers.
const API_MAX: Duration = Duration::from_secs(5);

/// Consumers that are remembered; beyond it all are looked up again.
const KNOWN_MAX: usize = 1_000;

/// Left of an attempt's time for the answer, when a dequeue waits to its end.
const ANSWER_TIME: Duration = Duration::from_millis(200);

/// The consumers that are known to exist, by subject and group: stream and name.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<BTreeMap<(String, String), (String, String)>>);

impl Queues {
    /// Takes one message; null when there is none within the time.
    pub(super) async fn dequeue(
        &self,
        inbox: &Inbox,
        call: &CallRequest,
        timeout: Duration,
    ) -> Result<Value, AttemptError> {
        let (subject, take) = (topic(call)?, Take::of(call)?);
        let wait = Duration::from_millis(take.wait_ms).min(timeout.saturating_sub(ANSWER_TIME));
        let mut asked_again = false;
        loop {
            let (stream, consumer) = self.consumer(inbox.client(), subject, &take).await?;
            let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
            let wish = if wait.is_zero() {
                json!({"batch": 1, "no_wait": true})
            } else {
                json!({"batch": 1, "expires": u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)})
            };
            match inbox.ask_alone(next, wish.to_string().into_bytes()).await {
                Ok(message) => return taken(&message),
                // The consumer is gone since it was looked up.
                Err(error) if error.fate == AttemptFate::NotSent && !asked_again => {
                    asked_again = true;
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn consumer(
        &self,
        client: &Client,
        subject: &str,
        take: &Take,
    ) -> Result<(String, String), AttemptError> {
        let key = (subject.to_owned(), take.group.clone().unwrap_or_default());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let made = make_consumer(client, subject, take.group.as_deref(), take.redeliver_after());
        let (stream, consumer, _) = made.await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if KNOWN_MAX <= known.len() {
            known.clear();
        }
        known.insert(key, (stream.clone(), consumer.clone()));
        Ok((stream, consumer))
    }
}

/// Stream and name of the durable consumer of a subject, which is made when it is not there.
pub(super) async fn make_consumer(
    client: &Client,
    subject: &str,
    group: Option<&str>,
    ack_wait: Duration,
) -> Result<(String, String, jetstream::consumer::PullConsumer), AttemptError> {
    let context = context(client);
    let stream = context.stream_by_subject(subject).await;
    let stream = stream.map_err(|error| {
        let text = format!("no stream holds {subject}: {}", in_full(&error));
        failed(CallErrorKind::RemoteError, text, AttemptFate::Failed)
    })?;
    let of_subject = format!("{GROUP}-{}", subject.replace('.', "_").replace(['*', '>'], "all"));
    let name = group.map_or(of_subject, str::to_owned);
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        ..pull::Config::default()
    };
    let refused = |text: String| failed(CallErrorKind::RemoteError, text, AttemptFate::Failed);
    let found = context.get_stream(&stream).await.map_err(|error| refused(in_full(&error)))?;
    let consumer = found.get_or_create_consumer(&name, config).await;
    let consumer = consumer.map_err(|error| {
        refused(format!("consumer {name} of stream {stream}: {}", in_full(&error)))
    })?;
    let filter = &consumer.cached_info().config.filter_subject;
    if filter != subject {
        let text = format!("consumer {name} of stream {stream} takes {filter:?}, not {subject:?}");
        return Err(wrong(text));
    }
    Ok((stream, name, consumer))
}

fn context(client: &Client) -> Context {
    jetstream::ContextBuilder::new().timeout(API_MAX).build(client.clone())
}

/// A message that was pulled, or null for the answer that there is none.
fn taken(message: &Message) -> Result<Value, AttemptError> {
    if let Some(status) = message.status {
        let text = message.description.clone().unwrap_or_else(|| status.to_string());
        return match status.as_u16() {
            404 | 408 => Ok(Value::Null),
            _ => Err(failed(CallErrorKind::RemoteError, text, AttemptFate::Failed)),
        };
    }
    let id = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
    let (payload, encoding) = value_of(&message.payload);
    let mut taken = json!({
        "id": id,
        "payload": payload,
        "redelivered": 1 < deliveries(&id),
        "topic": message.subject.as_str(),
    });
    if let (Some(encoding), Some(fields)) = (encoding, taken.as_object_mut()) {
        fields.insert("encoding".to_owned(), encoding.into());
    }
    Ok(taken)
}

/// How often a message was handed out, from the subject that confirms it:
/// `$JS.ACK.<stream>.<consumer>.<deliveries>.…`, or with domain and account before the stream.
fn deliveries(id: &str) -> u64 {
    let tokens: Vec<&str> = id.split('.').collect();
    let place = if 11 <= tokens.len() { 6 } else { 4 };
    tokens.get(place).and_then(|token| token.parse().ok()).unwrap_or(1)
}

/// Confirms a message.
pub(super) async fn ack(inbox: &Inbox, call: &CallRequest) -> Result<Value, AttemptError> {
    let id = Take::of(call)?.id.unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    if !id.starts_with(ACK_PREFIX) || id.contains(odd) || id.split('.').count() < 9 {
        return Err(wrong(format!("{id:?} is no id that dequeue gave")));
    }
    match inbox.ask(id, HeaderMap::new(), b"+ACK".to_vec()).await {
        Ok(_confirmed) => Ok(json!({"acked": true})),
        // No consumer takes it any more.
        Err(error)
            if error.fate == AttemptFate::NotSent
                && error.error.message.starts_with("nobody answers") =>
        {
            Ok(json!({"acked": false}))
        }
        Err(error) => Err(error),
    }
}

/// What a stream says to a message that was published into it.
pub(super) fn stored(message: &Message) -> Result<Value, AttemptError> {
    let answer: Value = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
    if let Some(error) = answer.get("error") {
        let code = error.get("code").and_then(Value::as_i64);
        let text = error.get("description").and_then(Value::as_str).unwrap_or("refused");
        let fate = if code.is_some_and(|code| 500 <= code) {
            AttemptFate::Failed
        } else {
            AttemptFate::Rejected
        };
        let error = CallError { code, ..CallError::new(CallErrorKind::RemoteError, text) };
        return Err(AttemptError { error, fate });
    }
    match (answer.get("stream"), answer.get("seq")) {
        (Some(stream), Some(seq)) => {
            let duplicate = answer.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
            Ok(json!({"stream": stream, "id": seq, "duplicate": duplicate}))
        }
        _ => {
            let text = "something answers on the subject that is no stream".to_owned();
            Err(failed(CallErrorKind::RemoteError, text, AttemptFate::Rejected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_read_in_both_forms() {
        assert_eq!(deliveries("$JS.ACK.S.c.2.10.5.1700.0"), 2);
        assert_eq!(deliveries("$JS.ACK._.hash.S.c.3.10.5.1700.0.x"), 3);
        assert_eq!(deliveries(""), 1);
    }
}
