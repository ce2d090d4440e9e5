//! Which adapter reaches which type of downstream: the one place that knows all of them.

use std::sync::Arc;

use crate::adapters::AdapterError;
use crate::adapters::http::{self, HttpConnector};
use crate::adapters::json_rpc::JsonRpcConnector;
#[cfg(feature = "mqtt")]
use crate::adapters::mqtt::{self, MqttConnector};
use crate::adapters::nats::{self, NatsConnector};
#[cfg(feature = "redis")]
use crate::adapters::redis::{self, RedisConnector};
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
        #[cfg(feature = "mqtt")]
        DownstreamKind::Mqtt => Arc::new(MqttConnector::new(target(mqtt::SCHEMES)?)?),
        #[cfg(not(feature = "mqtt"))]
        DownstreamKind::Mqtt => return Err(AdapterError::Missing { kind: "mqtt" }),
        #[cfg(feature = "redis")]
        DownstreamKind::Redis => Arc::new(RedisConnector::new(target(redis::SCHEMES)?)?),
        #[cfg(not(feature = "redis"))]
        DownstreamKind::Redis => return Err(AdapterError::Missing { kind: "redis" }),
        DownstreamKind::Nats => Arc::new(NatsConnector::new(target(nats::SCHEMES)?)?),
    })
}
