//! Output: kept, rotated, bounded, and never in the child's way.

use std::fs;
use std::path::{Path, PathBuf};

use provost::protocol::exit::ChildExit;
use provost::runtimes::keeper::ProcessRun;
use rustix::fs::FallocateFlags;

use crate::keeper::{Bench, until};

/// Whether the file system under the folder can remove the head of a file in one step.
fn cuts_heads(dir: &Path) -> bool {
    let path = dir.join("probe");
    fs::write(&path, vec![b'x'; 3 * 1024 * 1024]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 1024 * 1024).is_ok()
}

fn old_file(run: &ProcessRun, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", run.log.file.display()))
}

/// Everything that is there, oldest first.
fn all_output(run: &ProcessRun) -> Vec<u8> {
    let mut files: Vec<PathBuf> = (1..=run.log.keep).rev().map(|n| old_file(run, n)).collect();
    files.push(run.log.file.clone());
    files.iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect()
}

#[tokio::test]
async fn both_outputs_go_to_the_file_and_later_runs_append() {
    let bench = Bench::new().await;
    let run = bench.script("echo out; echo err >&2");
    for _ in 0..2 {
        bench.keeper.start(run.clone()).await.unwrap().exited().await;
    }
    assert_eq!(fs::read_to_string(&run.log.file).unwrap(), "out\nerr\nout\nerr\n");
}

/// Bytes of the numbers below 2,500,000, each with a line end.
const WRITTEN: usize = 18_888_890;

#[tokio::test]
async fn rotation_loses_nothing_but_what_it_counts() {
    let bench = Bench::new().await;
    // About 100 kB each 10 ms for 3 s: several rotations while it writes.
    let script =
        "i=0; while [ $i -lt 250 ]; do seq $((i * 10000)) $((i * 10000 + 9999)); i=$((i + 1));
        sleep 0.01; done";
    let mut run = bench.script(script);
    run.log.max_bytes = 1024 * 1024;
    run.log.keep = 50;
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    assert!(old_file(&run, 2).exists(), "it was rotated");
    // One more look is taken after the end, and told at the next one.
    until("the last rotation is done", || {
        fs::metadata(&run.log.file).is_ok_and(|metadata| metadata.len() < 1024 * 1024)
    })
    .await;
    let told = |output: usize| {
        let dropped = usize::try_from(bench.keeper.log_bytes_dropped()).unwrap();
        output + dropped >= WRITTEN || !cuts_heads(bench.dir.path())
    };
    until("all is accounted for", || told(all_output(&run).len())).await;
    let written: Vec<u8> = (0..2_500_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    assert_eq!(written.len(), WRITTEN);
    let found = all_output(&run);
    let dropped = usize::try_from(bench.keeper.log_bytes_dropped()).unwrap();
    if cuts_heads(bench.dir.path()) {
        assert_eq!(found.len() + dropped, written.len());
        if dropped == 0 {
            assert!(found == written, "the files together are what was written");
        }
    } else {
        assert!(found.len() + dropped <= written.len());
    }
}

#[tokio::test]
async fn a_flood_of_output_neither_blocks_the_child_nor_fills_the_disk() {
    let bench = Bench::new().await;
    let mut run = bench.script("yes 0123456789 | head -c 1000000000");
    run.log.max_bytes = 1024 * 1024;
    run.log.keep = 1;
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    // The keeper answers, and what is left is within the bounds.
    assert_eq!(bench.end_of("exit 0").await, ChildExit::Exited { code: 0 });
    until("the file is small", || all_output(&run).len() <= 4 * 1024 * 1024 + 8192).await;
    if cuts_heads(bench.dir.path()) {
        let left = u64::try_from(all_output(&run).len()).unwrap();
        let dropped = || bench.keeper.log_bytes_dropped();
        until("it is told", || dropped() > 500_000_000).await;
        // What an old file held before it was overwritten was kept once and is not counted.
        assert!(dropped() + left <= 1_000_000_000);
    }
}

#[tokio::test]
async fn a_full_disk_hurts_neither_the_child_nor_the_keeper() {
    let bench = Bench::new().await;
    let mut run = bench.script("echo lost; echo told $? > side; exit 8");
    run.cwd = bench.dir.path().to_owned();
    run.log.file = PathBuf::from("/dev/full");
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 8 });
    let told = fs::read_to_string(bench.dir.path().join("side")).unwrap();
    assert!(told.starts_with("told ") && told != "told 0\n", "{told}");
    assert_eq!(bench.end_of("exit 0").await, ChildExit::Exited { code: 0 });
}
