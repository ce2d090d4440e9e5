//! The value tree: what a file says, each value with its place, whatever language it is written in.
//!
//! Readers make trees; layers are put over one another here. Nothing here knows the format's keys,
//! except for the few alternatives of which a higher layer's choice replaces the lower's.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::place::Place;

/// A value and where it was written.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "two independent marks of a value")]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    /// It came from a secret's file and must be masked.
    pub(crate) secret: bool,
    /// It is text from outside (environment, interpolation) that may stand for a number or switch.
    pub(crate) loose: bool,
}

/// A value of any configuration language.
#[derive(Clone)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A date or time; no key takes one, but it can be named.
    Date(String),
    /// A number too large to hold; no key takes one, but it can be named.
    Huge(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Keys in alphabetical order.
pub(crate) type Table = BTreeMap<String, Entry>;

/// A key's own place and its value.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl fmt::Debug for Node {
    /// The place only: the value may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value at {}", self.place)
    }
}

impl Node {
    pub(crate) fn new(value: Value, place: Place) -> Self {
        Self { value, place, secret: false, loose: false }
    }

    pub(crate) fn empty_table(place: Place) -> Self {
        Self::new(Value::Table(Table::new()), place)
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The value under a path of keys.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.table()?.get(*key).map(|entry| &entry.node))
    }

    /// Puts a value at a path of keys, making tables on the way; a value in the way is replaced.
    pub(crate) fn put(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        let place = node.place.clone();
        if self.table().is_none() {
            *self = Self::empty_table(place.clone());
        }
        let Value::Table(table) = &mut self.value else { return };
        let entry = table
            .entry((*first).to_owned())
            .or_insert_with(|| Entry { key_place: place.clone(), node: Self::empty_table(place) });
        entry.node.put(rest, node);
    }

    /// The value for a message: text in quotes, cut; a secret masked.
    pub(crate) fn shown(&self) -> String {
        if self.secret {
            return crate::config::units::MASK.to_owned();
        }
        match &self.value {
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => quoted(text),
            Value::Date(text) | Value::Huge(text) => text.chars().take(60).collect(),
            Value::Array(items) => format!("an array of {}", items.len()),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// Text in quotes, credentials masked, cut after 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    let safe = crate::config::units::without_credentials(text);
    let mut short: String = safe.chars().take(60).collect();
    if short.len() < safe.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Puts one layer over another: tables are merged, all else is replaced; the entries of an array
/// under the key `agent` are merged by their `name`.
pub(crate) fn merge(base: &mut Node, mut over: Node) {
    settle_alternatives(base, &over);
    if let (Value::Table(below), Value::Table(above)) = (&mut base.value, &mut over.value) {
        for (key, entry) in std::mem::take(above) {
            merge_key(below, key, entry);
        }
    } else {
        *base = over;
    }
}

fn merge_key(below: &mut Table, key: String, entry: Entry) {
    if let Some(known) = below.get_mut(&key) {
        let named = key == "agent";
        merge_entry(known, entry, if named { Arrays::ByName } else { Arrays::Replaced });
    } else {
        below.insert(key, entry);
    }
}

#[derive(Clone, Copy)]
enum Arrays {
    ByName,
    Replaced,
}

/// A table keeps the place where it was first declared; a value has that of the layer that won.
fn merge_entry(known: &mut Entry, entry: Entry, arrays: Arrays) {
    if known.node.table().is_none() || entry.node.table().is_none() {
        known.key_place = entry.key_place;
    }
    merge_value(&mut known.node, entry.node, arrays);
}

fn merge_value(base: &mut Node, mut over: Node, arrays: Arrays) {
    match (&mut base.value, &mut over.value, arrays) {
        (Value::Table(below), Value::Table(above), _) => {
            for (key, entry) in std::mem::take(above) {
                match below.get_mut(&key) {
                    Some(known) => merge_entry(known, entry, Arrays::Replaced),
                    None => {
                        below.insert(key, entry);
                    }
                }
            }
        }
        (Value::Array(below), Value::Array(above), Arrays::ByName) => {
            merge_by_name(below, std::mem::take(above));
        }
        (_, _, _) => *base = over,
    }
}

/// Entries of one layer with the same name stay apart, so that the check sees them twice.
fn merge_by_name(below: &mut Vec<Node>, above: Vec<Node>) {
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for (index, node) in below.iter().enumerate() {
        if let Some(name) = node.find(&["name"]).and_then(Node::text) {
            open.entry(name.to_owned()).or_insert(index);
        }
    }
    for node in above {
        let known = node.find(&["name"]).and_then(Node::text).and_then(|name| open.remove(name));
        match known.and_then(|index| below.get_mut(index)) {
            Some(base) => merge_value(base, node, Arrays::Replaced),
            None => below.push(node),
        }
    }
}

/// Keys under `nats` of which one kind replaces another.
const ALTERNATIVES: [&[&[&str]]; 2] =
    [&[&["url"], &["urls"]], &[&["user", "password"], &["token"], &["nkey"], &["creds"]]];

/// A layer that names a server or credentials replaces those of the layers below it, of whatever
/// kind: `NATS_CREDS` wins over a password in a file instead of contradicting it.
fn settle_alternatives(base: &mut Node, over: &Node) {
    let Some(above) = over.find(&["nats"]).and_then(Node::table) else { return };
    let Value::Table(table) = &mut base.value else { return };
    let Some(Entry { node: Node { value: Value::Table(below), .. }, .. }) = table.get_mut("nats")
    else {
        return;
    };
    for group in ALTERNATIVES {
        let chosen = |kind: &&&[&str]| kind.iter().any(|key| above.contains_key(*key));
        if group.iter().any(|kind| chosen(&kind)) {
            for kind in group.iter().filter(|kind| !chosen(kind)) {
                below.retain(|key, _| !kind.contains(&key.as_str()));
            }
        }
    }
}

/// A key under a table: `agents.max`, quoted where it is no bare key.
pub(crate) fn join(parent: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key.chars().all(|found| found.is_ascii_alphanumeric() || found == '-' || found == '_');
    let key = if bare { key.to_owned() } else { format!("{:?}", cut(key)) };
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

fn cut(key: &str) -> String {
    key.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_on_the_way() {
        let mut root = Node::empty_table(Place::Default);
        root.put(&["a", "b"], Node::new(Value::Integer(1), Place::Default));
        root.put(&["a", "c"], Node::new(Value::Text("x".to_owned()), Place::Default));
        assert_eq!(root.find(&["a", "b"]).map(Node::shown).as_deref(), Some("1"));
        assert_eq!(root.find(&["a", "c"]).map(Node::shown).as_deref(), Some("\"x\""));
        assert!(root.find(&["a", "d"]).is_none());
    }

    #[test]
    fn a_key_that_is_not_bare_is_quoted() {
        assert_eq!(join("a", "b-c_9"), "a.b-c_9");
        assert_eq!(join("", "a b"), "\"a b\"");
        assert_eq!(join("a", ""), "a.\"\"");
    }
}
