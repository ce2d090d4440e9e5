//! What is known of every command beside its arguments: whom it asks, whether it changes something,
//! which exit codes it has of its own, and an example. The help is completed from this table, and
//! `provost commands` prints it; tests hold that no command is missing.

use serde::Serialize;
use serde_json::{Value, json};

use clap::CommandFactory as _;

use crate::cli::arguments::{Arguments, Common};
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::{Item, Page, Table, value_of};

/// Whom a command asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Nobody: it works on files and on the command line itself.
    Local,
    /// It is the daemon.
    Foreground,
    /// The daemon.
    Daemon,
    /// The streams in NATS; the daemon need not be up.
    Nats,
}

/// Whether a command changes something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Impact {
    /// It only looks.
    ReadOnly,
    /// It changes something.
    ReadWrite,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guide {
    /// Its words.
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    pub(crate) impact: Impact,
    /// Exit codes of its own, besides those of its scope.
    pub(crate) exits: &'static [Exit],
    /// How it is typed.
    pub(crate) example: &'static str,
}

const fn guide(
    path: &'static str,
    (scope, impact): (Scope, Impact),
    exits: &'static [Exit],
    example: &'static str,
) -> Guide {
    Guide { path, scope, impact, exits, example }
}

const LOOK: (Scope, Impact) = (Scope::Daemon, Impact::ReadOnly);
const ACT: (Scope, Impact) = (Scope::Daemon, Impact::ReadWrite);
const FILES: (Scope, Impact) = (Scope::Local, Impact::ReadOnly);
const STORE: (Scope, Impact) = (Scope::Nats, Impact::ReadOnly);
const WORK: (Scope, Impact) = (Scope::Nats, Impact::ReadWrite);
const STAY: (Scope, Impact) = (Scope::Foreground, Impact::ReadWrite);

/// Exit codes of what is done to agents.
const OF_ACTS: &[Exit] = &[Exit::NoSuchId, Exit::Refused, Exit::NotPermitted, Exit::Partial];

/// Every command that does something, in the order of the help.
pub(crate) const GUIDES: &[Guide] = &[
    guide("run", STAY, &[Exit::Refused], "provost run -- python3 worker.py"),
    guide("up", STAY, &[Exit::Refused, Exit::NotPermitted], "provost up -f provost.toml"),
    guide(
        "spawn",
        ACT,
        &[Exit::NoSuchId, Exit::Refused, Exit::NotPermitted],
        "provost spawn worker --name w7 -- --fast",
    ),
    guide("list", LOOK, &[], "provost list --watch"),
    guide("tree", LOOK, &[], "provost tree"),
    guide(
        "status",
        LOOK,
        &[Exit::Bad, Exit::Stopped, Exit::NoSuchId, Exit::Partial],
        "provost status w1",
    ),
    guide("stop", ACT, OF_ACTS, "provost stop w1 --grace 5s --reason maintenance"),
    guide("restart", ACT, OF_ACTS, "provost restart w1 w2"),
    guide("kill", ACT, OF_ACTS, "provost kill w1"),
    guide("drain", ACT, OF_ACTS, "provost drain w1"),
    guide("resume", ACT, OF_ACTS, "provost resume w1"),
    guide("reset", ACT, OF_ACTS, "provost reset w1"),
    guide("remove", ACT, OF_ACTS, "provost remove w1"),
    guide(
        "circuit",
        ACT,
        &[Exit::NoSuchId, Exit::Refused, Exit::NotPermitted],
        "provost circuit backend open",
    ),
    guide("circuit list", LOOK, &[Exit::Bad], "provost circuit list"),
    guide(
        "circuit replay",
        FILES,
        &[Exit::Usage],
        "provost circuit replay -f p.toml --log calls.jsonl",
    ),
    guide("downstream list", LOOK, &[], "provost downstream list"),
    guide("downstream show", LOOK, &[Exit::Bad, Exit::NoSuchId], "provost downstream show backend"),
    guide(
        "downstream call",
        ACT,
        &[Exit::Bad, Exit::NoSuchId],
        "provost downstream call backend -p /rates",
    ),
    guide("system pause", ACT, &[Exit::NotPermitted], "provost system pause"),
    guide("system resume", ACT, &[Exit::NotPermitted], "provost system resume"),
    guide("system drain", ACT, &[Exit::NotPermitted], "provost system drain"),
    guide(
        "system reload",
        ACT,
        &[Exit::Refused, Exit::NotPermitted, Exit::Partial],
        "provost system reload",
    ),
    guide("system shutdown", ACT, &[Exit::NotPermitted], "provost system shutdown"),
    guide("route test", LOOK, &[Exit::Bad], "provost route test review"),
    guide("alert list", LOOK, &[Exit::Bad], "provost alert list"),
    guide(
        "alert silence",
        ACT,
        &[Exit::NotPermitted],
        "provost alert silence --scope w1 --for 2h --reason maintenance",
    ),
    guide(
        "alert unsilence",
        ACT,
        &[Exit::NoSuchId, Exit::NotPermitted],
        "provost alert unsilence SILENCE",
    ),
    guide(
        "alert resolve",
        ACT,
        &[Exit::NoSuchId, Exit::NotPermitted],
        "provost alert resolve FINGERPRINT",
    ),
    guide("dlq list", STORE, &[], "provost dlq list"),
    guide("dlq show", STORE, &[Exit::NoSuchId], "provost dlq show 17"),
    guide("dlq replay", WORK, &[Exit::NoSuchId, Exit::Partial], "provost dlq replay 17"),
    guide("dlq drop", WORK, &[Exit::NoSuchId, Exit::Partial], "provost dlq drop 17"),
    guide("show", LOOK, &[Exit::Bad, Exit::NoSuchId], "provost show w1"),
    guide("explain", LOOK, &[Exit::Bad, Exit::NoSuchId], "provost explain w1"),
    guide("error", FILES, &[Exit::NoSuchId], "provost error PV0103"),
    guide("events", STORE, &[Exit::Bad], "provost events --for w1 --since 1h"),
    guide("logs", LOOK, &[Exit::NoSuchId], "provost logs w1 -n 50 --follow"),
    guide("task submit", WORK, &[], "provost task submit review '{\"repo\":\"app\"}'"),
    guide("task run", WORK, &[Exit::Bad], "provost task run review '{\"repo\":\"app\"}'"),
    guide("task list", STORE, &[], "provost task list"),
    guide("task show", STORE, &[Exit::NoSuchId], "provost task show TASK"),
    guide("task watch", STORE, &[Exit::NoSuchId], "provost task watch TASK"),
    guide("task result", STORE, &[Exit::Bad, Exit::NoSuchId], "provost task result TASK"),
    guide("task cancel", WORK, &[Exit::NoSuchId, Exit::Refused], "provost task cancel TASK"),
    guide("task retry", WORK, &[Exit::NoSuchId, Exit::Refused], "provost task retry TASK"),
    guide("task audit", STORE, &[Exit::Bad], "provost task audit"),
    guide("config validate", FILES, &[], "provost config validate -f provost.toml"),
    guide("config show", FILES, &[], "provost config show -f provost.toml --origin"),
    guide("config schema", FILES, &[], "provost config schema > provost.schema.json"),
    guide("flags", FILES, &[], "provost flags"),
    guide("version", FILES, &[], "provost version -o json"),
    guide("plan", LOOK, &[Exit::Refused, Exit::Pending], "provost plan --exit-code"),
    guide(
        "apply",
        ACT,
        &[Exit::Refused, Exit::NotPermitted, Exit::Partial, Exit::Pending],
        "provost apply --yes --reason 'more workers'",
    ),
    guide("wait", LOOK, &[Exit::NoSuchId], "provost wait w1 --for ready --timeout 1m"),
    guide("doctor", LOOK, &[Exit::Bad], "provost doctor"),
    guide("analyze", STORE, &[Exit::Bad], "provost analyze flapping --since 1d"),
    guide("check", LOOK, &[Exit::Bad, Exit::Stopped], "provost check agents --format nagios"),
    guide("completions", FILES, &[], "provost completions bash > /etc/bash_completion.d/provost"),
    guide("man", FILES, &[], "provost man | man -l -"),
    guide("commands", FILES, &[], "provost commands -o json"),
    #[cfg(feature = "tui")]
    guide("top", LOOK, &[], "provost top"),
    guide("demo", STAY, &[Exit::Bad], "provost demo -f config/demo.toml --seconds 30"),
];

impl Guide {
    /// All exit codes that the command can end with.
    pub(crate) fn exits(&self) -> Vec<Exit> {
        let usual: &[Exit] = match self.scope {
            Scope::Local => &[Exit::Done, Exit::Bad, Exit::Usage],
            Scope::Foreground => {
                &[Exit::Done, Exit::Bad, Exit::Usage, Exit::Unreachable, Exit::Interrupted]
            }
            Scope::Daemon | Scope::Nats => {
                &[Exit::Done, Exit::Usage, Exit::Unreachable, Exit::TimedOut, Exit::Interrupted]
            }
        };
        let has = |exit: &Exit| usual.contains(exit) || self.exits.contains(exit);
        Exit::ALL.into_iter().filter(has).collect()
    }

    fn help(&self) -> String {
        let codes: Vec<String> = self.exits().iter().map(|exit| exit.code().to_string()).collect();
        format!("Example:\n  {}\n\nExit codes: {}", self.example, codes.join(", "))
    }
}

/// The command line with its help completed.
pub(crate) fn command() -> clap::Command {
    completed(Arguments::command(), "")
}

fn completed(command: clap::Command, path: &str) -> clap::Command {
    let known = GUIDES.iter().find(|guide| guide.path == path);
    let mut command = match known {
        Some(guide) => command.after_help(guide.help()),
        None => command,
    };
    let names: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        let below = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(name, |command| completed(command, &below));
    }
    command
}

/// Lists all commands.
pub(crate) fn commands(console: &mut Console, common: &Common) -> Result<Exit, Failure> {
    let root = command();
    let mut items = Vec::new();
    let mut table = Table::new(&["COMMAND", "ASKS", "IMPACT", "WHAT IT DOES"]);
    for guide in GUIDES {
        let Some(known) = find(&root, guide.path).filter(|known| !known.is_hide_set()) else {
            continue;
        };
        let about = known.get_about().map(ToString::to_string).unwrap_or_default();
        let scope = value_of(&guide.scope)?;
        let impact = value_of(&guide.impact)?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        table.row(vec![
            guide.path.to_owned().into(),
            word(&scope).into(),
            word(&impact).into(),
            about.clone().into(),
        ]);
        let exits: Vec<u8> = guide.exits().into_iter().map(Exit::code).collect();
        let value = json!({
            "command": guide.path, "scope": scope, "impact": impact, "about": about,
            "example": guide.example, "exit_codes": exits, "arguments": arguments(known),
        });
        items.push(Item { name: guide.path.to_owned(), value });
    }
    let values: Vec<Value> = items.iter().map(|item| item.value.clone()).collect();
    let document = json!({"commands": values});
    Page { document, items, text: table.lines() }.print(console, common.output)?;
    Ok(Exit::Done)
}

fn arguments(command: &clap::Command) -> Vec<Value> {
    let own = command.get_arguments().filter(|argument| !argument.is_global_set());
    own.map(|argument| {
        json!({
            "name": argument.get_id().as_str(),
            "long": argument.get_long(),
            "short": argument.get_short().map(String::from),
            "required": argument.is_required_set(),
            "help": argument.get_help().map(ToString::to_string),
        })
    })
    .collect()
}

/// The command of these words.
pub(crate) fn find<'a>(root: &'a clap::Command, path: &str) -> Option<&'a clap::Command> {
    path.split_whitespace().try_fold(root, |command, word| command.find_subcommand(word))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All commands that do something, with their words.
    fn doing(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        let below: Vec<&clap::Command> =
            command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        let asks = command.get_positionals().next().is_some();
        if !path.is_empty() && (below.is_empty() || asks) {
            found.insert(path.to_owned());
        }
        for one in below {
            let path = format!("{path} {}", one.get_name());
            doing(one, path.trim(), found);
        }
    }

    #[test]
    fn every_command_is_in_the_guide_once_and_the_guide_has_no_other() {
        let mut typed = BTreeSet::new();
        doing(&Arguments::command(), "", &mut typed);
        let known: BTreeSet<String> = GUIDES.iter().map(|guide| guide.path.to_owned()).collect();
        assert_eq!(known, typed);
        assert_eq!(known.len(), GUIDES.len());
    }

    #[test]
    fn every_example_is_a_line_that_the_command_takes() {
        for guide in GUIDES {
            let line = guide.example.split([';', '|', '>']).next().unwrap().trim();
            let mut words = Vec::new();
            let mut rest = line;
            // Words in single quotes are one.
            while let Some((before, quoted)) = rest.split_once('\'') {
                words.extend(before.split_whitespace());
                let (word, after) = quoted.split_once('\'').unwrap();
                words.push(word);
                rest = after;
            }
            words.extend(rest.split_whitespace());
            let parsed = command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{}: {}", guide.example, parsed.unwrap_err());
            let path: Vec<&str> = guide.path.split_whitespace().collect();
            assert_eq!(words[1..=path.len()], path, "{}", guide.example);
        }
    }

    #[test]
    fn every_help_has_an_example_and_exit_codes() {
        let root = command();
        for guide in GUIDES {
            let known = find(&root, guide.path).unwrap();
            let help = known.clone().render_help().to_string();
            assert!(help.contains(guide.example), "{}: {help}", guide.path);
            assert!(help.contains("Exit codes: 0, "), "{}: {help}", guide.path);
            assert!(known.get_about().is_some(), "{}", guide.path);
        }
    }
}
