//! `provost config …` and `provost flags`: what is configured, without a daemon.

use std::path::PathBuf;

use serde_json::Value;

use crate::cli::arguments::{Common, ConfigVerb};
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::find::{environment_of, invalid, overrides};
use crate::cli::human::one_line;
use crate::cli::output::{Format, Item, Page, Table, refuse_names, value_of};
use crate::config::{self, Config, Environment, Loaded, ShowOrigin, ShownKey, Sources};

/// Loads what was named, or the file found at the usual places.
///
/// # Errors
///
/// All faults at once.
pub(crate) fn load(
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Loaded, Failure> {
    Config::load(sources(common, files, environment)).map_err(|faults| invalid(&faults))
}

fn sources(common: &Common, files: &[PathBuf], environment: &Environment) -> Sources {
    Sources {
        files: files_of(files, environment),
        environment: environment_of(common, environment),
        overrides: overrides(common),
    }
}

fn files_of(files: &[PathBuf], environment: &Environment) -> Vec<PathBuf> {
    if files.is_empty() { config::default_files(environment) } else { files.to_vec() }
}

/// Does what is to be done with the configuration.
///
/// # Errors
///
/// The configuration has faults, or the output cannot be written.
pub(crate) fn config(
    console: &mut Console,
    common: &Common,
    verb: &ConfigVerb,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match verb {
        ConfigVerb::Validate(files) => {
            refuse_names("a check", common.output)?;
            let files = files_of(&files.files, environment);
            let report = config::validate(&files, &environment_of(common, environment));
            validate(console, common.output, &report)
        }
        ConfigVerb::Show(arguments) => {
            let loaded = load(common, &arguments.config.files, environment)?;
            warn(console, &loaded);
            let origin = if arguments.origin { ShowOrigin::Yes } else { ShowOrigin::No };
            show(console, common.output, &loaded, origin)
        }
        ConfigVerb::Schema => {
            console.line(config::schema_json().trim_end())?;
            Ok(Exit::Done)
        }
    }
}

fn validate(
    console: &mut Console,
    format: Format,
    report: &config::Report,
) -> Result<Exit, Failure> {
    let mut items = Vec::new();
    for fault in report.faults.iter().chain(&report.warnings) {
        items.push(Item { name: fault.key.clone(), value: value_of(fault)? });
    }
    let mut text: Vec<String> = Vec::new();
    if report.valid {
        let files: Vec<String> =
            report.files.iter().map(|path| path.display().to_string()).collect();
        let named =
            if files.is_empty() { "no file, defaults only".to_owned() } else { files.join(", ") };
        text.push(format!("valid: {named}"));
    } else {
        text.extend(report.faults.iter().map(|fault| one_line(&fault.to_string())));
    }
    Page { document: value_of(report)?, items, text }.print(console, format)?;
    for warning in &report.warnings {
        console.warn(&one_line(&warning.to_string()));
    }
    if report.valid {
        return Ok(Exit::Done);
    }
    let count = report.faults.len();
    let plural = if count == 1 { "fault" } else { "faults" };
    console.note(&format!("{count} {plural}; nothing would be started"));
    Ok(Exit::Usage)
}

/// Tells what is doubtful.
pub(crate) fn warn(console: &mut Console, loaded: &Loaded) {
    for warning in &loaded.warnings {
        console.warn(&one_line(&warning.to_string()));
    }
}

fn show(
    console: &mut Console,
    format: Format,
    loaded: &Loaded,
    origin: ShowOrigin,
) -> Result<Exit, Failure> {
    let keys = loaded.render(origin);
    let mut items = Vec::new();
    for key in &keys {
        items.push(Item { name: key.key.clone(), value: value_of(key)? });
    }
    let text = match origin {
        ShowOrigin::Yes => with_origin(&keys),
        ShowOrigin::No => without_origin(&keys),
    };
    Page { document: value_of(&keys)?, items, text }.print(console, format)?;
    Ok(Exit::Done)
}

fn with_origin(keys: &[ShownKey]) -> Vec<String> {
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN"]);
    for key in keys {
        let origin = key.origin.clone().unwrap_or_default();
        table.row(vec![key.key.as_str().into(), written(key).into(), origin.into()]);
    }
    table.lines()
}

fn without_origin(keys: &[ShownKey]) -> Vec<String> {
    let mut table = Table::new(&["KEY", "VALUE"]);
    for key in keys {
        table.row(vec![key.key.as_str().into(), written(key).into()]);
    }
    table.lines()
}

fn written(key: &ShownKey) -> String {
    key.value.as_ref().map(Value::to_string).unwrap_or_default()
}

/// Shows the switches.
///
/// # Errors
///
/// The configuration has faults, or the output cannot be written.
pub(crate) fn flags(
    console: &mut Console,
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
) -> Result<Exit, Failure> {
    let loaded = load(common, files, environment)?;
    let flags = loaded.flags();
    let mut table = Table::new(&["FLAG", "VALUE", "ORIGIN", "KEY"]);
    let mut items = Vec::new();
    for flag in &flags {
        let value = if flag.value { "on" } else { "off" };
        table.row(vec![
            flag.flag.into(),
            value.into(),
            flag.origin.as_str().into(),
            flag.key.as_str().into(),
        ]);
        items.push(Item { name: flag.flag.to_owned(), value: value_of(flag)? });
    }
    let page = Page { document: value_of(&flags)?, items, text: table.lines() };
    page.print(console, common.output)?;
    Ok(Exit::Done)
}
