//! `provost completions` and `provost man`: made from the command line itself, so that they cannot
//! differ from it.

use clap_complete::{Shell, generate};
use serde_json::json;

use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::ops::arguments::{CompletionsArguments, ManArguments};
use crate::cli::ops::guide::{command, find};
use crate::cli::output::{Format, Page};

/// Commands that take names of agents.
const ABOUT_AGENTS: &str = "status stop restart kill drain resume reset remove logs wait";

/// What completes the names of agents; it asks the daemon, briefly.
const NAMES: &str = "provost list -o name --timeout 1s 2>/dev/null";

/// Prints a completion script.
///
/// # Errors
///
/// The shell is not one of those that are known, or the output cannot be written.
pub(crate) fn completions(
    console: &mut Console,
    common: &Common,
    arguments: &CompletionsArguments,
) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command(), "provost", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let script = match arguments.shell {
        Shell::Bash => format!("{script}{}", bash()),
        Shell::Fish => format!("{script}{}", fish()),
        Shell::Zsh => zsh(&script),
        Shell::Elvish | Shell::PowerShell | _ => {
            let message = format!("there is no completion for {}", arguments.shell);
            let next = "use bash, zsh or fish";
            return Err(Failure::new(Fault::Usage, message, next));
        }
    };
    text(console, common.output, "completion", &script)
}

/// Prints the manual page.
///
/// # Errors
///
/// There is no such command, or the output cannot be written.
pub(crate) fn man(
    console: &mut Console,
    common: &Common,
    arguments: &ManArguments,
) -> Result<Exit, Failure> {
    let mut root = command();
    root.build();
    let path = arguments.words.join(" ");
    let Some(found) = find(&root, &path) else {
        let message = format!("there is no command {path:?}");
        return Err(Failure::new(Fault::Usage, message, "provost commands lists all commands"));
    };
    let mut page = Vec::new();
    let mut pages = vec![(found.clone(), format!("provost {path}"))];
    while let Some((command, name)) = pages.pop() {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        let mut below: Vec<_> = below
            .filter(|below| below.get_name() != "help")
            .map(|below| (below.clone(), format!("{} {}", name.trim(), below.get_name())))
            .collect();
        below.reverse();
        pages.extend(below);
        let titled = command.display_name(name.trim().replace(' ', "-"));
        let rendered = clap_mangen::Man::new(titled).render(&mut page);
        rendered.map_err(|error| Failure::output(&error))?;
    }
    text(console, common.output, "man", &String::from_utf8_lossy(&page))
}

/// Text is text; as a document it is one field.
fn text(console: &mut Console, format: Format, what: &str, script: &str) -> Result<Exit, Failure> {
    match format {
        Format::Table => {
            for line in script.lines() {
                console.raw_line(line)?;
            }
        }
        Format::Json | Format::Jsonl | Format::Name => {
            Page::single(what, json!({what: script}), Vec::new()).print(console, format)?;
        }
    }
    Ok(Exit::Done)
}

/// After the static completion come the names, where the command takes some.
fn bash() -> String {
    format!(
        r#"
_provost_with_agents() {{
    _provost "$@"
    local word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case " {ABOUT_AGENTS} " in
            *" $word "*)
                if [[ "${{COMP_WORDS[COMP_CWORD]}}" != -* ]]; then
                    COMPREPLY=($(compgen -W "$({NAMES})" -- "${{COMP_WORDS[COMP_CWORD]}}"))
                fi
                return 0
                ;;
        esac
    done
}}
complete -F _provost_with_agents -o bashdefault -o default provost
"#
    )
}

fn fish() -> String {
    format!(
        "\ncomplete -c provost -n \"__fish_seen_subcommand_from {ABOUT_AGENTS}\" -f -a \"({NAMES})\"\n"
    )
}

fn zsh(script: &str) -> String {
    let names = format!(
        "_provost_agents() {{\n    local -a agents\n    agents=(${{(f)\"$({NAMES})\"}})\n    \
         compadd -a agents\n}}\n\n"
    );
    let mut lines = script.lines();
    let mut out = lines.next().unwrap_or_default().to_owned();
    out.push_str("\n\n");
    out.push_str(&names);
    for line in lines {
        let line = if (line.contains("::agents --") || line.contains("':agent --"))
            && line.contains(":_default'")
        {
            line.replace(":_default'", ":_provost_agents'")
        } else {
            line.to_owned()
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}
