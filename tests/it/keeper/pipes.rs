//! Runs with pipes: output that the keeper reads, messages, standard input.

use std::fs;
use std::time::Duration;

use provost::ports::ChannelError;
use provost::protocol::exit::ChildExit;
use provost::runtimes::keeper::{IoMode, ProcessHandle, ProcessRun};
use tokio::time::timeout;

use crate::keeper::{Bench, PATIENCE, until};

async fn start(bench: &Bench, io: IoMode, script: &str) -> (ProcessHandle, ProcessRun) {
    let run = ProcessRun { io, ..bench.script(script) };
    (bench.keeper.start(run.clone()).await.unwrap(), run)
}

async fn next(handle: &ProcessHandle) -> Option<String> {
    timeout(PATIENCE, handle.stdio().receive()).await.unwrap()
}

fn log_of(run: &ProcessRun) -> Vec<u8> {
    fs::read(&run.log.file).unwrap_or_default()
}

#[tokio::test]
async fn output_through_a_pipe_is_kept_whole_in_order_and_through_rotation() {
    let bench = Bench::new().await;
    let mut run = bench.script("seq 1 200000; echo end >&2");
    run.io = IoMode::Pipe;
    (run.log.max_bytes, run.log.keep) = (200_000, 20);
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    let mut expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    expected.push_str("end\n");
    let all = || {
        let old = (1..=20).rev().map(|number| format!("{}.{number}", run.log.file.display()));
        let files = old.chain([run.log.file.display().to_string()]);
        files.flat_map(|file| fs::read(file).unwrap_or_default()).collect::<Vec<u8>>()
    };
    until("all is written", || all().len() >= expected.len()).await;
    assert!(all() == expected.as_bytes());
    assert_eq!(bench.keeper.log_bytes_dropped(), 0);
}

#[tokio::test]
async fn messages_arrive_in_order_and_all_else_is_log() {
    let bench = Bench::new().await;
    let script = r#"echo hello; echo '{"id":"t","state":"working"}'; echo oops >&2
        echo '{"op":"beat","id":"a"}'; read -r line; printf '{"id":"t","state":"completed"}'"#;
    let (mut handle, run) = start(&bench, IoMode::Lines, script).await;
    assert_eq!(next(&handle).await.as_deref(), Some(r#"{"id":"t","state":"working"}"#));
    assert_eq!(next(&handle).await.as_deref(), Some(r#"{"id":"t","state":"completed"}"#));
    assert_eq!(next(&handle).await, None, "the run is over");
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    assert_eq!(
        timeout(PATIENCE, handle.stdio().beat()).await.unwrap(),
        r#"{"op":"beat","id":"a"}"#
    );
    until("the log is written", || log_of(&run).len() == 11).await;
    let log = String::from_utf8(log_of(&run)).unwrap();
    assert!(log.contains("hello\n") && log.contains("oops\n"), "{log}");
    assert_eq!(handle.stdio().write("late".to_owned()), Err(ChannelError::Closed));
}

#[tokio::test]
async fn what_is_written_arrives_and_the_end_of_input_ends_the_run() {
    let bench = Bench::new().await;
    let script =
        r#"while read -r line; do echo "{\"id\":\"$line\",\"state\":\"x\"}"; done; exit 5"#;
    let (mut handle, _) = start(&bench, IoMode::Lines, script).await;
    for word in ["a", "b"] {
        handle.stdio().write(format!("{word}\n")).unwrap();
        let expected = format!(r#"{{"id":"{word}","state":"x"}}"#);
        assert_eq!(next(&handle).await, Some(expected));
    }
    handle.stdio().write("c\n".to_owned()).unwrap();
    handle.stdio().close();
    assert_eq!(handle.stdio().write("late".to_owned()), Err(ChannelError::Closed));
    assert_eq!(next(&handle).await.as_deref(), Some(r#"{"id":"c","state":"x"}"#));
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 5 });
}

#[tokio::test]
async fn a_run_that_does_not_read_makes_writes_fail_and_nothing_wait() {
    let bench = Bench::new().await;
    let (handle, _) = start(&bench, IoMode::Lines, "sleep 1000").await;
    let piece = "x".repeat(500_000);
    let mut written = 0;
    let error = loop {
        match handle.stdio().write(piece.clone()) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!((8..=9).contains(&written), "4 MiB and what the pipe holds: {written}");
    assert!(matches!(error, ChannelError::Full { bound: 4_194_304, .. }), "{error}");
    assert_eq!(bench.end_of("exit 3").await, ChildExit::Exited { code: 3 }, "the keeper works");
}

#[tokio::test]
async fn a_run_that_closes_its_input_is_known_to_be_deaf() {
    let bench = Bench::new().await;
    let (handle, _) = start(&bench, IoMode::Lines, "exec <&-; sleep 1000").await;
    until("a write fails", || handle.stdio().write("x\n".to_owned()).is_err()).await;
    assert_eq!(handle.stdio().write("x\n".to_owned()), Err(ChannelError::Closed));
}

#[tokio::test]
async fn messages_that_nobody_takes_wait_in_the_keeper_and_then_go_into_the_log() {
    let bench = Bench::new().await;
    // 22 messages of 500 kB, one that is too long to be one, and one more.
    let script = r#"x=$(head -c 500000 /dev/zero | tr '\0' x)
        i=0; while [ $i -lt 22 ]; do echo "{\"id\":\"$i\",\"state\":\"$x\"}"; i=$((i+1)); done
        echo "{\"id\":\"long\",\"state\":\"$x$x$x\"}"; echo done > side"#;
    let mut run = bench.script(script);
    (run.io, run.log.max_bytes) = (IoMode::Lines, 100_000_000);
    run.cwd = bench.dir.path().to_owned();
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 }, "nothing holds it up");
    assert!(bench.dir.path().join("side").exists());
    until("it is told", || handle.stdio().logged().no_room > 0).await;
    let logged = handle.stdio().logged();
    assert_eq!(logged.too_long, 1);
    let mut received = 0;
    while let Some(line) = next(&handle).await {
        assert!(line.starts_with(&format!("{{\"id\":\"{received}\"")), "in order");
        received += 1;
    }
    assert_eq!(received + logged.no_room, 22);
    let expected = usize::try_from(logged.no_room).unwrap() * 500_000 + 1_500_000;
    until("the rest is in the log", || log_of(&run).len() > expected).await;
}

#[tokio::test]
async fn a_flood_of_lines_neither_blocks_the_child_nor_the_keeper() {
    let bench = Bench::new().await;
    let mut run = bench.script("yes 0123456789 | head -c 50000000");
    (run.io, run.log.max_bytes, run.log.keep) = (IoMode::Lines, 1_000_000, 1);
    let mut handle = bench.keeper.start(run).await.unwrap();
    let other = bench.end_of("exit 3");
    assert_eq!(
        timeout(Duration::from_secs(20), other).await.unwrap(),
        ChildExit::Exited { code: 3 }
    );
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
}

#[tokio::test]
async fn a_run_can_have_files_for_input_and_output() {
    let bench = Bench::new().await;
    let (stdin, stdout) = (bench.dir.path().join("in"), bench.dir.path().join("out"));
    fs::write(&stdin, "input").unwrap();
    let io = IoMode::Files { stdin: Some(stdin), stdout: stdout.clone() };
    let (mut handle, run) = start(&bench, io, "cat; echo log >&2").await;
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    assert_eq!(fs::read(&stdout).unwrap(), b"input");
    assert_eq!(log_of(&run), b"log\n");
    let io = IoMode::Files { stdin: Some("/nonexistent".into()), stdout };
    let run = ProcessRun { io, ..bench.script("exit 0") };
    let error = bench.keeper.start(run).await.unwrap_err().to_string();
    assert!(error.contains("cannot open /nonexistent"), "{error}");
}
