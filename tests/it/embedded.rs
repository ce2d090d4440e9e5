//! The embedded server, with the real program. The keeper runs it in the daemon; here the test
//! does, as the prepared arguments say.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use provost::transport::connect::{ConnectError, Connection};
use provost::transport::contexts;
use provost::transport::embedded::{
    BinarySearch, Durability, EmbeddedError, EmbeddedServer, EmbeddedSettings, Prepared, Running,
    read_address,
};
use provost::transport::settings::ConnectSettings;

use crate::support::nats::{die_with_us, server_binary};

const LONG: Duration = Duration::from_secs(20);

/// The process, killed when the test ends.
struct Process(Child);

impl Process {
    fn run(prepared: &Prepared) -> Self {
        let (program, arguments) = prepared.argv.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&prepared.cwd).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        die_with_us(&mut command);
        Self(command.spawn().unwrap())
    }

    fn kill9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn settings(state_dir: &Path) -> EmbeddedSettings {
    let binary = BinarySearch { explicit: Some(server_binary()), folders: Vec::new() };
    EmbeddedSettings::new("n1".parse().unwrap(), state_dir.to_owned(), binary)
}

/// Another test that forks at this moment holds our locks until it executes.
fn once_unlocked<T>(mut take: impl FnMut() -> Result<T, EmbeddedError>) -> T {
    crate::support::eventually_blocking("the lock is free", || match take() {
        Ok(taken) => Some(taken),
        Err(EmbeddedError::Locked { .. }) => None,
        Err(error) => unreachable_error(&error),
    })
}

#[expect(clippy::panic, reason = "the test has failed")]
fn unreachable_error<T>(error: &EmbeddedError) -> T {
    panic!("{error}")
}

async fn start(server: &EmbeddedServer) -> (Prepared, Process, Running) {
    let prepared = once_unlocked(|| server.prepare());
    let process = Process::run(&prepared);
    let running = prepared.wait_ready(LONG).await.unwrap();
    assert_eq!(running.pid, process.0.id());
    (prepared, process, running)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_server_runs_on_loopback_with_credentials_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let contexts_dir = dir.path().join("contexts");
    let state = dir.path().join("state \"with\" quotes");
    let wanted = EmbeddedSettings { contexts: Some(contexts_dir.clone()), ..settings(&state) };
    let server = EmbeddedServer::open(wanted).unwrap();
    let (_prepared, _process, running) = start(&server).await;

    let connection = Connection::open(&ConnectSettings::to(running.url.clone())).await.unwrap();
    connection.require_jetstream().await.unwrap();
    assert_eq!(connection.client().server_info().server_name, "provost-n1");
    assert_eq!(connection.client().max_payload(), 8 * 1024 * 1024);

    let stranger = ConnectSettings::to(running.url.to_string().parse().unwrap());
    let error = Connection::open(&stranger).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");

    let (address, url) = read_address(&state).unwrap().unwrap();
    assert_eq!((address.pid, address.embedded), (running.pid, true));
    assert_eq!((address.durability.as_str(), &url), ("default", &running.url));
    let nats = state.join("nats");
    for file in [state.join("nats.json"), nats.join("nats.conf"), nats.join("credentials.json")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let from_context = contexts::load(&contexts_dir, Some("provost")).unwrap();
    Connection::open(&from_context).await.unwrap();
    assert!(!format!("{running:?} {address:?} {server:?}").contains(&password(&nats)));
}

fn password(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("credentials.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.get("password").unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn clients_find_a_restarted_server_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let (prepared, mut process, first) = start(&server).await;
    let mut connecting = ConnectSettings::to(first.url.clone());
    connecting.reconnect_wait = Duration::from_millis(20);
    let connection = Connection::open(&connecting).await.unwrap();
    let stream = async_nats::jetstream::stream::Config {
        name: "S".to_owned(),
        subjects: vec!["s".to_owned()],
        ..Default::default()
    };
    connection.jetstream().create_stream(stream).await.unwrap();
    connection.jetstream().publish("s", "x".into()).await.unwrap().await.unwrap();
    process.kill9();
    drop(prepared);
    let (_prepared, _process, second) = start(&server).await;
    assert_eq!(second.url, first.url);
    crate::support::eventually("the client is back", async || {
        connection.round_trip().await.ok().filter(|_| connection.state().as_str() == "connected")
    })
    .await;
    let stream = connection.jetstream().get_stream("S").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let (prepared, mut process, first) = start(&server).await;
    process.kill9();
    drop(prepared);
    let port = first.url.address().port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (_prepared, _process, second) = start(&server).await;
    assert_ne!(second.url.address().port(), port);
    assert_eq!(second.url.auth(), first.url.auth());
}

#[tokio::test]
async fn a_store_belongs_to_one_daemon_and_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let error = EmbeddedServer::open(settings(dir.path())).unwrap_err();
    assert!(matches!(error, EmbeddedError::Locked { .. }), "{error:?}");
    let prepared = server.prepare().unwrap();
    let error = server.prepare().unwrap_err();
    assert!(matches!(error, EmbeddedError::Locked { .. }), "{error:?}");
    drop(prepared);
    once_unlocked(|| server.prepare());
}

#[tokio::test]
async fn a_server_left_by_a_dead_daemon_is_found_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let (prepared, mut process, running) = start(&server).await;
    drop((server, prepared));

    let next = once_unlocked(|| EmbeddedServer::open(settings(dir.path())));
    let error = next.prepare().unwrap_err();
    assert!(matches!(error, EmbeddedError::StillRunning { pid } if pid == running.pid));
    let orphan = next.orphan().unwrap();
    assert_eq!(orphan.pid(), running.pid);
    orphan.end().await;
    process.0.wait().unwrap();
    assert!(next.orphan().is_none());
    let (_prepared, _process, again) = start(&next).await;
    assert_eq!(again.url, running.url);
}

#[tokio::test]
async fn a_stranger_with_the_old_process_id_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let pid_file = dir.path().join("nats/server.pid");
    for text in [std::process::id().to_string(), "0".to_owned(), "x".to_owned(), String::new()] {
        fs::write(&pid_file, text).unwrap();
        assert!(server.orphan().is_none());
    }
    server.prepare().unwrap();
}

#[tokio::test]
async fn damaged_state_files_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let server = EmbeddedServer::open(settings(dir.path())).unwrap();
    let folder = dir.path().join("nats");
    fs::write(folder.join("credentials.json"), r#"{"user":"provost","password":"\" }"}"#).unwrap();
    fs::write(folder.join("port"), "99999999").unwrap();
    let (_prepared, _process, running) = start(&server).await;
    Connection::open(&ConnectSettings::to(running.url)).await.unwrap();
    assert_eq!(password(&folder).len(), 64);
}

#[tokio::test]
async fn a_server_that_does_not_come_up_is_told_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let durable = EmbeddedSettings { durability: Durability::Durable, ..settings(dir.path()) };
    let server = EmbeddedServer::open(durable).unwrap();
    let prepared = server.prepare().unwrap();
    fs::write(&prepared.log_file, "one\nnats-server: cannot do it\n").unwrap();
    let error = prepared.wait_ready(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains("not ready within 50ms") && error.contains("cannot do it"), "{error}");
    let error = read_address(dir.path()).unwrap();
    assert!(error.is_none());
}

#[test]
fn an_address_file_that_is_damaged_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("nats.json"), "{}").unwrap();
    let error = read_address(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read") && error.ends_with("nats.json"), "{error}");
}
