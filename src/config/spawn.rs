//! What a spawn request may add to a declared type, and why an addition is refused.
//!
//! A variable that chooses which code a program runs is as good as a command line of one's own; so it
//! is not covered by `*` or a beginning such as `LD_*`, but only by its whole name.

use std::fmt;
use std::str::FromStr;

use crate::protocol::command::SpawnRequest;

/// Beginning of the names that are provost's own.
pub(crate) const OWN_PREFIX: &str = "PROVOST_";

/// Variables by which provost and the agent talk; no request sets them.
const CHANNELS: [&str; 2] = ["NOTIFY_SOCKET", "WATCHDOG_USEC"];

/// Beginnings of variables that load code or change what is run.
const LOADING_PREFIXES: [&str; 4] = ["LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG"];

/// Variables that load code, change what is run, or lead to another server than the daemon's.
const LOADING: [&str; 33] = [
    "PATH",
    "NATS_URL",
    "SHELL",
    "ENV",
    "BASH_ENV",
    "IFS",
    "SHELLOPTS",
    "BASHOPTS",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONINSPECT",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "RUBYLIB",
    "RUBYOPT",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "LUA_PATH",
    "LUA_CPATH",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "PAGER",
    "EDITOR",
];

/// What requests may add to agents of one type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpawnPermission {
    /// Arguments.
    pub args: Additions,
    /// Which environment variables may be set.
    pub env: Vec<EnvPattern>,
    /// Labels.
    pub labels: Additions,
}

impl Default for SpawnPermission {
    /// Everything but variables that load code.
    fn default() -> Self {
        let (args, labels) = (Additions::Permitted, Additions::Permitted);
        Self { args, env: vec![EnvPattern::Any], labels }
    }
}

/// Whether requests may add something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Additions {
    /// They may.
    Permitted,
    /// They may not.
    Refused,
}

impl From<bool> for Additions {
    fn from(permitted: bool) -> Self {
        if permitted { Self::Permitted } else { Self::Refused }
    }
}

/// Which environment variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnvPattern {
    /// All but those that load code.
    Any,
    /// Those that begin so, but for those that load code.
    Prefix(String),
    /// This one.
    Name(String),
}

/// A text is no pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no name of an environment variable; write it like KEY, APP_* or *")]
pub struct EnvPatternError;

impl FromStr for EnvPattern {
    type Err = EnvPatternError;

    fn from_str(text: &str) -> Result<Self, EnvPatternError> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (fits, prefix, name.is_empty()) {
            (false, _, _) | (true, false, true) => Err(EnvPatternError),
            (true, true, true) => Ok(Self::Any),
            (true, true, false) => Ok(Self::Prefix(name.to_owned())),
            (true, false, false) => Ok(Self::Name(name.to_owned())),
        }
    }
}

impl fmt::Display for EnvPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(start) => write!(f, "{start}*"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why an addition is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpawnRefusal {
    /// The type takes no arguments from requests.
    #[error("agents of this type take no arguments from requests")]
    Args,
    /// The type takes no labels from requests.
    #[error("agents of this type take no labels from requests")]
    Labels,
    /// The type does not take this variable from requests.
    #[error("environment variable {name} may not be set by requests for this type")]
    Env {
        /// The variable.
        name: String,
    },
    /// Nobody but provost sets this variable.
    #[error("environment variable {name} is set by provost itself")]
    Own {
        /// The variable.
        name: String,
    },
    /// The variable chooses which code is run.
    #[error("environment variable {name} decides which code an agent runs or whom it talks to")]
    LoadsCode {
        /// The variable.
        name: String,
    },
}

impl SpawnRefusal {
    /// What whoever may change the configuration can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Args => "leave `args` out, or set `spawn.args = true` for the type",
            Self::Labels => "leave `labels` out, or set `spawn.labels = true` for the type",
            Self::Env { .. } => "leave it out, or list it in `spawn.env` of the type",
            Self::Own { .. } => "leave it out",
            Self::LoadsCode { .. } => {
                "leave it out, set it in `env` of the type, or list its whole name in `spawn.env`"
            }
        }
    }
}

impl SpawnPermission {
    /// Looks at what a request adds.
    ///
    /// # Errors
    ///
    /// [`SpawnRefusal`] names the first addition that is not permitted.
    pub fn check(&self, request: &SpawnRequest) -> Result<(), SpawnRefusal> {
        if self.args == Additions::Refused && !request.args.is_empty() {
            return Err(SpawnRefusal::Args);
        }
        if self.labels == Additions::Refused && !request.labels.is_empty() {
            return Err(SpawnRefusal::Labels);
        }
        request.env.keys().try_for_each(|name| self.check_variable(name))
    }

    fn check_variable(&self, name: &str) -> Result<(), SpawnRefusal> {
        let name_of = || name.to_owned();
        if name.starts_with(OWN_PREFIX) || CHANNELS.contains(&name) {
            return Err(SpawnRefusal::Own { name: name_of() });
        }
        if self.env.contains(&EnvPattern::Name(name_of())) {
            return Ok(());
        }
        if loads_code(name) {
            return Err(SpawnRefusal::LoadsCode { name: name_of() });
        }
        let listed = self.env.iter().any(|pattern| match pattern {
            EnvPattern::Any => true,
            EnvPattern::Prefix(start) => name.starts_with(start),
            EnvPattern::Name(_) => false,
        });
        if listed { Ok(()) } else { Err(SpawnRefusal::Env { name: name_of() }) }
    }
}

/// Whether a variable chooses which code a program runs, or whom it talks to.
pub(crate) fn loads_code(name: &str) -> bool {
    LOADING.contains(&name) || LOADING_PREFIXES.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> SpawnRequest {
        serde_json::from_str(&format!("{{\"agent_type\":\"worker\",{text}}}")).unwrap()
    }

    fn env(patterns: &[&str], name: &str) -> Result<(), SpawnRefusal> {
        let env = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let permission = SpawnPermission { env, ..SpawnPermission::default() };
        permission.check(&request(&format!("\"env\":{{\"{name}\":\"x\"}}")))
    }

    #[test]
    fn a_variable_is_listed_by_name_or_beginning() {
        assert_eq!(env(&["*"], "ANY"), Ok(()));
        assert_eq!(env(&["APP_*", "KEY"], "APP_X"), Ok(()));
        assert_eq!(env(&["APP_*", "KEY"], "KEY"), Ok(()));
        let refused = |name: &str| Err(SpawnRefusal::Env { name: name.into() });
        assert_eq!(env(&["APP_*", "KEY"], "KEY2"), refused("KEY2"));
        assert_eq!(env(&["APP_*"], "APP"), refused("APP"));
        assert_eq!(env(&[], "ANY"), refused("ANY"));
    }

    #[test]
    fn what_loads_code_is_listed_by_its_whole_name_alone() {
        for name in ["PATH", "LD_PRELOAD", "NODE_OPTIONS", "NATS_URL", "BASH_FUNC_x"] {
            let refused = Err(SpawnRefusal::LoadsCode { name: name.into() });
            assert_eq!(env(&["*", "LD_*", "P*", "N*"], name), refused);
        }
        assert_eq!(env(&["PATH"], "PATH"), Ok(()));
    }

    #[test]
    fn what_is_provost_s_own_is_never_set_by_a_request() {
        for name in ["PROVOST_AGENT_ID", "PROVOST_X", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            assert_eq!(env(&["*", name], name), Err(SpawnRefusal::Own { name: name.into() }));
        }
    }

    #[test]
    fn arguments_and_labels_are_permitted_or_not() {
        let (args, labels) = (Additions::Refused, Additions::Refused);
        let closed = SpawnPermission { args, env: vec![], labels };
        assert_eq!(closed.check(&request("\"args\":[\"-v\"]")), Err(SpawnRefusal::Args));
        assert_eq!(closed.check(&request("\"labels\":{\"a\":\"b\"}")), Err(SpawnRefusal::Labels));
        assert_eq!(closed.check(&request("\"args\":[],\"env\":{},\"labels\":{}")), Ok(()));
        let open = SpawnPermission::default();
        assert_eq!(open.check(&request("\"args\":[\"-v\"],\"labels\":{\"a\":\"b\"}")), Ok(()));
    }

    #[test]
    fn a_pattern_is_a_name_with_a_star_at_its_end_at_most() {
        for wrong in ["", "A B", "A*B", "**", "A=", "Ä"] {
            assert_eq!(wrong.parse::<EnvPattern>(), Err(EnvPatternError), "{wrong:?}");
        }
        for text in ["*", "APP_*", "KEY"] {
            assert_eq!(text.parse::<EnvPattern>().unwrap().to_string(), text);
        }
    }
}
