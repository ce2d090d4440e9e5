//! Command lines with places for a task's input: `{{input}}`, `{{input.question}}`,
//! `{{input./files/0/name}}`.
//!
//! A place is filled inside its argument: whatever the input holds, the number of arguments stays
//! the same, and no shell reads them. A text is put in as it is, anything else as JSON. After
//! `input` comes a dot and names joined by dots, or a JSON Pointer. Other text in double braces is
//! left alone.

use serde_json::Value;

const OPEN: &str = "{{input";
const CLOSE: &str = "}}";

/// Why an argument is no template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateFault {
    /// A place is not ended.
    #[error("{argument:?} begins a place with {{{{input and does not end it with }}}}")]
    Unended {
        /// The argument.
        argument: String,
    },
    /// A place says something else after `input`.
    #[error(
        "{place:?} is no place; write {{{{input}}}}, {{{{input.name}}}} or {{{{input./json/pointer}}}}"
    )]
    NoPlace {
        /// The place.
        place: String,
    },
}

/// Why a command line cannot be filled with an input.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FillFault {
    /// The argument is no template.
    #[error(transparent)]
    Template(#[from] TemplateFault),
    /// The input does not have what is asked for.
    #[error("input has nothing at {pointer:?}, which the command line needs")]
    Missing {
        /// Where it would be.
        pointer: String,
    },
    /// The text cannot stand in an argument.
    #[error("input at {pointer:?} holds a NUL character, which no command line can")]
    Nul {
        /// Where it is.
        pointer: String,
    },
}

/// A piece of an argument.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    /// JSON Pointer into the input.
    Place(String),
}

/// Checks one argument.
///
/// # Errors
///
/// [`TemplateFault`] names what is wrong.
pub fn check(argument: &str) -> Result<(), TemplateFault> {
    pieces(argument).map(drop)
}

/// Fills a command line.
///
/// # Errors
///
/// [`FillFault`] says what the input does not have.
pub fn fill(command: &[String], input: &Value) -> Result<Vec<String>, FillFault> {
    command.iter().map(|argument| fill_one(argument, input)).collect()
}

fn fill_one(argument: &str, input: &Value) -> Result<String, FillFault> {
    let mut filled = String::new();
    for piece in pieces(argument)? {
        let pointer = match piece {
            Piece::Text(text) => {
                filled.push_str(text);
                continue;
            }
            Piece::Place(pointer) => pointer,
        };
        let value = input
            .pointer(&pointer)
            .ok_or_else(|| FillFault::Missing { pointer: pointer.clone() })?;
        match value {
            Value::String(text) if text.contains('\0') => return Err(FillFault::Nul { pointer }),
            Value::String(text) => filled.push_str(text),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => {
                filled.push_str(&value.to_string());
            }
        }
    }
    Ok(filled)
}

fn pieces(argument: &str) -> Result<Vec<Piece<'_>>, TemplateFault> {
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some((text, after)) = rest.split_once(OPEN) {
        let unended = || TemplateFault::Unended { argument: argument.to_owned() };
        let (inside, after) = after.split_once(CLOSE).ok_or_else(unended)?;
        let no_place = || TemplateFault::NoPlace { place: format!("{OPEN}{inside}{CLOSE}") };
        let pointer = match inside.strip_prefix('.') {
            None if inside.is_empty() => String::new(),
            None | Some("") => return Err(no_place()),
            Some(pointer) if pointer.starts_with('/') => pointer.to_owned(),
            Some(names) if names.split('.').all(|name| !name.is_empty()) => {
                let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
                names.split('.').fold(String::new(), |pointer, name| pointer + "/" + &escape(name))
            }
            Some(_) => return Err(no_place()),
        };
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Place(pointer));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(argument: &str) -> String {
        let input = json!({"q": "a b; $(x) \"", "n": 3, "list": ["x", {"deep": null}], "a/b": "s"});
        match fill(&[argument.to_owned()], &input) {
            Ok(command) => {
                assert_eq!(command.len(), 1, "one argument stays one");
                command.concat()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_place_is_filled_inside_its_argument() {
        assert_eq!(filled("{{input.q}}"), "a b; $(x) \"");
        assert_eq!(filled("--n={{input.n}},{{input./list/0}}!"), "--n=3,x!");
        assert_eq!(filled("{{input.list.1}}"), "{\"deep\":null}");
        assert_eq!(filled("{{input.list.1.deep}}"), "null");
        assert_eq!(filled("{{input.a/b}}"), "s");
        assert_eq!(fill(&["{{input}}".to_owned()], &json!("all")).unwrap(), ["all"]);
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "plain", "{{ user }}", "}}", "{input}", "a{{"] {
            assert_eq!(filled(text), text);
        }
    }

    #[test]
    fn what_cannot_be_filled_is_told() {
        assert_eq!(
            filled("{{input.gone}}"),
            "input has nothing at \"/gone\", which the command line needs"
        );
        assert_eq!(
            filled("x{{input.q"),
            "\"x{{input.q\" begins a place with {{input and does not end it with }}"
        );
        for place in ["{{inputs}}", "{{input.}}", "{{input..a}}", "{{input.a.}}"] {
            assert_eq!(
                filled(place),
                format!(
                    "{place:?} is no place; write {{{{input}}}}, {{{{input.name}}}} or {{{{input./json/pointer}}}}"
                )
            );
        }
        let nul = fill(&["{{input}}".to_owned()], &json!("a\0b"));
        assert_eq!(nul, Err(FillFault::Nul { pointer: String::new() }));
    }
}
