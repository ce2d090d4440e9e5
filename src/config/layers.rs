//! Layers: files in order, NATS context, environment, flags, put over one another.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::context;
use crate::config::env::Environment;
use crate::config::fault::Fault;
use crate::config::hcl_reader;
use crate::config::interpolate::interpolate;
use crate::config::load::{Overrides, Sources};
use crate::config::place::{FilePlace, Place};
use crate::config::toml_reader;
use crate::config::tree::{Node, Value, merge};

/// Longest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Begins the names of variables that set any key: `PROVOST__AGENTS__MAX` is `agents.max`.
const VARIABLE_PREFIX: &str = "PROVOST__";

/// Variables of NATS tools and the keys they set; empty counts as unset.
const NATS_VARIABLES: [(&str, &[&str]); 11] = [
    ("NATS_URL", &["nats", "url"]),
    ("NATS_USER", &["nats", "user"]),
    ("NATS_PASSWORD", &["nats", "password"]),
    ("NATS_TOKEN", &["nats", "token"]),
    ("NATS_NKEY", &["nats", "nkey"]),
    ("NATS_CREDS", &["nats", "creds"]),
    ("NATS_CONTEXT", &["nats", "context"]),
    ("NATS_CA", &["nats", "tls", "ca"]),
    ("NATS_CERT", &["nats", "tls", "cert"]),
    ("NATS_KEY", &["nats", "tls", "key"]),
    ("PROVOST_NATS_SERVER", &["nats", "server"]),
];

/// Flags read once at start, and the sections they switch.
pub(crate) const SWITCHES: [(&str, &str); 3] = [
    ("ENABLE_SUPERVISION", "supervision"),
    ("ENABLE_COORDINATION", "coordination"),
    ("ENABLE_ADVANCED_ROUTING", "routing"),
];

/// All layers in one tree.
pub(crate) struct Layered {
    pub(crate) root: Node,
    pub(crate) faults: Vec<Fault>,
    /// Places of the files that could not be read or parsed as a whole.
    pub(crate) broken: Vec<Place>,
}

/// Reads all sources and puts them over one another.
pub(crate) fn layered(sources: &Sources) -> Layered {
    let mut faults = Vec::new();
    let mut broken = Vec::new();
    let mut layers = Vec::new();
    for (order, path) in sources.files.iter().enumerate() {
        let read = file_layer(path, order, &sources.environment);
        if !read.1.is_empty() {
            broken.push(read.0.place.clone());
        }
        faults.extend(read.1);
        faults.extend(read.2);
        layers.push(read.0);
    }
    let (environment, found) = environment_layer(&layers, &sources.environment);
    layers.push(environment);
    faults.extend(found);
    layers.push(flag_layer(&sources.overrides));
    faults.extend(add_context(&mut layers, &sources.environment));
    let mut root = Node::empty_table(Place::Default);
    for layer in layers {
        merge(&mut root, layer);
    }
    Layered { root, faults, broken }
}

/// One file: its tree, its faults of reading and syntax, its faults of interpolation.
fn file_layer(
    path: &Path,
    order: usize,
    environment: &Environment,
) -> (Node, Vec<Fault>, Vec<Fault>) {
    let shown = Arc::new(path.to_path_buf());
    let place = Place::File(FilePlace { order, line: 0, column: 0, path: Arc::clone(&shown) });
    let absolute = environment.absolute(&path.to_string_lossy(), Path::new(""));
    let text = match file_text(if path.is_absolute() { path } else { &absolute }) {
        Ok(text) => text,
        Err(reason) => {
            let fault = Fault::new(place.clone(), "", reason);
            return (Node::empty_table(place), vec![fault], Vec::new());
        }
    };
    let is_hcl = path.extension().is_some_and(|extension| extension == "hcl");
    let (mut node, syntax) = if is_hcl {
        hcl_reader::read(&text, &shown, order)
    } else {
        toml_reader::read(&text, &shown, order)
    };
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let mut unfilled = interpolate(&mut node, "", environment, folder);
    let elsewhere = |fault: &Fault| {
        !syntax.iter().any(|slip| toml_reader::same_line(&slip.place, &fault.place))
    };
    unfilled.retain(elsewhere);
    (node, syntax, unfilled)
}

fn file_text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let count = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(count).is_ok_and(|count| FILE_BYTES_MAX < count) {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes, the limit of a file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        format!("is not valid UTF-8 at byte {valid}; save it as UTF-8")
    })
}

/// The environment as one layer over the files (whose keys give the spelling of its keys).
fn environment_layer(files: &[Node], environment: &Environment) -> (Node, Vec<Fault>) {
    let mut root = Node::empty_table(Place::Environment("environment".to_owned()));
    let mut faults = Vec::new();
    for (name, value) in environment.iter() {
        let Some(path) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let place = Place::Environment(name.to_owned());
        let Some(path) = key_path(path, files) else {
            let fault = "names no key; write PROVOST__SECTION__KEY";
            faults.push(Fault::new(place, "", fault));
            continue;
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        root.put(&path, loose(value, place));
    }
    for (name, path) in NATS_VARIABLES {
        if let Some(value) = environment.filled(name) {
            let place = Place::Environment(name.to_owned());
            let mut node = Node::new(Value::Text(value.to_owned()), place);
            node.loose = true;
            // Two kinds of credentials among the variables stay two: the check refuses them.
            root.put(path, node);
        }
    }
    for (name, section) in SWITCHES {
        match environment.filled(name).map(|value| (value, switch(value))) {
            None => {}
            Some((_, Some(on))) => {
                let place = Place::Environment(name.to_owned());
                root.put(&[section, "enabled"], Node::new(Value::Boolean(on), place));
            }
            Some((value, None)) => {
                let place = Place::Environment(name.to_owned());
                let fault = Fault::new(place, format!("{section}.enabled"), "not a switch");
                let value = format!("{value:?}");
                faults.push(fault.value(value).allowed("true, false, 1, 0, on, off, or unset"));
            }
        }
    }
    faults.extend(unreadable_variables(environment));
    (root, faults)
}

fn unreadable_variables(environment: &Environment) -> Vec<Fault> {
    let ours = |name: &&str| {
        name.starts_with(VARIABLE_PREFIX)
            || NATS_VARIABLES.iter().any(|(known, _)| known == name)
            || SWITCHES.iter().any(|(known, _)| known == name)
    };
    let fault = |name: &str| {
        Fault::new(
            Place::Environment(name.to_owned()),
            "",
            "is not valid UTF-8; correct or unset it",
        )
    };
    environment.unreadable().filter(ours).map(fault).collect()
}

/// `AGENT_TYPES__Worker__SLOTS` as a path. A file's spelling of a key is taken where there is one.
fn key_path(name: &str, files: &[Node]) -> Option<Vec<String>> {
    let mut path: Vec<String> = Vec::new();
    for segment in name.split("__") {
        if segment.is_empty() {
            return None;
        }
        let parent: Vec<&str> = path.iter().map(String::as_str).collect();
        let tables = files.iter().filter_map(|file| file.find(&parent)?.table());
        let known = tables
            .flat_map(|table| table.keys())
            .find(|key| key.eq_ignore_ascii_case(segment))
            .cloned();
        path.push(known.unwrap_or_else(|| segment.to_lowercase()));
    }
    Some(path)
}

/// A variable's value: a TOML table, array or quoted text, else text that may stand for a scalar.
fn loose(text: &str, place: Place) -> Node {
    let structured = text.trim_start().starts_with(['{', '[', '"', '\'']);
    if let Some(node) = structured.then(|| toml_reader::read_value(text.trim(), &place)).flatten() {
        return node;
    }
    let mut node = Node::new(Value::Text(text.to_owned()), place);
    node.loose = true;
    node
}

/// `true`, `1`, `on` and their opposites; nothing else is a switch.
fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "on" => Some(true),
        "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn flag_layer(overrides: &Overrides) -> Node {
    let place = |flag: &str| Place::Flag(flag.to_owned());
    let mut root = Node::empty_table(place("flags"));
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let flags: [(&str, &[&str], Option<String>); 4] = [
        ("--state-dir", &["provost", "state_dir"], overrides.state_dir.as_ref().map(path)),
        ("--nats-url", &["nats", "url"], overrides.nats_url.clone()),
        ("--http", &["provost", "http"], overrides.http.clone()),
        ("--node", &["provost", "node"], overrides.node.clone()),
    ];
    for (flag, path, value) in flags {
        if let Some(value) = value {
            root.put(path, Node::new(Value::Text(value), place(flag)));
        }
    }
    root
}

/// Puts the context that the highest layer names right below that layer.
fn add_context(layers: &mut Vec<Node>, environment: &Environment) -> Option<Fault> {
    let named = layers.iter().rposition(|layer| layer.find(&["nats", "context"]).is_some())?;
    let node = layers.get(named)?.find(&["nats", "context"])?.clone();
    // What is no text is told by the walk.
    match context::read(node.text().filter(|name| !name.is_empty())?, environment, &node.place) {
        Ok(layer) => {
            layers.insert(named, layer);
            None
        }
        Err(fault) => Some(*fault),
    }
}

#[cfg(test)]
fn key_of(name: &str) -> Option<String> {
    let path = key_path(name.strip_prefix(VARIABLE_PREFIX)?, &[])?;
    Some(path.iter().fold(String::new(), |parent, key| crate::config::tree::join(&parent, key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_a_key() {
        assert_eq!(key_of("PROVOST__AGENTS__MAX").as_deref(), Some("agents.max"));
        assert_eq!(key_of("PROVOST__NATS__MAX_PINGS_OUT").as_deref(), Some("nats.max_pings_out"));
        assert_eq!(key_of("PROVOST____X"), None);
        assert_eq!(key_of("PROVOST__"), None);
    }

    #[test]
    fn only_six_words_are_a_switch() {
        for (text, expected) in [("true", Some(true)), ("1", Some(true)), ("on", Some(true))] {
            assert_eq!(switch(text), expected);
        }
        for (text, expected) in [("false", Some(false)), ("0", Some(false)), ("off", Some(false))] {
            assert_eq!(switch(text), expected);
        }
        for text in ["yes", "TRUE", "2", " true", ""] {
            assert_eq!(switch(text), None, "{text:?}");
        }
    }
}
