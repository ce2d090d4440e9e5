//! `${env.NAME}`, `${env.NAME:-default}` and `${file:/path}` in the texts of a tree; `$${` stands
//! for a literal `${`.
//!
//! A default is taken when the variable is unset or empty, as in a shell. What comes from a file
//! is secret. Only values are looked at, never keys, and never the result of an interpolation.

use std::io::Read;
use std::path::Path;

use crate::config::env::Environment;
use crate::config::fault::Fault;
use crate::config::tree::{Node, Value, join, quoted};

/// Longest file that `${file:…}` takes, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Replaces what is to be replaced in all texts of a tree that was read from a file in `folder`.
pub(crate) fn interpolate(
    node: &mut Node,
    key: &str,
    environment: &Environment,
    folder: &Path,
) -> Vec<Fault> {
    let mut work = Work { environment, folder, faults: Vec::new() };
    work.node(node, key);
    work.faults
}

struct Work<'e> {
    environment: &'e Environment,
    folder: &'e Path,
    faults: Vec<Fault>,
}

/// A text with its interpolations done.
struct Filled {
    text: String,
    secret: bool,
}

impl Work<'_> {
    fn node(&mut self, node: &mut Node, key: &str) {
        match &mut node.value {
            Value::Table(table) => {
                for (name, entry) in table {
                    self.node(&mut entry.node, &join(key, name));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{key}[{index}]"));
                }
            }
            Value::Text(text) if text.contains("${") => match self.fill(text) {
                Ok(filled) => {
                    // `$${` alone leaves an ordinary text.
                    node.loose = text.replace("$${", "").contains("${");
                    node.secret |= filled.secret;
                    *text = filled.text;
                }
                Err(reasons) => {
                    let value = quoted(text);
                    let place = &node.place;
                    let fault =
                        |reason| Fault::new(place.clone(), key, reason).value(value.clone());
                    self.faults.extend(reasons.into_iter().map(fault));
                    node.loose = true;
                }
            },
            Value::Text(_)
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Date(_)
            | Value::Huge(_) => {}
        }
    }

    fn fill(&self, text: &str) -> Result<Filled, Vec<String>> {
        let mut filled = Filled { text: String::new(), secret: false };
        let mut reasons = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                filled.text.push_str(before);
                filled.text.push_str("${");
                rest = after;
                continue;
            }
            filled.text.push_str(before);
            let Some((inside, after)) = after.split_once('}') else {
                reasons.push("`${` has no closing `}`; write `$${` for the characters".to_owned());
                rest = "";
                break;
            };
            match self.replacement(inside) {
                Ok((text, secret)) => {
                    filled.text.push_str(&text);
                    filled.secret |= secret;
                }
                Err(reason) => reasons.push(reason),
            }
            rest = after;
        }
        filled.text.push_str(rest);
        if reasons.is_empty() { Ok(filled) } else { Err(reasons) }
    }

    fn replacement(&self, inside: &str) -> Result<(String, bool), String> {
        if let Some(path) = inside.strip_prefix("file:") {
            return self.file(path).map(|text| (text, true));
        }
        let Some(name) = inside.strip_prefix("env.") else {
            return Err(format!(
                "unknown interpolation `${{{}}}`; use ${{env.NAME}}, ${{env.NAME:-default}} or \
                 ${{file:/path}}, or write `$${{` for the characters",
                inside.chars().take(40).collect::<String>()
            ));
        };
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        if name.is_empty() || name.contains(|found: char| found.is_whitespace() || found == '=') {
            return Err(format!("`{name}` is no name of an environment variable"));
        }
        if self.environment.is_unreadable(name) {
            return Err(format!("environment variable {name} is not valid UTF-8"));
        }
        match (self.environment.get(name), default) {
            (Some("") | None, Some(default)) => Ok((default.to_owned(), false)),
            (Some(value), _) => Ok((value.to_owned(), false)),
            (None, None) => Err(format!(
                "environment variable {name} is not set; set it or write ${{env.{name}:-default}}"
            )),
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let path = self.environment.absolute(path, self.folder);
        let name = path.display();
        let mut bytes = Vec::new();
        let file =
            std::fs::File::open(&path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let reading = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        let count = reading.map_err(|error| format!("cannot read {name}: {error}"))?;
        if u64::try_from(count).is_ok_and(|count| FILE_BYTES_MAX < count) {
            return Err(format!("{name} is larger than {FILE_BYTES_MAX} bytes"));
        }
        let text = String::from_utf8(bytes).ok().ok_or(format!("{name} is not valid UTF-8"))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::Place;

    fn check(text: &str, expected: &str) {
        let environment = Environment::of([("A", "one"), ("EMPTY", ""), ("T", "${env.A}")]);
        let mut node = Node::new(Value::Text(text.to_owned()), Place::Default);
        let faults = interpolate(&mut node, "k", &environment, Path::new("/"));
        let seen = match faults.first() {
            Some(fault) => format!("! {}", fault.fault),
            None => node.text().unwrap_or_default().to_owned(),
        };
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn variables_defaults_and_escapes_are_replaced() {
        check("x${env.A}y${env.A}", "xoneyone");
        check("${env.NO:-d:-e}", "d:-e");
        check("${env.EMPTY:-d}", "d");
        check("${env.EMPTY}", "");
        check("${env.NO:-}", "");
        check("$${env.A}", "${env.A}");
        check("$$${env.A}", "$${env.A}");
        check("${env.T}", "${env.A}");
        check("$HOME {x}", "$HOME {x}");
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        check(
            "${env.NO}",
            "! environment variable NO is not set; set it or write ${env.NO:-default}",
        );
        check("${env.}", "! `` is no name of an environment variable");
        check("${env.A", "! `${` has no closing `}`; write `$${` for the characters");
        check(
            "${HOME}",
            "! unknown interpolation `${HOME}`; use ${env.NAME}, ${env.NAME:-default} or \
             ${file:/path}, or write `$${` for the characters",
        );
        check("${file:/no/such}", "! cannot read /no/such: No such file or directory (os error 2)");
    }
}
