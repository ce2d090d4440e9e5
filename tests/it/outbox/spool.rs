//! The spool file: lives after lives, killed processes, damage, disks that take nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use provost::ports::EventSink as _;
use provost::transport::outbox::OutboxSettings;
use tokio::sync::watch;

use crate::outbox::{
    Life, assert_once_in_order, connect, declare, gaps, numbered, numbers, open, settings,
};
use crate::support::eventually;
use crate::support::eventually_blocking;
use crate::support::nats::NatsServer;

#[tokio::test]
async fn what_was_not_acknowledged_is_published_by_the_next_life() {
    let mut server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (sender, clients) = connect(&server).await;
    let mut next = 1;
    for round in 0..4 {
        let life = Life::begin(settings(dir.path()), clients.clone());
        for _ in 0..500 {
            life.handle.emit(numbered(next));
            next += 1;
        }
        if round == 1 {
            server.kill9();
        }
        life.crash().await;
        if round == 1 {
            // Longer than the duplicate window, so that only the look-up can find what is stored.
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.restart();
        }
    }
    let life = Life::begin(settings(dir.path()), clients);
    life.flush().await;
    drop(sender);
    assert_once_in_order(&numbers(&server.jetstream().await).await, next - 1);
    life.stop().await;
}

#[tokio::test]
async fn events_stored_but_not_marked_so_in_the_spool_are_not_published_again() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let (_nobody, no_client) = watch::channel(None);
    let life = Life::begin(settings(dir.path()), no_client);
    for number in 1..=200 {
        life.handle.emit(numbered(number));
    }
    life.crash().await;
    // The spool as it was before anything was published comes back.
    let file = dir.path().join("events.spool");
    let before = std::fs::read(&file).unwrap();
    let life = Life::begin(settings(dir.path()), clients.clone());
    life.flush().await;
    life.crash().await;
    std::fs::write(&file, before).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let life = Life::begin(settings(dir.path()), clients);
    life.handle.emit(numbered(201));
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 201);
    life.stop().await;
}

#[tokio::test]
async fn a_torn_spool_costs_the_torn_event_and_a_damaged_one_is_told() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (sender, clients) = watch::channel(None);
    let life = Life::begin(settings(dir.path()), clients.clone());
    for number in 1..=50 {
        life.handle.emit(numbered(number));
    }
    life.crash().await;
    let file = dir.path().join("events.spool");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(12).position(|window| window == b"\"number\":20,").unwrap();
    bytes[at..at + 8].fill(b'?');
    // Cut in the middle of the marks at the end.
    bytes.truncate(bytes.len() - 10);
    std::fs::write(&file, bytes).unwrap();
    let life = Life::begin(settings(dir.path()), clients);
    sender.send(Some(server.client().await)).unwrap();
    life.flush().await;
    assert_eq!(gaps(&context).await, [(1, 0, 19, 30)]);
    assert_eq!(numbers(&context).await.len(), 49);
    life.stop().await;
}

#[tokio::test]
async fn an_unwritable_spool_is_told_and_events_go_on_from_memory() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    let (sender, clients) = connect(&server).await;
    let life = Life::begin(settings(&folder), clients.clone());
    life.handle.emit(numbered(1));
    life.flush().await;
    // Not even root can write below a file.
    std::fs::rename(&folder, dir.path().join("away")).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    for number in 2..=20 {
        life.handle.emit(numbered(number));
    }
    life.flush().await;
    assert!(life.handle.status().memory_only);
    assert!(life.handle.spool_fault().is_some());
    let client = sender.send_replace(None);
    for number in 21..=40 {
        life.handle.emit(numbered(number));
    }
    std::fs::remove_file(&folder).unwrap();
    eventually("the spool is written again", async || {
        (!life.handle.status().memory_only).then_some(())
    })
    .await;
    // What came while it was unwritable is in it now.
    life.crash().await;
    let life = Life::begin(settings(&folder), clients);
    assert_eq!(life.handle.status().waiting, 20);
    sender.send(client).unwrap();
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 40);
    life.stop().await;
}

#[tokio::test]
async fn the_spool_soon_knows_what_is_acknowledged_though_nothing_new_comes() {
    let server = NatsServer::start();
    declare(&server.jetstream().await, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(&dir.path().join("spool")), clients);
    for number in 1..=10 {
        life.handle.emit(numbered(number));
    }
    life.flush().await;
    eventually("a copy of the spool holds nothing that waits", async || {
        let copy = tempfile::tempdir().unwrap();
        let from = dir.path().join("spool/events.spool");
        std::fs::copy(from, copy.path().join("events.spool")).unwrap();
        let (_nobody, clients) = watch::channel(None);
        let (handle, _service) = open(settings(copy.path()), clients).unwrap();
        (handle.status().waiting == 0).then_some(())
    })
    .await;
    life.stop().await;
}

/// Environment variable that makes this test binary a child that writes a spool.
const CHILD_DIR: &str = "PROVOST_TEST_OUTBOX_DIR";
const CHILD_URL: &str = "PROVOST_TEST_OUTBOX_URL";
const CHILD_FIRST: &str = "PROVOST_TEST_OUTBOX_FIRST";
const CHILD_FILE_MAX: &str = "PROVOST_TEST_OUTBOX_FILE_MAX";

/// The child's side of the tests below; does nothing when it is run as a test.
#[tokio::test(flavor = "multi_thread")]
async fn child_of_other_tests() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    if let Ok(bytes) = std::env::var(CHILD_FILE_MAX) {
        // The signal that comes with the error would end the process.
        let _signal =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).unwrap();
        let limit = rustix::process::Rlimit { current: bytes.parse().ok(), maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        let (_nobody, clients) = watch::channel(None);
        let life = Life::begin(settings(Path::new(&dir)), clients);
        for number in 1..=100 {
            life.handle.emit(numbered(number));
        }
        eventually("the limit is hit", async || life.handle.status().memory_only.then_some(()))
            .await;
        let limit = rustix::process::Rlimit { current: None, maximum: None };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        eventually("the spool is written again", async || {
            (!life.handle.status().memory_only).then_some(())
        })
        .await;
        life.crash().await;
        return;
    }
    let url = std::env::var(CHILD_URL).unwrap();
    let first: u64 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    let (_sender, clients) = watch::channel(Some(async_nats::connect(url).await.unwrap()));
    let life = Life::begin(settings(Path::new(&dir)), clients);
    let (new, progress) = (Path::new(&dir).join("new"), Path::new(&dir).join("spooled"));
    for number in first.. {
        life.handle.emit(numbered(number));
        if number % 20 == 0 {
            life.handle.spooled(Duration::from_secs(30)).await.unwrap();
            // Renamed into place, so that a kill never leaves half a number.
            std::fs::write(&new, number.to_string()).unwrap();
            std::fs::rename(&new, &progress).unwrap();
        }
    }
}

fn child(dir: &Path, env: &[(&str, String)]) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "outbox::spool::child_of_other_tests", "--nocapture"])
        .env(CHILD_DIR, dir)
        .envs(env.iter().map(|(key, value)| (key, value)))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_process_loses_and_doubles_no_event_that_reached_the_spool() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let progress = dir.path().join("spooled");
    let spooled = || -> u64 {
        std::fs::read_to_string(&progress).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let mut first = 1;
    let mut lives = BTreeMap::new();
    for _ in 0..5 {
        let env = [(CHILD_URL, server.url()), (CHILD_FIRST, first.to_string())];
        let mut child = child(dir.path(), &env);
        eventually("the child spools", async || (first + 300 < spooled()).then_some(())).await;
        child.kill().unwrap();
        child.wait().unwrap();
        lives.insert(first, spooled());
        first = spooled() + 1_000;
    }
    let (_sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients);
    life.flush().await;
    let numbers = numbers(&context).await;
    let unique: BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(numbers.len(), unique.len(), "some events are stored twice");
    assert!(numbers.is_sorted(), "out of order");
    for (first, last) in lives {
        let missing: Vec<u64> = (first..=last).filter(|number| !unique.contains(number)).collect();
        assert!(missing.is_empty(), "{missing:?} of {first} to {last}");
    }
    life.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_survived_and_the_spool_is_whole_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child(dir.path(), &[(CHILD_FILE_MAX, "4096".to_owned())]);
    let status = eventually_blocking("the child ends", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let (_nobody, clients) = watch::channel(None);
    let (handle, _service) = open(settings(dir.path()), clients).unwrap();
    let status = handle.status();
    assert_eq!((status.waiting, status.dropped), (100, 0));
}

#[tokio::test]
async fn a_stopped_service_publishes_what_waits_and_leaves_the_rest_in_the_spool() {
    let server = NatsServer::start();
    let context = server.jetstream().await;
    declare(&context, "").await;
    let dir = tempfile::tempdir().unwrap();
    let (sender, clients) = connect(&server).await;
    let life = Life::begin(settings(dir.path()), clients.clone());
    for number in 1..=1_000 {
        life.handle.emit(numbered(number));
    }
    life.stop().await;
    assert_once_in_order(&numbers(&context).await, 1_000);
    // Without a connection it does not wait for the whole limit.
    let client = sender.send_replace(None);
    let life = Life::begin(settings(dir.path()), clients.clone());
    life.handle.emit(numbered(1_001));
    let began = Instant::now();
    life.stop().await;
    assert!(began.elapsed() < Duration::from_secs(4));
    sender.send(client).unwrap();
    let life = Life::begin(settings(dir.path()), clients);
    life.flush().await;
    assert_once_in_order(&numbers(&context).await, 1_001);
    life.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |change: fn(&mut OutboxSettings), expected: &str| {
        let mut settings = settings(dir.path());
        change(&mut settings);
        let (_nobody, clients) = watch::channel(None);
        assert_eq!(open(settings, clients).unwrap_err().to_string(), expected);
    };
    check(
        |settings| settings.bound_events = 0,
        "outbox setting bound_events is 0; it must be at least 1",
    );
    check(
        |settings| settings.bound_bytes = 10,
        "outbox setting bound_bytes is 10; it must be at least 65536",
    );
    check(
        |settings| settings.publish_timeout = Duration::ZERO,
        "outbox setting publish_timeout is 0; it must be at least 1",
    );
}
