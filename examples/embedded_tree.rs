//! A supervision tree inside one's own program: no daemon, no NATS, no processes.
//!
//! `cargo run --example embedded_tree` starts two in-process children. One fails every second; its
//! circuit opens after three restarts and closes again when a trial stays healthy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use provost::actors::defaults::LogSink;
use provost::actors::tree::{Node, Tree, TreePorts, TreeSpec};
use provost::ports::ServiceError;
use provost::protocol::spec::{
    BackoffSpec, ChildSpec, CircuitSpec, Limit, RestartPolicy, Strategy, SupervisorSpec,
};
use provost::runtimes::in_process::{ServiceRuntime, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let steady = service_fn("steady", |stop, ready| async move {
        ready.tell();
        stop.cancelled().await;
        Ok(())
    });
    let runs = Arc::new(AtomicU32::new(0));
    let shaky = service_fn("shaky", move |stop, ready| {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        async move {
            ready.tell();
            let health = Duration::from_millis(if run < 6 { 100 } else { 60_000 });
            let stopped = tokio::time::timeout(health, stop.cancelled()).await;
            stopped.map_err(|_late| ServiceError::new(format!("run {run} failed")))
        }
    });
    let policy = RestartPolicy {
        backoff: BackoffSpec { initial: Duration::from_millis(50), ..BackoffSpec::default() },
        circuit: Some(CircuitSpec {
            limit: Limit { intensity: 3, period: Duration::from_secs(60) },
            open_for: Duration::from_millis(300),
            stable_after: Duration::from_millis(500),
            ..CircuitSpec::default()
        }),
    };
    let child = |name: &str| -> Result<ChildSpec, Box<dyn std::error::Error>> {
        Ok(ChildSpec { policy, ..ChildSpec::otp_worker(name.parse()?) })
    };
    let spec = TreeSpec::new(
        SupervisorSpec::new("root".parse()?, Strategy::OneForOne),
        vec![
            Node::worker(child("steady")?, Arc::new(ServiceRuntime::new(Arc::new(steady)))),
            Node::worker(child("shaky")?, Arc::new(ServiceRuntime::new(Arc::new(shaky)))),
        ],
    );
    let tree = Tree::start(spec, TreePorts::standalone(Arc::new(LogSink))).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    tree.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
