//! A page for every error code: what it means, what causes it, what to do, an example. The only source
//! of `provost error`, of `provost explain PV…` and of `docs/errors.md`.
//!
//! Each page belongs to a kind of error in code, by a match that names them all: a new kind without
//! a page does not compile.

mod pages;

use serde::Serialize;
use serde_json::json;

use crate::cli::console::Console;
use crate::cli::errors::pages::Words;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::human::nearest;
use crate::cli::output::{Format, Item, Page, Table, value_of};
use crate::protocol::command::ErrorKind;
use crate::protocol::resource::ResourceErrorKind;

/// One code.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ErrorPage {
    /// The code.
    pub(crate) code: &'static str,
    /// Its kind on the wire, or where it comes from.
    pub(crate) kind: &'static str,
    /// What the command line exits with.
    pub(crate) exit: u8,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// What causes it.
    pub(crate) causes: &'static [&'static str],
    /// What to do.
    #[serde(rename = "do")]
    pub(crate) steps: &'static [&'static str],
    /// What it looks like.
    pub(crate) example: &'static str,
}

/// Every code, in order.
pub(crate) fn all() -> Vec<ErrorPage> {
    let commands = COMMAND_KINDS.into_iter();
    let commands = commands.map(|kind| page(kind.code(), Exit::from(kind), of_command(kind)));
    let faults = Fault::ALL.into_iter();
    let faults = faults.map(|fault| page(fault.code(), fault.exit(), of_fault(fault)));
    let resources = RESOURCE_KINDS.into_iter();
    let resources = resources.map(|kind| page(kind.code(), Exit::Refused, of_resource(kind)));
    commands.chain(faults).chain(resources).collect()
}

fn page(code: &'static str, exit: Exit, words: &Words) -> ErrorPage {
    let Words { kind, meaning, causes, steps, example } = *words;
    ErrorPage { code, kind, exit: exit.code(), meaning, causes, steps, example }
}

/// The page of a code, however it is written.
pub(crate) fn find(code: &str) -> Option<ErrorPage> {
    let code = code.to_ascii_uppercase();
    all().into_iter().find(|page| page.code == code)
}

/// Whether a word is written like a code.
pub(crate) fn is_code(word: &str) -> bool {
    let digits = word.get(2..).unwrap_or_default();
    word.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("PV"))
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Shows one page, or all codes.
///
/// # Errors
///
/// There is no such code, or the output cannot be written.
pub(crate) fn error(
    console: &mut Console,
    format: Format,
    code: Option<&str>,
) -> Result<Exit, Failure> {
    let Some(code) = code else { return list(console, format) };
    let Some(page) = find(code) else {
        let pages = all();
        let near = nearest(&code.to_ascii_uppercase(), pages.iter().map(|page| page.code));
        let failure = Failure::new(
            Fault::Usage,
            format!("no error has the code {code:?}"),
            "provost error lists all codes",
        );
        let failure = Failure { exit: Exit::NoSuchId, ..failure };
        return Err(match near {
            Some(near) => failure.suggest(&format!("did you mean {near}?")),
            None => failure,
        });
    };
    Page::single(page.code, value_of(&page)?, lines(&page)).print(console, format)?;
    Ok(Exit::Done)
}

fn list(console: &mut Console, format: Format) -> Result<Exit, Failure> {
    let mut table = Table::new(&["CODE", "KIND", "EXIT", "MEANING"]);
    let mut items = Vec::new();
    for page in all() {
        table.row(vec![
            page.code.into(),
            page.kind.into(),
            page.exit.to_string().into(),
            page.meaning.into(),
        ]);
        items.push(Item { name: page.code.to_owned(), value: value_of(&page)? });
    }
    let document = json!({ "errors": items.iter().map(|item| &item.value).collect::<Vec<_>>() });
    Page { document, items, text: table.lines() }.print(console, format)?;
    Ok(Exit::Done)
}

fn lines(page: &ErrorPage) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {} (exit code {})", page.code, page.kind, page.exit),
        format!("means   {}", page.meaning),
    ];
    let mut block = |label: &str, parts: &[&str]| {
        for (index, part) in parts.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            lines.push(format!("{label:<7} {part}"));
        }
    };
    block("causes", page.causes);
    block("do", page.steps);
    block("looks", &page.example.lines().collect::<Vec<_>>());
    lines
}

/// All pages as one document in Markdown, for `docs/errors.md`.
#[must_use]
pub fn reference() -> String {
    let mut text =
        "# Error codes\n\nGenerated from the code; `provost error CODE` prints the same page. \
                    `PV01xx` are refusals of the daemon,\n`PV02xx` come from the command line, \
                    `PV03xx` are refusals about shared resources.\n"
            .to_owned();
    for page in all() {
        text.push_str(&format!("\n## {}\n\n", page.code));
        text.push_str(&format!("`{}`, exit code {}: {}.\n\n", page.kind, page.exit, page.meaning));
        text.push_str("Causes:\n\n");
        page.causes.iter().for_each(|cause| text.push_str(&format!("- {cause}\n")));
        text.push_str("\nWhat to do:\n\n");
        page.steps.iter().for_each(|step| text.push_str(&format!("- {step}\n")));
        text.push_str(&format!("\n```text\n{}\n```\n", page.example));
    }
    text
}

const COMMAND_KINDS: [ErrorKind; 9] = [
    ErrorKind::InvalidRequest,
    ErrorKind::UnknownAgentType,
    ErrorKind::UnknownAgent,
    ErrorKind::AlreadyExists,
    ErrorKind::PoolFull,
    ErrorKind::NotPermitted,
    ErrorKind::WrongState,
    ErrorKind::Unavailable,
    ErrorKind::Internal,
];

const RESOURCE_KINDS: [ResourceErrorKind; 7] = [
    ResourceErrorKind::InvalidRequest,
    ResourceErrorKind::UnknownResource,
    ResourceErrorKind::Exhausted,
    ResourceErrorKind::UnknownLease,
    ResourceErrorKind::NotHolder,
    ResourceErrorKind::Unavailable,
    ResourceErrorKind::Internal,
];

fn of_command(kind: ErrorKind) -> &'static Words {
    match kind {
        ErrorKind::InvalidRequest => &pages::INVALID_REQUEST,
        ErrorKind::UnknownAgentType => &pages::UNKNOWN_AGENT_TYPE,
        ErrorKind::UnknownAgent => &pages::UNKNOWN_AGENT,
        ErrorKind::AlreadyExists => &pages::ALREADY_EXISTS,
        ErrorKind::PoolFull => &pages::POOL_FULL,
        ErrorKind::NotPermitted => &pages::NOT_PERMITTED,
        ErrorKind::WrongState => &pages::WRONG_STATE,
        ErrorKind::Unavailable => &pages::UNAVAILABLE,
        ErrorKind::Internal => &pages::INTERNAL,
    }
}

fn of_fault(fault: Fault) -> &'static Words {
    match fault {
        Fault::Usage => &pages::USAGE,
        Fault::DaemonUnreachable => &pages::DAEMON_UNREACHABLE,
        Fault::NatsUnreachable => &pages::NATS_UNREACHABLE,
        Fault::ConfigInvalid => &pages::CONFIG_INVALID,
        Fault::TimedOut => &pages::TIMED_OUT,
        Fault::BadAnswer => &pages::BAD_ANSWER,
        Fault::DaemonFailed => &pages::DAEMON_FAILED,
        Fault::OutputFailed => &pages::OUTPUT_FAILED,
        Fault::AddressUnreadable => &pages::ADDRESS_UNREADABLE,
        Fault::NotStored => &pages::NOT_STORED,
        Fault::CallFailed => &pages::CALL_FAILED,
        Fault::NoSuchDownstream => &pages::NO_SUCH_DOWNSTREAM,
        Fault::NotKept => &pages::NOT_KEPT,
        Fault::NoSuchThing => &pages::NO_SUCH_THING,
    }
}

fn of_resource(kind: ResourceErrorKind) -> &'static Words {
    match kind {
        ResourceErrorKind::InvalidRequest => &pages::RESOURCE_INVALID_REQUEST,
        ResourceErrorKind::UnknownResource => &pages::UNKNOWN_RESOURCE,
        ResourceErrorKind::Exhausted => &pages::EXHAUSTED,
        ResourceErrorKind::UnknownLease => &pages::UNKNOWN_LEASE,
        ResourceErrorKind::NotHolder => &pages::NOT_HOLDER,
        ResourceErrorKind::Unavailable => &pages::RESOURCE_UNAVAILABLE,
        ResourceErrorKind::Internal => &pages::RESOURCE_INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::testing::console;

    #[test]
    fn every_code_has_one_page_with_something_on_it() {
        let pages = all();
        let codes: BTreeSet<&str> = pages.iter().map(|page| page.code).collect();
        assert_eq!(codes.len(), pages.len());
        for page in pages {
            let filled =
                !page.meaning.is_empty() && !page.causes.is_empty() && !page.steps.is_empty();
            assert!(filled, "{}", page.code);
            assert!(page.example.contains(page.code), "{}: {}", page.code, page.example);
            assert!(!page.meaning.ends_with('.'), "{}", page.code);
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_written_and_a_wrong_one_gets_a_suggestion() {
        assert_eq!(find("pv0101").unwrap().code, "PV0101");
        assert!(is_code("PV9999") && is_code("pv1") && !is_code("PV") && !is_code("PVX1"));
        let (mut console, screen) = console();
        let failure = error(&mut console, Format::Table, Some("PV0199")).unwrap_err();
        assert_eq!(failure.exit, Exit::NoSuchId);
        assert!(failure.report.unwrap().next.contains("did you mean PV01"), "{}", screen.err());
        error(&mut console, Format::Table, Some("PV0105")).unwrap();
        assert!(screen.out().starts_with("PV0105  pool_full (exit code 6)\nmeans   "));
    }
}
