//! The breaker's own source, with loom's `sync`.

#[path = "../../../src/adapters/breaker/engine.rs"]
pub(crate) mod engine;
#[path = "../../../src/adapters/breaker/gate.rs"]
pub(crate) mod gate;
#[path = "../../../src/adapters/breaker/ring.rs"]
pub(crate) mod ring;
#[path = "../../../src/adapters/breaker/snapshot.rs"]
pub(crate) mod snapshot;
#[path = "../../../src/adapters/breaker/stripes.rs"]
pub(crate) mod stripes;
#[path = "sync.rs"]
pub(crate) mod sync;
