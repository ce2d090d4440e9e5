//! The daemon over HTTP: liveness, readiness, health of everything, metrics, and the documents of
//! the command endpoints for reading.
//!
//! | path | what |
//! |---|---|
//! | `/livez` | 200 while the supervision thread answers |
//! | `/readyz` | 200 while the tree runs and NATS is there, else 503 with the reason |
//! | `/health` | `healthy`, `degraded` or `unhealthy`, with reasons; 503 when unhealthy |
//! | `/health/all` | every downstream, checked now |
//! | `/metrics` | Prometheus text |
//! | `/api/v1/status`, `/tree`, `/agents`, `/agents/{agent}` | the same documents as on NATS |
//!
//! It reads only: what changes something goes through NATS and its permissions. It listens on
//! loopback unless configured otherwise; there, requests whose `Host` is a name other than
//! `localhost` are refused, so that a page in a browser cannot reach it by a name of its own.
//! Bounds: requests under way, the time of one, the size of a head (the HTTP library's).

mod api;
mod health;
mod host;
mod server;

pub use crate::web::server::{Bound, WebLimits, WebService, WebSources};
