//! The keeper and process agents, with real processes through the real binary.
//!
//! This file holds what its parts share: a keeper in a folder of its own, and a look at the
//! processes that carry a run's mark.

mod adopt;
mod contain;
mod ends;
mod life;
mod limits;
mod output;
mod pipes;
mod starts;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use provost::protocol::exit::ChildExit;
use provost::runtimes::keeper::{Keeper, KeeperLife, KeeperOptions, ProcessHandle, ProcessRun};
use tempfile::TempDir;

/// Longest wait for anything; far beyond what is needed, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(30);

const MARK: &str = "KEEPER_TEST_MARK";

struct Bench {
    dir: TempDir,
    keeper: Keeper,
    life: KeeperLife,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, life) = Keeper::launch(options(&dir)).await.unwrap();
        Self { dir, keeper, life }
    }

    /// A shell script as a run, with a mark that no other run has.
    fn script(&self, script: &str) -> ProcessRun {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let log = self.dir.path().join(format!("logs/{number}.log"));
        let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
        let mut run = ProcessRun::new(words(&["/bin/sh", "-c", script]), log);
        run.env = BTreeMap::from([path, (MARK.to_owned(), mark)]);
        run.marks = vec![MARK.to_owned()];
        run
    }

    async fn start(&self, script: &str) -> (ProcessHandle, ProcessRun) {
        let run = self.script(script);
        (self.keeper.start(run.clone()).await.unwrap(), run)
    }

    async fn end_of(&self, script: &str) -> ChildExit {
        self.start(script).await.0.exited().await
    }
}

fn options(dir: &TempDir) -> KeeperOptions {
    KeeperOptions::new(PathBuf::from(env!("CARGO_BIN_EXE_provost")), dir.path().join("state"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Living processes that carry the run's mark.
fn processes(run: &ProcessRun) -> Vec<i32> {
    let mark = format!("{MARK}={}", run.env.get(MARK).unwrap());
    let carries = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(carries).collect()
}

/// One letter of `/proc/<pid>/stat`, and the parent; none when the process is gone.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn lives(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Says why a test proves nothing on this machine.
fn skipped(why: &str) {
    let text = format!("skipped: {why}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited too long until {what}");
}

/// Waits until the run's output has so many lines, and gives them.
async fn lines(run: &ProcessRun, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(&run.log.file).unwrap_or_default();
    until("output is there", || read().lines().count() >= count).await;
    read().lines().map(str::to_owned).collect()
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
