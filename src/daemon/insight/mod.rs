//! Insight: what happens in the daemon is looked at as a whole, patterns are told, and alerts.
//!
//! A [`tap`] stands before the outbox and beside the coordinator; it takes what the detectors need
//! out of every event and puts it into a bounded queue, which never makes anybody wait. The
//! [`watch`], a child of the tree, feeds `logic::detect` with it, raises `supervision.pattern`,
//! feeds `logic::alerts` with patterns and failures, raises `supervision.alert`, and hands alerts to
//! their receivers ([`deliver`]). Firing alerts and silences are kept in the state folder
//! ([`store`]), so that the next daemon goes on with them.
//!
//! Not here: any decision about children or tasks. Only `alerts.on_critical` acts, as somebody who
//! types `provost system drain` would.

pub mod deliver;
mod spans;
pub mod station;
pub mod store;
pub mod tap;
pub mod watch;
mod who;
mod words;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::actors::tree::TreePorts;
use crate::board::Board;
use crate::config::{AlertSettings, Config, Patterns};
use crate::daemon::insight::deliver::Means;
use crate::daemon::insight::tap::{Noticed, Tap};
use crate::daemon::insight::watch::{AlertDesk, InsightService, Requests, door};
use crate::daemon::settings;
use crate::ports::{CommandHandler, EventSink, Ids, WallClock};
use crate::protocol::id::{ChildName, NodeName};
use crate::transport::outbox::envelope::Identity;

/// What the watch works with.
#[derive(Clone, Debug)]
pub struct Insight {
    /// How patterns are recognized; not at all where there is nothing.
    pub patterns: Option<Patterns>,
    /// Rules and receivers.
    pub alerts: AlertSettings,
    /// The configuration, for what leans on what.
    pub config: Arc<Config>,
    /// Name under which it tells.
    pub name: ChildName,
    /// This node.
    pub node: NodeName,
    /// Makes envelopes for receivers.
    pub(crate) identity: Identity,
    /// Where events go.
    pub sink: Arc<dyn EventSink>,
    /// What is known of children.
    pub board: Arc<Board>,
    /// Mints identities.
    pub ids: Arc<dyn Ids>,
    /// Tells wall time.
    pub clock: Arc<dyn WallClock>,
    /// Drains and pauses.
    pub handler: Arc<dyn CommandHandler>,
    /// What receivers are told by.
    pub means: Means,
}

/// The watch before it is built: its tap and its door are known to others already.
#[derive(Debug)]
pub struct Watching {
    /// What others note through.
    pub tap: Tap,
    /// What others ask through.
    pub desk: AlertDesk,
    notices: mpsc::Receiver<Noticed>,
    requests: Requests,
}

impl Default for Watching {
    fn default() -> Self {
        let (tap, notices) = Tap::new();
        let (desk, requests) = door();
        Self { tap, desk, notices, requests }
    }
}

impl Watching {
    /// Begins to watch where supervision is on.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        config.supervision.is_enabled().then(Self::default)
    }

    /// The watch.
    #[must_use]
    pub fn service(self, insight: Insight) -> InsightService {
        InsightService::new(insight, self.notices, self.requests)
    }
}

/// Makes the watch's parts from the configuration.
pub(crate) fn insight(
    config: &Arc<Config>,
    name: ChildName,
    ports: &TreePorts,
    (handler, means): (Arc<dyn CommandHandler>, Means),
) -> Insight {
    let supervision = config.supervision.settings();
    let patterns = supervision.and_then(|supervision| supervision.patterns.settings().cloned());
    let outbox = settings::outbox(config, name.clone());
    Insight {
        patterns,
        alerts: config.alerts.clone(),
        config: Arc::clone(config),
        name,
        node: config.provost.node.clone(),
        identity: Identity {
            node: outbox.node,
            name: outbox.name,
            environment: outbox.environment,
            region: outbox.region,
        },
        sink: Arc::clone(&ports.sink),
        board: Arc::clone(&ports.board),
        ids: Arc::clone(&means.ids),
        clock: Arc::clone(&ports.clock),
        handler,
        means,
    }
}
