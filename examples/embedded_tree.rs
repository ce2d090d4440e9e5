//! A supervision tree inside one's own program: no daemon, no NATS, no processes.
//!
//! `cargo run --example embedded_tree` starts two in-process children and prints their events. One
//! child fails again and again; its circuit opens after three restarts and closes when a trial
//! stays healthy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use provost::actors::defaults::SystemIds;
use provost::actors::tree::{Node, Tree, TreePorts, TreeSpec};
use provost::ports::{EventDraft, EventSink, Ids, ServiceError};
use provost::protocol::id::EventId;
use provost::protocol::spec::{
    BackoffSpec, ChildSpec, CircuitSpec, Limit, RestartPolicy, Strategy, SupervisorSpec,
};
use provost::runtimes::in_process::{ServiceRuntime, service_fn};

/// Runs of the shaky child that fail.
const BAD_RUNS: u32 = 6;

/// Prints every event: its type, whom it is about, and its data.
#[derive(Debug)]
struct Print;

impl EventSink for Print {
    #[expect(clippy::print_stdout, reason = "this is what the example shows")]
    fn emit(&self, draft: EventDraft) -> EventId {
        let data = serde_json::to_string(&draft.fact).unwrap_or_default();
        println!("{} {} {data}", draft.fact.type_name(), draft.about);
        SystemIds.event_id()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steady = service_fn("steady", |stop, ready| async move {
        ready.tell();
        stop.cancelled().await;
        Ok(())
    });
    let runs = AtomicU32::new(0);
    let shaky = service_fn("shaky", move |stop, ready| {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        let healthy = if run < BAD_RUNS { Duration::from_millis(100) } else { Duration::MAX };
        async move {
            ready.tell();
            let stopped = tokio::time::timeout(healthy, stop.cancelled()).await;
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
    let steady_spec = ChildSpec { policy, ..ChildSpec::otp_worker("steady".parse()?) };
    let shaky_spec = ChildSpec { policy, ..ChildSpec::otp_worker("shaky".parse()?) };
    let tree = TreeSpec::new(
        SupervisorSpec::new("root".parse()?, Strategy::OneForOne),
        vec![
            Node::worker(steady_spec, Arc::new(ServiceRuntime::new(Arc::new(steady)))),
            Node::worker(shaky_spec, Arc::new(ServiceRuntime::new(Arc::new(shaky)))),
        ],
    );
    let tree = Tree::start(tree, TreePorts::standalone(Arc::new(Print))).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    tree.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
