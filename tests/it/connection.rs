//! The connection against real servers: honest errors, honest states.

use std::time::Duration;

use futures_util::StreamExt as _;
use provost::transport::connect::{CallError, ConnectError, Connection};
use provost::transport::link::ConnectionState;
use provost::transport::settings::{Auth, ConnectSettings, Secret, TlsSettings, TlsUse};
use provost::transport::slot::{ConnectionService, ConnectionSlot};
use provost::transport::streams::{CoordinationStreams, StreamProfile, daemon_streams};
use tokio::sync::watch;

use crate::support::eventually;
use crate::support::nats::{NatsOptions, NatsServer, free_port, older_server};
use crate::support::transport::{Certificates, RunningService, connect, settings, settings_under};

async fn refused(settings: &ConnectSettings) -> ConnectError {
    let opened = tokio::time::timeout(Duration::from_secs(20), Connection::open(settings)).await;
    opened.expect("a failure comes in time").unwrap_err()
}

async fn state_becomes(connection: &Connection, word: &str) {
    eventually(word, async || (connection.state().as_str() == word).then_some(())).await;
}

fn with_password(server: &NatsServer, password: &str) -> ConnectSettings {
    let password = Secret::new(password);
    let auth = Auth::UserPassword { user: "alice".to_owned(), password };
    ConnectSettings { auth, ..settings(server) }
}

#[tokio::test]
async fn a_wrong_password_is_an_error_with_a_hint_and_without_the_password() {
    let server = NatsServer::with(NatsOptions::default().user("alice", "right"));
    let error = refused(&with_password(&server, "wr0ng")).await;
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("refused the credentials: authorization violation"), "{text}");
    assert!(text.contains(&server.address()) && !text.contains("wr0ng"), "{text}");
    assert!(error.hint().contains("nats.password"));
    let without = refused(&settings(&server)).await;
    assert!(matches!(without, ConnectError::Refused(_)), "{without:?}");
}

#[tokio::test]
async fn every_kind_of_credentials_is_accepted() {
    let server = NatsServer::with(NatsOptions::default().user("alice", "p@ss:word/?"));
    Connection::open(&with_password(&server, "p@ss:word/?")).await.unwrap();
    let url = format!("nats://alice:p%40ss%3Aword%2F%3F@{}", server.address());
    Connection::open(&ConnectSettings::to(url.parse().unwrap())).await.unwrap();

    let server = NatsServer::with(NatsOptions::default().token("t0ken"));
    let auth = Auth::Token(Secret::new("t0ken"));
    Connection::open(&ConnectSettings { auth, ..settings(&server) }).await.unwrap();
    let url = format!("nats://t0ken@{}", server.address());
    Connection::open(&ConnectSettings::to(url.parse().unwrap())).await.unwrap();

    let pair = nkeys::KeyPair::new_user();
    let (seed, public) = (&pair.seed().unwrap(), pair.public_key());
    let lines = format!("authorization {{ users: [ {{ nkey: {public} }} ] }}");
    let server = NatsServer::with(NatsOptions::default().lines(&lines));
    let auth = Auth::NKey(Secret::new(seed));
    let opened = Connection::open(&ConnectSettings { auth, ..settings(&server) }).await;
    opened.unwrap();
    let file = server.dir().join("user.nk");
    std::fs::write(&file, format!("{seed}\n")).unwrap();
    let auth = Auth::NKeyFile(file);
    Connection::open(&ConnectSettings { auth, ..settings(&server) }).await.unwrap();
}

/// A signed claim, as NATS operators, accounts and users have them.
fn jwt(issuer: &nkeys::KeyPair, subject: &str, nats: serde_json::Value) -> String {
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let claims = serde_json::json!({
        "jti": "X", "iat": 1, "iss": issuer.public_key(), "sub": subject, "name": "x", "nats": nats,
    });
    let head = encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let signature = encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_credentials_file_is_accepted_and_a_damaged_one_named() {
    let (operator, account, user) =
        (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let operator_jwt = jwt(
        &operator,
        &operator.public_key(),
        serde_json::json!({"type": "operator", "version": 2}),
    );
    let unlimited = serde_json::json!({"subs": -1, "data": -1, "payload": -1, "imports": -1,
        "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let account_jwt = jwt(
        &operator,
        &account.public_key(),
        serde_json::json!({"type": "account", "version": 2, "limits": unlimited}),
    );
    let user_jwt = jwt(
        &account,
        &user.public_key(),
        serde_json::json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}),
    );
    let lines = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    );
    let server = NatsServer::with(NatsOptions::default().without_jetstream().lines(&lines));
    let file = server.dir().join("user.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let with = |file: std::path::PathBuf| {
        let auth = Auth::CredentialsFile(file);
        ConnectSettings { auth, ..settings(&server) }
    };
    let connection = Connection::open(&with(file)).await.unwrap();
    connection.round_trip().await.unwrap();
    let damaged = server.dir().join("damaged.creds");
    std::fs::write(&damaged, "nothing").unwrap();
    let error = refused(&with(damaged)).await.to_string();
    assert!(error.contains("damaged.creds is not valid"), "{error}");
    let error = refused(&settings(&server)).await;
    assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_password_changed_at_the_server_shows_as_refused_and_heals() {
    let mut server = NatsServer::with(NatsOptions::default().user("alice", "one"));
    let connection = Connection::open(&with_password(&server, "one")).await.unwrap();
    assert_eq!(connection.state(), ConnectionState::Connected);
    let password = |server: &mut NatsServer, password: &str| {
        let options = NatsOptions::default().user("alice", password);
        server.set_options(|_| options);
        server.restart();
    };
    password(&mut server, "two");
    state_becomes(&connection, "refused").await;
    let status = connection.status();
    assert_eq!(status.state, "refused");
    assert!(status.error.unwrap().contains("authorization violation"));
    password(&mut server, "one");
    state_becomes(&connection, "connected").await;
    connection.round_trip().await.unwrap();
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_one_by_one() {
    let (one, two) = (free_port(), free_port());
    let mut settings = ConnectSettings::to(format!("nats://127.0.0.1:{one}").parse().unwrap());
    settings.servers.push(format!("nats://u:s3cret@127.0.0.1:{two}").parse().unwrap());
    settings.servers.push("nats://no-such-host.invalid:4222".parse().unwrap());
    let error = refused(&settings).await;
    let ConnectError::Unreachable { attempts } = &error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 3);
    let text = error.to_string();
    for part in [one.to_string(), two.to_string(), "no-such-host.invalid".to_owned()] {
        assert!(text.contains(&part), "{text}");
    }
    assert!(text.contains("refused") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let mut settings = ConnectSettings::to(url.parse().unwrap());
    settings.timeout = Duration::from_millis(200);
    let error = refused(&settings).await;
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn one_server_of_several_is_enough() {
    let server = NatsServer::start();
    let mut settings = settings(&server);
    let dead = format!("nats://127.0.0.1:{}", free_port());
    settings.servers.insert(0, dead.parse().unwrap());
    let connection = Connection::open(&settings).await.unwrap();
    assert_eq!(connection.url(), server.url());
    let pool = connection.client().server_pool().await.unwrap();
    assert!(2 <= pool.len(), "{pool:?}");
}

#[tokio::test]
async fn an_old_server_is_refused_and_a_new_one_accepted() {
    let oldest = NatsServer::with(NatsOptions::default().binary(older_server("2.12.0")));
    let opened = Connection::open(&settings(&oldest)).await;
    opened.unwrap().require_jetstream().await.unwrap();
    let refused = NatsServer::with(NatsOptions::default().binary(older_server("2.11.11")));
    let text = Connection::open(&settings(&refused)).await.unwrap_err().to_string();
    assert!(text.contains("2.11.11") && text.contains("2.12.0 or newer"), "{text}");
}

#[tokio::test]
async fn tls_with_a_client_certificate_works_and_its_absence_is_named() {
    let certificates = Certificates::new();
    let server_files = certificates.issue("127.0.0.1");
    let ca = certificates.ca();
    let options = NatsOptions::default().tls(&server_files.cert, &server_files.key, Some(&ca));
    let server = NatsServer::with(options);
    let with = |tls: TlsSettings| ConnectSettings { tls, ..settings(&server) };

    let client = Some(certificates.issue("client"));
    let tls = TlsSettings { ca: Some(ca.clone()), client, wanted: TlsUse::Required };
    let connection = Connection::open(&with(tls.clone())).await.unwrap();
    connection.round_trip().await.unwrap();

    let error = refused(&with(TlsSettings { client: None, ..tls.clone() })).await;
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.hint().contains("nats.tls.cert"), "{error} {}", error.hint());

    let stranger = Certificates::new();
    let error = refused(&with(TlsSettings { ca: Some(stranger.ca()), ..tls.clone() })).await;
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.hint().contains("nats.tls.ca"), "{error}");

    let missing = Some("/nowhere/ca.pem".into());
    let error = refused(&with(TlsSettings { ca: missing, ..tls })).await;
    assert!(error.to_string().contains("cannot read nats.tls.ca /nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak_is_named() {
    let server = NatsServer::start();
    let tls = TlsSettings { wanted: TlsUse::Required, ..TlsSettings::default() };
    let error = refused(&ConnectSettings { tls, ..settings(&server) }).await;
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn jetstream_that_is_off_is_told_apart_from_one_that_is_forbidden() {
    let server = NatsServer::with(NatsOptions::default().without_jetstream());
    let connection = connect(&server).await;
    let error = connection.require_jetstream().await.unwrap_err();
    assert!(matches!(error, ConnectError::JetStreamOff { .. }), "{error:?}");
    assert!(error.hint().contains("jetstream {}"));

    let accounts = r#"accounts { A { users: [ {user: a, password: a} ] },
        B { jetstream: enabled, users: [ {user: b, password: b} ] } }"#;
    let server = NatsServer::with(NatsOptions::default().lines(accounts));
    let open = async |user: &str| {
        let url = format!("nats://{user}:{user}@{}", server.address());
        Connection::open(&ConnectSettings::to(url.parse().unwrap())).await.unwrap()
    };
    let error = open("a").await.require_jetstream().await.unwrap_err();
    assert!(matches!(error, ConnectError::JetStreamForbidden { .. }), "{error:?}");
    open("b").await.require_jetstream().await.unwrap();
}

#[tokio::test]
async fn a_confirmed_subscription_misses_nothing() {
    let server = NatsServer::start();
    let (connection, other) = (connect(&server).await, connect(&server).await);
    for round in 0..100 {
        let subject = format!("s.{round}");
        let mut subscriber = connection.subscribe_confirmed(&subject).await.unwrap();
        other.publish(&subject, None, "x".into()).await.unwrap();
        let next = tokio::time::timeout(Duration::from_secs(5), subscriber.next()).await;
        assert!(next.unwrap().is_some());
    }
}

#[tokio::test]
async fn calls_fail_with_what_is_wrong() {
    let server = NatsServer::with(NatsOptions::default().max_payload(1_000));
    let connection = connect(&server).await;
    let wait = Duration::from_millis(200);
    let nobody = connection.request("nobody.here", "".into(), wait).await.unwrap_err();
    assert_eq!(nobody, CallError::NoResponders { subject: "nobody.here".to_owned() });
    let large = vec![0_u8; 2_000];
    let error = connection.publish("x", None, large.into()).await.unwrap_err().to_string();
    assert_eq!(error, "message for x is 2000 bytes; the server takes at most 1000");
    let error = connection.publish("a b", None, "".into()).await.unwrap_err();
    assert!(matches!(error, CallError::BadSubject { .. }), "{error:?}");
    let _silent = connection.subscribe_confirmed("silent").await.unwrap();
    let error = connection.request("silent", "".into(), wait).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_forbidden_subject_is_told_with_the_servers_words() {
    let users = r#"authorization { users: [ {user: a, password: a,
        permissions: { publish: { deny: "secret.>" } } } ] }"#;
    let server = NatsServer::with(NatsOptions::default().lines(users));
    let url = format!("nats://a:a@{}", server.address());
    let connection = Connection::open(&ConnectSettings::to(url.parse().unwrap())).await.unwrap();
    let wait = Duration::from_millis(300);
    let error = connection.request("secret.x", "".into(), wait).await.unwrap_err().to_string();
    assert!(error.contains("Permissions Violation"), "{error}");
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_found_again_on_its_port() {
    let mut server = NatsServer::start();
    let connection = connect(&server).await;
    let mut subscriber = connection.subscribe_confirmed("news").await.unwrap();
    server.kill9();
    state_becomes(&connection, "reconnecting").await;
    eventually("the reason is told", async || {
        connection.status().error.filter(|error| error.contains("refused"))
    })
    .await;
    server.restart();
    state_becomes(&connection, "connected").await;
    assert_eq!(connection.link().borrow().reconnects, 1);
    connection.round_trip().await.unwrap();
    connection.publish("news", None, "again".into()).await.unwrap();
    assert_eq!(subscriber.next().await.unwrap().payload, "again");
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_pings() {
    let server = NatsServer::start();
    let settings = ConnectSettings {
        ping_interval: Duration::from_millis(200),
        timeout: Duration::from_millis(500),
        ..settings(&server)
    };
    let connection = Connection::open(&settings).await.unwrap();
    server.freeze();
    state_becomes(&connection, "reconnecting").await;
    server.thaw();
    state_becomes(&connection, "connected").await;
}

#[tokio::test]
async fn a_bounded_number_of_attempts_ends_in_closed() {
    let mut server = NatsServer::start();
    let bounded = ConnectSettings { max_reconnect: Some(3), ..settings(&server) };
    let connection = Connection::open(&bounded).await.unwrap();
    server.kill9();
    state_becomes(&connection, "closed").await;
    let error = connection.round_trip().await.unwrap_err();
    assert!(matches!(error, CallError::Closed { .. }), "{error:?}");
}

fn connection_service(
    slot: &ConnectionSlot,
    settings: ConnectSettings,
) -> (ConnectionService, watch::Sender<Option<ConnectSettings>>) {
    let streams =
        daemon_streams(&settings.prefix, StreamProfile::Development, CoordinationStreams::Without);
    let (sender, receiver) = watch::channel(Some(settings));
    (ConnectionService::new(slot.clone(), receiver, streams), sender)
}

#[tokio::test]
async fn the_connection_service_fills_the_slot_and_empties_it() {
    let server = NatsServer::start();
    let slot = ConnectionSlot::new();
    let (service, _settings) = connection_service(&slot, settings_under(&server, "acme"));
    assert_eq!(slot.status().state, "connecting");
    let running = RunningService::start(&service).await;
    assert_eq!(slot.status().state, "connected");
    let connection = slot.connection().await;
    let names = ["acme_SUPERVISION", "acme_HEALTH", "acme_DEAD_LETTERS"];
    for name in names {
        connection.jetstream().get_stream(name).await.unwrap();
    }
    running.stop().await.unwrap();
    assert!(slot.current().is_none());
    state_becomes(&connection, "closed").await;
}

#[tokio::test]
async fn the_connection_service_fails_when_the_connection_is_given_up() {
    let mut server = NatsServer::start();
    let slot = ConnectionSlot::new();
    let bounded = ConnectSettings { max_reconnect: Some(2), ..settings(&server) };
    let (service, _settings) = connection_service(&slot, bounded);
    let running = RunningService::start(&service).await;
    server.kill9();
    let error = running.outcome().await.unwrap_err().to_string();
    assert!(error.starts_with("nats connection is gone:"), "{error}");
    assert!(slot.current().is_none());
    let error = RunningService::start(&service).await.outcome().await.unwrap_err().to_string();
    assert!(error.contains("no nats server can be reached"), "{error}");
}

#[tokio::test]
async fn a_server_that_moved_gives_everybody_a_new_connection() {
    let (first, second) = (NatsServer::start(), NatsServer::start());
    let slot = ConnectionSlot::new();
    let (service, moving) = connection_service(&slot, settings(&first));
    let running = RunningService::start(&service).await;
    let old = slot.connection().await;
    moving.send_replace(Some(settings(&second)));
    let error = running.outcome().await.unwrap_err().to_string();
    assert!(error.contains("moved to another address"), "{error}");
    slot.replaced(&old).await;
    let again = RunningService::start(&service).await;
    assert_eq!(slot.connection().await.url(), second.url());
    again.stop().await.unwrap();
}
