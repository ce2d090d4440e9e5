//! Publishing and consuming events of one's own, for programs that use provost as a library.
//!
//! - [`publisher`]: one message or many, each acknowledged or named as failed.
//! - [`consumer`]: a durable consumer with a handler: what is done, tried again, skipped, given up.
//! - [`delivery`]: what a handler gets, and what it answers.
//! - `dead_letters`: how what is given up is kept.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use provost::ports::BoxFuture;
//! use provost::transport::connect::Connection;
//! use provost::transport::queue::{
//!     Consumer, ConsumerSettings, Delivery, Handler, Outgoing, Publisher, Verdict,
//! };
//! use provost::transport::settings::ConnectSettings;
//! use provost::transport::slot::ConnectionSlot;
//!
//! #[derive(Debug)]
//! struct Orders;
//!
//! impl Handler for Orders {
//!     fn handle(&self, order: Delivery) -> BoxFuture<'_, Verdict> {
//!         Box::pin(async move {
//!             match serde_json::from_slice::<serde_json::Value>(&order.payload) {
//!                 Ok(order) if order.is_object() => Verdict::Done,
//!                 Ok(_) => Verdict::failed("not_now", "try me later"),
//!                 Err(error) => Verdict::malformed(error.to_string()),
//!             }
//!         })
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = ConnectSettings::to("nats://127.0.0.1:4222".parse()?);
//! let connection = Connection::open(&server).await?;
//! let publisher = Publisher::new(connection.clone());
//! publisher.publish(Outgoing::new("shop.domain.order.placed", "order-1", "{}")).await?;
//!
//! let slot = ConnectionSlot::new();
//! slot.put(connection);
//! let settings = ConsumerSettings::new("shop_DOMAIN", "billing".parse()?);
//! let consumer = Consumer::new(slot, settings, Arc::new(Orders));
//! # Ok(())
//! # }
//! ```
//!
//! The consumer is a `ports::Service`: it is put into a tree, or run with a token that stops it.

pub mod consumer;
mod dead_letters;
pub mod delivery;
pub mod publisher;

pub use consumer::{Backlog, Consumer, ConsumerSettings, Form, Start};
pub use delivery::{Delivery, Handler, Take, Verdict};
pub use publisher::{BatchFault, Outgoing, PublishFault, Publisher, Stored};
