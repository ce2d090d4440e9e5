//! The shape of the format: the JSON Schema, parsed once into what the walk needs.
//!
//! Only the part of JSON Schema that the raw structs give is understood. [`Kind::Anything`] stands
//! for the rest; a test holds that it does not occur.

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::config::schema;
use crate::config::units::{ByteSize, Span};

/// What stands under one key.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "two independent attributes of a key")]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) secret: bool,
    /// Default, if there is one.
    pub(crate) default: Option<Json>,
    /// Whether its table must have it.
    pub(crate) required: bool,
}

/// Kinds of values.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Fixed keys, in the order of the raw struct.
    Table(Vec<(String, Shape)>),
    /// Any keys, with values of one shape.
    Map(Box<Shape>),
    /// Values in order.
    List { each: Box<Shape>, length: (u64, u64) },
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer { least: i64, most: i64 },
    /// A number.
    Number { least: f64, most: f64 },
    /// One of some words.
    Choice(Vec<String>),
    /// Any text.
    Text { length: (u64, u64) },
    /// A length of time.
    Time { least: Span, most: Span },
    /// A number of bytes.
    Size { least: ByteSize, most: ByteSize },
    /// Exit codes: one or a range.
    Codes,
    /// A signal by name or number.
    Signal,
    /// Not understood.
    Anything,
}

impl Shape {
    /// The shape of a whole configuration.
    pub(crate) fn of_config() -> &'static Self {
        static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
            let document = schema::document();
            parse(&document, &document)
        });
        &SHAPE
    }

    /// What is allowed, for a message; `None` where a list of keys says it better.
    pub(crate) fn allowed(&self) -> Option<String> {
        match &self.kind {
            Kind::Table(_) | Kind::Map(_) | Kind::Anything => None,
            Kind::List { length: (least, most), .. } => {
                (*most != u64::MAX).then(|| format!("{least}..={most} entries"))
            }
            Kind::Boolean => Some("true, false".to_owned()),
            Kind::Integer { least, most } => Some(format!("{least}..={most}")),
            Kind::Number { least, most } => Some(format!("{least:?}..={most:?}")),
            Kind::Choice(words) => Some(words.join(", ")),
            Kind::Text { length: (least, most) } => {
                (*most != u64::MAX).then(|| format!("{least}..={most} characters"))
            }
            Kind::Time { least, most } => Some(format!("{least}..={most}")),
            Kind::Size { least, most } => Some(format!("{least}..={most}")),
            Kind::Codes => Some("0..=255, or a range such as \"64-78\"".to_owned()),
            Kind::Signal => Some("a name such as \"SIGKILL\", or 1..=64".to_owned()),
        }
    }

    /// What it is called in a message.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Table(_) | Kind::Map(_) => "a table",
            Kind::List { .. } => "an array",
            Kind::Boolean => "true or false",
            Kind::Integer { .. } => "a whole number",
            Kind::Number { .. } => "a number",
            Kind::Choice(_) | Kind::Text { .. } => "a text in quotes",
            Kind::Time { .. } => "a time such as \"10s\"",
            Kind::Size { .. } => "a size such as \"64MiB\"",
            Kind::Codes => "an exit code or a range in quotes",
            Kind::Signal => "a signal's name in quotes or its number",
            Kind::Anything => "a value",
        }
    }
}

fn parse(schema: &Json, root: &Json) -> Shape {
    let target = resolve(schema, root);
    // What stands beside a reference goes before what it refers to.
    let own = |key: &str| schema.get(key).or_else(|| target.get(key));
    let unit = own("x-unit").and_then(Json::as_str);
    let choices = choices(target);
    let kind = match (unit, own("type").and_then(Json::as_str)) {
        (Some("time"), _) => time(schema),
        (Some("size"), _) => size(schema),
        (Some("codes"), _) => Kind::Codes,
        (Some("signal"), _) => Kind::Signal,
        (_, _) if !choices.is_empty() => Kind::Choice(choices),
        (_, Some("object")) => object(target, root),
        (_, Some("array")) => Kind::List {
            each: Box::new(parse(target.get("items").unwrap_or(&Json::Null), root)),
            length: (count(own("minItems"), 0), count(own("maxItems"), u64::MAX)),
        },
        (_, Some("boolean")) => Kind::Boolean,
        (_, Some("integer")) => Kind::Integer {
            least: own("minimum").and_then(Json::as_i64).unwrap_or(i64::MIN),
            most: own("maximum").and_then(Json::as_i64).unwrap_or(i64::MAX),
        },
        (_, Some("number")) => Kind::Number {
            least: own("minimum").and_then(Json::as_f64).unwrap_or(f64::MIN),
            most: own("maximum").and_then(Json::as_f64).unwrap_or(f64::MAX),
        },
        (_, Some("string")) => {
            Kind::Text { length: (count(own("minLength"), 0), count(own("maxLength"), u64::MAX)) }
        }
        (_, _) => Kind::Anything,
    };
    let secret = own("writeOnly").and_then(Json::as_bool).unwrap_or(false);
    Shape { kind, secret, default: own("default").cloned(), required: false }
}

fn count(bound: Option<&Json>, absent: u64) -> u64 {
    bound.and_then(Json::as_u64).unwrap_or(absent)
}

/// Follows `$ref`s within the document.
fn resolve<'s>(schema: &'s Json, root: &'s Json) -> &'s Json {
    let mut target = schema;
    // Bounded, so that a circle of references cannot hang the start.
    for _ in 0..8 {
        let Some(reference) = target.get("$ref").and_then(Json::as_str) else { break };
        let pointer = reference.trim_start_matches('#');
        let Some(next) = root.pointer(pointer) else { break };
        target = next;
    }
    target
}

/// The words of an enum, whether its variants are documented (`oneOf`) or not (`enum`).
fn choices(schema: &Json) -> Vec<String> {
    let words = |schema: &Json| -> Vec<String> {
        let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
        let single = schema.get("const");
        listed.chain(single).filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let variants = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    words(schema).into_iter().chain(variants.flat_map(words)).collect()
}

fn object(target: &Json, root: &Json) -> Kind {
    let Some(Json::Object(properties)) = target.get("properties") else {
        return match target.get("additionalProperties") {
            Some(each @ Json::Object(_)) => Kind::Map(Box::new(parse(each, root))),
            _ => Kind::Anything,
        };
    };
    let required: Vec<&str> = target
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let field = |(key, schema): (&String, &Json)| {
        let mut shape = parse(schema, root);
        shape.required = required.contains(&key.as_str());
        (key.clone(), shape)
    };
    Kind::Table(properties.iter().map(field).collect())
}

fn bound<T: std::str::FromStr>(schema: &Json, key: &str, absent: T) -> T {
    schema.get(key).and_then(Json::as_str).and_then(|text| text.parse().ok()).unwrap_or(absent)
}

fn time(schema: &Json) -> Kind {
    let most = Span::secs(u64::from(u32::MAX));
    Kind::Time {
        least: bound(schema, "x-minimum", Span::default()),
        most: bound(schema, "x-maximum", most),
    }
}

fn size(schema: &Json) -> Kind {
    Kind::Size {
        least: bound(schema, "x-minimum", ByteSize::default()),
        most: bound(schema, "x-maximum", ByteSize(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(shape: &Shape, key: &str, problems: &mut Vec<String>) {
        match &shape.kind {
            Kind::Table(fields) => {
                for (name, field) in fields {
                    visit(field, &format!("{key}.{name}"), problems);
                }
            }
            Kind::Map(each) | Kind::List { each, .. } => {
                visit(each, &format!("{key}.*"), problems);
            }
            Kind::Integer { least, most } if *least == i64::MIN || *most == i64::MAX => {
                problems.push(format!("{key} has no range"));
            }
            Kind::Number { least, most }
                if least.to_bits() == f64::MIN.to_bits()
                    || most.to_bits() == f64::MAX.to_bits() =>
            {
                problems.push(format!("{key} has no range"));
            }
            Kind::Time { most, .. } if *most == Span::secs(u64::from(u32::MAX)) => {
                problems.push(format!("{key} has no range"));
            }
            Kind::Size { most, .. } if *most == ByteSize(u64::MAX) => {
                problems.push(format!("{key} has no range"));
            }
            Kind::Anything => problems.push(format!("{key} is not understood")),
            Kind::Boolean
            | Kind::Integer { .. }
            | Kind::Number { .. }
            | Kind::Choice(_)
            | Kind::Text { .. }
            | Kind::Time { .. }
            | Kind::Size { .. }
            | Kind::Codes
            | Kind::Signal => {}
        }
    }

    #[test]
    fn every_key_is_understood_and_every_number_has_a_range() {
        let mut problems = Vec::new();
        visit(Shape::of_config(), "", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }
}
