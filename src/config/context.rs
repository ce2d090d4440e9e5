//! NATS contexts: the connections that the `nats` command line keeps, as one more layer.
//!
//! A context is another tool's file, so unknown keys in it are ignored.

use std::sync::Arc;

use crate::config::env::Environment;
use crate::config::fault::Fault;
use crate::config::place::Place;
use crate::config::tree::{Node, Value};

/// A context's keys and where they go.
const KEYS: [(&str, &[&str]); 12] = [
    ("url", &["nats", "url"]),
    ("user", &["nats", "user"]),
    ("password", &["nats", "password"]),
    ("token", &["nats", "token"]),
    ("creds", &["nats", "creds"]),
    ("nkey", &["nats", "nkey"]),
    ("cert", &["nats", "tls", "cert"]),
    ("key", &["nats", "tls", "key"]),
    ("ca", &["nats", "tls", "ca"]),
    ("inbox_prefix", &["nats", "inbox_prefix"]),
    ("jetstream_domain", &["nats", "jetstream_domain"]),
    ("jetstream_api_prefix", &["nats", "jetstream_api_prefix"]),
];

/// Reads the context of a name; `place` is where it was named.
pub(crate) fn read(
    name: &str,
    environment: &Environment,
    place: &Place,
) -> Result<Node, Box<Fault>> {
    let fault = |text: String| {
        Box::new(Fault::new(place.clone(), "nats.context", text).value(format!("{name:?}")))
    };
    if name.is_empty() || name.contains(['/', '\\']) || name.contains("..") {
        return Err(fault("not the name of a NATS context".to_owned()));
    }
    let Some(home) = environment.config_home() else {
        return Err(fault("neither XDG_CONFIG_HOME nor HOME says where contexts are".to_owned()));
    };
    let path = home.join("nats/context").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        fault(format!("cannot read the NATS context {}: {error}", path.display()))
    })?;
    let document: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| fault(format!("{} is not a NATS context: {error}", path.display())))?;
    Ok(layer(&document, &Place::Context(Arc::new(path))))
}

/// The keys of a context that mean something here.
fn layer(document: &serde_json::Map<String, serde_json::Value>, place: &Place) -> Node {
    let mut root = Node::empty_table(place.clone());
    for (key, path) in KEYS {
        let value = document.get(key).and_then(serde_json::Value::as_str);
        if let Some(text) = value.filter(|text| !text.is_empty()) {
            root.put(path, Node::new(Value::Text(text.to_owned()), place.clone()));
        }
    }
    if document.get("tls_first").and_then(serde_json::Value::as_bool) == Some(true) {
        root.put(&["nats", "tls", "first"], Node::new(Value::Boolean(true), place.clone()));
    }
    root
}
