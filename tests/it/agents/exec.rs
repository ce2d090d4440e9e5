//! exec agents: a process for each task, and what its end means.

use std::time::Duration;

use provost::ports::ChannelError;
use provost::protocol::agent::{FromAgent, TaskNews, ToAgent};
use provost::protocol::exit::ChildExit;
use provost::protocol::id::Generation;
use provost::protocol::spec::{ExecInput, ExecOutput, ExecSpec, RuntimeKind};
use provost::runtimes::exec::ExecRuntime;
use provost::runtimes::exec::task::{TaskEnd, TaskRunner};
use provost::runtimes::keeper::KeeperSlot;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::agents::{Bench, PATIENCE, completed, started, task, text, told};
use crate::keeper::until;

fn runner(bench: &Bench, exec: ExecSpec, command: &[&str]) -> TaskRunner {
    let mut spec = bench.spec(RuntimeKind::Exec, command);
    spec.exec = exec;
    TaskRunner::new(bench.slot.clone(), bench.settings(spec), Generation(1))
}

async fn end_of(bench: &Bench, exec: ExecSpec, command: &[&str], input: Value) -> TaskEnd {
    let (_cancel, cancelled) = watch::channel(None);
    let run = runner(bench, exec, command);
    timeout(PATIENCE, run.run(task("t1", input), cancelled)).await.unwrap()
}

async fn script(bench: &Bench, script: &str) -> TaskEnd {
    end_of(bench, ExecSpec::default(), &["/bin/sh", "-c", script], text("input")).await
}

fn result(end: TaskEnd) -> Value {
    match end {
        TaskEnd::Completed { result } => result,
        other => panic!("{other:?}"),
    }
}

/// Kind, code and whether another attempt may help.
fn kind(end: &TaskEnd) -> (&'static str, String, bool) {
    match end {
        TaskEnd::Completed { .. } => ("completed", String::new(), false),
        TaskEnd::Failed(error) => ("failed", error.code.clone(), error.retry),
        TaskEnd::Rejected(error) => ("rejected", error.code.clone(), error.retry),
        TaskEnd::Misconfigured(error) => ("misconfigured", error.code.clone(), error.retry),
        TaskEnd::Cancelled => ("cancelled", String::new(), false),
    }
}

#[tokio::test]
async fn the_input_is_read_and_the_output_is_the_result() {
    let bench = Bench::new().await;
    assert_eq!(
        result(script(&bench, "cat; echo; echo $PROVOST_TASK_ID; echo x >&2").await),
        "input\nt1"
    );
    until("standard error is log", || bench.log() == "x\n").await;
    let nothing = ExecSpec { stdin: ExecInput::Nothing, ..ExecSpec::default() };
    assert_eq!(result(end_of(&bench, nothing, &["cat"], text("x")).await), "");
    let whole =
        ExecSpec { stdin: ExecInput::Task, stdout: ExecOutput::Json, ..ExecSpec::default() };
    let seen = result(end_of(&bench, whole, &["cat"], json!({"a": 1})).await);
    assert_eq!((&seen["op"], &seen["input"]), (&json!("task"), &json!({"a": 1})));
    let left = std::fs::read_dir(bench.dir.path().join("logs/a1.tasks")).unwrap().count();
    assert_eq!(left, 0, "files of tasks are removed");
}

#[tokio::test]
async fn the_result_is_picked_out_of_json() {
    let bench = Bench::new().await;
    let exec = |stdout, pointer: &str| ExecSpec {
        stdout,
        pointer: pointer.to_owned(),
        ..ExecSpec::default()
    };
    let echo = |text| ["printf".to_owned(), "%s".to_owned(), text];
    for (stdout, pointer, output, expected) in [
        (ExecOutput::Json, "", "{\"a\":[1,2]}", json!({"a": [1, 2]})),
        (ExecOutput::Json, "/a/1", "{\"a\":[1,2]}", json!(2)),
        (
            ExecOutput::Jsonl,
            "/result",
            "noise\n{\"result\":1}\n{\"result\":2}\n{\"cost\":3}",
            json!(2),
        ),
    ] {
        let command = echo(output.to_owned());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(
            result(end_of(&bench, exec(stdout, pointer), &command, text("")).await),
            expected
        );
    }
    for output in ["{", "{}"] {
        let bad = end_of(&bench, exec(ExecOutput::Json, "/a"), &["printf", output], text("")).await;
        assert_eq!(kind(&bad), ("failed", "bad_output".to_owned(), false), "{bad:?}");
    }
}

#[tokio::test]
async fn the_input_fills_arguments_and_no_shell_reads_it() {
    let bench = Bench::new().await;
    let command = ["printf", "<%s>", "{{input.q}}", "--n={{input./n}}", "{{other}}"];
    let input = json!({"q": "a b; $(exit) 'x'", "n": [1]});
    let end = end_of(&bench, ExecSpec::default(), &command, input).await;
    assert_eq!(result(end), "<a b; $(exit) 'x'><--n=[1]><{{other}}>");
    let missing = end_of(&bench, ExecSpec::default(), &command, json!({})).await;
    assert_eq!(kind(&missing), ("rejected", "bad_input".to_owned(), false));
}

#[tokio::test]
async fn exit_codes_mean_what_the_contract_says() {
    let bench = Bench::new().await;
    for (code, kind_expected, word, retry) in [
        ("75", "failed", "temporary_failure", true),
        ("64", "rejected", "rejected", false),
        ("65", "rejected", "rejected", false),
        ("78", "misconfigured", "configuration_fault", false),
        ("126", "misconfigured", "configuration_fault", false),
        ("127", "misconfigured", "configuration_fault", false),
        ("1", "failed", "process_crash", true),
    ] {
        let end = script(&bench, &format!("exit {code}")).await;
        assert_eq!(kind(&end), (kind_expected, word.to_owned(), retry), "{code}");
    }
    let end = script(&bench, "kill -9 $$").await;
    assert_eq!(kind(&end), ("failed", "process_crash".to_owned(), true));
    let end = end_of(&bench, ExecSpec::default(), &["/nonexistent/tool"], text("")).await;
    assert_eq!(kind(&end), ("misconfigured", "configuration_fault".to_owned(), false));
    bench.slot.set(None);
    let end = script(&bench, "exit 0").await;
    assert_eq!(kind(&end), ("failed", "not_started".to_owned(), true), "no keeper is up");
}

#[tokio::test]
async fn output_and_time_are_bounded() {
    let bench = Bench::new().await;
    let bounded = ExecSpec { max_output_bytes: 1_000, ..ExecSpec::default() };
    let flood = ["/bin/sh", "-c", "yes"];
    let end = end_of(&bench, bounded.clone(), &flood, text("")).await;
    assert_eq!(kind(&end), ("failed", "output_too_long".to_owned(), false));
    let short = ["/bin/sh", "-c", "head -c 1001 /dev/zero"];
    let end = end_of(&bench, bounded, &short, text("")).await;
    assert_eq!(kind(&end), ("failed", "output_too_long".to_owned(), false));

    let run = runner(&bench, ExecSpec::default(), &["sleep", "1000"]);
    let (_cancel, cancelled) = watch::channel(None);
    let mut slow = task("t2", text(""));
    slow.lease_ms = 300;
    let end = timeout(PATIENCE, run.run(slow, cancelled)).await.unwrap();
    assert_eq!(kind(&end), ("failed", "timeout".to_owned(), true));
}

#[tokio::test]
async fn a_cancelled_task_has_its_grace_and_is_killed_then() {
    let bench = Bench::new().await;
    let deaf = ["/bin/sh", "-c", "trap '' TERM; echo deaf >&2; while :; do sleep 0.05; done"];
    let run = runner(&bench, ExecSpec::default(), &deaf);
    let (cancel, cancelled) = watch::channel(None);
    let cancelling = async {
        until("the signal is ignored from here on", || bench.log() == "deaf\n").await;
        let begun = Instant::now();
        cancel.send_replace(Some(Duration::from_millis(400)));
        begun
    };
    let ended = timeout(PATIENCE, run.run(task("t1", text("")), cancelled));
    let (end, begun) = tokio::join!(ended, cancelling);
    let end = end.unwrap();
    assert_eq!(end, TaskEnd::Cancelled);
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn an_agent_works_on_as_many_tasks_as_it_has_slots_and_stops_with_none_left() {
    let bench = Bench::new().await;
    let mut spec = bench.spec(RuntimeKind::Exec, &["/bin/sh", "-c", "cat; sleep 0.2"]);
    spec.slots = 2;
    let settings = bench.settings(spec);
    let runtime = ExecRuntime::new(bench.slot.clone(), settings, bench.channels.clone());
    let mut running = started(&runtime).await;
    assert_eq!(running.pid(), None, "no process without a task");
    let channel = bench.channel();
    let send = |id: &str| channel.send(&ToAgent::Task(Box::new(task(id, text(id)))));
    send("t1").unwrap();
    send("t2").unwrap();
    let full = ChannelError::Full { waiting: 2, bound: 2, unit: "tasks" };
    assert_eq!(send("t3"), Err(full));
    let mut done = vec![
        told(running.as_mut(), channel.as_ref()).await,
        told(running.as_mut(), channel.as_ref()).await,
    ];
    done.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = ["t1", "t2"].map(|id| (id.to_owned(), completed(text(id))));
    assert_eq!(done, expected);
    send("t4").unwrap();
    channel.send(&ToAgent::Cancel { id: "t4".parse().unwrap(), attempt: 1, grace_ms: 10 }).unwrap();
    let (id, news) = told(running.as_mut(), channel.as_ref()).await;
    let TaskNews::Failed { error } = news else { panic!("{news:?}") };
    assert_eq!((id.as_str(), error.code.as_str()), ("t4", "cancelled"));
    send("t5").unwrap();
    running.ask_to_stop();
    assert_eq!(timeout(PATIENCE, running.exited()).await.unwrap(), ChildExit::Stopped);
}

#[tokio::test]
async fn a_ping_is_answered_and_a_draining_agent_takes_nothing() {
    let bench = Bench::new().await;
    let spec = bench.spec(RuntimeKind::Exec, &["cat"]);
    let runtime =
        ExecRuntime::new(KeeperSlot::default(), bench.settings(spec), bench.channels.clone());
    let mut running = started(&runtime).await;
    let channel = bench.channel();
    channel.send(&ToAgent::Drain).unwrap();
    channel.send(&ToAgent::Task(Box::new(task("t1", text(""))))).unwrap();
    let (_, news) = told(running.as_mut(), channel.as_ref()).await;
    let TaskNews::Failed { error } = news else { panic!("{news:?}") };
    assert_eq!((error.code.as_str(), error.retry), ("refused", true));
    channel.send(&ToAgent::Ping).unwrap();
    tokio::select! {
        _ = running.exited() => panic!("it lives on"),
        message = channel.receive() => assert!(matches!(message, Some(FromAgent::Beat(_)))),
    }
}
