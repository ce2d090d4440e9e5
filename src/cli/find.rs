//! Finds the daemon: flags, then the environment, then configuration files, then the address file
//! that an embedded server leaves in the state folder.

use std::path::{Path, PathBuf};

use crate::cli::arguments::Common;
use crate::cli::console::Console;
use crate::cli::failure::{Failure, Fault};
use crate::config::{Config, Environment, Faults, Loaded, NatsTarget, Overrides, Place, Sources};
use crate::transport::contexts;
use crate::transport::embedded::{ADDRESS_FILE, read_address};
use crate::transport::settings::{ConnectSettings, ServerUrl};

/// Name under which the command line is listed at the server.
const CLIENT: &str = "provost-cli";

/// Variable that sets `provost.subject_prefix`.
const PREFIX_VARIABLE: &str = "PROVOST__PROVOST__SUBJECT_PREFIX";

/// Finds the daemon.
///
/// # Errors
///
/// The configuration has faults, a named context cannot be used, or there is no trace of a daemon.
pub(crate) fn find(
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
    console: &mut Console,
) -> Result<ConnectSettings, Failure> {
    let loaded = load(common, files, environment, console)?;
    let config = &loaded.config;
    let mut settings = match (&common.context, &config.nats.target) {
        (Some(name), _) => of_context(name, environment)?,
        (None, NatsTarget::Servers(_)) => match of_running(&loaded) {
            Some(server) => ConnectSettings::to(server),
            None => of_servers(config)?,
        },
        (None, NatsTarget::Embedded) => of_address_files(common, config, environment)?,
    };
    CLIENT.clone_into(&mut settings.name);
    settings.prefix = config.provost.subject_prefix.clone();
    if let Some(timeout) = common.timeout {
        settings.timeout = settings.timeout.min(timeout);
    }
    Ok(settings)
}

/// State folders in which the daemon's files may be; none where an address says that the daemon may
/// be elsewhere.
///
/// # Errors
///
/// The configuration has faults.
pub(crate) fn state_dirs(
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
    console: &mut Console,
) -> Result<Vec<PathBuf>, Failure> {
    if common.state_dir.is_none() && (common.nats_url.is_some() || common.context.is_some()) {
        return Ok(Vec::new());
    }
    let loaded = load(common, files, environment, console)?;
    let configured = loaded.config.provost.state_dir;
    let is_embedded = matches!(loaded.config.nats.target, NatsTarget::Embedded);
    let users = environment.state_dir().filter(|users| is_embedded && *users != configured);
    let users = users.filter(|_| common.state_dir.is_none());
    Ok([configured].into_iter().chain(users).collect())
}

/// The overrides that flags are.
pub(crate) fn overrides(common: &Common) -> Overrides {
    Overrides {
        state_dir: common.state_dir.clone(),
        nats_url: common.nats_url.clone(),
        ..Overrides::default()
    }
}

/// The environment with what flags say through it.
pub(crate) fn environment_of(common: &Common, environment: &Environment) -> Environment {
    let prefix = common.prefix.as_ref().map(|prefix| (PREFIX_VARIABLE, prefix.as_str()));
    // A context that is named by a flag goes before the address of the environment.
    let context = common.context.as_deref().map(|name| ("NATS_CONTEXT", name));
    let given = |name: &str| {
        (context.is_some() && matches!(name, "NATS_URL" | "NATS_CONTEXT"))
            || (prefix.is_some() && name == PREFIX_VARIABLE)
    };
    let kept = environment.iter().filter(|(name, _)| !given(name));
    Environment::of(kept.chain(prefix).chain(context))
        .with_current_dir(environment.current_dir())
        .with_host(environment.host())
}

fn load(
    common: &Common,
    files: &[PathBuf],
    environment: &Environment,
    console: &mut Console,
) -> Result<Loaded, Failure> {
    // A context is read below; here it would only add to what the files say.
    let without_context = Common { context: None, ..common.clone() };
    let sources = |files: Vec<PathBuf>| Sources {
        files,
        environment: environment_of(&without_context, environment),
        overrides: overrides(common),
    };
    if !files.is_empty() {
        return Config::load(sources(files.to_vec())).map_err(|faults| invalid(&faults));
    }
    let found = crate::config::default_files(environment);
    let faults = match Config::load(sources(found.clone())) {
        Ok(loaded) => return Ok(loaded),
        Err(faults) => faults,
    };
    // Nobody named that file: its faults must not keep us from a daemon that runs.
    let loaded = Config::load(sources(Vec::new())).ok().ok_or_else(|| invalid(&faults))?;
    let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    console.warn(&format!(
        "{} has faults and was left out when looking for the daemon; \
         provost config validate tells them",
        names.join(", ")
    ));
    Ok(loaded)
}

/// The faults of a configuration as a failure.
pub(crate) fn invalid(faults: &Faults) -> Failure {
    let count = faults.count();
    let plural = if count == 1 { "fault" } else { "faults" };
    let message = format!("{count} {plural} in the configuration");
    let next = "correct them; provost config validate checks again";
    let failure = Failure::new(Fault::ConfigInvalid, message, next);
    faults.list().iter().fold(failure, |failure, fault| failure.because(fault.to_string()))
}

/// The embedded server that lives on the state folder, although the files name another by now: the
/// daemon that runs was started before they were changed. What a flag or the environment names is
/// meant.
fn of_running(loaded: &Loaded) -> Option<ServerUrl> {
    let by_file = |key: &str| matches!(loaded.origins.of(key), Place::File(_));
    if !by_file("nats.url") && !by_file("nats.urls") {
        return None;
    }
    let folder = &loaded.config.provost.state_dir;
    let Ok(Some((address, server))) = read_address(folder) else { return None };
    let name = std::fs::read_to_string(format!("/proc/{}/comm", address.pid));
    let lives = name.is_ok_and(|name| name.trim().starts_with("nats-server"));
    lives.then_some(server)
}

fn of_context(name: &str, environment: &Environment) -> Result<ConnectSettings, Failure> {
    let unusable = || {
        let next = "`nats context ls` shows the contexts there are";
        Failure::new(
            Fault::AddressUnreadable,
            format!("NATS context {name:?} cannot be used"),
            next,
        )
    };
    let home = environment.config_home();
    let folder = home.map(|home| home.join("nats"));
    let folder =
        folder.ok_or_else(|| unusable().because("neither XDG_CONFIG_HOME nor HOME is set"))?;
    contexts::load(&folder, Some(name)).map_err(|error| unusable().caused_by(&error))
}

fn of_servers(config: &Config) -> Result<ConnectSettings, Failure> {
    let settings = ConnectSettings::of(config).map_err(|error| {
        Failure::new(Fault::Usage, "the address of the NATS server cannot be read", "correct it")
            .caused_by(&error)
    })?;
    // A command asks once: it does not wait for a server to come back.
    let ConnectSettings { name, prefix, max_reconnect, .. } = ConnectSettings::default();
    Ok(ConnectSettings { name, prefix, max_reconnect, ..settings })
}

/// Looks into the configured state folder, then, if no flag named it, into the user's.
fn of_address_files(
    common: &Common,
    config: &Config,
    environment: &Environment,
) -> Result<ConnectSettings, Failure> {
    let mut folders = vec![config.provost.state_dir.clone()];
    if common.state_dir.is_none() {
        let users = environment.state_dir();
        folders.extend(users.filter(|users| *users != config.provost.state_dir));
    }
    for folder in &folders {
        if let Some(server) = address_in(folder)? {
            return Ok(ConnectSettings::to(server));
        }
    }
    let next = "start one with `provost up -f FILE`, or say where it is with --state-dir or \
                --nats-url";
    let failure = Failure::new(Fault::DaemonUnreachable, "no daemon was found", next);
    Err(folders.iter().fold(failure, |failure, folder| {
        let path = folder.join(ADDRESS_FILE);
        failure.because(format!("{} does not exist", path.display()))
    }))
}

fn address_in(folder: &Path) -> Result<Option<ServerUrl>, Failure> {
    let read = read_address(folder).map_err(|error| {
        let path = folder.join(ADDRESS_FILE);
        let message = format!("{} cannot be used", path.display());
        let next = "check its permissions, or restart the daemon, which writes it anew";
        Failure::new(Fault::AddressUnreadable, message, next).caused_by(&error)
    })?;
    Ok(read.map(|(_, server)| server))
}
