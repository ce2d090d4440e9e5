//! A small validator for the part of JSON Schema that our schemas use. A keyword that it does not
//! know is a fault, so that nothing goes unchecked in silence.

use provost::protocol::id::{ID_BYTES_MAX, is_token_char};
use serde_json::Value;

/// Why a document does not fit a schema; empty when it does.
pub(super) fn faults(schema: &Value, document: &Value) -> Vec<String> {
    Validator { root: schema }.check(schema, At { document, place: "$" })
}

struct Validator<'a> {
    root: &'a Value,
}

/// A part of the document and where it is.
#[derive(Clone, Copy)]
struct At<'a> {
    document: &'a Value,
    place: &'a str,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, at: At<'_>) -> Vec<String> {
        let Value::Object(keywords) = schema else {
            let shut = *schema == Value::Bool(false);
            let fault = shut.then(|| format!("{}: nothing is allowed here", at.place));
            return fault.into_iter().collect();
        };
        let rules = keywords.iter();
        rules.flat_map(|(keyword, rule)| self.keyword(keyword, rule, schema, at)).collect()
    }

    fn keyword(&self, keyword: &str, rule: &Value, schema: &Value, at: At<'_>) -> Vec<String> {
        let At { document, place } = at;
        let unless = |fits: bool| {
            let fault = (!fits).then(|| format!("{place}: {document} breaks {keyword} {rule}"));
            fault.into_iter().collect()
        };
        let fitting = |options: &Value| {
            let options = options.as_array().unwrap().iter();
            options.filter(|option| self.check(option, at).is_empty()).count()
        };
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => Vec::new(),
            "$ref" => {
                let name = rule.as_str().unwrap();
                let target = self.root.pointer(name.trim_start_matches('#'));
                self.check(target.expect(name), at)
            }
            "type" => unless(match rule {
                Value::Array(types) => types.iter().any(|expected| is_of(expected, document)),
                expected => is_of(expected, document),
            }),
            "const" => unless(rule == document),
            "enum" => unless(rule.as_array().unwrap().contains(document)),
            "not" => unless(!self.check(rule, at).is_empty()),
            "oneOf" => unless(fitting(rule) == 1),
            "anyOf" => unless(fitting(rule) > 0),
            "allOf" => unless(fitting(rule) == rule.as_array().unwrap().len()),
            "minimum" => unless(document.as_f64().is_none_or(|found| Some(found) >= rule.as_f64())),
            "maximum" => unless(document.as_f64().is_none_or(|found| Some(found) <= rule.as_f64())),
            "pattern" => unless(document.as_str().is_none_or(|text| is_token(rule, text))),
            "items" => self.items(rule, at),
            "properties" => self.properties(rule, at),
            "required" => unless(document.as_object().is_none_or(|fields| {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .all(|name| fields.contains_key(name.as_str().unwrap()))
            })),
            "additionalProperties" => self.others(rule, schema, at),
            unknown => vec![format!("{place}: this validator does not know {unknown:?}")],
        }
    }

    fn items(&self, rule: &Value, at: At<'_>) -> Vec<String> {
        let items = at.document.as_array().into_iter().flatten().enumerate();
        items.flat_map(|(index, item)| self.inside(rule, item, at, &index.to_string())).collect()
    }

    fn properties(&self, rule: &Value, at: At<'_>) -> Vec<String> {
        let known = rule.as_object().unwrap().iter();
        let present = known.filter_map(|(name, rule)| Some((name, rule, at.document.get(name)?)));
        present.flat_map(|(name, rule, value)| self.inside(rule, value, at, name)).collect()
    }

    /// Fields that `properties` beside it does not name.
    fn others(&self, rule: &Value, schema: &Value, at: At<'_>) -> Vec<String> {
        let known = schema.get("properties");
        let named = |name: &String| known.is_some_and(|known| known.get(name).is_some());
        let fields = at.document.as_object().into_iter().flatten();
        let others = fields.filter(|(name, _)| !named(name));
        others.flat_map(|(name, value)| self.inside(rule, value, at, name)).collect()
    }

    fn inside(&self, rule: &Value, document: &Value, at: At<'_>, name: &str) -> Vec<String> {
        self.check(rule, At { document, place: &format!("{}.{name}", at.place) })
    }
}

fn is_of(expected: &Value, document: &Value) -> bool {
    match expected.as_str().unwrap() {
        "null" => document.is_null(),
        "boolean" => document.is_boolean(),
        "string" => document.is_string(),
        "array" => document.is_array(),
        "object" => document.is_object(),
        "number" => document.is_number(),
        "integer" => document.is_i64() || document.is_u64(),
        _ => false,
    }
}

/// The one pattern that our schemas use: an identifier.
fn is_token(pattern: &Value, text: &str) -> bool {
    assert_eq!(pattern, "^[A-Za-z0-9_-]{1,64}$", "the only pattern that is known here");
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.chars().all(is_token_char)
}

#[test]
fn an_unknown_keyword_is_a_fault() {
    let schema = serde_json::json!({ "type": "object", "patternProperties": {} });
    assert_eq!(faults(&schema, &serde_json::json!({})).len(), 1);
}
