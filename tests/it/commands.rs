//! The command endpoints against a real server: answers to everything, bounds, discovery.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use provost::ports::{BoxFuture, CommandHandler};
use provost::protocol::command::{
    AgentCommand, Answer, CommandError, ControlCommand, ErrorKind, LogLines,
};
use provost::transport::commands::{CommandLimits, CommandService};
use provost::transport::connect::Connection;
use provost::transport::micro::MicroIdentity;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::eventually;
use crate::support::nats::{NatsOptions, NatsServer};
use crate::support::transport::{RunningService, connect, connect_under, settings, slot_with};

/// Does as the agent's name says.
#[derive(Debug, Default)]
struct Scripted {
    running: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

#[expect(clippy::panic, reason = "a handler's panic is what is tested")]
fn fail_as_asked<T>() -> T {
    panic!("as asked")
}

impl Scripted {
    async fn obey(&self, word: &str) -> Answer {
        match word {
            "hang" => std::future::pending().await,
            "panic" => fail_as_asked(),
            "slow" => tokio::time::sleep(Duration::from_millis(20)).await,
            "huge" => {
                let logs = LogLines { lines: vec!["x".repeat(2_000_000)], ..LogLines::default() };
                return Answer { logs: Some(logs), ..Answer::done() };
            }
            "unknown" => {
                let message = "no agent\r\nof that name";
                return CommandError::new(ErrorKind::UnknownAgent, message, "list").into();
            }
            _ => {}
        }
        Answer::done()
    }
}

impl CommandHandler for Scripted {
    fn agent_command(&self, command: AgentCommand) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let answer = if let AgentCommand::Status(request) = command {
                self.obey(&request.agent).await
            } else {
                Answer::done()
            };
            self.running.fetch_sub(1, Ordering::SeqCst);
            self.done.fetch_add(1, Ordering::SeqCst);
            answer
        })
    }

    fn control(&self, _command: ControlCommand) -> BoxFuture<'_, Answer> {
        // A handler may panic before it even gives a future.
        fail_as_asked()
    }
}

fn service(connection: Connection, handler: &Arc<Scripted>) -> CommandService {
    let identity = MicroIdentity {
        id: "i1".to_owned(),
        node: "n1".parse().unwrap(),
        prefix: connection.prefix().clone(),
        started: Timestamp::UNIX_EPOCH,
    };
    let handler: Arc<dyn CommandHandler> = Arc::<Scripted>::clone(handler);
    CommandService::new(slot_with(connection), handler, identity)
}

async fn serve(server: &NatsServer) -> (RunningService, Client, Arc<Scripted>) {
    let handler = Arc::new(Scripted::default());
    let running = RunningService::start(&service(connect(server).await, &handler)).await;
    (running, server.client().await, handler)
}

async fn ask(client: &Client, subject: &str, payload: impl Into<bytes::Bytes>) -> Message {
    let request =
        async_nats::Request::new().payload(payload.into()).timeout(Some(Duration::from_secs(30)));
    client.send_request(subject.to_owned(), request).await.unwrap()
}

fn answer(message: &Message) -> Answer {
    serde_json::from_slice(&message.payload).unwrap()
}

fn header<'a>(headers: &'a Option<HeaderMap>, name: &str) -> Option<&'a str> {
    headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

fn status_of(word: &str) -> String {
    json!({ "command": "status", "agent": word }).to_string()
}

#[tokio::test]
async fn every_way_of_failing_has_its_answer() {
    let server = NatsServer::start();
    let handler = Arc::new(Scripted::default());
    let limits = CommandLimits { timeout: Duration::from_millis(300), ..CommandLimits::default() };
    let service = service(connect(&server).await, &handler).with_limits(limits);
    let running = RunningService::start(&service).await;
    let client = server.client().await;
    let cases = [
        ("fine", None),
        ("unknown", Some((ErrorKind::UnknownAgent, "404"))),
        ("hang", Some((ErrorKind::Unavailable, "503"))),
        ("panic", Some((ErrorKind::Internal, "500"))),
        ("huge", Some((ErrorKind::Unavailable, "503"))),
        ("fine", None),
    ];
    for (word, expected) in cases {
        let message = ask(&client, "agent.command", status_of(word)).await;
        let error = answer(&message).error;
        let code = header(&message.headers, "Nats-Service-Error-Code");
        let seen = error.as_ref().map(|error| (error.kind, code.unwrap()));
        assert_eq!(seen, expected, "{word} {error:?}");
        assert_eq!(answer(&message).ok, expected.is_none());
    }
    let message = ask(&client, "system.control", r#"{"command":"tree"}"#).await;
    assert_eq!(answer(&message).error.unwrap().kind, ErrorKind::Internal);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn garbage_is_answered_and_what_wants_no_answer_is_ignored() {
    let server = NatsServer::start();
    let (running, client, handler) = serve(&server).await;
    let garbage: [&[u8]; 6] =
        [b"", b"{", b"\xff\xfe", b"[[[[", br#"{"command":"nope"}"#, br#"{"command":"list","x":1}"#];
    for subject in ["agent.command", "system.control"] {
        for payload in garbage {
            client.publish(subject, bytes::Bytes::from_static(payload)).await.unwrap();
            let message = ask(&client, subject, payload).await;
            let error = answer(&message).error.unwrap();
            assert_eq!(error.kind, ErrorKind::InvalidRequest, "{payload:?}");
            assert!(!error.hint.is_empty());
            assert_eq!(header(&message.headers, "Nats-Service-Error-Code"), Some("400"));
        }
    }
    assert_eq!(handler.done.load(Ordering::SeqCst), 0);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn ten_megabytes_at_once_are_refused_many_times_over() {
    let server = NatsServer::with(NatsOptions::default().max_payload(16 * 1024 * 1024));
    let (running, client, _) = serve(&server).await;
    let payload = bytes::Bytes::from(vec![b'['; 10_000_000]);
    // Four at a time: a server drops a subscriber for which more than 64 MB wait.
    for _ in 0..5 {
        let requests = (0..4).map(|_| ask(&client, "agent.command", payload.clone()));
        for message in futures_util::future::join_all(requests).await {
            let error = answer(&message).error.unwrap();
            assert!(error.message.starts_with("request is 10000000 bytes; at most 262144"));
        }
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_once_are_all_answered_within_the_bounds() {
    let server = NatsServer::start();
    let (running, client, handler) = serve(&server).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let client = client.clone();
        requests
            .spawn(async move { answer(&ask(&client, "agent.command", status_of("slow")).await) });
    }
    let answers = requests.join_all().await;
    let done = answers.iter().filter(|answer| answer.ok).count();
    let refused = answers.iter().filter_map(|answer| answer.error.as_ref());
    for error in refused {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    }
    assert_eq!(answers.len(), 10_000);
    assert_eq!(done, handler.done.load(Ordering::SeqCst));
    assert!(64 < done, "{done}");
    assert!(handler.most.load(Ordering::SeqCst) <= 64);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused_at_once() {
    let server = NatsServer::start();
    let handler = Arc::new(Scripted::default());
    let limits = CommandLimits {
        running_max: 1,
        waiting_max: 1,
        bytes_max: 1_000,
        drain: Duration::from_millis(50),
        ..CommandLimits::default()
    };
    let service = service(connect(&server).await, &handler).with_limits(limits);
    let running = RunningService::start(&service).await;
    let client = server.client().await;
    let long = json!({"command": "status", "agent": "x".repeat(2_000)}).to_string();
    let error = answer(&ask(&client, "agent.command", long).await).error.unwrap();
    assert!(error.message.contains("1000 bytes"), "{}", error.message);
    for _ in 0..2 {
        let inbox = client.new_inbox();
        let hang = status_of("hang").into();
        client.publish_with_reply("agent.command", inbox, hang).await.unwrap();
    }
    let error = eventually("the third is refused", async || {
        answer(&ask(&client, "agent.command", status_of("fine")).await).error
    })
    .await;
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("at most 1 run and 1 wait"), "{}", error.message);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_lets_commands_under_way_finish_and_takes_no_more() {
    let server = NatsServer::start();
    let (running, client, handler) = serve(&server).await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move { answer(&ask(&client, "agent.command", status_of("slow")).await) }
    });
    eventually("the command runs", async || {
        (0 < handler.most.load(Ordering::SeqCst)).then_some(())
    })
    .await;
    running.stop().await.unwrap();
    assert!(asked.await.unwrap().ok);
    let error = client.request("agent.command", "{}".into()).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn the_service_is_discovered_by_name_and_id_and_under_any_prefix() {
    let server = NatsServer::start();
    let handler = Arc::new(Scripted::default());
    let connection = connect_under(&server, "acme.prod").await;
    let running = RunningService::start(&service(connection, &handler)).await;
    let client = server.client().await;
    let read = async |subject: &str| -> Value {
        serde_json::from_slice(&ask(&client, subject, "").await.payload).unwrap()
    };
    for subject in ["$SRV.PING", "$SRV.PING.provost", "$SRV.PING.provost.i1"] {
        let ping = read(subject).await;
        assert_eq!((&ping["name"], &ping["id"]), (&json!("provost"), &json!("i1")));
        assert_eq!(ping["metadata"]["subject_prefix"], "acme.prod");
    }
    let info = read("$SRV.INFO.provost").await;
    let subjects: Vec<&Value> =
        info["endpoints"].as_array().unwrap().iter().map(|one| &one["subject"]).collect();
    assert_eq!(subjects, ["acme.prod.agent.command", "acme.prod.system.control"]);
    assert!(answer(&ask(&client, "acme.prod.agent.command", r#"{"command":"list"}"#).await).ok);
    ask(&client, "acme.prod.agent.command", "x").await;
    let stats = read("$SRV.STATS.provost").await;
    let endpoint = &stats["endpoints"][0];
    assert_eq!((&endpoint["num_requests"], &endpoint["num_errors"]), (&json!(2), &json!(1)));
    let error = client.request("agent.command", "{}".into()).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_endpoints_follow_the_slot_and_outlive_a_restart_of_the_server() {
    let mut server = NatsServer::start();
    let handler = Arc::new(Scripted::default());
    let first = connect(&server).await;
    let slot = slot_with(first.clone());
    let identity = MicroIdentity {
        id: "i1".to_owned(),
        node: "n1".parse().unwrap(),
        prefix: first.prefix().clone(),
        started: Timestamp::UNIX_EPOCH,
    };
    let handler: Arc<dyn CommandHandler> = handler;
    let service = CommandService::new(slot.clone(), handler, identity);
    let running = RunningService::start(&service).await;
    let works = async |server: &NatsServer| {
        let client = server.client().await;
        eventually("the endpoint answers", async || {
            client.request("agent.command", r#"{"command":"list"}"#.into()).await.ok()
        })
        .await;
    };
    works(&server).await;
    server.restart();
    works(&server).await;
    slot.take_out(&first);
    first.close().await;
    drop(first);
    slot.put(Connection::open(&settings(&server)).await.unwrap());
    works(&server).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_discovery_is_answered_in_full() {
    let server = NatsServer::start();
    let (running, client, _) = serve(&server).await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    for _ in 0..500 {
        client.publish_with_reply("$SRV.PING", inbox.clone(), "".into()).await.unwrap();
    }
    let permits = Semaphore::new(0);
    let counting = async {
        while permits.available_permits() < 500 && answers.next().await.is_some() {
            permits.add_permits(1);
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, counting).await.unwrap();
    assert_eq!(permits.available_permits(), 500);
    running.stop().await.unwrap();
}
