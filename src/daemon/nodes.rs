//! Small parts of the tree that the daemon builds: its supervisors, the sink of events, names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::tree::{Node, TreeSpec};
use crate::config::{Config, NatsTarget};
use crate::daemon::error::DaemonError;
use crate::daemon::insight::tap::{Tap, Tapped};
use crate::daemon::registry::Registry;
use crate::daemon::sinks::{AgentsOnly, Observed};
use crate::daemon::{Options, services};
use crate::ports::{EventSink, WallClock};
use crate::protocol::id::ChildName;
use crate::protocol::spec::{
    BackoffSpec, ChildKind, ChildSpec, Jitter, RestartPolicy, Shutdown, Significance, Strategy,
    SupervisorSpec,
};
use crate::runtimes::keeper::KeeperOptions;
use crate::transport::outbox::OutboxSettings;

/// Time a part of the daemon has to stop.
const PART_STOP: Duration = Duration::from_secs(15);

pub(super) fn keeper_options(config: &Config) -> Result<KeeperOptions, DaemonError> {
    let program = std::env::current_exe().map_err(|source| DaemonError::System {
        what: "cannot find the program's own path",
        source,
    })?;
    Ok(KeeperOptions::new(program, config.provost.state_dir.clone()))
}

/// Names whose runs of an earlier daemon are expected to be claimed: agents that are declared or were
/// spawned, and the embedded server if one is used.
pub(super) fn wanted(
    config: &Config,
    registry: &Registry,
) -> Result<BTreeSet<ChildName>, DaemonError> {
    let declared = config.agents_list.iter().map(|entry| entry.name.clone());
    let spawned = registry.spawned_before().into_iter().map(|(name, _)| name);
    let mut names: BTreeSet<ChildName> = declared.chain(spawned).collect();
    if matches!(config.nats.target, NatsTarget::Embedded) {
        names.insert(own(services::SERVER)?);
    }
    Ok(names)
}

/// A supervisor of the daemon's own, or of the configuration.
pub(super) fn supervisor_spec(name: ChildName, policy: RestartPolicy) -> ChildSpec {
    ChildSpec {
        kind: ChildKind::Supervisor,
        shutdown: Shutdown::Infinity,
        significance: Significance::Ordinary,
        policy,
        ..ChildSpec::otp_worker(name)
    }
}

pub(super) fn supervisor_node(
    name: ChildName,
    strategy: Strategy,
    children: Vec<Node>,
) -> Result<Node, DaemonError> {
    let tree = TreeSpec::new(SupervisorSpec::new(name.clone(), strategy), children);
    let backoff = BackoffSpec { initial: Duration::from_millis(100), ..BackoffSpec::default() };
    Ok(Node::supervisor(supervisor_spec(name, RestartPolicy { backoff, circuit: None }), tree))
}

/// Events go to the outbox; the observer sees them too; without supervision only agents' own. What the
/// detectors need of them passes the tap.
pub(super) fn sink(
    outbox: Arc<dyn EventSink>,
    options: &Options,
    (settings, clock): (&OutboxSettings, &Arc<dyn WallClock>),
    tap: Option<Tap>,
) -> Arc<dyn EventSink> {
    let observed: Arc<dyn EventSink> = match &options.observer {
        Some(observer) => {
            let clock = Arc::clone(clock);
            Arc::new(Observed::new(outbox, observer.clone(), settings, clock))
        }
        None => outbox,
    };
    let supervised = options.config.config.supervision.is_enabled();
    match tap {
        Some(tap) if supervised => Arc::new(Tapped::new(observed, tap)),
        Some(_) | None if supervised => observed,
        Some(_) | None => Arc::new(AgentsOnly::new(observed)),
    }
}

/// A part of the daemon as a child: restarted for ever, with a growing delay.
pub(super) fn part_spec(name: ChildName) -> ChildSpec {
    let backoff = BackoffSpec {
        initial: Duration::from_millis(100),
        factor: 2.0,
        max: Duration::from_secs(5),
        jitter: Jitter::Equal,
    };
    ChildSpec {
        shutdown: Shutdown::Timeout(PART_STOP),
        policy: RestartPolicy { backoff, circuit: None },
        ..ChildSpec::otp_worker(name)
    }
}

pub(super) fn own(name: &str) -> Result<ChildName, DaemonError> {
    name.parse().map_err(|error| config_error(&format!("{name}: {error}")))
}

pub(super) fn config_error(message: &str) -> DaemonError {
    DaemonError::Config { message: message.to_owned() }
}
