//! The JSON Schema of the format, generated from the raw structs.
//!
//! It is published as `schema/provost.schema.json` for editors, and it is what files are held
//! against: see `shape`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value as Json;

use crate::config::raw::RawConfig;

/// The schema as a document, for `provost config schema` and for editors.
#[must_use]
pub fn schema_json() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema as a value.
pub(crate) fn document() -> Json {
    let settings = SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(without_null))
        .with_transform(RecursiveTransform(with_required));
    settings.into_generator().into_root_schema_for::<RawConfig>().to_value()
}

/// Lists the keys that say of themselves that they are needed. The raw structs hold them as options,
/// so that one that is missing is told with all other faults.
fn with_required(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let Some(Json::Object(properties)) = object.get_mut("properties") else { return };
    let mut required = Vec::new();
    for (key, property) in properties {
        if property.as_object_mut().and_then(|property| property.remove("x-required")).is_some() {
            required.push(Json::from(key.as_str()));
        }
    }
    if !required.is_empty() {
        object.insert("required".to_owned(), Json::Array(required));
    }
}

fn drop_nulls(value: &mut Json) {
    if let Json::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// No configuration language of ours has a null: a key that may be absent is simply not required.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Json::is_null) {
        object.remove("default");
    }
    if let Some(default) = object.get_mut("default") {
        drop_nulls(default);
    }
    if let Some(Json::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let is_null = |option: &Json| option.get("type").is_some_and(|name| name == "null");
    let Some(Json::Array(options)) = object.get("anyOf") else { return };
    let rest: Vec<&Json> = options.iter().filter(|option| !is_null(option)).collect();
    if let [Json::Object(only)] = rest.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}
