//! Adapters against real servers on loopback.

mod http;
mod json_rpc;
#[cfg(feature = "mqtt")]
mod mqtt;
mod nats;
#[cfg(feature = "redis")]
mod redis;
mod websocket;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use provost::adapters::target::{Schemes, Target};
use provost::config::{Config, Environment, Overrides, Sources};
use provost::ports::{
    AttemptError, AttemptFate, BoxFuture, DownstreamClient, DownstreamConnector, DownstreamSession,
    Inbound, InboundSink, ServiceError,
};
use provost::protocol::downstream::{CallOp, CallRequest};
use serde_json::Value;

use crate::support::eventually;

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

/// A call with an operation, a topic and a message.
pub(crate) fn with(op: CallOp, topic: &str, params: Value) -> CallRequest {
    CallRequest { topic: Some(topic.to_owned()), params, ..CallRequest::new(op) }
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

    /// As [`Self::open`], with the reason why it does not open.
    pub(crate) async fn refused(connector: &dyn DownstreamConnector) -> String {
        let sink: Arc<dyn InboundSink> = Arc::new(Inbox::default());
        let opened = tokio::time::timeout(Duration::from_secs(20), connector.connect(sink)).await;
        opened.expect("a failure comes in time").unwrap_err().message
    }

    /// Waits until as many different messages have arrived, and returns their payloads.
    pub(crate) async fn arrived(&self, count: usize) -> BTreeSet<String> {
        let what = format!("{count} messages arrive");
        eventually(&what, async || {
            let seen = self.inbox.seen();
            let seen: BTreeSet<String> =
                seen.iter().map(|message| message.payload.to_string()).collect();
            (count <= seen.len()).then_some(seen)
        })
        .await
    }

    /// Repeats a call while its fate allows it, as a caller does that wants it carried out; tells
    /// whether any attempt was ambiguous.
    pub(crate) async fn insist(&self, call: &CallRequest) -> (Value, bool) {
        let mut ambiguous = false;
        let what = format!("{:?} is carried out", call.params);
        let done = eventually(&what, async || match self.call(call.clone()).await {
            Ok(done) => Some(done),
            Err(error) => {
                let known = matches!(error.fate, AttemptFate::NotSent | AttemptFate::Failed);
                assert!(known || error.fate == AttemptFate::Unknown, "{error:?}");
                ambiguous |= error.fate == AttemptFate::Unknown;
                None
            }
        })
        .await;
        (done, ambiguous)
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
