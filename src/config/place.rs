//! Where a value was written. Places order as their layers do: files in order, then environment,
//! then flags.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Where a value comes from.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Place {
    /// Nobody wrote it; the program's own default.
    Default,
    /// A configuration file.
    File(FilePlace),
    /// A NATS context, named by `nats.context` or `NATS_CONTEXT`.
    Context(Arc<PathBuf>),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line, for example `--state-dir`.
    Flag(String),
}

/// A position in a file. The fields order as files were given, then from top to bottom.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FilePlace {
    /// How many files came before this one.
    pub order: usize,
    /// Line from 1; 0 means the file as a whole.
    pub line: usize,
    /// Column from 1, in characters; 0 where there is no line.
    pub column: usize,
    /// The file as it was given.
    pub path: Arc<PathBuf>,
}

impl Place {
    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(place) => Some(place.path.as_path()),
            Self::Context(path) => Some(path.as_path()),
            Self::Default | Self::Environment(_) | Self::Flag(_) => None,
        }
    }

    /// Says it shortly: `file:line`, `env:NAME`, `flag:--name`, `context:file` or `default`.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File(place) if place.line == 0 => place.path.display().to_string(),
            Self::File(place) => format!("{}:{}", place.path.display(), place.line),
            Self::Context(path) => format!("context:{}", path.display()),
            Self::Environment(name) => format!("env:{name}"),
            Self::Flag(name) => format!("flag:{name}"),
        }
    }
}

impl fmt::Display for Place {
    /// As [`Place::short`], with the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(place) if place.line != 0 => {
                write!(f, "{}:{}:{}", place.path.display(), place.line, place.column)
            }
            Self::Default
            | Self::File(_)
            | Self::Context(_)
            | Self::Environment(_)
            | Self::Flag(_) => f.write_str(&self.short()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
