//! Probes that are asked: http, tcp, exec.

#![expect(clippy::excessive_nesting, reason = "loops of test servers are plainer in one piece")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use provost::ports::AgentRuntime;
use provost::protocol::care::{ProbeCheck, ProbeSpec};
use provost::protocol::exit::{ChildExit, ExitCodes};
use provost::protocol::id::Generation;
use provost::protocol::status::HealthStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::health::{Bench, Run, free_port, liveness, quick, readiness, startup, words};

const SLEEPS: &[&str] = &["sleep", "300"];

/// Answers every connection with what `answer` makes of the request's first line.
struct Server {
    address: String,
    requests: Arc<AtomicUsize>,
    _serves: JoinSet<()>,
}

impl Server {
    async fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let mut serves = JoinSet::new();
        serves.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap_or(0);
                count.fetch_add(1, Ordering::SeqCst);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                stream.write_all(answer(&text).as_bytes()).await.ok();
            }
        });
        Self { address, requests, _serves: serves }
    }

    fn http(&self, path: &str) -> ProbeCheck {
        ProbeCheck::Http(format!("http://{}{path}", self.address))
    }
}

fn answer(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n{body}")
}

async fn readiness_of(bench: &Bench, check: ProbeCheck) -> Run {
    let once = ProbeSpec { failure_threshold: 1, ..quick(check) };
    bench.start(SLEEPS, readiness(once)).await
}

#[tokio::test]
async fn kubelet_http_200_to_399_is_success_and_redirects_stay_on_the_host() {
    let bench = Bench::new().await;
    let server = Server::new(|request| {
        let path = request.split(' ').nth(1).unwrap();
        match path {
            "/ok" => {
                assert!(request.to_lowercase().contains("user-agent: provost-probe/"), "{request}");
                assert!(request.to_lowercase().contains("connection: close"), "{request}");
                answer("204 No Content", "", "")
            }
            "/away" => answer("302 Found", "Location: http://localhost:1/x\r\n", ""),
            "/here" => answer("302 Found", "Location: /bad\r\n", ""),
            "/loop" => answer("307 Temporary Redirect", "Location: loop\r\n", ""),
            "/304" => answer("304 Not Modified", "", ""),
            "/long" => answer("200 OK", "", &"x".repeat(1_000_000)),
            _ => answer("503 Service Unavailable", "", "no\nworkers"),
        }
    })
    .await;
    for good in ["/ok", "/away", "/304", "/long"] {
        readiness_of(&bench, server.http(good)).await.ready().await;
    }
    for (bad, said) in [
        ("/bad", "answered with status 503: no workers"),
        ("/here", "answered with status 503: no workers"),
        ("/loop", "more than 10 redirects"),
    ] {
        let health = readiness_of(&bench, server.http(bad)).await.not_ready().await;
        assert!(health.message.ends_with(said), "{}", health.message);
        assert!(health.message.starts_with("readiness probe failed once: http://127"));
    }
    let nobody = ProbeCheck::Http(format!("http://127.0.0.1:{}/", free_port()));
    let health = readiness_of(&bench, nobody).await.not_ready().await;
    assert!(health.message.contains("refused"), "{}", health.message);
}

#[tokio::test]
async fn kubelet_https_is_asked_without_checking_the_certificate() {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    let bench = Bench::new().await;
    let made = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serves = JoinSet::new();
    serves.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await;
            stream.write_all(answer("200 OK", "", "fine").as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    let check = ProbeCheck::Http(format!("https://{address}/healthz"));
    readiness_of(&bench, check).await.ready().await;
}

#[tokio::test]
async fn tcp_is_a_connection() {
    let bench = Bench::new().await;
    let server = Server::new(|_| String::new()).await;
    readiness_of(&bench, ProbeCheck::Tcp(server.address.clone())).await.ready().await;
    let seen = async || (0 < server.requests.load(Ordering::SeqCst)).then_some(());
    crate::support::eventually("the server has seen the connection", seen).await;
    let nobody = ProbeCheck::Tcp(format!("localhost:{}", free_port()));
    readiness_of(&bench, nobody).await.not_ready().await;
}

#[tokio::test]
async fn the_time_of_an_answer_is_measured() {
    let bench = Bench::new().await;
    let server = Server::new(|_| answer("200 OK", "", "")).await;
    let mut run = readiness_of(&bench, server.http("/")).await;
    run.ready().await;
    let took = run.0.measure().response_time_ms.unwrap();
    assert!(0.0 < took && took < 5_000.0, "{took}");
    let mut unprobed =
        bench.start(SLEEPS, startup(quick(ProbeCheck::Exec(words(&["true"]))))).await;
    unprobed.ready().await;
    assert_eq!(unprobed.0.measure().response_time_ms, None, "a command's time is its own");
}

/// Accepts connections and never answers.
const DEAF: &str = "import socket,sys,time\n\
    s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
    s.bind(('127.0.0.1',int(sys.argv[1]))); s.listen(50)\n\
    while True: time.sleep(60)";

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_found_and_ended() {
    let bench = Bench::new().await;
    let port = free_port();
    let check = ProbeCheck::Http(format!("http://127.0.0.1:{port}/"));
    let probes = provost::protocol::care::ProbesSpec {
        startup: Some(ProbeSpec {
            failure_threshold: 300,
            ..quick(ProbeCheck::Tcp(format!("127.0.0.1:{port}")))
        }),
        ..liveness(ProbeSpec { timeout: Duration::from_millis(200), ..quick(check) })
    };
    let mut run = bench.start(&["python3", "-c", DEAF, &port.to_string()], probes).await;
    run.starting().await;
    run.ready().await;
    run.health("is unhealthy", |health| health.status == HealthStatus::Unhealthy).await;
    let exit = run.end().await;
    let ChildExit::ProbeFailed { message, codes } = &exit else { panic!("{exit}") };
    assert!(message.starts_with("liveness probe failed 2 times in a row: http://"), "{message}");
    assert!(message.ends_with("no answer within 0.2 s"), "{message}");
    assert_eq!(*codes, ExitCodes { code: None, signal: Some(15) });
    assert_eq!(run.end().await, exit, "the exit is kept");
}

#[tokio::test]
async fn a_run_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let bench = Bench::new().await;
    let check = quick(ProbeCheck::Exec(words(&["false"])));
    let script = "trap '' TERM; while :; do sleep 0.05; done";
    let mut run = bench.start(&["sh", "-c", script], liveness(check)).await;
    let exit = run.end().await;
    assert!(
        matches!(&exit, ChildExit::ProbeFailed { codes: ExitCodes { signal: Some(9), .. }, .. }),
        "{exit:?}"
    );
}

#[tokio::test]
async fn an_exec_probe_runs_in_the_environment_and_folder_of_the_agent() {
    let bench = Bench::new().await;
    let script = "test \"$OWN\" = yes && test \"$PROVOST_AGENT_NAME\" = w1 && touch seen";
    let check = quick(ProbeCheck::Exec(words(&["sh", "-c", script])));
    let mut run = bench.start(SLEEPS, startup(check)).await;
    run.starting().await;
    run.ready().await;
    assert!(bench.dir.path().join("seen").exists());
}

#[tokio::test]
async fn kubelet_exec_tells_the_end_of_its_output() {
    let bench = Bench::new().await;
    let script = "head -c 200000 /dev/zero | tr '\\0' x; echo; echo broken pipe >&2; exit 3";
    let check =
        ProbeSpec { failure_threshold: 1, ..quick(ProbeCheck::Exec(words(&["sh", "-c", script]))) };
    let mut run = bench.start(SLEEPS, readiness(check)).await;
    let message = run.not_ready().await.message;
    assert!(message.starts_with("readiness probe failed once: exited with code 3: x"), "{message}");
    assert!(message.ends_with("x broken pipe") && message.len() < 400, "{message}");
}

#[tokio::test]
async fn an_exec_probe_that_never_ends_is_killed_with_all_it_started() {
    let bench = Bench::new().await;
    let script = "sleep 301 & setsid sleep 301 & echo $$ >> probes; wait; sleep 301";
    let check = ProbeSpec {
        timeout: Duration::from_millis(200),
        ..quick(ProbeCheck::Exec(words(&["sh", "-c", script])))
    };
    let mut run = bench.start(SLEEPS, liveness(check)).await;
    let exit = run.end().await;
    assert!(exit.to_string().ends_with("took longer than 0.2 s"), "{exit}");
    let probes = std::fs::read_to_string(bench.dir.path().join("probes")).unwrap();
    assert_eq!(probes.lines().count(), 2, "one at a time, and none more");
    let begun = Instant::now();
    let folder = bench.dir.path().to_owned();
    let left = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| {
                std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder)
            })
            .count()
    };
    while 0 < left() {
        assert!(begun.elapsed() < crate::health::PATIENCE, "{} processes are left", left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_probe_that_cannot_be_asked_says_nothing_about_the_run() {
    let bench = Bench::new().await;
    let check = ProbeSpec { failure_threshold: 1, ..quick(ProbeCheck::Exec(words(&["true"]))) };
    let runtime = bench.runtime(bench.spec(SLEEPS, liveness(check)));
    let mut run = Run(runtime.start(Generation(1)).await.unwrap());
    run.ready().await;
    let keeper = bench.slot.current();
    bench.slot.set(None);
    run.is_quiet().await;
    bench.slot.set(keeper);
    run.is_quiet().await;
    let missing =
        ProbeSpec { failure_threshold: 1, ..quick(ProbeCheck::Exec(words(&["/nothing/here"]))) };
    drop(run);
    let exit = bench.start(SLEEPS, liveness(missing)).await.end().await;
    assert!(exit.to_string().contains("\"/nothing/here\" not found"), "{exit}");
}

#[tokio::test]
async fn a_run_that_its_owner_stops_is_stopped_whatever_its_probes_say() {
    let bench = Bench::new().await;
    let mut run = bench.start(SLEEPS, liveness(quick(ProbeCheck::Exec(words(&["false"]))))).await;
    run.ready().await;
    run.0.ask_to_stop();
    assert_eq!(run.end().await, ChildExit::Stopped);
    let mut run = bench.start(SLEEPS, liveness(quick(ProbeCheck::Exec(words(&["false"]))))).await;
    run.0.kill();
    assert_eq!(run.end().await, ChildExit::Killed);
}
