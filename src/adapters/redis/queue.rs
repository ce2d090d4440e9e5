//! Queues on Redis: streams with a consumer group, and lists.
//!
//! A message that was taken and not confirmed comes again: from a stream by XAUTOCLAIM, from a list
//! by its receipt. `<list>:taken` holds what was taken by receipt, `<list>:due` when it comes again;
//! both change in one script with the list, so that nothing is between the two. An older receipt
//! confirms nothing.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value as Reply};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::adapters::message::{Take, bytes_of, topic, value_of, wrong};
use crate::adapters::redis::value::{Body, Entry, FIELD, as_text, entries, items, read_entries};
use crate::adapters::redis::{ask, value};
use crate::ports::AttemptError;
use crate::protocol::downstream::CallRequest;

/// How long an idempotency key is remembered: longer than any call with its retries may take.
const ONCE_FOR: Duration = Duration::from_secs(2 * 3600);

/// Time between two looks into an empty queue.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Left of an attempt's time for the answer, when a dequeue waits to its end.
const ANSWER_TIME: Duration = Duration::from_millis(200);

const ENQUEUE_ONCE: &str = r"
local seen = redis.call('GET', KEYS[2])
if seen then return seen end
local id
if ARGV[3] == 'list' then id = tostring(redis.call('LPUSH', KEYS[1], ARGV[1]))
else id = redis.call('XADD', KEYS[1], '*', 'payload', ARGV[1]) end
redis.call('SET', KEYS[2], id, 'PX', ARGV[2])
return id";

const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = now + tonumber(ARGV[2])
local again = '0'
local payload = nil
while true do
  local late = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1]
  if not late then break end
  payload = redis.call('HGET', KEYS[2], late)
  redis.call('ZREM', KEYS[3], late)
  redis.call('HDEL', KEYS[2], late)
  if payload then again = '1'; break end
end
if not payload then payload = redis.call('RPOP', KEYS[1]) end
if not payload then return false end
redis.call('HSET', KEYS[2], ARGV[1], payload)
redis.call('ZADD', KEYS[3], due, ARGV[1])
return {ARGV[1], payload, again}";

const CONFIRM: &str = r"
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])";

/// What a queue is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Made {
    Stream,
    List,
}

impl Made {
    fn of(call: &CallRequest) -> Result<Self, AttemptError> {
        match call.method.as_deref() {
            None | Some("stream") => Ok(Self::Stream),
            Some("list") => Ok(Self::List),
            Some(other) => Err(wrong(format!("{other:?} is no queue of redis; stream or list"))),
        }
    }
}

/// A key beside another, in the same slot of a cluster.
fn beside(key: &str, what: &str) -> String {
    if key.contains('{') { format!("{key}:{what}") } else { format!("{{{key}}}:{what}") }
}

/// Puts a message into a queue.
pub(super) async fn enqueue(
    connection: &mut MultiplexedConnection,
    call: &CallRequest,
) -> Result<Value, AttemptError> {
    let (made, key, payload) = (Made::of(call)?, topic(call)?, bytes_of(&call.params));
    let reply = if let Some(once) = &call.idempotency_key {
        let mut script = redis::cmd("EVAL");
        script.arg(ENQUEUE_ONCE).arg(2).arg(key).arg(beside(key, &format!("once:{once}")));
        script.arg(payload).arg(u64::try_from(ONCE_FOR.as_millis()).unwrap_or(u64::MAX));
        script.arg(if made == Made::List { "list" } else { "stream" });
        ask(connection, &script).await?
    } else {
        let mut command = match made {
            Made::List => redis::cmd("LPUSH"),
            Made::Stream => redis::cmd("XADD"),
        };
        command.arg(key);
        if made == Made::Stream {
            command.arg("*").arg(FIELD);
        }
        command.arg(payload);
        ask(connection, &command).await?
    };
    Ok(match made {
        Made::Stream => json!({"id": value::json(reply)}),
        Made::List => json!({"length": as_text(&reply).and_then(|text| text.parse::<u64>().ok())}),
    })
}

/// Takes one message out of a queue; null when there is none within the time.
pub(super) async fn dequeue(
    connection: &mut MultiplexedConnection,
    call: &CallRequest,
    consumer: &str,
    timeout: Duration,
) -> Result<Value, AttemptError> {
    let (made, key, take) = (Made::of(call)?, topic(call)?, Take::of(call)?);
    let wait = Duration::from_millis(take.wait_ms).min(timeout.saturating_sub(ANSWER_TIME));
    let begin = Instant::now();
    loop {
        let taken = match made {
            Made::Stream => from_stream(connection, key, &take, consumer).await?,
            Made::List => from_list(connection, key, &take, consumer).await?,
        };
        if !taken.is_null() || wait <= begin.elapsed() {
            return Ok(taken);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Confirms a message; tells whether it was still to be confirmed.
pub(super) async fn ack(
    connection: &mut MultiplexedConnection,
    call: &CallRequest,
) -> Result<Value, AttemptError> {
    let (made, key, take) = (Made::of(call)?, topic(call)?, Take::of(call)?);
    let id = take.id.as_deref().unwrap_or_default();
    let mut command = match made {
        Made::Stream => redis::cmd("XACK"),
        Made::List => redis::cmd("EVAL"),
    };
    match made {
        Made::Stream => command.arg(key).arg(take.group()),
        Made::List => command.arg(CONFIRM).arg(2).arg(beside(key, "taken")).arg(beside(key, "due")),
    };
    command.arg(id);
    let confirmed = ask(connection, &command).await?;
    Ok(json!({"acked": confirmed == Reply::Int(1)}))
}

async fn from_list(
    connection: &mut MultiplexedConnection,
    key: &str,
    take: &Take,
    consumer: &str,
) -> Result<Value, AttemptError> {
    let receipt = format!("{consumer}-{:016x}", fastrand::u64(..));
    let mut script = redis::cmd("EVAL");
    script.arg(TAKE).arg(3).arg(key).arg(beside(key, "taken")).arg(beside(key, "due"));
    script.arg(receipt).arg(millis(take.redeliver_after()));
    let parts = items(ask(connection, &script).await?);
    let [id, Reply::BulkString(payload), again] = parts.as_slice() else { return Ok(Value::Null) };
    let redelivered = as_text(again).as_deref() == Some("1");
    Ok(message(as_text(id).unwrap_or_default(), value_of(payload), redelivered))
}

async fn from_stream(
    connection: &mut MultiplexedConnection,
    key: &str,
    take: &Take,
    consumer: &str,
) -> Result<Value, AttemptError> {
    if let Some(entry) = abandoned(connection, key, take, consumer).await? {
        return Ok(entry);
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(take.group()).arg(consumer).arg("COUNT").arg(1);
    read.arg("STREAMS").arg(key).arg(">");
    let found = with_group(connection, key, take.group(), &read).await?;
    let entry = read_entries(found).into_iter().next();
    Ok(entry.map_or(Value::Null, |entry| of_entry(&entry, false)))
}

/// The next entry that somebody took and did not confirm in time.
async fn abandoned(
    connection: &mut MultiplexedConnection,
    key: &str,
    take: &Take,
    consumer: &str,
) -> Result<Option<Value>, AttemptError> {
    let mut cursor = "0-0".to_owned();
    loop {
        let claim = claim((key, take.group()), consumer, take.redeliver_after(), &cursor);
        let mut parts = items(with_group(connection, key, take.group(), &claim).await?).into_iter();
        let next = parts.next().and_then(|next| as_text(&next)).unwrap_or_default();
        let found = entries(parts.next().unwrap_or_default());
        if let Some(entry) = found.into_iter().find(|entry| entry.body.is_some()) {
            return Ok(Some(of_entry(&entry, true)));
        }
        if next.is_empty() || next == "0-0" {
            return Ok(None);
        }
        cursor = next;
    }
}

/// XAUTOCLAIM of one entry of a stream and group.
pub(super) fn claim(
    (key, group): (&str, &str),
    consumer: &str,
    idle: Duration,
    cursor: &str,
) -> Cmd {
    let mut claim = redis::cmd("XAUTOCLAIM");
    claim.arg(key).arg(group).arg(consumer).arg(millis(idle)).arg(cursor).arg("COUNT").arg(1);
    claim
}

/// Runs a command of a group, and makes the group when it is not there yet: from the beginning of
/// the stream, so that nothing that was enqueued before is missed.
async fn with_group(
    connection: &mut MultiplexedConnection,
    key: &str,
    group: &str,
    command: &Cmd,
) -> Result<Reply, AttemptError> {
    match ask(connection, command).await {
        Err(error) if error.error.message.contains("NOGROUP") => {
            match ask(connection, &make_group(key, group)).await {
                Err(error) if !error.error.message.contains("BUSYGROUP") => Err(error),
                Ok(_) | Err(_) => ask(connection, command).await,
            }
        }
        other => other,
    }
}

/// XGROUP CREATE from the beginning of the stream, which is made when it is not there.
pub(super) fn make_group(key: &str, group: &str) -> Cmd {
    let mut make = redis::cmd("XGROUP");
    make.arg("CREATE").arg(key).arg(group).arg("0").arg("MKSTREAM");
    make
}

#[expect(clippy::fn_params_excessive_bools, reason = "a field of the answer")]
fn of_entry(entry: &Entry, redelivered: bool) -> Value {
    let body = entry.body.as_ref().map_or((Value::Null, None), Body::value);
    message(entry.id.clone(), body, redelivered)
}

#[expect(clippy::fn_params_excessive_bools, reason = "a field of the answer")]
fn message(
    id: String,
    (payload, encoding): (Value, Option<&'static str>),
    redelivered: bool,
) -> Value {
    let mut message = json!({"id": id, "payload": payload, "redelivered": redelivered});
    if let (Some(encoding), Some(fields)) = (encoding, message.as_object_mut()) {
        fields.insert("encoding".to_owned(), encoding.into());
    }
    message
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
