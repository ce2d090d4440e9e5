//! Keepers that outlive their daemon and runs that outlive their keeper, on the keeper's level.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use provost::ports::RunOrigin;
use provost::protocol::exit::ChildExit;
use provost::protocol::id::Generation;
use provost::protocol::spec::OnDaemonExit;
use provost::runtimes::keeper::{
    IoMode, Keeper, KeeperError, KeeperLife, KeeperSlot, Owner, ProcessHandle, ProcessRun, VERSION,
    VERSION_MIN,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::keeper::{MARK, kill, lines, lives, options, processes, until, words};

/// Ends with 42 when it is asked to stop.
const MORTAL: &str = "trap 'exit 42' TERM; echo up; while :; do sleep 0.02; done";

/// What a daemon has: a slot and the life of its keeper.
struct Side {
    slot: KeeperSlot,
    life: KeeperLife,
}

impl Side {
    async fn new(dir: &TempDir) -> Self {
        let slot = KeeperSlot::default();
        let launched = slot.adopt(options(dir)).await.unwrap();
        let life = launched.settle(&slot).unwrap();
        Self { slot, life }
    }

    fn keeper(&self) -> u32 {
        self.slot.current().unwrap().pid()
    }

    async fn start(&self, run: &ProcessRun) -> ProcessHandle {
        self.slot.start(run.clone()).await.unwrap()
    }

    /// Leaves as a killed daemon does: without a word to the keeper or to any run.
    fn vanish(self, handles: Vec<ProcessHandle>) {
        self.life.leave();
        handles.into_iter().for_each(std::mem::forget);
    }
}

fn script(dir: &TempDir, name: &str, script: &str) -> ProcessRun {
    let log = dir.path().join(format!("logs/{name}.log"));
    let mut run = ProcessRun::new(words(&["/bin/sh", "-c", script]), log);
    let mark = format!("{name}-{}", dir.path().display());
    run.env.insert("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    run.env.insert(MARK.to_owned(), mark);
    run.marks = vec![MARK.to_owned()];
    run.on_daemon_exit = OnDaemonExit::Adopt;
    run.owner = Some(Owner {
        name: name.parse().unwrap(),
        agent_id: Some(name.parse().unwrap()),
        generation: Generation(7),
        settings: 1,
    });
    run
}

async fn ready(run: &ProcessRun) {
    lines(run, 1).await;
}

#[tokio::test]
async fn a_run_outlives_its_daemon_and_is_given_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let keeper = first.keeper();
    let (run, other) = (script(&dir, "a", MORTAL), script(&dir, "b", MORTAL));
    let (mine, bound) = (first.start(&run).await, {
        let mut bound = script(&dir, "bound", MORTAL);
        bound.on_daemon_exit = OnDaemonExit::Stop;
        bound
    });
    let (theirs, stopped) = (first.start(&other).await, first.start(&bound).await);
    for run in [&run, &other, &bound] {
        ready(run).await;
    }
    let (pid, other_pid) = (mine.pid(), theirs.pid());
    first.vanish(vec![mine, theirs, stopped]);
    until("the bound run is stopped", || processes(&bound).is_empty()).await;
    kill(other_pid, Signal::TERM);
    until("the other run has ended", || !lives(other_pid)).await;

    let second = Side::new(&dir).await;
    assert_eq!(second.keeper(), keeper);
    let found = second.slot.found(&"a".parse().unwrap()).unwrap();
    assert_eq!((&found, found.generation), (run.owner.as_ref().unwrap(), Generation(7)));
    assert_eq!(second.slot.found(&"bound".parse().unwrap()), None, "it ended as it was to");
    let mut mine = second.start(&run).await;
    assert_eq!((mine.pid(), mine.origin()), (pid, RunOrigin::Adopted));
    let mut theirs = second.start(&other).await;
    assert_eq!(theirs.exited().await, ChildExit::Exited { code: 42 });
    let again = second.start(&bound).await;
    assert_eq!(again.origin(), RunOrigin::Begun);

    mine.ask_to_stop();
    assert_eq!(mine.exited().await, ChildExit::Exited { code: 42 });
    second.life.shut_down().await;
    assert!(!lives(keeper) && processes(&bound).is_empty());
}

#[tokio::test]
async fn messages_that_no_daemon_took_are_told_to_the_next_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let said = |state: &str| format!(r#"{{"id":"t","state":"{state}"}}"#);
    let (one, two) = (said("one"), said("two"));
    let text =
        format!("trap 'echo \"$TWO\"; exit 5' TERM; echo '{one}'; while :; do sleep 0.02; done");
    let mut run = script(&dir, "l", &text);
    run.io = IoMode::Lines;
    run.env.insert("TWO".to_owned(), two.clone());
    let mine = first.start(&run).await;
    assert_eq!(mine.stdio().receive().await.as_ref(), Some(&one));
    let pid = mine.pid();
    first.vanish(vec![mine]);
    kill(pid, Signal::TERM);
    until("the run has ended", || !lives(pid)).await;

    let second = Side::new(&dir).await;
    let mut mine = second.start(&run).await;
    assert_eq!((mine.pid(), mine.origin()), (pid, RunOrigin::Adopted));
    let mut told = mine.stdio().receive().await;
    if told == Some(one) {
        // That it was taken had not left the first side.
        told = mine.stdio().receive().await;
    }
    assert_eq!(told, Some(two));
    assert_eq!(mine.stdio().receive().await, None);
    assert_eq!(mine.exited().await, ChildExit::Exited { code: 5 });
    second.life.shut_down().await;
}

#[tokio::test]
async fn an_end_is_told_once_and_a_keeper_with_nothing_left_ends() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let (told, untold) = (script(&dir, "told", "exit 3"), script(&dir, "untold", "exit 4"));
    let mut handle = first.start(&told).await;
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 3 });
    let other = first.start(&untold).await;
    until("it has ended", || !lives(other.pid())).await;
    let keeper = first.keeper();
    first.vanish(vec![handle, other]);
    until("the keeper has ended", || !lives(keeper)).await;

    let second = Side::new(&dir).await;
    assert_ne!(second.keeper(), keeper);
    let mut other = second.start(&untold).await;
    assert_eq!(other.origin(), RunOrigin::Adopted);
    assert_eq!(other.exited().await, ChildExit::Exited { code: 4 }, "from the journal");
    let again = second.start(&told).await;
    assert_eq!(again.origin(), RunOrigin::Begun);
    second.life.shut_down().await;
}

#[tokio::test]
async fn runs_outlive_a_killed_keeper_and_their_ends_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let names = ["a", "b", "c"];
    let runs = names.map(|name| script(&dir, name, MORTAL));
    let mut handles = Vec::new();
    for run in &runs {
        handles.push(first.start(run).await);
        ready(run).await;
    }
    let pids: Vec<u32> = handles.iter().map(ProcessHandle::pid).collect();
    kill(first.keeper(), Signal::KILL);
    first.vanish(handles);

    let second = Side::new(&dir).await;
    let mut adopted = Vec::new();
    for (run, pid) in runs.iter().zip(&pids) {
        let handle = second.start(run).await;
        assert_eq!((handle.pid(), handle.origin()), (*pid, RunOrigin::Adopted));
        adopted.push(handle);
    }
    adopted[0].ask_to_stop();
    assert_eq!(adopted[0].exited().await, ChildExit::Exited { code: 42 });
    kill(pids[1], Signal::SEGV);
    let end = adopted[1].exited().await;
    assert!(matches!(end, ChildExit::Signaled { signal: 11 }), "{end}");
    adopted[2].kill();
    assert_eq!(adopted[2].exited().await, ChildExit::Signaled { signal: 9 });
    assert!(runs.iter().all(|run| processes(run).is_empty()), "nothing of a tree is left");
    second.life.shut_down().await;
}

#[tokio::test]
async fn a_stranger_that_a_forged_journal_names_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut stranger = Command::new("/bin/sleep").arg("300").process_group(0).spawn().unwrap();
    let pid = stranger.id();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: u64 =
        stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = |run: u64, start_time: u64, marks: &[&str]| {
        let name = format!("w{run}");
        json!({"began": {"run": run, "pid": pid, "start_time": start_time,
            "owner": {"name": name, "agent_id": name, "generation": 7, "settings": 1},
            "marks": marks, "log": {"file": "/dev/null", "max_bytes": 1000, "keep": 0},
            "stop_signal": "SIGTERM", "grace_ms": 100, "on_daemon_exit": "adopt",
            "outlives_keeper": true}})
    };
    let journal = [
        json!({"boot": {"id": boot.trim()}}),
        record(1, start - 1, &["A=1"]),
        record(2, start + 1, &[]),
        // Not the leader of a session, as every run is.
        record(3, start, &["A=1"]),
        record(4, start, &["PATH=/nowhere"]),
    ];
    let text: String = journal.iter().map(|line| format!("{line}\n")).collect();
    fs::write(state.join("keeper.jsonl"), text).unwrap();

    let side = Side::new(&dir).await;
    for name in ["w1", "w2", "w3", "w4"] {
        let mut handle = side.start(&script(&dir, name, "exit 0")).await;
        let end = handle.exited().await;
        assert!(matches!(end, ChildExit::Lost { .. }), "{name}: {end}");
    }
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    side.life.shut_down().await;
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn without_any_record_the_lock_still_keeps_a_second_life_away() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let run = script(&dir, "a", MORTAL);
    let handle = first.start(&run).await;
    ready(&run).await;
    let (keeper, pid) = (first.keeper(), handle.pid());
    kill(keeper, Signal::KILL);
    until("the keeper is gone", || !lives(keeper)).await;
    first.vanish(vec![handle]);
    fs::remove_file(dir.path().join("state/keeper.jsonl")).unwrap();
    assert!(lives(pid));

    let second = Side::new(&dir).await;
    let again = second.start(&run).await;
    assert_eq!(again.origin(), RunOrigin::Begun);
    assert!(!lives(pid), "what had the lock was ended first");
    second.life.shut_down().await;
}

#[tokio::test]
async fn runs_that_nobody_claims_are_ended() {
    let dir = tempfile::tempdir().unwrap();
    let first = Side::new(&dir).await;
    let (kept, dropped) = (script(&dir, "kept", MORTAL), script(&dir, "dropped", MORTAL));
    let handles = vec![first.start(&kept).await, first.start(&dropped).await];
    ready(&kept).await;
    ready(&dropped).await;
    first.vanish(handles);

    let second = Side::new(&dir).await;
    let ended = second.slot.end_unclaimed(|owner| owner.name.as_str() == "kept").await;
    assert_eq!(ended, 1);
    assert!(processes(&dropped).is_empty() && !processes(&kept).is_empty());
    let mut other = kept.clone();
    other.owner.as_mut().unwrap().generation = Generation(9);
    let fresh = second.start(&other).await;
    assert_eq!(fresh.origin(), RunOrigin::Begun, "another run was asked for");
    until("one life of it is there", || {
        let alive = processes(&kept);
        alive.contains(&i32::try_from(fresh.pid()).unwrap())
            && alive.iter().all(|pid| *pid >= i32::try_from(fresh.pid()).unwrap())
    })
    .await;
    second.life.shut_down().await;
}

#[tokio::test]
async fn a_state_folder_with_a_very_long_path_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = options(&dir);
    long.state_dir = dir.path().join("x".repeat(120)).join("y".repeat(120));
    let slot = KeeperSlot::default();
    let launched = slot.adopt(long.clone()).await.unwrap();
    let life = launched.settle(&slot).unwrap();
    let run = script(&dir, "a", MORTAL);
    let handle = slot.start(run.clone()).await.unwrap();
    ready(&run).await;
    let pid = handle.pid();
    life.leave();
    std::mem::forget(handle);
    let slot = KeeperSlot::default();
    let life = slot.adopt(long).await.unwrap().settle(&slot).unwrap();
    assert_eq!(slot.start(run).await.unwrap().pid(), pid);
    life.shut_down().await;
}

/// Answers one connection as a keeper of these versions, and tells what the daemon said.
fn fake_keeper(dir: &TempDir, hello: Value) -> mpsc::Receiver<Value> {
    let state = dir.path().join("state");
    fs::create_dir_all(&state).unwrap();
    let listener = UnixListener::bind(state.join("keeper.sock")).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut send = |message: &Value| {
            let body = message.to_string();
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            socket.write_all(&[&length, body.as_bytes()].concat()).unwrap();
            let mut length = [0; 4];
            if socket.read_exact(&mut length).is_err() {
                return;
            }
            let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            socket.read_exact(&mut body).unwrap();
            sender.send(serde_json::from_slice(&body).unwrap()).unwrap();
        };
        send(&hello);
        send(&json!({"op": "inventory", "runs": [], "more": false, "of_a_later_version": 1}));
    });
    receiver
}

#[tokio::test]
async fn a_keeper_of_another_version_is_adopted_or_refused_with_what_to_do() {
    let pid = std::process::id();
    let newer = json!({"op": "hello", "version": VERSION + 5, "version_min": VERSION_MIN,
        "pid": pid, "of_a_later_version": true});
    let dir = tempfile::tempdir().unwrap();
    let said = fake_keeper(&dir, newer);
    let (_keeper, life) = Keeper::launch(options(&dir)).await.unwrap();
    assert_eq!(said.recv().unwrap(), json!({"op": "hello", "version": VERSION}));
    life.leave();

    for hello in [
        json!({"op": "hello", "version": 1, "pid": pid}),
        json!({"op": "hello", "version": VERSION + 5, "version_min": VERSION + 1, "pid": pid}),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let _said = fake_keeper(&dir, hello);
        let error = Keeper::launch(options(&dir)).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, KeeperError::Version { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`kill {pid}`")), "{error}");
    }
}

#[tokio::test]
async fn a_process_of_another_user_is_turned_away() {
    const NOBODY: u32 = 65_534;
    const CALL: &str = "import socket,sys
s=socket.socket(socket.AF_UNIX); s.settimeout(20)
try:
    s.connect(sys.argv[1])
    print('closed' if s.recv(1) == b'' else 'talks')
except PermissionError:
    print('denied')
except ConnectionError:
    print('closed')";
    if !rustix::process::geteuid().is_root() {
        println!("not tried: only root can become another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let side = Side::new(&dir).await;
    let socket = dir.path().join("state/keeper.sock");
    let call = |user: Option<u32>| {
        let mut command = Command::new("python3");
        command.args(["-c", CALL]).arg(&socket).stdin(Stdio::null());
        if let Some(user) = user {
            command.uid(user);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    for folder in [dir.path().to_owned(), dir.path().join("state")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(call(Some(NOBODY)), "denied", "by the file's mode");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(call(Some(NOBODY)), "closed", "by its credentials");
    assert_eq!(call(None), "talks");
    side.life.shut_down().await;
}
