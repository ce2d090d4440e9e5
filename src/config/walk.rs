//! The walk: a tree held against the shape. Out come the faults of shape, the values without the
//! faulty ones, the place of every key, and what `config show` lists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value as Json};

use crate::config::ends::{Codes, EndError, Signal};
use crate::config::fault::Fault;
use crate::config::place::Place;
use crate::config::shape::{Kind, Shape};
use crate::config::toml_reader;
use crate::config::tree::{Node, Value, join};
use crate::config::units::{ByteSize, MASK, Span, names_a_secret, without_credentials};

/// What a walk found.
#[derive(Default)]
pub(crate) struct Walked {
    /// Faults of shape.
    pub(crate) faults: Vec<Fault>,
    /// Where each key was written.
    pub(crate) places: BTreeMap<String, Place>,
    /// Where the names of entries of maps were written.
    pub(crate) key_places: BTreeMap<String, Place>,
    /// Keys whose values must be masked.
    pub(crate) secrets: BTreeSet<String>,
    /// Every key with its value as it may be shown, in the order of the format.
    pub(crate) shown: Vec<(String, Option<Json>)>,
    /// Keys that a misspelt one probably stands for; that they are absent is no second fault.
    pub(crate) meant: BTreeSet<String>,
}

/// Walks a tree; the values that have the right shape are returned.
pub(crate) fn walk(root: &Node) -> (Json, Walked) {
    let mut walked = Walked::default();
    let values = walked.node(root, Shape::of_config(), "");
    (values.unwrap_or_else(|| Json::Object(Map::new())), walked)
}

impl Walked {
    /// The right part of a value; `None` if it is faulty as a whole.
    fn node(&mut self, node: &Node, shape: &Shape, key: &str) -> Option<Json> {
        if !key.is_empty() {
            self.places.insert(key.to_owned(), node.place.clone());
        }
        let node = &unloosened(node, shape);
        match (&shape.kind, &node.value) {
            (Kind::Table(fields), Value::Table(_)) => Some(self.table(node, fields, key)),
            (Kind::Map(each), Value::Table(_)) => Some(self.map(node, each, key)),
            (Kind::List { .. }, Value::Array(items)) => self.list(node, items, shape, key),
            (_, _) => self.leaf(node, shape, key),
        }
    }

    fn table(&mut self, node: &Node, fields: &[(String, Shape)], key: &str) -> Json {
        let mut values = Map::new();
        let written = node.table();
        for name in written.into_iter().flat_map(|table| table.keys()) {
            if fields.iter().all(|(known, _)| known != name) {
                self.unknown(node, fields, key, name);
            }
        }
        for (name, shape) in fields {
            let key = join(key, name);
            match written.and_then(|table| table.get(name)) {
                Some(entry) => {
                    let value = self.node(&entry.node, shape, &key);
                    values.extend(value.map(|value| (name.clone(), value)));
                }
                None => self.absent(node, shape, &key),
            }
        }
        Json::Object(values)
    }

    fn unknown(&mut self, node: &Node, fields: &[(String, Shape)], key: &str, name: &str) {
        let place = node.table().and_then(|table| table.get(name)).map(|entry| &entry.key_place);
        let place = place.unwrap_or(&node.place).clone();
        let known = fields.iter().map(|(known, _)| known.as_str());
        let fault = Fault::new(place, join(key, name), "unknown key").suggest(name, known);
        if let Some(meant) = &fault.suggestion {
            self.meant.insert(join(key, meant));
        }
        self.faults.push(fault);
    }

    /// A key nobody wrote: its default is shown; that it is needed is told by `missing`.
    fn absent(&mut self, parent: &Node, shape: &Shape, key: &str) {
        if shape.required && !self.meant.contains(key) {
            let mut fault = Fault::new(parent.place.clone(), key, "missing; it has no default");
            fault.allowed = shape.allowed();
            self.faults.push(fault);
        }
        self.show_default(shape, key, shape.default.as_ref());
    }

    fn show_default(&mut self, shape: &Shape, key: &str, default: Option<&Json>) {
        match &shape.kind {
            Kind::Table(fields) if default.is_some() => {
                for (name, field) in fields {
                    let own =
                        default.and_then(|table| table.get(name)).filter(|value| !value.is_null());
                    self.show_default(field, &join(key, name), own);
                }
            }
            Kind::Map(_) | Kind::List { .. } if default.is_some_and(is_empty) => {}
            Kind::Table(_)
            | Kind::Map(_)
            | Kind::List { .. }
            | Kind::Boolean
            | Kind::Integer { .. }
            | Kind::Number { .. }
            | Kind::Choice(_)
            | Kind::Text { .. }
            | Kind::Time { .. }
            | Kind::Size { .. }
            | Kind::Codes
            | Kind::Signal
            | Kind::Anything => self.shown.push((key.to_owned(), default.cloned())),
        }
    }

    fn map(&mut self, node: &Node, each: &Shape, key: &str) -> Json {
        let mut values = Map::new();
        for (name, entry) in node.table().into_iter().flatten() {
            let key = join(key, name);
            let value = self.node(&entry.node, each, &key);
            let whole = matches!(each.kind, Kind::Table(_));
            self.key_places.insert(key, entry.key_place.clone());
            // A faulty table stays as an empty one: what refers to it by name is not wrong too.
            if let Some(value) = value.or_else(|| whole.then(|| Json::Object(Map::new()))) {
                values.insert(name.clone(), value);
            }
        }
        Json::Object(values)
    }

    fn list(&mut self, node: &Node, items: &[Node], shape: &Shape, key: &str) -> Option<Json> {
        let Kind::List { each, length: (least, most) } = &shape.kind else { return None };
        let whole = matches!(each.kind, Kind::Table(_));
        let mut values = Vec::new();
        let faults = self.faults.len();
        let shown = self.shown.len();
        for (index, item) in items.iter().enumerate() {
            let value = self.node(item, each, &format!("{key}[{index}]"));
            values.extend(value.or_else(|| whole.then(|| Json::Object(Map::new()))));
        }
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if count < *least || *most < count {
            self.fault(node, shape, key, "has too few or too many entries");
        }
        if whole {
            return Some(Json::Array(values));
        }
        // A list of plain values is shown in one line, and is faulty as a whole: a command with
        // an argument left out is another command.
        self.shown.truncate(shown);
        let mask = node.secret || items.iter().any(|item| item.secret);
        let listed =
            if mask { Json::String(MASK.to_owned()) } else { masked(&Json::Array(values.clone())) };
        self.shown.push((key.to_owned(), Some(listed)));
        (faults == self.faults.len()).then_some(Json::Array(values))
    }

    fn leaf(&mut self, node: &Node, shape: &Shape, key: &str) -> Option<Json> {
        let last = key.rsplit('.').next().unwrap_or(key);
        let in_environment = key.contains(".env.") && names_a_secret(last);
        let secret = node.secret || shape.secret || in_environment;
        if secret {
            self.secrets.insert(key.to_owned());
        }
        let value = match fitting(node, shape) {
            Ok(value) => value,
            Err(reason) => {
                let mut hidden = node.clone();
                hidden.secret = secret;
                self.fault(&hidden, shape, key, &reason);
                return None;
            }
        };
        let shown = if secret { Json::String(MASK.to_owned()) } else { masked(&value) };
        self.shown.push((key.to_owned(), Some(shown)));
        Some(value)
    }

    fn fault(&mut self, node: &Node, shape: &Shape, key: &str, reason: &str) {
        let mut fault = Fault::new(node.place.clone(), key, reason).value(node.shown());
        fault.allowed = shape.allowed();
        if let (Kind::Choice(words), Some(text), false) = (&shape.kind, node.text(), node.secret) {
            fault = fault.suggest(text, words.iter().map(String::as_str));
        }
        self.faults.push(fault);
    }
}

fn is_empty(value: &Json) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Masks credentials in addresses, deep inside too.
fn masked(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::String(without_credentials(text)),
        Json::Array(items) => Json::Array(items.iter().map(masked).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => value.clone(),
    }
}

/// Text from outside is read as what is wanted: `PROVOST__AGENTS__MAX=3` is a number.
fn unloosened(node: &Node, shape: &Shape) -> Node {
    let wants_text = matches!(
        shape.kind,
        Kind::Text { .. }
            | Kind::Choice(_)
            | Kind::Time { .. }
            | Kind::Size { .. }
            | Kind::Codes
            | Kind::Signal
            | Kind::Anything
    );
    if !node.loose || wants_text {
        return node.clone();
    }
    let Some(text) = node.text() else { return node.clone() };
    match toml_reader::read_value(text.trim(), &node.place) {
        Some(read) => Node { value: read.value, ..node.clone() },
        None => node.clone(),
    }
}

/// The value as JSON if it fits, else why it does not.
fn fitting(node: &Node, shape: &Shape) -> Result<Json, String> {
    let wrong = || Err(format!("must be {}", shape.noun()));
    match (&shape.kind, &node.value) {
        (Kind::Boolean, Value::Boolean(value)) => Ok(Json::Bool(*value)),
        (Kind::Integer { least, most }, Value::Integer(value)) => {
            within(value, least, most).map(|value| Json::Number((*value).into()))
        }
        (Kind::Integer { .. } | Kind::Number { .. }, Value::Huge(_)) => {
            Err(OUT_OF_RANGE.to_owned())
        }
        (Kind::Number { least, most }, Value::Float(value)) => number(*value, *least, *most),
        (Kind::Number { least, most }, Value::Integer(value)) => {
            let value: i32 = (*value).try_into().ok().ok_or(OUT_OF_RANGE)?;
            number(f64::from(value), *least, *most)
        }
        (Kind::Choice(words), Value::Text(text)) => {
            if words.contains(text) {
                Ok(text.clone().into())
            } else {
                Err("unknown word".to_owned())
            }
        }
        (Kind::Text { length: (least, most) }, Value::Text(text)) => {
            let count = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            match (count < *least, *most < count, text.contains('\0')) {
                (true, _, _) if text.is_empty() => Err("is empty".to_owned()),
                (true, _, _) => Err("is too short".to_owned()),
                (_, true, _) => Err("is too long".to_owned()),
                (_, _, true) => Err("holds a zero byte".to_owned()),
                (_, _, _) => Ok(text.clone().into()),
            }
        }
        (Kind::Time { least, most }, Value::Text(text)) => {
            let span: Span = text.parse().map_err(|error| format!("{error}"))?;
            within(&span, least, most).map(|_| text.trim().into())
        }
        (Kind::Size { least, most }, Value::Text(text)) => {
            let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
            within(&size, least, most).map(|size| size.to_string().into())
        }
        (Kind::Size { least, most }, Value::Integer(bytes)) => {
            let size = ByteSize(u64::try_from(*bytes).ok().ok_or(OUT_OF_RANGE)?);
            within(&size, least, most).map(|size| size.to_string().into())
        }
        (Kind::Codes, Value::Text(text)) => end::<Codes>(text),
        (Kind::Codes, Value::Integer(code)) => end::<Codes>(&code.to_string()),
        (Kind::Signal, Value::Text(text)) => end::<Signal>(text),
        (Kind::Signal, Value::Integer(number)) => end::<Signal>(&number.to_string()),
        (_, _) => wrong(),
    }
}

/// Codes or a signal, as the one text that means them.
fn end<T>(text: &str) -> Result<Json, String>
where
    T: std::str::FromStr<Err = EndError> + std::fmt::Display,
{
    text.parse::<T>().map(|read| read.to_string().into()).map_err(|error| error.to_string())
}

const OUT_OF_RANGE: &str = "out of range";

fn within<'v, T: PartialOrd>(value: &'v T, least: &T, most: &T) -> Result<&'v T, String> {
    if least <= value && value <= most { Ok(value) } else { Err(OUT_OF_RANGE.to_owned()) }
}

/// A number that is none (`nan`) is in no range.
fn number(value: f64, least: f64, most: f64) -> Result<Json, String> {
    let value = within(&value, &least, &most)?;
    Number::from_f64(*value).map(Json::Number).ok_or_else(|| OUT_OF_RANGE.to_owned())
}
