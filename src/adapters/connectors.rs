//! Which adapter reaches which type of downstream: the one place that knows all of them.

use std::sync::Arc;

use crate::adapters::AdapterError;
use crate::adapters::http::{self, HttpConnector};
use crate::adapters::json_rpc::JsonRpcConnector;
use crate::adapters::target::{Schemes, Target};
use crate::adapters::websocket::{self, WebSocketConnector};
use crate::config::{Downstream, DownstreamKind};
use crate::ports::DownstreamConnector;
use crate::protocol::id::{ChildName, NodeName};

/// Makes what reaches a downstream, from its settings alone: nothing is connected yet.
///
/// # Errors
///
/// [`AdapterError`] says which setting is wrong.
pub fn connector(
    name: &ChildName,
    node: &NodeName,
    downstream: &Downstream,
) -> Result<Arc<dyn DownstreamConnector>, AdapterError> {
    let target = |schemes: Schemes| Target::of(name, node, downstream, schemes);
    Ok(match downstream.kind {
        DownstreamKind::Http => Arc::new(HttpConnector::new(target(http::SCHEMES)?)?),
        DownstreamKind::JsonRpc => Arc::new(JsonRpcConnector::new(target(http::SCHEMES)?)?),
        DownstreamKind::Websocket => {
            Arc::new(WebSocketConnector::new(target(websocket::SCHEMES)?)?)
        }
        DownstreamKind::Mqtt => return Err(AdapterError::Missing { kind: "mqtt" }),
        DownstreamKind::Redis => return Err(AdapterError::Missing { kind: "redis" }),
        DownstreamKind::Nats => return Err(AdapterError::Missing { kind: "nats" }),
    })
}
