//! Loading: from sources to the checked configuration, or to all faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;

use crate::config::check;
use crate::config::checked::Config;
use crate::config::env::Environment;
use crate::config::fault::{Fault, Faults};
use crate::config::layers::{SWITCHES, layered};
use crate::config::place::Place;
use crate::config::walk::walk;

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files in order; a later one goes before an earlier one.
    pub files: Vec<PathBuf>,
    /// The environment, which goes before files.
    pub environment: Environment,
    /// Flags, which go before everything.
    pub overrides: Overrides,
}

/// Flags of the command line.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Overrides {
    /// `--state-dir`, relative to the current folder.
    pub state_dir: Option<PathBuf>,
    /// `--nats-url`.
    pub nats_url: Option<String>,
    /// `--http`.
    pub http: Option<String>,
    /// `--node`.
    pub node: Option<String>,
}

impl std::fmt::Debug for Overrides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.nats_url.as_deref().map(crate::config::units::without_credentials);
        f.debug_struct("Overrides")
            .field("state_dir", &self.state_dir)
            .field("nats_url", &url)
            .field("http", &self.http)
            .field("node", &self.node)
            .finish()
    }
}

/// Where each key that somebody wrote was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(BTreeMap<String, Place>);

impl Origins {
    /// Where a key was written; [`Place::Default`] if nowhere.
    #[must_use]
    pub fn of(&self, key: &str) -> Place {
        self.0.get(key).cloned().unwrap_or(Place::Default)
    }

    /// All keys somebody wrote.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.0.iter().map(|(key, place)| (key.as_str(), place))
    }
}

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is doubtful, sorted by place.
    pub warnings: Vec<Fault>,
    /// Where each setting was written.
    pub origins: Origins,
    /// The files, as they were given.
    pub files: Vec<PathBuf>,
    /// All that it was read from, to read it again.
    pub sources: Sources,
    shown: Vec<(String, Option<Json>)>,
    switched: Vec<(&'static str, Place, bool)>,
}

/// One key as `config show` lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownKey {
    /// Key, for example `agents.max`.
    pub key: String,
    /// Value, secrets masked; absent if the key has neither value nor default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// Where it was written, as [`Place::short`]; absent if not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// One flag as `provost flags` lists it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FlagState {
    /// Name, for example `ENABLE_SUPERVISION`.
    pub flag: &'static str,
    /// Key that it stands for.
    pub key: String,
    /// Whether it is on.
    pub value: bool,
    /// Where that was said.
    pub origin: String,
}

/// Whether to tell where values were written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShowOrigin {
    /// Tell.
    Yes,
    /// Do not.
    No,
}

impl Config {
    /// Loads a configuration.
    ///
    /// # Errors
    ///
    /// All faults of all sources at once.
    pub fn load(sources: Sources) -> Result<Loaded, Faults> {
        let layers = layered(&sources);
        let (values, walked) = walk(&layers.root);
        let base =
            check::Base { layers: &layers, walked: &walked, environment: &sources.environment };
        let judged = check::judge(&values, base);
        let mut faults = layers.faults;
        faults.extend(walked.faults);
        faults.extend(judged.faults);
        if let Some(faults) = Faults::of(without_echoes(faults, &layers.broken)) {
            return Err(faults);
        }
        let Some(config) = judged.config else {
            // Only a gap in the checks leads here; a start with half a configuration must not.
            let fault = "cannot be built although no fault was found; report this";
            return Err(Faults::only(Fault::new(Place::Default, "", fault)));
        };
        let mut warnings = judged.warnings;
        warnings.sort();
        let origins = Origins(walked.places);
        let shown = with_found(walked.shown, &config);
        let switched = switched(&config, &origins);
        let files = sources.files.clone();
        Ok(Loaded { config, warnings, origins, files, sources, shown, switched })
    }
}

/// Takes out what only echoes a syntax fault: other faults of its line, and things missing from a
/// file that was not understood.
fn without_echoes(faults: Vec<Fault>, broken: &[Place]) -> Vec<Fault> {
    use crate::config::toml_reader::same_line;
    let is_syntax = |fault: &Fault| fault.key.is_empty();
    let slips: Vec<Place> =
        faults.iter().filter(|fault| is_syntax(fault)).map(|fault| fault.place.clone()).collect();
    let of_broken = |fault: &Fault| {
        broken.iter().any(|place| place.file().is_some() && place.file() == fault.place.file())
    };
    let echo = |fault: &Fault| {
        !is_syntax(fault)
            && (slips.iter().any(|slip| same_line(slip, &fault.place))
                || (fault.fault.starts_with("missing") && of_broken(fault)))
    };
    faults.into_iter().filter(|fault| !echo(fault)).collect()
}

/// Puts in what is no fixed default but was found out: node and state folder.
fn with_found(
    mut shown: Vec<(String, Option<Json>)>,
    config: &Config,
) -> Vec<(String, Option<Json>)> {
    for (key, value) in &mut shown {
        match key.as_str() {
            "provost.node" => *value = Some(config.provost.node.as_str().into()),
            "provost.state_dir" => {
                *value = Some(config.provost.state_dir.display().to_string().into());
            }
            _ => {}
        }
    }
    shown
}

fn switched(config: &Config, origins: &Origins) -> Vec<(&'static str, Place, bool)> {
    let on = |section: &str| match section {
        "supervision" => config.supervision.is_enabled(),
        "coordination" => config.coordination.is_enabled(),
        _ => config.routing.is_enabled(),
    };
    let state = |(flag, section): (&'static str, &str)| {
        (flag, origins.of(&format!("{section}.enabled")), on(section))
    };
    SWITCHES.into_iter().map(state).collect()
}

impl Loaded {
    /// Every key of the format with its value, secrets masked, in the order of the format.
    #[must_use]
    pub fn render(&self, origin: ShowOrigin) -> Vec<ShownKey> {
        let key = |(key, value): &(String, Option<Json>)| ShownKey {
            key: key.clone(),
            value: value.clone(),
            origin: match origin {
                ShowOrigin::Yes => Some(self.origins.of(key).short()),
                ShowOrigin::No => None,
            },
        };
        self.shown.iter().map(key).collect()
    }

    /// The flags `ENABLE_*`: what they are and who said so.
    #[must_use]
    pub fn flags(&self) -> Vec<FlagState> {
        let state = |(flag, place, value): &(&'static str, Place, bool)| {
            let section =
                SWITCHES.iter().find(|(name, _)| name == flag).map_or("", |found| found.1);
            FlagState {
                flag,
                key: format!("{section}.enabled"),
                value: *value,
                origin: place.short(),
            }
        };
        self.switched.iter().map(state).collect()
    }
}

/// What `provost config validate` answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Whether the daemon would start.
    pub valid: bool,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Why it would not.
    pub faults: Vec<Fault>,
    /// What is doubtful.
    pub warnings: Vec<Fault>,
}

/// Says what is wrong with files in an environment, without starting anything.
#[must_use]
pub fn validate(files: &[PathBuf], environment: &Environment) -> Report {
    let sources = Sources {
        files: files.to_vec(),
        environment: environment.clone(),
        overrides: Overrides::default(),
    };
    let files = sources.files.clone();
    match Config::load(sources) {
        Ok(loaded) => Report { valid: true, files, faults: Vec::new(), warnings: loaded.warnings },
        Err(faults) => {
            Report { valid: false, files, faults: faults.list().to_vec(), warnings: Vec::new() }
        }
    }
}

/// The file to load when none is named: the first there is of `$PROVOST_CONFIG`,
/// `./provost.toml`, `./config/provost.toml`, the user's and the system's.
#[must_use]
pub fn default_files(environment: &Environment) -> Vec<PathBuf> {
    if let Some(named) = environment.filled("PROVOST_CONFIG") {
        // Named by the user, so it must exist: loading it says if it does not.
        return vec![PathBuf::from(named)];
    }
    let here = environment.current_dir();
    let users = environment.config_home().map(|home| home.join("provost/provost.toml"));
    let places = [here.join("provost.toml"), here.join("config/provost.toml")];
    let system = PathBuf::from("/etc/provost/provost.toml");
    places
        .into_iter()
        .chain(users)
        .chain([system])
        .find(|path| path.is_file())
        .into_iter()
        .collect()
}
