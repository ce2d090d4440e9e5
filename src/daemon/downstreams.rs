//! Makes the configured downstreams: what each is called through, and its child of the tree.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::actors::tree::{Node, TreePorts};
use crate::adapters::breaker::Ticks;
use crate::adapters::call::{CallPath, PathPorts};
use crate::adapters::care::{CarePorts, CareRules, CareRuntime, Desk, Downstream, Start};
use crate::adapters::connector;
use crate::config::{Config, HealthCheck, Supervision};
use crate::daemon::error::DaemonError;
use crate::protocol::id::ChildName;
use crate::protocol::spec::{BackoffSpec, ChildSpec, Jitter, RestartPolicy, Shutdown};
use crate::transport::downstreams::NatsInbound;
use crate::transport::slot::ConnectionSlot;

/// Time that a session has to close.
const SESSION_STOP: Duration = Duration::from_secs(5);

/// Time between two checks where nothing else is said.
const INTERVAL: Duration = Duration::from_secs(30);

/// Failed checks in a row that end a session where nothing else is said.
const FAILURE_THRESHOLD: u32 = 3;

/// Makes all downstreams; nothing is connected yet.
///
/// # Errors
///
/// [`DaemonError::Config`] names the downstream whose settings cannot work, and where it is
/// declared.
pub fn desk(
    config: &Config,
    ports: &TreePorts,
    slot: &ConnectionSlot,
) -> Result<Desk, DaemonError> {
    if config.downstreams.is_empty() {
        return Ok(Desk::default());
    }
    let what = "cannot start the clock of the circuits";
    let ticks = Ticks::start().map_err(|source| DaemonError::System { what, source })?;
    let path_ports = PathPorts { ticks, jitter: Arc::clone(&ports.jitter) };
    let care = CarePorts {
        sink: Arc::clone(&ports.sink),
        clock: Arc::clone(&ports.clock),
        severities: Arc::clone(&ports.severities),
    };
    let mut made = Vec::new();
    for (name, settings) in &config.downstreams {
        let connector = connector(name, &config.provost.node, settings).map_err(|error| {
            let at = settings.origin.as_deref().unwrap_or("the configuration");
            DaemonError::Config { message: format!("downstreams.{name} ({at}): {error}") }
        })?;
        let path = CallPath::new(name.clone(), connector, &settings.resilience, &path_ports);
        let rules = rules(settings.health, config.supervision.settings());
        let inbound = Arc::new(NatsInbound::new(slot.clone(), name.clone()));
        let origin = settings.origin.clone();
        made.push(Arc::new(Downstream::new(path, rules, inbound, &care, origin)));
    }
    let desk = Desk::new(made, Arc::clone(&ports.board));
    for (name, downstream) in desk.all() {
        let settings = config.downstreams.get(name);
        let other = settings.and_then(|settings| settings.resilience.fallback.downstream.as_ref());
        if let Some(other) = other.and_then(|other| desk.get(other)) {
            downstream.fall_back_to(other);
        }
    }
    Ok(desk)
}

fn rules(health: HealthCheck, supervision: Option<&Supervision>) -> CareRules {
    let interval = supervision.map_or(INTERVAL, |settings| settings.health_check_interval);
    let threshold =
        supervision.map_or(FAILURE_THRESHOLD, |settings| settings.failure_detection_threshold);
    CareRules {
        interval: health.interval.unwrap_or(interval),
        timeout: health.timeout,
        failure_threshold: health.failure_threshold.unwrap_or(threshold),
    }
}

/// The child of a downstream. It is restarted for ever; its circuit paces that.
#[must_use]
pub fn node(
    name: &ChildName,
    downstream: &Arc<Downstream>,
    outside: &Handle,
    (start, origin): (Start, Option<String>),
) -> Node {
    let backoff = BackoffSpec {
        initial: Duration::from_millis(100),
        factor: 2.0,
        max: Duration::from_secs(5),
        jitter: Jitter::Equal,
    };
    let spec = ChildSpec {
        shutdown: Shutdown::Timeout(SESSION_STOP),
        policy: RestartPolicy { backoff, circuit: None },
        origin,
        ..ChildSpec::otp_worker(name.clone())
    };
    let runtime = CareRuntime::new(Arc::clone(downstream), outside.clone(), start);
    Node::worker(spec, Arc::new(runtime))
}
