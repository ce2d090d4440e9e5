//! The agents in `examples/agents`, each run as its runtime runs it.

use provost::protocol::agent::{TaskNews, ToAgent};
use provost::protocol::exit::ChildExit;
use provost::protocol::spec::{ExecOutput, RuntimeKind};
use provost::runtimes::exec::ExecRuntime;
use provost::runtimes::process::ProcessRuntime;
use provost::runtimes::stdio::StdioRuntime;
use serde_json::json;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::agents::{Bench, PATIENCE, completed, example, started, task, text, told};

#[tokio::test]
async fn ten_lines_of_python_are_a_stdio_agent() {
    let bench = Bench::new().await;
    let spec = bench.spec(RuntimeKind::Stdio, &["python3", &example("upper.py")]);
    let settings = bench.settings(spec);
    let runtime = StdioRuntime::new(bench.slot.clone(), settings, bench.channels.clone());
    let mut running = started(&runtime).await;
    let channel = bench.channel();
    channel.send(&ToAgent::Task(Box::new(task("t1", text("loud"))))).unwrap();
    let answer = told(running.as_mut(), channel.as_ref()).await;
    assert_eq!(answer, ("t1".to_owned(), completed(json!({"text": "LOUD"}))));
    running.ask_to_stop();
    assert_eq!(timeout(PATIENCE, running.exited()).await.unwrap(), ChildExit::Stopped);
}

#[tokio::test]
async fn a_shell_script_is_an_exec_agent() {
    let bench = Bench::new().await;
    let mut spec = bench.spec(RuntimeKind::Exec, &["sh", &example("count.sh")]);
    (spec.exec.stdout, spec.exec.pointer) = (ExecOutput::Json, "/words".to_owned());
    let settings = bench.settings(spec);
    let runtime = ExecRuntime::new(bench.slot.clone(), settings, bench.channels.clone());
    let mut running = started(&runtime).await;
    let channel = bench.channel();
    channel.send(&ToAgent::Task(Box::new(task("t1", text("one two three"))))).unwrap();
    let answer = told(running.as_mut(), channel.as_ref()).await;
    assert_eq!(answer, ("t1".to_owned(), completed(json!(3))));
    channel.send(&ToAgent::Task(Box::new(task("t2", text(""))))).unwrap();
    let (_, news) = told(running.as_mut(), channel.as_ref()).await;
    assert!(matches!(&news, TaskNews::Failed { error } if error.code == "rejected"), "{news:?}");
}

#[tokio::test]
async fn a_program_that_speaks_sd_notify_tells_its_life() {
    let bench = Bench::new().await;
    let path = bench.dir.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut spec = bench.spec(RuntimeKind::Process, &["python3", &example("notify.py")]);
    spec.env.insert("NOTIFY_SOCKET".to_owned(), path.display().to_string());
    spec.env.insert("WATCHDOG_USEC".to_owned(), "100000".to_owned());
    let runtime = ProcessRuntime::new(bench.slot.clone(), bench.settings(spec));
    let mut running = started(&runtime).await;
    let heard = async || {
        let mut bytes = [0; 4_096];
        let count = timeout(PATIENCE, manager.recv(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(heard().await, "READY=1\nSTATUS=works");
    assert_eq!(heard().await, "WATCHDOG=1");
    running.ask_to_stop();
    while heard().await != "STOPPING=1" {}
    assert_eq!(timeout(PATIENCE, running.exited()).await.unwrap(), ChildExit::Stopped);
}
