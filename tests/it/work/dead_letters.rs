//! Dead letters found, sent again and dropped: over a real server, and with the command line.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use provost::ports::EventSink;
use provost::protocol::fact::{Fact, Severity};
use provost::transport::connect::Connection;
use provost::transport::dead_letter_watch::{DeadLetterWatch, GREW, Growth};
use provost::transport::dead_letters::{
    Afterwards, CAUSATION_HEADER, DeadLetters, Filter, RETRY_OF_HEADER,
};
use provost::transport::declare::ensure_all;
use provost::transport::queue::{Outgoing, Publisher};
use provost::transport::streams::StreamSettings;
use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::eventually;
use crate::support::nats::NatsServer;
use crate::support::scripted::Recorder;
use crate::support::transport::{RunningService, connect, connect_under, slot_with};

/// A server with a stream of dead letters and one that takes what is sent again.
async fn bench(prefix: &str) -> (NatsServer, Connection) {
    let server = NatsServer::start();
    let connection = if prefix.is_empty() {
        connect(&server).await
    } else {
        connect_under(&server, prefix).await
    };
    let streams = [("DEAD_LETTERS", "dlq.>"), ("SHOP", "shop.>")].map(|(name, subject)| {
        let prefix = connection.prefix();
        StreamSettings::new(prefix.stream_name(name), vec![prefix.apply(subject)])
    });
    ensure_all(&connection.jetstream(), &streams).await.unwrap();
    (server, connection)
}

/// Puts a dead letter in; gives its id.
async fn put(connection: &Connection, kind: &str, original: &str, code: &str) -> String {
    let id = uuid::Uuid::now_v7().to_string();
    let body = json!({"order": original});
    let event = json!({
        "specversion": "1.0", "id": id, "source": "x", "type": "provost.dead_letter.v1",
        "time": jiff::Timestamp::now().to_string(), "causationid": original,
        "data": {
            "original": {
                "subject": "shop.orders", "id": original, "body": body,
                "bytes": body.to_string().len(),
                "headers": {"Color": "red", "Nats-Msg-Id": original},
            },
            "error": {"code": code, "message": "no"}, "retry_count": 3,
        },
    });
    let subject = connection.prefix().apply(&format!("dlq.{kind}"));
    let message = Outgoing::new(subject, id.clone(), event.to_string());
    Publisher::new(connection.clone()).publish(message).await.unwrap();
    id
}

async fn count(connection: &Connection, stream: &str) -> u64 {
    let name = connection.prefix().stream_name(stream);
    connection.jetstream().get_stream(name).await.unwrap().cached_info().state.messages
}

#[tokio::test]
async fn they_are_found_by_id_type_and_code() {
    for prefix in ["", "acme"] {
        let (_server, connection) = bench(prefix).await;
        let first = put(&connection, "review", "o1", "timeout").await;
        let second = put(&connection, "review", "o2", "bad").await;
        let third = put(&connection, "test", "o3", "bad").await;
        let noise = connection.prefix().apply("dlq.review");
        let noise = Outgoing::new(noise, "noise", "no json");
        Publisher::new(connection.clone()).publish(noise).await.unwrap();
        let letters = DeadLetters::open(&connection).await.unwrap();
        let find = async |filter: Filter| {
            let found = letters.find(&filter, 100).await.unwrap();
            (found.letters.into_iter().map(|kept| kept.id).collect::<Vec<_>>(), found.unreadable)
        };
        let all = Filter::default();
        assert_eq!(
            find(all.clone()).await,
            (vec![first.clone(), second.clone(), third.clone()], 1)
        );
        let review = Filter { kind: Some("review".to_owned()), ..all.clone() };
        assert_eq!(find(review).await.0, [first.clone(), second.clone()]);
        let bad = Filter { code: Some("bad".to_owned()), ..all.clone() };
        assert_eq!(find(bad).await.0, [second.clone(), third.clone()]);
        let ids = Filter { ids: vec![third.clone(), "o1".to_owned()], ..all.clone() };
        assert_eq!(find(ids).await.0, [first, third]);
        let few = letters.find(&all, 2).await.unwrap();
        assert_eq!((few.letters.len(), few.more), (2, true));
    }
}

#[tokio::test]
async fn sending_one_again_twice_is_sending_it_once_and_keeps_what_caused_it() {
    let (_server, connection) = bench("acme").await;
    let id = put(&connection, "review", "o1", "bad").await;
    let letters = DeadLetters::open(&connection).await.unwrap();
    let kept = letters.find(&Filter::default(), 10).await.unwrap().letters.remove(0);
    let first = letters.replay(&kept, None, Afterwards::Keep).await.unwrap();
    assert_eq!((first.stream.as_str(), first.again), ("acme_SHOP", false));
    assert_eq!(count(&connection, "DEAD_LETTERS").await, 1);
    let second = letters.replay(&kept, None, Afterwards::Drop).await.unwrap();
    assert!(second.again);
    assert_eq!(count(&connection, "SHOP").await, 1);
    assert_eq!(count(&connection, "DEAD_LETTERS").await, 0);
    letters.take_out(&kept).await.unwrap();
    let stream = connection.jetstream().get_stream("acme_SHOP").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    assert_eq!(message.subject.as_str(), "acme.shop.orders");
    assert_eq!(message.payload, r#"{"order":"o1"}"#);
    let header = |name: &str| message.headers.get(name).map(ToString::to_string);
    assert_eq!(header(RETRY_OF_HEADER).as_deref(), Some("o1"));
    assert_eq!(header(CAUSATION_HEADER), Some(id.clone()));
    assert_eq!(header("Nats-Msg-Id"), Some(format!("dlq-{id}")));
    assert_eq!(header("Color").as_deref(), Some("red"));
}

#[tokio::test]
async fn what_cannot_be_sent_again_stays() {
    let (_server, connection) = bench("").await;
    put(&connection, "review", "o1", "bad").await;
    let letters = DeadLetters::open(&connection).await.unwrap();
    let mut kept = letters.find(&Filter::default(), 10).await.unwrap().letters.remove(0);
    for (to, expected) in [
        ("nobody.takes", "was not sent again"),
        ("agent.command", "for requests"),
        ("shop.*", "no subject to go to"),
    ] {
        let error = letters.replay(&kept, Some(to), Afterwards::Drop).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    (kept.letter.original.body, kept.letter.original.text) = (None, Some("begin".to_owned()));
    let error = letters.replay(&kept, None, Afterwards::Drop).await.unwrap_err();
    assert!(error.to_string().contains("only the beginning"), "{error}");
    assert_eq!(count(&connection, "DEAD_LETTERS").await, 1);
}

#[tokio::test]
async fn it_is_told_when_they_come_fast() {
    let (_server, connection) = bench("").await;
    let recorder = Arc::new(Recorder::default());
    let sink: Arc<dyn EventSink> = Arc::<Recorder>::clone(&recorder);
    let growth = Growth { letters: 3, within: Duration::from_millis(200) };
    let name = "dead_letters".parse().unwrap();
    let watch = DeadLetterWatch::new(slot_with(connection.clone()), sink, name, growth);
    let running = RunningService::start(&watch).await;
    let draft = eventually("it is told", async || {
        put(&connection, "review", "o1", "bad").await;
        recorder.events().first().map(|(_, draft)| draft.clone())
    })
    .await;
    let Fact::System(system) = &draft.fact else { panic!("{draft:?}") };
    assert_eq!((system.what.as_str(), draft.severity), (GREW, Severity::High));
    let details = serde_json::to_value(&system.details).unwrap();
    assert!(3 <= details["new"].as_u64().unwrap() && details["within_ms"] == 200, "{details}");
    running.stop().await.unwrap();
}

fn dlq(server: &NatsServer, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provost"));
    command.arg("dlq").args(line.split(' ')).args(["--nats-url", &server.url()]);
    command.env_clear().env("HOME", "/nonexistent").output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_shows_replays_and_drops() {
    let (server, connection) = bench("").await;
    let first = put(&connection, "review", "o1", "timeout").await;
    put(&connection, "review", "o2", "bad").await;
    put(&connection, "test", "o3", "bad").await;
    let json = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();

    let list = dlq(&server, "list");
    let shown = text(&list.stdout);
    assert!(shown.starts_with("ID") && shown.contains("timeout: no"), "{shown}");
    let list = json(&dlq(&server, "list --type review -o json"));
    assert_eq!(list["dead_letters"].as_array().unwrap().len(), 2);
    assert_eq!(list["dead_letters"][0]["id"], first);
    let show = json(&dlq(&server, "show o2 -o json"));
    assert_eq!(show["dead_letters"][0]["error"]["code"], "bad");

    let nothing = dlq(&server, "replay");
    assert_eq!(nothing.status.code(), Some(2), "{}", text(&nothing.stderr));
    let unknown = dlq(&server, "show o9");
    assert_eq!(unknown.status.code(), Some(4), "{}", text(&unknown.stderr));
    let dry = dlq(&server, "replay --all --error bad --dry-run");
    assert_eq!(text(&dry.stdout), "2 of 2 would be sent again\n", "{}", text(&dry.stderr));
    assert_eq!(
        (count(&connection, "SHOP").await, count(&connection, "DEAD_LETTERS").await),
        (0, 3)
    );
    let replayed = dlq(&server, "replay --all --error bad");
    assert_eq!(text(&replayed.stdout), "2 of 2 sent again\n", "{}", text(&replayed.stderr));
    assert_eq!(
        (count(&connection, "SHOP").await, count(&connection, "DEAD_LETTERS").await),
        (2, 1)
    );
    let refused = dlq(&server, "replay o1 --to nobody.takes");
    assert_eq!(refused.status.code(), Some(6), "{}", text(&refused.stderr));
    let dropped = json(&dlq(&server, "drop o1 -o json"));
    assert_eq!(
        dropped["results"][0],
        json!({"id": first, "ok": true, "to": "review", "sequence": null})
    );
    assert_eq!(count(&connection, "DEAD_LETTERS").await, 0);
    let empty = dlq(&server, "list");
    assert_eq!(
        (text(&empty.stdout).as_str(), text(&empty.stderr).as_str()),
        ("", "no dead letters\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_the_command_line_says_so() {
    let server = NatsServer::start();
    let output = dlq(&server, "list");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("DEAD_LETTERS does not exist"),
        "{}",
        text(&output.stderr)
    );
}
