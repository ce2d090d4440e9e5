//! How what a consumer gives up is kept: as an event on `dlq.<type>`.
//!
//! The event's id is made from the message's place in its stream, so that a message that is given up
//! twice (the consumer ended between the two steps) is one dead letter.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::protocol::dead_letter::{DeadCause, DeadLetter, EVENT_TYPE, Original};
use crate::protocol::event::CONTENT_TYPE;
use crate::protocol::id::SubjectId;
use crate::protocol::subject::{Subject, SubjectPrefix};
use crate::transport::queue::delivery::Delivery;
use crate::transport::queue::publisher::Outgoing;

/// Room in a dead letter for all but the original's body, in bytes.
const ROOM: usize = 8 * 1024;

/// Makes the dead letter of a message.
pub(crate) fn letter(
    (prefix, kind): (&SubjectPrefix, &SubjectId),
    delivery: &Delivery,
    error: DeadCause,
    now: Timestamp,
    bytes_max: usize,
) -> Outgoing {
    let id = identity(delivery);
    let subject = prefix.strip(&delivery.subject).unwrap_or(&delivery.subject);
    let mut original = Original {
        subject: subject.to_owned(),
        id: delivery.id.clone(),
        body: None,
        text: None,
        bytes: u64::try_from(delivery.payload.len()).unwrap_or(u64::MAX),
        headers: short(&delivery.headers),
    };
    let room = bytes_max.saturating_sub(ROOM);
    match serde_json::from_slice::<Value>(&delivery.payload) {
        // Written anew it may be longer than it came.
        Ok(body) if body.to_string().len() <= room => original.body = Some(body),
        _ => original.text = Some(cut(&delivery.payload, room / 2)),
    }
    let data = DeadLetter { original, error, retry_count: delivery.attempt };
    let event = json!({
        "specversion": "1.0",
        "id": id.to_string(),
        "source": format!("provost://consumer/{kind}"),
        "type": EVENT_TYPE,
        "subject": kind.as_str(),
        "time": now.to_string(),
        "datacontenttype": "application/json",
        "severity": "medium",
        "category": "coordination",
        "causationid": delivery.id,
        "data": data,
    });
    Outgoing {
        subject: Subject::DeadLetters(kind.clone()).under(prefix),
        id: id.to_string(),
        headers: vec![("Content-Type".to_owned(), CONTENT_TYPE.to_owned())],
        payload: event.to_string().into(),
    }
}

fn identity(delivery: &Delivery) -> Uuid {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &delivery.stream, delivery.sequence, &delivery.id).hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut bytes = [0; 10];
    let all = half(1).into_iter().chain(half(2));
    bytes.iter_mut().zip(all).for_each(|(byte, made)| *byte = made);
    uuid::Builder::from_unix_timestamp_millis(delivery.stored_at_ms, &bytes).into_uuid()
}

/// Headers that fit: a few kilobytes at most.
fn short(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut room = ROOM / 4;
    let mut fits = |name: &str, value: &str| {
        let bytes = name.len() + value.len();
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    let kept = headers.iter().filter(|(name, value)| fits(name, value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn cut(payload: &[u8], most: usize) -> String {
    let part = payload.get(..most).unwrap_or(payload);
    String::from_utf8_lossy(part).into_owned()
}
