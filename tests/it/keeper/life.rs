//! The keeper's own life: its lock, its end with the daemon, its loss, its return.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use provost::ports::AgentRuntime;
use provost::protocol::exit::{ChildExit, StartError};
use provost::protocol::id::Generation;
use provost::runtimes::in_process::ServiceRuntime;
use provost::runtimes::keeper::{
    Keeper, KeeperError, KeeperService, KeeperSlot, ProcessRun, VERSION,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::keeper::{
    Bench, MARK, PATIENCE, kill, lines, lives, options, processes, state_and_parent, until, words,
};

const STUBBORN: &str = "trap '' TERM; (setsid sleep 300 &); sleep 300 & echo up
    while :; do sleep 0.05; done";

#[tokio::test]
async fn signals_of_the_terminal_do_not_reach_the_keeper() {
    let bench = Bench::new().await;
    let (mut handle, _) = bench.start("sleep 300").await;
    for signal in [Signal::INT, Signal::HUP, Signal::PIPE, Signal::QUIT, Signal::TSTP] {
        kill(bench.keeper.pid(), signal);
    }
    assert_eq!(bench.end_of("exit 0").await, ChildExit::Exited { code: 0 });
    handle.kill();
    handle.exited().await;
    let stat = fs::read_to_string(format!("/proc/{}/stat", bench.keeper.pid())).unwrap();
    let session: u32 =
        stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, bench.keeper.pid());
}

#[tokio::test]
async fn the_end_of_the_keeper_ends_all_runs_and_tells_how_they_ended() {
    let bench = Bench::new().await;
    let (mut polite, polite_run) =
        bench.start("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done").await;
    let mut stubborn_run = bench.script(STUBBORN);
    stubborn_run.stop.grace = Duration::from_millis(200);
    let mut stubborn = bench.keeper.start(stubborn_run.clone()).await.unwrap();
    lines(&polite_run, 1).await;
    lines(&stubborn_run, 1).await;
    let keeper = bench.keeper.pid();
    tokio::time::timeout(PATIENCE, bench.life.shut_down()).await.unwrap();
    assert!(state_and_parent(keeper).is_none(), "no zombie of the keeper either");
    assert_eq!(polite.exited().await, ChildExit::Exited { code: 9 });
    assert_eq!(stubborn.exited().await, ChildExit::Signaled { signal: 9 });
    assert_eq!(processes(&stubborn_run), Vec::<i32>::new());
    let refused = bench.keeper.start(polite_run).await.map(|handle| handle.pid()).unwrap_err();
    assert!(matches!(refused, StartError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn dropping_the_life_is_enough_to_end_everything() {
    let Bench { dir: _dir, keeper, life } = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut run = ProcessRun::new(words(&["/bin/sleep", "300"]), dir.path().join("x.log"));
    run.env.insert(MARK.to_owned(), format!("drop-{}", std::process::id()));
    let handle = keeper.start(run.clone()).await.unwrap();
    drop(life);
    until("keeper and run are gone", || !lives(keeper.pid()) && processes(&run).is_empty()).await;
    drop(handle);
}

#[tokio::test]
async fn sigterm_to_the_keeper_ends_it_in_order() {
    let mut bench = Bench::new().await;
    let (mut handle, run) =
        bench.start("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done").await;
    lines(&run, 1).await;
    kill(bench.keeper.pid(), Signal::TERM);
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 9 });
    let end = tokio::time::timeout(PATIENCE, bench.life.ended()).await.unwrap();
    assert!(end.contains("exit status: 0"), "{end}");
}

/// A keeper under a daemon made of nothing but a socket.
struct RawKeeper {
    child: Child,
    socket: UnixStream,
}

impl RawKeeper {
    fn new(dir: &TempDir) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_provost"))
            .arg("keeper")
            .args([dir.path().as_os_str(), "1000".as_ref()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let mut keeper = Self { child, socket: ours };
        let hello = keeper.receive();
        let told = (hello.get("op").unwrap(), hello.get("version").unwrap());
        assert_eq!(told, (&"hello".into(), &VERSION.into()));
        keeper.send(&serde_json::json!({"op": "hello", "version": VERSION}));
        let inventory = keeper.receive();
        assert_eq!(inventory, serde_json::json!({"op": "inventory", "runs": [], "more": false}));
        keeper
    }

    fn send(&mut self, message: &serde_json::Value) {
        let body = message.to_string();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        self.socket.write_all(&[&length, body.as_bytes()].concat()).unwrap();
    }

    fn receive(&mut self) -> serde_json::Value {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.socket.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn start(&mut self, run: &ProcessRun) {
        self.send(&serde_json::json!({"op": "start", "run": 1, "command": run.command,
            "env": run.env, "cwd": "/", "log": {"file": run.log.file, "max_bytes": 1000000, "keep": 1},
            "stop_signal": "SIGTERM", "grace_ms": 300, "umask": null, "marks": run.marks,
            "of_a_later_version": true}));
        assert_eq!(self.receive().get("op").unwrap(), "started");
    }
}

#[tokio::test]
async fn runs_bound_to_a_daemon_end_with_it_and_the_keeper_a_little_later() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut raw = RawKeeper::new(&dir);
    let run = bench.script(STUBBORN);
    raw.start(&run);
    lines(&run, 1).await;
    drop(raw.socket);
    let begun = Instant::now();
    until("the keeper has ended", || raw.child.try_wait().unwrap().is_some()).await;
    assert!(begun.elapsed() >= Duration::from_millis(300), "the grace is given");
    assert_eq!(raw.child.wait().unwrap().code(), Some(0));
    assert_eq!(processes(&run), Vec::<i32>::new());
}

#[tokio::test]
async fn garbage_on_the_socket_is_like_the_end_of_the_daemon() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut raw = RawKeeper::new(&dir);
    let run = bench.script("sleep 300");
    raw.start(&run);
    raw.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    until("the keeper has ended", || raw.child.try_wait().unwrap().is_some()).await;
    assert_eq!(processes(&run), Vec::<i32>::new());
}

#[tokio::test]
async fn a_keeper_started_by_hand_says_what_to_do() {
    let check = |arguments: &[&str], expected: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provost"));
        let output = command.arg("keeper").args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
    };
    check(&[], "it is started by `provost up`, not by hand");
    check(&["/nowhere", "10"], "standard input is no socket; it is started by `provost up`");
}

#[tokio::test]
async fn a_second_keeper_waits_until_the_first_is_gone() {
    let bench = Bench::new().await;
    let mut run = bench.script(STUBBORN);
    run.stop.grace = Duration::from_millis(1_500);
    let handle = bench.keeper.start(run.clone()).await.unwrap();
    lines(&run, 1).await;
    drop(bench.life);
    let socket = bench.dir.path().join("state/keeper.sock");
    until("the keeper is on its way out", || !socket.exists()).await;

    let mut hasty = options(&bench.dir);
    hasty.lock_wait = Duration::from_millis(50);
    let error = Keeper::launch(hasty).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, KeeperError::Refused { .. }), "{error}");
    let text = error.to_string();
    let pid = format!("by the keeper with pid {}:", bench.keeper.pid());
    assert!(
        text.contains("keeper.lock is still held after 50 ms") && text.contains(&pid),
        "{text}"
    );

    let (second, _life) = Keeper::launch(options(&bench.dir)).await.unwrap();
    assert_eq!(processes(&run), Vec::<i32>::new(), "never two lives of one run");
    assert_ne!(second.pid(), bench.keeper.pid());
    drop(handle);
}

#[tokio::test]
async fn launches_that_cannot_work_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = options(&dir);
    wrong.program = dir.path().join("nothing");
    let error = Keeper::launch(wrong).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, KeeperError::Spawn { .. }), "{error}");

    let mut wrong = options(&dir);
    fs::write(dir.path().join("file"), "").unwrap();
    wrong.state_dir = dir.path().join("file");
    let error = Keeper::launch(wrong).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, KeeperError::StateDir { .. }), "{error}");

    let mut wrong = options(&dir);
    wrong.program = "/bin/true".into();
    let error = Keeper::launch(wrong).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, KeeperError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn runs_of_a_killed_keeper_are_lost_and_gone() {
    let mut bench = Bench::new().await;
    let (mut handle, run) = bench.start(STUBBORN).await;
    let (mut other, other_run) = bench.start("sleep 300").await;
    lines(&run, 1).await;
    until("the tree is up", || processes(&run).len() >= 3).await;
    kill(bench.keeper.pid(), Signal::KILL);
    for handle in [&mut handle, &mut other] {
        let exit = tokio::time::timeout(PATIENCE, handle.exited()).await.unwrap();
        assert!(
            matches!(&exit, ChildExit::Lost { message } if message.contains("signal: 9")),
            "{exit}"
        );
    }
    assert_eq!(processes(&run), Vec::<i32>::new());
    assert_eq!(processes(&other_run), Vec::<i32>::new());
    assert!(bench.life.ended().await.contains("signal: 9"));
}

#[tokio::test]
async fn a_lost_keeper_is_launched_again_by_its_place_in_the_tree() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let slot = KeeperSlot::default();
    let run = bench.script("exit 3");

    let service = KeeperService::new(options(&dir), slot.clone());
    let runtime = ServiceRuntime::new(Arc::new(service));
    let mut running = runtime.start(Generation(1)).await.unwrap();
    let first = slot.current().unwrap().pid();
    let mut handle = slot.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 3 });
    kill(first, Signal::KILL);
    let exit = running.exited().await;
    assert!(
        matches!(&exit, ChildExit::Failed { message } if message.contains("signal: 9")),
        "{exit}"
    );
    assert!(slot.current().is_none());
    // A start waits for the next keeper.
    let waiting = slot.start(run.clone());
    let (running, handle) = tokio::join!(runtime.start(Generation(2)), waiting);
    let (mut running, mut handle) = (running.unwrap(), handle.unwrap());
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 3 });
    let second = slot.current().unwrap().pid();
    assert_ne!(second, first);
    running.ask_to_stop();
    assert_eq!(running.exited().await, ChildExit::Stopped);
    assert!(!lives(second) && slot.current().is_none());
}
