//! A trace from the submission to the process that works on the task, and to a collector.

use async_nats::HeaderMap;
use provost::protocol::trace::TraceContext;
#[cfg(feature = "otel")]
use serde_json::Value;

use crate::daemon::embedded_client;
use crate::support::daemon::Daemon;
use crate::support::eventually_blocking;
use crate::tasks::{BASE, ready, result};

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An agent that answers with the trace it was given, one that fails its first attempt, and one that
/// writes the trace of its run.
const AGENTS: &str = r#"
[agent_types.teller]
runtime = "exec"
command = ["sh", "-c", "echo $TRACEPARENT"]
capabilities = ["tell"]
[agent_types.stumbler]
runtime = "exec"
command = ["sh", "-c", "test -e stumbled && exit 0; touch stumbled; exit 75"]
capabilities = ["stumble"]
[agent_types.service]
command = ["sh", "-c", "echo $TRACEPARENT > run.new; mv run.new run; exec sleep 100000"]
[[agent]]
name = "t1"
type = "teller"
[[agent]]
name = "s1"
type = "stumbler"
[[agent]]
name = "p1"
type = "service"
"#;

async fn submit(client: &async_nats::Client, id: &str, what: &str, trace: Option<&str>) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    if let Some(trace) = trace {
        headers.insert("traceparent", trace);
    }
    let context = async_nats::jetstream::new(client.clone());
    let body = format!(r#"{{"input":1,"requirements":{{"required_capabilities":["{what}"]}}}}"#);
    let sent = context.publish_with_headers("coordination.tasks.x", headers, body.into());
    sent.await.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_a_span_of_the_trace_that_its_task_was_submitted_with() {
    let daemon = Daemon::start(&format!("{BASE}{AGENTS}"));
    ready(&daemon, &["t1"]);
    let client = embedded_client(&daemon).await;
    submit(&client, "given", "tell", Some(GIVEN)).await;
    submit(&client, "own", "tell", None).await;
    let told = |id: &str| -> TraceContext {
        result(&daemon, id)["data"]["result"].as_str().unwrap().parse().unwrap()
    };
    let (given, own) = (told("given"), told("own"));
    let parent: TraceContext = GIVEN.parse().unwrap();
    assert_eq!(given, parent.of_attempt(&"given".parse().unwrap(), 1));
    assert_eq!(given.trace_id, parent.trace_id);
    assert_ne!(own.trace_id, given.trace_id);
    let run: TraceContext = eventually_blocking("the service tells its trace", || {
        let text = std::fs::read_to_string(daemon.dir.path().join("run")).ok()?;
        text.trim().parse().ok()
    });
    assert!(run.is_sampled() && ![given.trace_id, own.trace_id].contains(&run.trace_id));
}

#[cfg(feature = "otel")]
#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_is_one_span_at_the_collector() {
    let (url, posts) = crate::detect::daemon::hook(&["200 OK"]);
    let url = url.trim_end_matches("/hook").to_owned();
    let mut daemon = Daemon::prepare(&format!("{BASE}{AGENTS}"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_SERVICE_NAME", "fleet");
    daemon.up();
    ready(&daemon, &["s1"]);
    let client = embedded_client(&daemon).await;
    submit(&client, "twice", "stumble", Some(GIVEN)).await;
    assert_eq!(result(&daemon, "twice")["data"]["state"], "completed");
    let mut spans: Vec<Value> = Vec::new();
    while spans.len() < 2 {
        let post = posts.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        let (head, body) = post.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        let document: Value = serde_json::from_str(body).unwrap();
        let resource = &document["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "fleet");
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    let parent: TraceContext = GIVEN.parse().unwrap();
    let codes: Vec<&Value> = spans.iter().map(|span| &span["status"]["code"]).collect();
    assert_eq!(codes, [2, 1], "the first attempt failed, the second did not");
    for (span, attempt) in spans.iter().zip(1..) {
        let expected = parent.of_attempt(&"twice".parse().unwrap(), attempt);
        assert_eq!(span["traceId"], format!("{:032x}", parent.trace_id));
        assert_eq!(span["parentSpanId"], format!("{:016x}", parent.span_id));
        assert_eq!(span["spanId"], format!("{:016x}", expected.span_id));
        assert_eq!(span["name"], "process x");
    }
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_collector_without_the_feature_is_a_warning() {
    let mut daemon = Daemon::prepare(BASE).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    daemon.up();
    eventually_blocking("the warning", || daemon.log().contains("feature otel").then_some(()));
}
