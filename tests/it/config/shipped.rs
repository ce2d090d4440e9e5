//! The shipped files: `config/provost.toml` shows every key as the code has it, `minimal.toml`
//! loads, the schema is current.

use std::collections::BTreeMap;

use provost::config::{
    Config, DownstreamKind, Environment, Overrides, Sources, SubscriptionSource, schema_json,
};
use serde_json::Value as Json;

use crate::config::{Bench, repository, shown};

#[test]
fn the_published_schema_is_the_one_of_the_code() {
    let path = repository("schema/provost.schema.json");
    if std::env::var_os("PROVOST_BLESS").is_some() {
        std::fs::create_dir_all(repository("schema")).unwrap();
        std::fs::write(&path, schema_json()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == schema_json(),
        "schema/provost.schema.json is stale; run PROVOST_BLESS=1 cargo test config"
    );
}

fn shipped(name: &str) -> provost::config::Loaded {
    let environment = Environment::of([("HOME", "/srv/u")]);
    let files = vec![repository("config").join(name)];
    let sources = Sources { files, environment, overrides: Overrides::default() };
    Config::load(sources).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_shipped_file_is_the_defaults_with_supervision_on() {
    let loaded = shipped("provost.toml");
    assert!(loaded.config.supervision.is_enabled());
    assert_eq!(loaded.warnings, []);
    let defaults = Bench::new(&[]).loaded();
    let values = |loaded| -> BTreeMap<String, Option<Json>> {
        shown(loaded).into_iter().map(|(key, (value, _))| (key, value)).collect()
    };
    let mut expected = values(&defaults);
    expected.insert("supervision.enabled".to_owned(), Some(true.into()));
    expected.insert("provost.node".to_owned(), Some("localhost".into()));
    assert_eq!(values(&loaded), expected);
}

#[test]
fn the_minimal_file_starts_one_worker() {
    let config = shipped("minimal.toml").config;
    assert!(config.supervision.is_enabled());
    assert_eq!(config.agents_list.len(), 1);
}

fn example(name: &str, variables: &[(&str, &str)]) -> Config {
    let environment = Environment::of([&[("HOME", "/srv/u")], variables].concat());
    let files = vec![repository("config/examples").join(name)];
    let sources = Sources { files, environment, overrides: Overrides::default() };
    let loaded = Config::load(sources).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    loaded.config
}

#[test]
fn the_payments_platform_has_its_eleven_services() {
    let config = example("payments.toml", &[("PAYMENTS_HOST", "10.0.0.7")]);
    assert!(config.supervision.is_enabled());
    let seen: BTreeMap<&str, (String, u64, usize, u64)> = config
        .downstreams
        .iter()
        .map(|(name, one)| {
            let (address, rules) = (one.endpoint.address.to_string(), &one.resilience);
            let open_for = rules.breaker.open_for.as_secs();
            (name.as_str(), (address, rules.timeout.as_secs(), rules.max_concurrent, open_for))
        })
        .collect();
    let expected = [
        ("gateway", 8080, 5, 100, 5),
        ("token-engine", 8081, 5, 100, 5),
        ("obligation-engine", 8082, 5, 100, 5),
        ("risk-engine", 8083, 5, 100, 5),
        ("compliance-engine", 8084, 5, 100, 5),
        ("clearing-engine", 8085, 5, 100, 5),
        ("liquidity-router", 8086, 5, 100, 5),
        ("settlement-engine", 8088, 10, 50, 10),
        ("notification-engine", 8089, 5, 100, 5),
        ("reporting-engine", 8090, 5, 100, 5),
        ("analytics-collector", 8093, 3, 200, 5),
    ];
    let expected = expected.map(|(name, port, timeout, most, open)| {
        (name, (format!("http://10.0.0.7:{port}"), timeout, most, open))
    });
    assert_eq!(seen, BTreeMap::from(expected));
}

#[test]
fn the_desktop_integration_asks_by_json_rpc_and_listens_by_mqtt() {
    let config = example("desktop.hcl", &[("BACKEND_TOKEN", "t0ken"), ("DESKTOP_ID", "7")]);
    let of = |name: &str| {
        let found = config.downstreams.iter().find(|(known, _)| known.as_str() == name);
        found.unwrap().1
    };
    let backend = of("backend_api");
    assert_eq!(backend.kind, DownstreamKind::JsonRpc);
    assert_eq!(backend.endpoint.path.as_deref(), Some("/rpc"));
    assert_eq!(backend.resilience.breaker.open_for.as_secs(), 30);
    let notices = of("notices");
    assert_eq!(notices.kind, DownstreamKind::Mqtt);
    assert_eq!(notices.client_id.as_deref(), Some("desktop-7"));
    assert_eq!(notices.keep_alive.as_secs(), 60);
    let will = notices.will.as_ref().unwrap();
    assert_eq!((will.topic.as_str(), will.message.as_str(), will.qos), ("desktop/lost", "7", 1));
    let [heard] = notices.subscriptions.as_slice() else { panic!("{notices:?}") };
    assert_eq!((heard.topic.as_str(), heard.qos), ("backend/notices/#", 1));
    assert_eq!(heard.source, SubscriptionSource::Channel);
}

/// One key as the shipped file shows it.
struct Line {
    value: toml::Value,
    comment: String,
}

/// All keys of the shipped file, commented out or not, by `section.key`; names of maps are `*`.
fn lines() -> BTreeMap<String, Line> {
    let text = std::fs::read_to_string(repository("config/provost.toml")).unwrap();
    let mut section = String::new();
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with([' ', ':']) || line.is_empty() {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            section = starred(header.trim_start_matches('[').trim_end_matches(']'));
            continue;
        }
        let (key, _) = line.split_once(" = ").unwrap_or_else(|| panic!("no key: {line}"));
        let (_, comment) = line.split_once("  # ").unwrap_or_else(|| panic!("no comment: {line}"));
        let table: toml::Table = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        let shown = Line { value: table[key].clone(), comment: comment.to_owned() };
        assert!(
            lines.insert(format!("{section}.{key}"), shown).is_none(),
            "twice: {section}.{key}"
        );
    }
    lines
}

fn starred(header: &str) -> String {
    let names = [".worker", ".team", ".backend", ".SHOP", ".memory", ".oncall"];
    names.iter().fold(header.to_owned(), |header, name| header.replacen(name, ".*", 1))
}

/// A leaf of the schema: its key, what is allowed, its default.
struct Leaf {
    key: String,
    allowed: Option<String>,
    default: Option<Json>,
    required: bool,
}

fn resolved(schema: &Json, root: &Json) -> Json {
    let Some(name) = schema.get("$ref").and_then(Json::as_str) else { return schema.clone() };
    let mut target = root.pointer(name.trim_start_matches('#')).unwrap().clone();
    for (key, value) in schema.as_object().unwrap() {
        target[key] = value.clone();
    }
    target
}

fn leaves(schema: &Json, root: &Json, key: &str, found: &mut Vec<Leaf>) {
    let schema = resolved(schema, root);
    if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
        let required = schema.get("required").and_then(Json::as_array).cloned().unwrap_or_default();
        for (name, property) in properties {
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let first = found.len();
            leaves(property, root, &path, found);
            if required.contains(&Json::from(name.as_str())) {
                found[first].required = true;
            }
        }
        return;
    }
    let each = schema.get("additionalProperties").or_else(|| schema.get("items"));
    let each =
        each.map(|each| resolved(each, root)).filter(|each| each.get("properties").is_some());
    if let Some(each) = each {
        let list = schema["type"] == "array";
        return leaves(&each, root, &if list { key.to_owned() } else { format!("{key}.*") }, found);
    }
    let default = schema.get("default").cloned();
    found.push(Leaf { key: key.to_owned(), allowed: allowed(&schema), default, required: false });
}

/// Range or words of a leaf, as the shipped file writes them.
fn allowed(schema: &Json) -> Option<String> {
    let text = |key: &str| schema.get(key).map(|bound| bound.to_string().replace('"', ""));
    let range = |least: &str, most: &str| Some(format!("{}..={}", text(least)?, text(most)?));
    let variants = schema.get("oneOf").and_then(Json::as_array);
    let words = variants.map(|variants| {
        let words = variants.iter().flat_map(|variant| {
            let listed = variant.get("enum").and_then(Json::as_array).into_iter().flatten();
            listed.chain(variant.get("const")).filter_map(Json::as_str)
        });
        words.collect::<Vec<_>>().join(", ")
    });
    words.or_else(|| range("x-minimum", "x-maximum")).or_else(|| range("minimum", "maximum"))
}

#[test]
fn the_shipped_file_shows_every_key_with_its_range_and_default() {
    let root: Json = serde_json::from_str(&schema_json()).unwrap();
    let mut found = Vec::new();
    leaves(&root, &root, "", &mut found);
    let mut lines = lines();
    assert!(100 < found.len());
    for leaf in found {
        if leaf.key == "supervision.severity" {
            lines.remove("supervision.severity.throttled").expect("a sample of a severity");
            continue;
        }
        let line = lines.remove(&leaf.key).unwrap_or_else(|| panic!("{} is not shown", leaf.key));
        if let Some(allowed) = &leaf.allowed {
            let told = line.comment.starts_with(&format!("{allowed};"));
            assert!(told, "{}: {:?} does not tell {allowed}", leaf.key, line.comment);
        }
        let empty = matches!(&leaf.default, Some(Json::Array(items)) if items.is_empty())
            || matches!(&leaf.default, Some(Json::Object(fields)) if fields.is_empty());
        let Some(default) = leaf.default.filter(|_| !empty) else {
            let word = if leaf.required { "needed" } else { "default" };
            assert!(line.comment.contains(word), "{}: {:?}", leaf.key, line.comment);
            continue;
        };
        assert!(
            line.comment.ends_with(&format!("; default {default}")),
            "{}: {}",
            leaf.key,
            line.comment
        );
        if leaf.key != "supervision.enabled" {
            assert_eq!(serde_json::to_value(&line.value).unwrap(), default, "{}", leaf.key);
        }
    }
    let surplus: Vec<&String> = lines.keys().collect();
    assert_eq!(surplus, Vec::<&String>::new(), "shown, but no such key");
}
