//! The environment, read once at start. No other file of the project reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// What the process was started with: variables, folder, host name.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
    current_dir: PathBuf,
    host: String,
}

impl Environment {
    /// Reads the process's own environment.
    #[must_use]
    pub fn read() -> Self {
        let mut variables = BTreeMap::new();
        let mut unreadable = BTreeSet::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => {
                    variables.insert(name, value);
                }
                Err(_) => {
                    unreadable.insert(name);
                }
            }
        }
        let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { variables, unreadable, current_dir, host }
    }

    /// Builds an environment of the given variables: current folder `/`, host `localhost`.
    #[must_use]
    pub fn of<K: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            variables: variables.collect(),
            unreadable: BTreeSet::new(),
            current_dir: PathBuf::from("/"),
            host: "localhost".to_owned(),
        }
    }

    /// The same with another current folder.
    #[must_use]
    pub fn with_current_dir(mut self, current_dir: impl Into<PathBuf>) -> Self {
        self.current_dir = current_dir.into();
        self
    }

    /// The same with another host name.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Value of a variable, if it is set and not empty.
    #[must_use]
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to something that is not UTF-8.
    #[must_use]
    pub fn is_unreadable(&self, name: &str) -> bool {
        self.unreadable.contains(name)
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Names of the variables that are not UTF-8.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    /// Folder the process was started in.
    #[must_use]
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Folder for state of the user's programs: `$XDG_STATE_HOME/provost`, else
    /// `~/.local/state/provost`.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        let absolute = |path: &&str| Path::new(path).is_absolute();
        if let Some(state) = self.filled("XDG_STATE_HOME").filter(absolute) {
            return Some(Path::new(state).join("provost"));
        }
        self.filled("HOME")
            .filter(absolute)
            .map(|home| Path::new(home).join(".local/state/provost"))
    }

    /// Folder of the user's configuration: `$XDG_CONFIG_HOME`, else `~/.config`.
    #[must_use]
    pub fn config_home(&self) -> Option<PathBuf> {
        let absolute = |path: &&str| Path::new(path).is_absolute();
        if let Some(config) = self.filled("XDG_CONFIG_HOME").filter(absolute) {
            return Some(PathBuf::from(config));
        }
        self.filled("HOME").filter(absolute).map(|home| Path::new(home).join(".config"))
    }

    /// A path made absolute against `base`, with `~/` standing for the home folder.
    #[must_use]
    pub fn absolute(&self, path: &str, base: &Path) -> PathBuf {
        let whole = match (path.strip_prefix("~/"), self.filled("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            (_, _) => PathBuf::from(path),
        };
        let joined = self.current_dir.join(base).join(whole);
        // `.` components would otherwise be shown and stored: `config/./.`.
        joined.components().collect()
    }
}

impl fmt::Debug for Environment {
    /// Names only: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys().collect::<Vec<_>>())
            .field("current_dir", &self.current_dir)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}
