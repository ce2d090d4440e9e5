//! The help of every verb, held by a snapshot: a change of the command line shows in review.

use clap::CommandFactory as _;

use crate::cli::arguments::Arguments;

/// The help of a command and of all below it, under its whole name.
fn pages(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.clone().bin_name(path).term_width(100).render_help().to_string();
    // What every verb takes stands under the first page only.
    let end = if path == "provost" { "\0" } else { "\nCommon options:" };
    let usage = help.split(end).next().unwrap_or_default();
    let example = help.split_once("\nExample:").filter(|_| path != "provost");
    let example = example.map(|(_, example)| format!("\nExample:{example}")).unwrap_or_default();
    text.push_str(&format!("=== {path}\n{usage}{example}\n"));
    for below in command.get_subcommands_mut() {
        if below.get_name() != "help" {
            let path = format!("{path} {}", below.get_name());
            pages(below, &path, text);
        }
    }
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_help_of_every_verb_is_as_reviewed() {
    let mut command = crate::cli::ops::command();
    command.build();
    let mut text = String::new();
    pages(&mut command, "provost", &mut text);
    insta::assert_snapshot!("reference", text);
}
