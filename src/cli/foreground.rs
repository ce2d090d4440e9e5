//! `provost up` and `provost run`: the daemon in the foreground.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing_subscriber::EnvFilter;

use crate::cli::arguments::{Common, LogFormat, LogSettings, RunArguments, UpArguments};
use crate::cli::config_verbs::warn;
use crate::cli::console::Console;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fault};
use crate::cli::find::{environment_of, invalid, overrides};
use crate::cli::ticker::Ticker;
use crate::config::{
    AgentEntry, AgentType, Config, EnvValue, Environment, Loaded, NatsTarget, Overrides, Patterns,
    Place, Sources, Supervision, Switch,
};
use crate::daemon::{self, Options};
use crate::protocol::id::{AgentTypeName, ChildName, IdError, is_token_char};
use crate::protocol::spec::OnDaemonExit;

/// Variable that says what is logged.
const LOG_VARIABLE: &str = "PROVOST_LOG";

/// What is logged when nobody says so. The NATS client tells on its own of every attempt; what
/// matters of it we say ourselves.
const LOG_DEFAULT: &str = "warn,async_nats=off";

/// Variables of the shell that a program under `provost run` does not get: they are meant for
/// provost itself, or for whoever started it.
const NOT_INHERITED: [&str; 8] = [
    "PROVOST_",
    "NATS_",
    "ENABLE_SUPERVISION",
    "ENABLE_COORDINATION",
    "ENABLE_ADVANCED_ROUTING",
    "NOTIFY_SOCKET",
    "WATCHDOG_",
    "LISTEN_",
];

/// Longest name made from a program, in characters.
const NAME_CHARS_MAX: usize = 40;

/// Starts the daemon and stays until it ends.
///
/// # Errors
///
/// The configuration has faults, or the daemon could not start or ended badly.
pub(crate) fn up(
    console: &mut Console,
    common: &Common,
    arguments: &UpArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let overrides =
        Overrides { node: arguments.node.as_ref().map(ToString::to_string), ..overrides(common) };
    let files = match arguments.config.files.as_slice() {
        [] => crate::config::default_files(environment),
        named => named.to_vec(),
    };
    let environment_used = environment_of(common, environment);
    let sources = Sources { files, environment: environment_used, overrides };
    let loaded = Config::load(sources).map_err(|faults| invalid(&faults))?;
    begin_logging(&arguments.log, environment)?;
    warn(console, &loaded);
    let ticks = if arguments.quiet { Ticks::No } else { Ticks::Yes };
    foreground(console, common, Options::new(loaded, environment.clone()), ticks)
}

/// Supervises one program.
///
/// # Errors
///
/// As [`up`].
pub(crate) fn run(
    console: &mut Console,
    common: &Common,
    arguments: &RunArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let agent_type = type_name(namesake(&arguments.command))?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => agent_name(&agent_type)?,
    };
    let state = StateFolder::choose(common, &name, environment);
    let mut loaded = bare(common, &state, environment)?;
    begin_logging(&arguments.log, environment)?;
    add_program(&mut loaded.config, arguments, (name.clone(), agent_type), environment);
    let at = where_it_is(&loaded.config, common);
    console.note(&format!("provost: supervising {name}; Ctrl-C stops it"));
    console.note(&format!("provost: from another terminal: provost list {at}"));
    foreground(console, common, Options::new(loaded, environment.clone()), Ticks::Yes)
}

/// Whether events are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ticks {
    Yes,
    No,
}

fn foreground(
    console: &mut Console,
    common: &Common,
    mut options: Options,
    ticks: Ticks,
) -> Result<Exit, Failure> {
    let ticker = match ticks {
        Ticks::No => None,
        Ticks::Yes => {
            let started = Ticker::start(common.output, common.color, TimeZone::system());
            let (ticker, observer) = started.map_err(|error| {
                Failure::new(Fault::DaemonFailed, "no thread can be started", "check ulimit -u")
                    .caused_by(&error)
            })?;
            options.observer = Some(observer);
            Some(ticker)
        }
    };
    // The daemon takes the observer with it: after this the ticker comes to its end.
    let ended = daemon::run(options);
    let missed = ticker.map_or(0, Ticker::finish);
    if 0 < missed {
        console.warn(&format!("{missed} events were not shown, because the terminal was too slow"));
    }
    match ended {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(daemon_failed(&error)),
    }
}

/// A failure of the daemon. Its text says what to do; the kind gives the exit code.
fn daemon_failed(error: &daemon::error::DaemonError) -> Failure {
    let next = "the lines above and --log info show more";
    let mut failure = Failure::new(Fault::DaemonFailed, error.to_string(), next);
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    failure.exit = Exit::from(error.kind());
    failure
}

/// Begins to log to standard error. A second call keeps the first one's settings.
fn begin_logging(log: &LogSettings, environment: &Environment) -> Result<(), Failure> {
    let text = log.log.as_deref().or_else(|| environment.filled(LOG_VARIABLE));
    let text = text.unwrap_or(LOG_DEFAULT);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        let next = "use error, warn, info, debug or trace, or a filter such as \
                    info,provost::transport=debug";
        Failure::new(Fault::Usage, format!("log level {text:?} cannot be read"), next)
            .caused_by(&error)
    })?;
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let is_for_people = match log.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let begun =
        if is_for_people { base.with_ansi(false).try_init() } else { base.json().try_init() };
    if begun.is_err() {
        tracing::debug!("logging was begun before");
    }
    Ok(())
}

/// The state folder of `provost run`: the one that was named, or one of its own that is removed
/// with it.
#[derive(Debug)]
struct StateFolder {
    path: PathBuf,
    own: bool,
}

impl StateFolder {
    fn choose(common: &Common, name: &ChildName, environment: &Environment) -> Self {
        if let Some(path) = &common.state_dir {
            return Self { path: path.clone(), own: false };
        }
        let home = environment.state_dir().unwrap_or_else(|| std::env::temp_dir().join("provost"));
        let folder = format!("{name}-{}", std::process::id());
        Self { path: home.join("run").join(folder), own: true }
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %error, path = %self.path.display(), "state folder stays");
        }
    }
}

/// A configuration without files, supervision on.
fn bare(
    common: &Common,
    state: &StateFolder,
    environment: &Environment,
) -> Result<Loaded, Failure> {
    let sources = Sources {
        files: Vec::new(),
        environment: environment_of(common, environment),
        overrides: Overrides {
            state_dir: Some(state.path.clone()),
            http: Some("off".to_owned()),
            ..overrides(common)
        },
    };
    let mut loaded = Config::load(sources).map_err(|faults| invalid(&faults))?;
    // Who switches it off in the environment means it.
    let decided = loaded.origins.of("supervision.enabled") != Place::Default;
    if !decided {
        loaded.config.supervision = Switch::Enabled(supervision());
    }
    Ok(loaded)
}

fn supervision() -> Supervision {
    Supervision {
        health_check_interval: Duration::from_secs(30),
        failure_detection_threshold: 3,
        patterns: Switch::Enabled(Patterns::default()),
        severity: Default::default(),
    }
}

/// Declares the program as a type of its own, and one agent of it.
fn add_program(
    config: &mut Config,
    arguments: &RunArguments,
    (name, agent_type): (ChildName, AgentTypeName),
    environment: &Environment,
) {
    let cwd = environment.current_dir().to_owned();
    let mut declared = AgentType::process(arguments.command.clone(), cwd);
    declared.restart = arguments.restart;
    declared.max_memory_mb = None;
    // Nobody would adopt it: the state folder goes with us.
    declared.on_daemon_exit = OnDaemonExit::Stop;
    declared.env = inherited(environment);
    for (name, value) in &arguments.env {
        declared.env.insert(name.clone(), EnvValue { value: value.clone(), secret: true });
    }
    declared.origin = Some("provost run".to_owned());
    config.agent_types.insert(agent_type.clone(), declared);
    config.agents_list.push(AgentEntry::new(name, agent_type));
}

/// The shell's environment. Nobody said what of it is secret, so its values are never shown.
fn inherited(environment: &Environment) -> std::collections::BTreeMap<String, EnvValue> {
    environment
        .iter()
        .filter(|(name, _)| !NOT_INHERITED.iter().any(|start| name.starts_with(start)))
        .map(|(name, value)| (name.to_owned(), EnvValue { value: value.to_owned(), secret: true }))
        .collect()
}

/// Flags by which other verbs find this daemon.
fn where_it_is(config: &Config, common: &Common) -> String {
    let place = match &config.nats.target {
        NatsTarget::Embedded => format!("--state-dir {}", config.provost.state_dir.display()),
        NatsTarget::Servers(servers) => {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            format!("--nats-url {}", servers.join(","))
        }
    };
    match &common.prefix {
        Some(prefix) => format!("{place} --prefix {prefix}"),
        None => place,
    }
}

/// The word of a command line that it is known by: its program, or, when that is an interpreter,
/// its script.
fn namesake(command: &[String]) -> &str {
    const INTERPRETERS: [&str; 9] =
        ["python", "python3", "node", "deno", "bun", "ruby", "perl", "sh", "bash"];
    let program = command.first().map(String::as_str).unwrap_or_default();
    let file = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match command.get(1) {
        Some(script) if INTERPRETERS.contains(&file) && !script.starts_with('-') => {
            let stem = Path::new(script).file_stem().and_then(|stem| stem.to_str());
            stem.unwrap_or(program)
        }
        Some(_) | None => program,
    }
}

/// A type's name from a program's: `./my.agent.sh` gives `my-agent-sh`.
fn type_name(program: &str) -> Result<AgentTypeName, Failure> {
    let file = Path::new(program).file_name().map(|name| name.to_string_lossy());
    let file = file.unwrap_or_default();
    let fits = |found: char| if is_token_char(found) { found } else { '-' };
    let name: String = file.chars().map(fits).take(NAME_CHARS_MAX).collect();
    // A reserved word is no name, and neither is nothing.
    let named = name.trim_matches('-').parse().or_else(|_| "program".parse());
    named.map_err(|error: IdError| no_name(program, &error))
}

/// The agent's name from its type's: `demo` gives `demo-1`.
fn agent_name(agent_type: &AgentTypeName) -> Result<ChildName, Failure> {
    format!("{agent_type}-1").parse().map_err(|error| no_name(agent_type.as_str(), &error))
}

fn no_name(program: &str, error: &IdError) -> Failure {
    Failure::new(
        Fault::Usage,
        format!("no name can be made from {program:?}"),
        "give one with --name",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Arguments;
    use crate::cli::arguments::Verb;
    use clap::Parser as _;

    fn parsed(line: &[&str]) -> (Common, RunArguments) {
        let arguments = Arguments::parse_from(["provost"].iter().chain(line));
        let Some(Verb::Run(run)) = arguments.verb else { panic!("not run") };
        (arguments.common, run)
    }

    fn environment() -> Environment {
        let variables = [
            ("HOME", "/srv/alice"),
            ("PATH", "/bin"),
            ("API_KEY", "s3cret"),
            ("NATS_SOMETHING", "x"),
            ("PROVOST_LOG", "info"),
            ("NOTIFY_SOCKET", "/run/x"),
        ];
        Environment::of(variables).with_current_dir("/srv")
    }

    #[test]
    fn a_script_is_known_by_its_own_name() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(namesake(&words("python3 my_agent.py --fast")), "my_agent");
        assert_eq!(namesake(&words("/usr/bin/node app/server.js")), "server");
        assert_eq!(namesake(&words("python3 -m http.server")), "python3");
        assert_eq!(namesake(&words("sleep 5")), "sleep");
        assert_eq!(namesake(&words("sh")), "sh");
    }

    #[test]
    fn a_name_is_made_from_the_program() {
        let name = |program: &str| type_name(program).unwrap().to_string();
        assert_eq!(name("sleep"), "sleep");
        assert_eq!(name("./my.agent.sh"), "my-agent-sh");
        assert_eq!(name("/usr/bin/python3"), "python3");
        assert_eq!(name("..."), "program");
        assert_eq!(name("events"), "program");
        assert_eq!(name(&"x".repeat(100)).len(), NAME_CHARS_MAX);
        assert_eq!(agent_name(&type_name("sleep").unwrap()).unwrap().as_str(), "sleep-1");
    }

    #[test]
    fn run_builds_one_type_and_one_agent_with_supervision_on() {
        let (common, arguments) =
            parsed(&["run", "--restart", "transient", "--env", "A=b", "--", "worker", "-x"]);
        let environment = environment();
        let name = "worker-1".parse().unwrap();
        let state = StateFolder::choose(&common, &name, &environment);
        let mut loaded = bare(&common, &state, &environment).unwrap();
        let agent_type: AgentTypeName = "worker".parse().unwrap();
        add_program(&mut loaded.config, &arguments, (name, agent_type.clone()), &environment);
        let config = &loaded.config;
        assert!(config.supervision.is_enabled());
        assert_eq!(config.agents_list.len(), 1);
        let declared = &config.agent_types[&agent_type];
        assert_eq!(declared.command, ["worker", "-x"]);
        assert_eq!(declared.cwd, Path::new("/srv"));
        assert_eq!(declared.on_daemon_exit, OnDaemonExit::Stop);
        let names: Vec<&str> = declared.env.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "API_KEY", "HOME", "PATH"]);
        assert!(declared.env.values().all(|value| value.secret));
        let expected =
            format!("/srv/alice/.local/state/provost/run/worker-1-{}", std::process::id());
        assert_eq!(config.provost.state_dir, Path::new(&expected));
        assert_eq!(where_it_is(config, &common), format!("--state-dir {expected}"));
    }

    #[test]
    fn a_switch_in_the_environment_goes_before_the_default_of_run() {
        let (common, _) = parsed(&["run", "x"]);
        let environment = Environment::of([("HOME", "/h"), ("ENABLE_SUPERVISION", "off")]);
        let state = StateFolder { path: "/s".into(), own: false };
        let loaded = bare(&common, &state, &environment).unwrap();
        assert!(!loaded.config.supervision.is_enabled());
    }

    #[test]
    fn a_named_server_is_shown_without_its_password() {
        let (common, _) =
            parsed(&["run", "--nats-url", "nats://u:s3cret@h:4222", "--prefix", "p", "x"]);
        let state = StateFolder { path: "/s".into(), own: false };
        let loaded = bare(&common, &state, &environment()).unwrap();
        assert_eq!(where_it_is(&loaded.config, &common), "--nats-url nats://***@h:4222 --prefix p");
    }

    #[test]
    fn an_own_state_folder_goes_with_the_run_and_a_named_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (own, left) in [(true, false), (false, true)] {
            let path = dir.path().join("state");
            std::fs::create_dir_all(path.join("deep")).unwrap();
            drop(StateFolder { path: path.clone(), own });
            assert_eq!(path.exists(), left);
        }
    }

    #[test]
    fn a_log_level_that_is_none_is_a_usage_failure() {
        let log = LogSettings { log: Some("a=b=c".to_owned()), log_format: LogFormat::Text };
        let failure = begin_logging(&log, &environment()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
