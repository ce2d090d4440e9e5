//! Adapters against real servers on loopback.

mod http;
mod json_rpc;
mod websocket;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use provost::adapters::target::{Schemes, Target};
use provost::config::{Config, Environment, Overrides, Sources};
use provost::ports::{
    AttemptError, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession, Inbound,
    InboundSink, ServiceError,
};
use provost::protocol::downstream::CallRequest;
use serde_json::Value;

/// Keeps what arrives.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Vec<Inbound>>);

impl Inbox {
    pub(crate) fn seen(&self) -> Vec<Inbound> {
        self.0.lock().unwrap().clone()
    }
}

impl InboundSink for Inbox {
    fn deliver(&self, message: Inbound) -> BoxFuture<'_, Result<(), ServiceError>> {
        self.0.lock().unwrap().push(message);
        Box::pin(async { Ok(()) })
    }
}

/// The target of a downstream `d` that is configured so.
pub(crate) fn target(kind: &str, settings: &str, schemes: Schemes) -> Target {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, format!("[downstreams.d]\ntype = \"{kind}\"\n{settings}\n")).unwrap();
    let sources = Sources {
        files: vec![file],
        environment: Environment::of([("HOME".to_owned(), "/tmp".to_owned())])
            .with_current_dir(dir.path())
            .with_host("box"),
        overrides: Overrides::default(),
    };
    let loaded = Config::load(sources).unwrap();
    let (name, downstream) = loaded.config.downstreams.iter().next().unwrap();
    Target::of(name, &loaded.config.provost.node, downstream, schemes).unwrap()
}

/// A session that is driven until this is dropped.
pub(crate) struct Session {
    pub(crate) client: Arc<dyn DownstreamClient>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ended: tokio::task::JoinHandle<ServiceError>,
}

impl Session {
    pub(crate) async fn open(connector: &dyn DownstreamConnector) -> Self {
        let inbox = Arc::new(Inbox::default());
        let sink: Arc<dyn InboundSink> = Arc::<Inbox>::clone(&inbox);
        let DownstreamSession { client, ended } = connector.connect(sink).await.unwrap();
        Self { client, inbox, ended: tokio::spawn(ended) }
    }

    pub(crate) async fn call(&self, call: CallRequest) -> Result<Value, AttemptError> {
        self.client.call(Arc::new(call), Duration::from_secs(5)).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ended.abort();
    }
}
