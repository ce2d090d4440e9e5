//! From a real agent that fails to a pattern, an alert, and whoever is to be told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use provost::adapters::webhook::Webhook;
use provost::config::Secret;
use serde_json::Value;

use crate::daemon::{embedded_client, stored, supervision, type_of};
use crate::support::daemon::{Daemon, text};
use crate::support::{eventually, eventually_blocking};

/// An agent that ends at once, again and again, until the file `good` is there.
const LOOPING: &str = r#"
[supervision]
enabled = true
[agent_types.worker]
command = ["sh", "-c", "test -e good && exec sleep 100000; exit 3"]
env = { PROVOST_TEST_MARK = "{mark}" }
restart = { intensity = 1000, backoff = { initial = "50ms", factor = 1.0, max = "50ms", jitter = "none" }, stable_after = "2s" }
[[agent]]
name = "w1"
type = "worker"
"#;

fn firing(daemon: &Daemon) -> Vec<Value> {
    let output = daemon.cli(&["alert", "list", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    answer["alerts"]["firing"].as_array().cloned().unwrap_or_default()
}

fn until_firing(daemon: &Daemon, alert: &str) -> Value {
    eventually_blocking(&format!("{alert} fires"), || {
        firing(daemon).into_iter().find(|one| one["alert"] == alert)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_told_alerted_handed_to_a_command_and_resolved() {
    let config = format!(
        "{LOOPING}[alerts.receivers.file]\n\
         command = [\"sh\", \"-c\", \"cat >> told; echo >> told; env > told.env\"]\n"
    );
    let daemon = Daemon::start(&config);
    let alert = until_firing(&daemon, "crash_loop");
    assert_eq!((&alert["scope"], &alert["severity"]), (&"w1".into(), &"high".into()));
    let output = daemon.cli(&["alert", "list"]);
    assert_eq!(output.status.code(), Some(1), "an alert fires");
    assert!(text(&output.stdout).contains("crash_loop"), "{}", text(&output.stdout));

    // The same document that is on NATS is what the command got.
    let client = embedded_client(&daemon).await;
    let mut stream = supervision(&client).await;
    let (pattern, event) = eventually("pattern and alert are stored", async || {
        let events = stored(&mut stream).await;
        let of = |kind: &str| events.iter().find(|event| type_of(event) == kind).cloned();
        Some((of("supervision.pattern")?, of("supervision.alert")?))
    })
    .await;
    assert_eq!(
        (&pattern["data"]["kind"], &pattern["data"]["scope"]),
        (&"crash_loop".into(), &"w1".into())
    );
    assert!(pattern["data"]["evidence"]["failures"].as_u64().unwrap() >= 3, "{pattern}");
    assert_eq!(event["causationid"], pattern["id"]);
    assert_eq!(event["data"]["fingerprint"], alert["fingerprint"]);
    let told = daemon.dir.path().join("told");
    let document: Value = eventually_blocking("the command was told", || {
        let text = std::fs::read_to_string(&told).ok()?;
        serde_json::from_str(text.lines().next()?).ok()
    });
    assert_eq!(document["id"], event["id"]);
    assert_eq!(document["data"], event["data"]);

    // What ends the loop resolves the alert, and that is told too.
    std::fs::write(daemon.dir.path().join("good"), "").unwrap();
    daemon.wait_state("w1", "running");
    eventually_blocking("nothing fires", || firing(&daemon).is_empty().then_some(()));
    eventually_blocking("the end was told", || {
        let text = std::fs::read_to_string(&told).ok()?;
        text.contains("\"state\":\"resolved\"").then_some(())
    });
    assert_eq!(daemon.cli(&["alert", "list"]).status.code(), Some(0));
}

#[test]
fn a_silence_keeps_an_alert_from_being_told_and_outlives_the_daemon() {
    let mut daemon = Daemon::start(LOOPING);
    let alert = until_firing(&daemon, "crash_loop");
    let refused = daemon.cli(&["alert", "silence", "--reason", "all of it"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let silence = ["alert", "silence", "--scope", "w1", "--for", "1h", "--reason", "known"];
    let answer = daemon.json(&silence);
    let id = answer["alerts"]["silences"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(firing(&daemon)[0]["silenced_by"], id.as_str());
    assert_eq!(daemon.cli(&["alert", "list"]).status.code(), Some(0), "nobody needs to know");

    daemon.kill9();
    daemon.up();
    let after = until_firing(&daemon, "crash_loop");
    assert_eq!(after["fingerprint"], alert["fingerprint"]);
    assert_eq!(after["since"], alert["since"], "it is the alert of before");
    assert_eq!(after["silenced_by"], id.as_str());
    let ended = daemon.cli(&["alert", "unsilence", &id]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(firing(&daemon)[0]["silenced_by"], Value::Null);
    let again = daemon.cli(&["alert", "unsilence", &id]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("there is no silence"), "{}", text(&again.stderr));
}

/// Takes posts and answers them with these statuses, one after another; the last one for good.
pub(super) fn hook(statuses: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        let last = statuses.last().unwrap();
        let statuses = statuses.iter().chain(std::iter::repeat(last));
        for (stream, status) in listener.incoming().zip(statuses) {
            let mut stream = BufReader::new(stream.unwrap());
            let post = request(&mut stream);
            let end = "content-length: 0\r\nconnection: close\r\n\r\n";
            write!(stream.get_mut(), "HTTP/1.1 {status}\r\n{end}").unwrap();
            if give.send(post).is_err() {
                return;
            }
        }
    });
    (url, take)
}

/// Reads one request: its head, and as much body as it says.
fn request(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    head + &text(&body)
}

#[test]
fn a_webhook_gets_a_signed_post_and_again_until_it_takes_it() {
    let (url, posts) = hook(&["503 Service Unavailable", "204 No Content"]);
    let config = format!(
        "{LOOPING}[alerts.receivers.hook]\nwebhook = {url:?}\nsecret = \"s3cret\"\nsend_resolved = false\n"
    );
    let daemon = Daemon::start(&config);
    let wait = Duration::from_secs(60);
    let (first, second) = (posts.recv_timeout(wait).unwrap(), posts.recv_timeout(wait).unwrap());
    let webhook = Webhook::new(&url, &Secret::new("s3cret")).unwrap();
    let header = |post: &str, name: &str| {
        let wanted = format!("{name}: ");
        post.lines().find_map(|line| line.strip_prefix(&wanted)).unwrap().to_owned()
    };
    for post in [&first, &second] {
        let (_, body) = post.split_once("\r\n\r\n").unwrap();
        let (id, stamp) = (header(post, "webhook-id"), header(post, "webhook-timestamp"));
        let signature = webhook.signature(&id, stamp.parse().unwrap(), body.as_bytes());
        assert_eq!(header(post, "webhook-signature"), signature);
        let document: Value = serde_json::from_str(body).unwrap();
        assert_eq!(document["id"], id.as_str());
        assert_eq!(document["data"]["alert"], "crash_loop");
    }
    assert_eq!(header(&first, "webhook-id"), header(&second, "webhook-id"));
    assert!(!daemon.log().contains("s3cret"));
}

#[test]
fn a_critical_alert_drains_the_daemon_where_that_is_configured() {
    let config = format!(
        "{LOOPING}[alerts]\non_critical = [\"drain\"]\n\
         [alerts.rules.crash_loop]\nseverity = \"critical\"\n\
         [alerts.rules.flapping]\nenabled = false\n"
    );
    let daemon = Daemon::start(&config);
    eventually_blocking("the daemon drains", || {
        (daemon.json(&["status"])["system"]["mode"] == "draining").then_some(())
    });
    let alert = until_firing(&daemon, "crash_loop");
    assert_eq!(alert["severity"], "critical");
    // It loops on, and yet whoever says so has dealt with it.
    let fingerprint = alert["fingerprint"].as_str().unwrap();
    assert!(daemon.cli(&["alert", "resolve", fingerprint]).status.success());
    assert_eq!(firing(&daemon), Vec::<Value>::new());
    assert_eq!(daemon.cli(&["alert", "resolve", fingerprint]).status.code(), Some(4));
}

#[test]
fn without_pattern_detection_failures_make_alerts_and_patterns_do_not() {
    let config = LOOPING
        .replace("enabled = true", "enabled = true\npattern_detection_enabled = false")
        + "[alerts.rules.crashed]\nfailure = \"process_crash\"\nscope = \"w1\"\n";
    let daemon = Daemon::start(&config);
    let crashed = until_firing(&daemon, "crashed");
    assert!(crashed["summary"].as_str().unwrap().contains("exited with code 3"), "{crashed}");
    daemon.wait("w1", "has failed often", |agent| 8 <= agent["restarts"].as_u64().unwrap());
    assert_eq!(firing(&daemon).len(), 1);
}
