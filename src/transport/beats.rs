//! Follows the beats of one agent on `agent.<id>.beat`, across reconnects and new connections.
//!
//! Only listens: what missing beats mean is decided elsewhere. Beats are for the moment, so none is
//! kept but the latest.

use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::watch;

use crate::protocol::id::SubjectId;
use crate::protocol::subject::Subject;
use crate::transport::slot::ConnectionSlot;

/// Largest beat that is read.
const BEAT_BYTES_MAX: usize = 64 * 1024;

/// Wait before the next attempt to subscribe.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One beat.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BeatSeen {
    /// How many came before it.
    pub number: u64,
    /// Time to the next beat, if it says so.
    pub every: Option<Duration>,
    /// Whether the agent takes work.
    pub ready: bool,
}

/// A beat on the wire, as far as it is read here.
#[derive(Debug, Deserialize)]
struct Beat {
    op: String,
    #[serde(default)]
    every_ms: Option<u64>,
    #[serde(default)]
    state: Option<String>,
}

/// Puts each beat of the agent into `latest`; ends when nobody receives it any more.
pub async fn follow(slot: ConnectionSlot, agent: SubjectId, latest: watch::Sender<BeatSeen>) {
    let listening = listen(&slot, &agent, &latest);
    tokio::select! {
        // Nothing is kept in the listening but the subscription, which ends with it.
        () = latest.closed() => {}
        () = listening => {}
    }
}

async fn listen(slot: &ConnectionSlot, agent: &SubjectId, latest: &watch::Sender<BeatSeen>) {
    loop {
        let connection = slot.connection().await;
        let subject = connection.prefix().apply(&Subject::AgentBeat(agent.clone()).to_string());
        let mut subscriber = match connection.subscribe_confirmed(&subject).await {
            Ok(subscriber) => subscriber,
            Err(error) => {
                tracing::warn!(subject, error = %error, "cannot listen to beats");
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        loop {
            let message = tokio::select! {
                // A message that is not taken stays in the subscription.
                message = subscriber.next() => message,
                // Waiting is without state.
                () = slot.replaced(&connection) => None,
            };
            let Some(message) = message else { break };
            take(&message, latest);
        }
    }
}

fn take(message: &Message, latest: &watch::Sender<BeatSeen>) {
    if BEAT_BYTES_MAX < message.payload.len() {
        tracing::debug!(subject = %message.subject, "a beat is too large");
        return;
    }
    match read(&message.payload) {
        Some((every, ready)) => latest.send_modify(|seen| {
            *seen = BeatSeen { number: seen.number.wrapping_add(1), every, ready };
        }),
        None => tracing::debug!(subject = %message.subject, "a beat was not understood"),
    }
}

fn read(payload: &[u8]) -> Option<(Option<Duration>, bool)> {
    let beat: Beat =
        serde_json::from_slice(payload).ok().filter(|beat: &Beat| beat.op == "beat")?;
    let ready = beat.state.is_none_or(|state| state == "ready");
    Some((beat.every_ms.map(Duration::from_millis), ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_tells_its_rhythm_and_whether_it_takes_work() {
        let second = Some(Duration::from_secs(1));
        let check = |text: &str, expected| assert_eq!(read(text.as_bytes()), expected, "{text}");
        check(
            r#"{"op":"beat","v":1,"id":"a","every_ms":1000,"state":"ready","x":[]}"#,
            Some((second, true)),
        );
        check(r#"{"op":"beat"}"#, Some((None, true)));
        check(r#"{"op":"beat","state":"draining"}"#, Some((None, false)));
        check(r#"{"op":"ping"}"#, None);
        check(r#"{"op":"beat","every_ms":-1}"#, None);
        check("beat", None);
    }
}
