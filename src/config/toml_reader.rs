//! TOML into the value tree. Nothing but this file knows that the format is TOML.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault::Fault;
use crate::config::lines::Lines;
use crate::config::place::Place;
use crate::config::tree::{Entry, Node, Table, Value};

/// Syntax faults told of one file; a file of another kind would give one for every line.
const SYNTAX_FAULTS_MAX: usize = 20;

/// Reads one file's text. What can be understood of a broken file is returned besides its faults.
pub(crate) fn read(text: &str, path: &Arc<PathBuf>, order: usize) -> (Node, Vec<Fault>) {
    let reader = Reader { lines: Lines::new(text, path, order) };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = Vec::new();
    for error in errors.iter().take(SYNTAX_FAULTS_MAX) {
        let place = reader.lines.place(error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', ", ");
        // One slip often gives several errors; the first of a line is the one that helps.
        if faults.iter().all(|fault: &Fault| !same_line(&fault.place, &place)) {
            faults.push(Fault::new(place, "", format!("not valid TOML: {message}")));
        }
    }
    let place = reader.lines.whole();
    let node = Node::new(Value::Table(reader.table(table.get_ref())), place);
    (node, faults)
}

/// Reads one value written alone, as in `PROVOST__AGENTS={max=3}`; `None` if it is no value.
pub(crate) fn read_value(text: &str, place: &Place) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(bare(value.get_ref(), place))
}

/// Whether two places are on the same line of the same file.
pub(crate) fn same_line(a: &Place, b: &Place) -> bool {
    if let (Place::File(a), Place::File(b)) = (a, b) {
        (a.order, a.line) == (b.order, b.line)
    } else {
        false
    }
}

struct Reader<'t> {
    lines: Lines<'t>,
}

impl Reader<'_> {
    fn at(&self, span: &Range<usize>) -> Place {
        self.lines.place(span.start)
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let mut entries = Table::new();
        for (key, value) in table {
            let mut node = self.node(value);
            let key_place = self.at(&key.span());
            if matches!(node.value, Value::Table(_)) {
                // The parser gives a table that came from headers an odd place; the key's is right.
                node.place = key_place.clone();
            } else if value.span().is_empty() {
                // What the parser put in the place of a value it could not read.
                continue;
            }
            entries.insert(key.get_ref().to_string(), Entry { key_place, node });
        }
        entries
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.at(&value.span());
        let inner = match value.get_ref() {
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => return scalar(value.get_ref(), place),
        };
        Node::new(inner, place)
    }
}

/// A value in which everything has the same place.
fn bare(value: &DeValue<'_>, place: &Place) -> Node {
    let inner = match value {
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| bare(item.get_ref(), place)).collect())
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let node = bare(value.get_ref(), place);
                    (key.get_ref().to_string(), Entry { key_place: place.clone(), node })
                })
                .collect(),
        ),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => return scalar(value, place.clone()),
    };
    Node::new(inner, place.clone())
}

fn scalar(value: &DeValue<'_>, place: Place) -> Node {
    let inner = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Huge(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::Huge(number.to_string()), Value::Float)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => Value::Table(Table::new()),
    };
    Node::new(inner, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, path: &[&str]) -> String {
        let (node, faults) = read(text, &Arc::new(PathBuf::from("a.toml")), 0);
        assert_eq!(faults, []);
        node.find(path).map_or_else(|| "absent".to_owned(), |node| node.place.to_string())
    }

    #[test]
    fn a_value_knows_its_line_and_column() {
        let text = "# ä\n[a]\nb = 1\n  [a.c]\n  d = { e = \"x\" }\n[[f]]\ng = [1,\n 2]\n";
        assert_eq!(places(text, &["a", "b"]), "a.toml:3:5");
        assert_eq!(places(text, &["a"]), "a.toml:2:2");
        assert_eq!(places(text, &["a", "c"]), "a.toml:4:6");
        assert_eq!(places(text, &["a", "c", "d", "e"]), "a.toml:5:13");
    }

    #[test]
    fn what_can_be_read_of_a_broken_file_is_kept() {
        let (node, faults) =
            read("a = 1\nb = = 2\n[c]\nd = 3\n", &Arc::new(PathBuf::from("a.toml")), 0);
        assert_eq!(faults.len(), 1);
        assert_eq!(node.find(&["c", "d"]).map(Node::shown).as_deref(), Some("3"));
    }

    #[test]
    fn deep_nesting_is_a_fault_and_no_crash() {
        for open in ["[", "{a="] {
            let text = format!("x = {}", open.repeat(100_000));
            let (_, faults) = read(&text, &Arc::new(PathBuf::from("a.toml")), 0);
            assert!(!faults.is_empty());
        }
        let (_, faults) =
            read(&format!("{}x = 1", "a.".repeat(50_000)), &Arc::new(PathBuf::from("a.toml")), 0);
        assert!(!faults.is_empty());
    }
}
