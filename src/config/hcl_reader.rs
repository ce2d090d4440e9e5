//! HCL into the value tree. Nothing but this file and `hcl_habits` knows that the format is HCL.
//!
//! A block is a table; its labels are keys below its name: `agent_type "worker" { … }` is
//! `agent_types.worker`. Only literals are taken: no functions, operators or conditions, so that a
//! file says what it says. `${env.NAME}` and `${file:/path}` mean what they mean in TOML, and
//! `env.NAME` without quotes means `"${env.NAME}"`.

use std::path::PathBuf;
use std::sync::Arc;

use hcl_edit::expr::{Expression, Object, ObjectKey, Traversal, TraversalOperator};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::template::Template;
use hcl_edit::{Number, Span};

use crate::config::fault::Fault;
use crate::config::hcl_habits as habits;
use crate::config::lines::Lines;
use crate::config::place::Place;
use crate::config::tree::{Entry, Node, Table, Value};

/// Stands for a `$` before `{` while the parser works: interpolation is ours, and its forms
/// (`${env.A:-b}`) are no expressions of HCL. A control character that no text needs.
const HIDDEN: char = '\u{1}';

/// Why a value that is no literal is refused.
const NO_LITERAL: &str = "is an expression; write a literal, \"${env.NAME}\" or env.NAME";

/// Reads one file's text. What can be understood of a faulty file is returned besides its faults.
pub(crate) fn read(text: &str, path: &Arc<PathBuf>, order: usize) -> (Node, Vec<Fault>) {
    let lines = Lines::new(text, path, order);
    let whole = lines.whole();
    if let Some(at) = text.find(HIDDEN) {
        let fault = "the control character U+0001 may not be used";
        return (Node::empty_table(whole), vec![Fault::new(lines.place(at), "", fault)]);
    }
    let hidden = hide(text);
    let body = match hcl_edit::parser::parse_body(&hidden) {
        Ok(body) => body,
        Err(error) => {
            let at = error.location();
            let place = lines.at(at.line(), at.column());
            let message = error.message().replace('\n', ", ");
            let fault = Fault::new(place, "", format!("not valid HCL: {message}"));
            return (Node::empty_table(whole), vec![fault]);
        }
    };
    let mut reader = Reader { lines, faults: Vec::new() };
    let mut root = Node::new(Value::Table(reader.body(&body)), whole);
    habits::adapt(&mut root, &mut reader.faults);
    (root, reader.faults)
}

/// Hides the `$` of every `${` and of its escape `$${`. The length in bytes stays.
fn hide(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        hidden.push_str(before);
        let run = from.len() - from.trim_start_matches('$').len();
        let (dollars, after) = from.split_at(run);
        if after.starts_with('{') {
            hidden.extend(std::iter::repeat_n(HIDDEN, run));
        } else {
            hidden.push_str(dollars);
        }
        rest = after;
    }
    hidden.push_str(rest);
    hidden
}

fn shown(text: &str) -> String {
    text.replace(HIDDEN, "$")
}

struct Reader<'t> {
    lines: Lines<'t>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn place(&self, spanned: &impl Span) -> Place {
        self.lines.place(spanned.span().map_or(0, |span| span.start))
    }

    fn fault(&mut self, place: Place, key: &str, fault: &str) {
        self.faults.push(Fault::new(place, key, fault));
    }

    fn body(&mut self, body: &Body) -> Table {
        let mut table = Table::new();
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    let key_place = self.place(&attribute.key);
                    let name = attribute.key.as_str().to_owned();
                    self.entry(&mut table, key_place, name, &attribute.value);
                }
                Structure::Block(block) => self.block(&mut table, block),
            }
        }
        table
    }

    fn entry(&mut self, table: &mut Table, key_place: Place, name: String, value: &Expression) {
        if let Some(node) = self.node(value, &name) {
            self.enter(table, name, Entry { key_place, node });
        }
    }

    fn object(&mut self, object: &Object, key: &str) -> Table {
        let mut table = Table::new();
        for (name, value) in object {
            let key_place = self.place(name);
            match object_key(name) {
                Some(name) => self.entry(&mut table, key_place, name, value.expr()),
                None => self.fault(key_place, key, "a key must be a name or a text in quotes"),
            }
        }
        table
    }

    /// Enters a block under its name and its labels.
    fn block(&mut self, table: &mut Table, block: &Block) {
        let key_place = self.place(&block.ident);
        let inner = Node::new(Value::Table(self.body(&block.body)), key_place.clone());
        let labels = block.labels.iter().map(|label| shown(label.as_str())).collect::<Vec<_>>();
        let name = block.ident.as_str();
        if let Some((list, label_key)) = habits::list_of(name) {
            let node = self.item(inner, &labels, label_key, name);
            let entry = table.entry(list.to_owned()).or_insert_with(|| Entry {
                key_place: key_place.clone(),
                node: Node::new(Value::Array(Vec::new()), key_place.clone()),
            });
            match &mut entry.node.value {
                Value::Array(items) => items.push(node),
                Value::Boolean(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::Date(_)
                | Value::Huge(_)
                | Value::Table(_) => {
                    self.fault(key_place, list, "is written as a value and as blocks");
                }
            }
            return;
        }
        let mut path = vec![habits::map_of(name).unwrap_or(name).to_owned()];
        path.extend(labels);
        self.enter_at(table, &path, inner);
    }

    /// One element of a list of blocks; its label is the value of a key.
    fn item(
        &mut self,
        mut inner: Node,
        labels: &[String],
        label_key: Option<&str>,
        name: &str,
    ) -> Node {
        match (labels, label_key) {
            ([], _) => {}
            ([label], Some(key)) => {
                let place = inner.place.clone();
                inner.put(&[key], Node::new(Value::Text(label.clone()), place));
            }
            ([_, ..], _) => {
                let most = usize::from(label_key.is_some());
                let fault = format!("has {} labels; it takes {most}", labels.len());
                self.fault(inner.place.clone(), name, &fault);
            }
        }
        inner
    }

    fn enter_at(&mut self, table: &mut Table, path: &[String], node: Node) {
        let Some((name, rest)) = path.split_first() else { return };
        let key_place = node.place.clone();
        if rest.is_empty() {
            return self.enter(table, name.clone(), Entry { key_place, node });
        }
        let entry = table.entry(name.clone()).or_insert_with(|| Entry {
            key_place: key_place.clone(),
            node: Node::empty_table(key_place),
        });
        if let Value::Table(inner) = &mut entry.node.value {
            self.enter_at(inner, rest, node);
        } else {
            self.fault(node.place, name, "is written as a value and as a block");
        }
    }

    /// Enters a key. A table may be written in several blocks; all else is written once.
    fn enter(&mut self, table: &mut Table, name: String, entry: Entry) {
        let Some(known) = table.get_mut(&name) else {
            table.insert(name, entry);
            return;
        };
        match (&mut known.node.value, entry.node.value) {
            (Value::Table(_), Value::Table(more)) => {
                let Value::Table(mut below) =
                    std::mem::replace(&mut known.node.value, Value::Boolean(false))
                else {
                    return;
                };
                for (inner, entry) in more {
                    self.enter(&mut below, inner, entry);
                }
                known.node.value = Value::Table(below);
            }
            (_, _) => self.fault(entry.key_place, &name, "is written twice"),
        }
    }

    fn node(&mut self, expression: &Expression, key: &str) -> Option<Node> {
        let place = self.place(expression);
        let value = match expression {
            Expression::Bool(value) => Value::Boolean(*value.value()),
            Expression::Number(number) => scalar(number.value()),
            Expression::String(text) => Value::Text(shown(text.value())),
            Expression::HeredocTemplate(heredoc) => match plain(&heredoc.template) {
                Some(text) => Value::Text(text),
                None => return self.refused(place, key),
            },
            Expression::Array(items) => {
                Value::Array(items.iter().filter_map(|item| self.node(item, key)).collect())
            }
            Expression::Object(object) => Value::Table(self.object(object, key)),
            Expression::Parenthesis(inner) => return self.node(inner.inner(), key),
            Expression::Traversal(traversal) => match variable(traversal) {
                Some(name) => Value::Text(format!("${{env.{name}}}")),
                None => return self.refused(place, key),
            },
            Expression::Null(_) => {
                self.fault(place, key, "is null; leave the key out instead");
                return None;
            }
            Expression::StringTemplate(_)
            | Expression::Variable(_)
            | Expression::Conditional(_)
            | Expression::FuncCall(_)
            | Expression::UnaryOp(_)
            | Expression::BinaryOp(_)
            | Expression::ForExpr(_) => match negative(expression) {
                Some(value) => value,
                None => return self.refused(place, key),
            },
        };
        Some(Node::new(value, place))
    }

    fn refused(&mut self, place: Place, key: &str) -> Option<Node> {
        self.fault(place, key, NO_LITERAL);
        None
    }
}

fn scalar(number: &Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::Integer(whole),
        (None, Some(number)) if number.is_finite() => Value::Float(number),
        (None, _) => Value::Huge(number.to_string()),
    }
}

/// The text of a template that is nothing but text.
fn plain(template: &Template) -> Option<String> {
    if template.is_empty() {
        return Some(String::new());
    }
    Some(shown(template.as_single_element()?.as_literal()?.value()))
}

fn object_key(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Ident(name) => Some(name.as_str().to_owned()),
        ObjectKey::Expression(expression) => expression.as_str().map(shown),
    }
}

/// `env.NAME`.
fn variable(traversal: &Traversal) -> Option<String> {
    let root = traversal.expr.as_variable()?;
    let [operator] = traversal.operators.as_slice() else { return None };
    match operator.value() {
        TraversalOperator::GetAttr(name) if root.as_str() == "env" => {
            Some(name.as_str().to_owned())
        }
        TraversalOperator::GetAttr(_)
        | TraversalOperator::AttrSplat(_)
        | TraversalOperator::FullSplat(_)
        | TraversalOperator::Index(_)
        | TraversalOperator::LegacyIndex(_) => None,
    }
}

/// A number with a minus before it, which HCL takes for an operation.
fn negative(expression: &Expression) -> Option<Value> {
    let operation = expression.as_unary_op()?;
    let number = operation.expr.as_number()?;
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole.checked_neg().map(Value::Integer),
        (None, Some(number)) => Some(Value::Float(-number)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Node, Vec<String>) {
        let (node, faults) = read(text, &Arc::new(PathBuf::from("a.hcl")), 0);
        let told = faults.iter().map(|fault| format!("{} {}", fault.place, fault.fault));
        (node, told.collect())
    }

    fn value(node: &Node, path: &[&str]) -> String {
        node.find(path).map_or_else(
            || "absent".to_owned(),
            |found| format!("{} at {}", found.shown(), found.place),
        )
    }

    #[test]
    fn blocks_labels_and_attributes_have_their_places() {
        let text = "provost {\n  node = \"n\"\n}\nagent_type \"w\" {\n  slots = 2\n  env = { A = \"b\", \"C\" = \"d\" }\n}\nagent \"w1\" {\n  type = \"w\"\n}\n";
        let (node, faults) = check(text);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(value(&node, &["provost", "node"]), "\"n\" at a.hcl:2:10");
        assert_eq!(value(&node, &["agent_types", "w", "slots"]), "2 at a.hcl:5:11");
        assert_eq!(value(&node, &["agent_types", "w", "env", "C"]), "\"d\" at a.hcl:6:26");
        let Some(Value::Array(agents)) = node.find(&["agent"]).map(|node| &node.value) else {
            panic!("no list")
        };
        assert_eq!(agents[0].find(&["name"]).and_then(Node::text), Some("w1"));
        assert_eq!(agents[0].find(&["type"]).and_then(Node::text), Some("w"));
    }

    #[test]
    fn interpolation_is_left_as_it_was_written() {
        let text = "a = \"${env.X:-y}/$${z}\"\nb = env.TOKEN\nc = \"${file:/x}\"\nd = \"5$\"\n";
        let (node, faults) = check(text);
        assert_eq!(faults, Vec::<String>::new());
        let text = |key: &str| node.find(&[key]).and_then(Node::text).map(str::to_owned);
        assert_eq!(text("a").as_deref(), Some("${env.X:-y}/$${z}"));
        assert_eq!(text("b").as_deref(), Some("${env.TOKEN}"));
        assert_eq!(text("c").as_deref(), Some("${file:/x}"));
        assert_eq!(text("d").as_deref(), Some("5$"));
    }

    #[test]
    fn expressions_and_repetition_are_refused_with_their_place() {
        let (_, faults) = check("a = 1 + 2\nb = upper(\"x\")\nc = var.x\nd = null\ne = -3\n");
        let expected = [
            format!("a.hcl:1:5 {NO_LITERAL}"),
            format!("a.hcl:2:5 {NO_LITERAL}"),
            format!("a.hcl:3:5 {NO_LITERAL}"),
            "a.hcl:4:5 is null; leave the key out instead".to_owned(),
        ];
        assert_eq!(faults, expected);
        let (_, faults) = check("x \"a\" {\n  b = 1\n}\nx \"a\" {\n  b = 2\n}\n");
        assert_eq!(faults, ["a.hcl:5:3 is written twice"]);
    }

    #[test]
    fn broken_and_deep_files_are_faults_and_no_crash() {
        let (_, faults) = check("a = {\n b = \n");
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("not valid HCL"), "{faults:?}");
        for open in ["[", "{a=", "(", "-"] {
            let (_, faults) = check(&format!("x = {}", open.repeat(100_000)));
            assert_eq!(faults.len(), 1);
        }
        let (_, faults) = check(&"b {".repeat(50_000));
        assert_eq!(faults.len(), 1);
        assert_eq!(check("a = \"\u{1}\"").1.len(), 1);
    }
}
