//! What holds the processes of a run together: control groups where they are, the subreaper anyway.

use std::fs;
use std::path::PathBuf;

use provost::protocol::exit::ChildExit;
use provost::runtimes::keeper::{Hold, Keeper, ProcessRun};

use crate::keeper::{Bench, lines, lives, options, processes, skipped, state_and_parent, until};

/// 61 processes: the main one, and of each kind 20: plain, in a session of its own, and in a session
/// of its own with its parent gone.
const TREE: &str = "i=0; while [ $i -lt 20 ]; do
        sleep 300 & setsid sleep 300 & (setsid sleep 300 &)
        i=$((i+1)); done; echo ready; wait";

const TREE_SIZE: usize = 61;

/// The control group of a process, if a keeper made it one.
pub(super) fn group_of(pid: u32) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" cgroup2 "))?.split(' ').nth(1)?;
    path.contains("/provost-").then(|| PathBuf::from(format!("{mount}{path}")))
}

/// Whether runs get control groups here; says so where they do not.
async fn has_groups(bench: &Bench) -> bool {
    let (handle, _) = bench.start("exec sleep 300").await;
    let has = group_of(handle.pid()).is_some();
    if !has {
        skipped("no control group of version 2 can be made here (not root, not delegated)");
    }
    has
}

fn held_by(bench: &Bench, script: &str, hold: Hold) -> ProcessRun {
    let mut run = bench.script(script);
    run.confines.hold = hold;
    run
}

async fn tree_leaves_nothing(bench: &Bench, hold: Hold) {
    let run = held_by(bench, TREE, hold);
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    lines(&run, 1).await;
    until("all 61 are up", || processes(&run).len() == TREE_SIZE).await;
    let group = group_of(handle.pid());
    assert_eq!(group.is_some(), hold == Hold::Strongest);
    handle.kill();
    assert_eq!(handle.exited().await, ChildExit::Signaled { signal: 9 });
    assert_eq!(processes(&run), Vec::<i32>::new(), "survivors under {hold:?}");
    assert!(!group.is_some_and(|group| group.exists()), "the group is left");
}

#[tokio::test]
async fn a_kill_leaves_none_of_61_processes_in_a_control_group() {
    let bench = Bench::new().await;
    if has_groups(&bench).await {
        for _ in 0..3 {
            tree_leaves_nothing(&bench, Hold::Strongest).await;
        }
    }
}

#[tokio::test]
async fn a_kill_leaves_none_of_61_processes_under_the_subreaper() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        tree_leaves_nothing(&bench, Hold::Subreaper).await;
    }
}

#[tokio::test]
async fn nothing_gets_out_of_a_control_group_by_forgetting_everything() {
    let bench = Bench::new().await;
    if !has_groups(&bench).await {
        return;
    }
    // No session, no parent, no environment: only the group still knows it.
    let mut run = bench.script(
        "(setsid env -i sh -c 'echo $$; exec sleep 300' &)
        until [ -s \"$OUTPUT\" ]; do sleep 0.01; done; exit 4",
    );
    let output = run.log.file.to_str().unwrap().to_owned();
    run.env.insert("OUTPUT".to_owned(), output);
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 4 });
    let stray = lines(&run, 1).await.first().unwrap().parse().unwrap();
    // It is dead; whoever inherited it may still have to reap it.
    assert!(!lives(stray), "it outlived its run");
    until("it is reaped", || state_and_parent(stray).is_none()).await;
}

#[tokio::test]
async fn groups_of_ended_runs_are_removed_by_the_next_keeper_and_others_left_alone() {
    let bench = Bench::new().await;
    if !has_groups(&bench).await {
        return;
    }
    let (mut handle, _) = bench.start("exec sleep 300").await;
    let home = group_of(handle.pid()).unwrap().parent().unwrap().to_owned();
    handle.kill();
    handle.exited().await;
    let leftover = home.join("run-left_1");
    fs::create_dir(&leftover).unwrap();
    let Bench { dir, life, .. } = bench;
    life.shut_down().await;
    assert!(leftover.exists());
    let (_keeper, life) = Keeper::launch(options(&dir)).await.unwrap();
    assert!(home.exists());
    assert!(!leftover.exists());
    life.shut_down().await;
    assert!(!home.exists(), "an empty home is removed");
}

#[tokio::test]
async fn a_thousand_orphans_leave_no_zombie() {
    let bench = Bench::new().await;
    for hold in [Hold::Strongest, Hold::Subreaper] {
        let script = "i=0; while [ $i -lt 1000 ]; do (sh -c : &); i=$((i+1)); done
            echo born; exec sleep 300";
        let run = held_by(&bench, script, hold);
        let mut handle = bench.keeper.start(run.clone()).await.unwrap();
        lines(&run, 1).await;
        let keeper = bench.keeper.pid();
        let zombies = || {
            let pids = fs::read_dir("/proc").unwrap().flatten();
            let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            pids.filter(|pid| state_and_parent(*pid) == Some(('Z', keeper))).count()
        };
        until("every orphan is reaped", || zombies() == 0 && processes(&run).len() == 1).await;
        handle.kill();
        handle.exited().await;
        assert_eq!(zombies(), 0);
    }
}
