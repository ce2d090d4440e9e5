//! NATS contexts: the files in which the `nats` command line keeps its connections.
//!
//! `<folder>/context.txt` names the selected one, `<folder>/context/<name>.json` holds one. Read
//! for connecting; written for the embedded server, so that `nats --context provost` finds it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::transport::settings::{
    Auth, ClientCertificate, ConnectSettings, JetStreamApi, Secret, ServerUrl, ServerUrlError,
    TlsSettings, TlsUse,
};

/// How a context of ours is recognised, so that nobody else's is overwritten.
const OURS: &str = "provost's embedded server";

/// Reasons a context cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContextError {
    /// No context is selected.
    #[error("no nats context is selected in {}; name one, or run `nats context select`", folder.display())]
    NoneSelected {
        /// Folder of the contexts.
        folder: PathBuf,
    },
    /// The name is not one.
    #[error(
        "nats context {name:?} is not a name; it must not be empty or hold / or start with a dot"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read nats context {}: {said}", path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// What the system said.
        said: String,
    },
    /// The file does not hold a context.
    #[error("nats context {} is not valid: {said}", path.display())]
    NotValid {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        said: String,
    },
    /// It asks for something that we do not do.
    #[error("nats context {} uses {key:?}, which is not supported; give the connection in [nats]", path.display())]
    Unsupported {
        /// File.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// Somebody else's context has our name.
    #[error("nats context {} is not ours and stays as it is", path.display())]
    NotOurs {
        /// File.
        path: PathBuf,
    },
}

/// The file's fields, as the `nats` command line writes them; those it adds later are ignored.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct ContextFile {
    description: String,
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    token: String,
    user: String,
    password: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    nsc: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_jwt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    socks_proxy: String,
    jetstream_domain: String,
    jetstream_api_prefix: String,
    jetstream_event_prefix: String,
    inbox_prefix: String,
    #[serde(skip_serializing_if = "is_false")]
    tls_first: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Reads a context: the one of that name, or the selected one.
///
/// # Errors
///
/// [`ContextError`] names the file and what is wrong with it; secrets are not repeated.
pub fn load(folder: &Path, name: Option<&str>) -> Result<ConnectSettings, ContextError> {
    let name = match name {
        Some(name) => name.to_owned(),
        None => selected(folder)?,
    };
    let path = file_of(folder, &name)?;
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
    let file: ContextFile = serde_json::from_str(&text).map_err(|error| {
        // The parser's text can hold the value; the place is enough.
        let said = format!("line {} column {}", error.line(), error.column());
        ContextError::NotValid { path: path.clone(), said }
    })?;
    settings(&path, file)
}

/// Writes the context of the embedded server, readable by its owner only.
///
/// # Errors
///
/// [`ContextError::NotOurs`] when a context of that name was made by somebody else.
pub fn write_own(folder: &Path, name: &str, server: &ServerUrl) -> Result<PathBuf, ContextError> {
    let path = file_of(folder, name)?;
    if let Ok(text) = std::fs::read_to_string(&path) {
        let ours = serde_json::from_str::<ContextFile>(&text)
            .is_ok_and(|file| file.description.starts_with(OURS));
        if !ours {
            return Err(ContextError::NotOurs { path });
        }
    }
    let (user, password) = match server.auth() {
        Auth::UserPassword { user, password } => (user.clone(), password.reveal().to_owned()),
        Auth::None
        | Auth::Token(_)
        | Auth::NKey(_)
        | Auth::NKeyFile(_)
        | Auth::CredentialsFile(_) => Default::default(),
    };
    let file = ContextFile {
        description: OURS.to_owned(),
        url: server.to_string(),
        user,
        password,
        ..ContextFile::default()
    };
    let text = serde_json::to_vec_pretty(&file)
        .map_err(|error| ContextError::NotValid { path: path.clone(), said: error.to_string() })?;
    crate::transport::files::write_private(&path, &text)
        .map_err(|error| unreadable(&path, &error))?;
    Ok(path)
}

fn unreadable(path: &Path, error: &io::Error) -> ContextError {
    ContextError::Unreadable { path: path.to_owned(), said: error.to_string() }
}

fn selected(folder: &Path) -> Result<String, ContextError> {
    let none = || ContextError::NoneSelected { folder: folder.to_owned() };
    let text = std::fs::read_to_string(folder.join("context.txt")).map_err(|_absent| none())?;
    let name = text.trim();
    if name.is_empty() { Err(none()) } else { Ok(name.to_owned()) }
}

fn file_of(folder: &Path, name: &str) -> Result<PathBuf, ContextError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(ContextError::BadName { name: name.to_owned() });
    }
    Ok(folder.join("context").join(format!("{name}.json")))
}

fn settings(path: &Path, file: ContextFile) -> Result<ConnectSettings, ContextError> {
    let unsupported =
        [("nsc", &file.nsc), ("user_jwt", &file.user_jwt), ("socks_proxy", &file.socks_proxy)];
    if let Some((key, _)) = unsupported.into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(ContextError::Unsupported { path: path.to_owned(), key });
    }
    let not_valid =
        |said: &str| ContextError::NotValid { path: path.to_owned(), said: said.to_owned() };
    let servers = file
        .url
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect::<Result<Vec<ServerUrl>, ServerUrlError>>()
        .map_err(|error| not_valid(&error.to_string()))?;
    if servers.is_empty() {
        return Err(not_valid("it names no url"));
    }
    let given = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let client = match (given(&file.cert), given(&file.key)) {
        (Some(cert), Some(key)) => Some(ClientCertificate { cert, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(not_valid("cert and key must be given together"));
        }
    };
    let wanted = if file.tls_first { TlsUse::First } else { TlsUse::AsServerAsks };
    let tls = TlsSettings { ca: given(&file.ca), client, wanted };
    let jetstream = match (file.jetstream_domain.as_str(), file.jetstream_api_prefix.as_str()) {
        ("", "") => JetStreamApi::Default,
        ("", prefix) => JetStreamApi::Prefix(prefix.to_owned()),
        (domain, _) => JetStreamApi::Domain(domain.to_owned()),
    };
    let inbox_prefix = (!file.inbox_prefix.is_empty()).then(|| file.inbox_prefix.clone());
    let auth = auth(file);
    Ok(ConnectSettings {
        servers,
        auth,
        tls,
        inbox_prefix,
        jetstream,
        ..ConnectSettings::default()
    })
}

/// The order is that of the `nats` command line.
fn auth(file: ContextFile) -> Auth {
    if !file.creds.is_empty() {
        Auth::CredentialsFile(file.creds.into())
    } else if !file.nkey.is_empty() {
        Auth::NKeyFile(file.nkey.into())
    } else if !file.token.is_empty() {
        Auth::Token(Secret::new(file.token))
    } else if file.user.is_empty() {
        Auth::None
    } else if file.password.is_empty() {
        // A user without a password is how the command line takes a token.
        Auth::Token(Secret::new(file.user))
    } else {
        Auth::UserPassword { user: file.user, password: Secret::new(file.password) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(contexts: &[(&str, &str)], selected: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        for (name, text) in contexts {
            std::fs::write(dir.path().join("context").join(format!("{name}.json")), text).unwrap();
        }
        if let Some(name) = selected {
            std::fs::write(dir.path().join("context.txt"), format!("{name}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn a_context_is_read_by_name_or_as_the_selected_one() {
        let text = r#"{"url":"nats://a:4222,nats://b:4222","user":"u","password":"p","ca":"/ca.pem",
            "inbox_prefix":"_INBOX_u","jetstream_domain":"hub","color_scheme":"","tls_first":true}"#;
        let dir = folder(&[("work", text)], Some("work"));
        let settings = load(dir.path(), None).unwrap();
        assert_eq!(settings, load(dir.path(), Some("work")).unwrap());
        assert_eq!(settings.redacted(), "nats://a:4222,nats://b:4222");
        let auth = Auth::UserPassword { user: "u".to_owned(), password: Secret::new("p") };
        assert_eq!(settings.auth, auth);
        assert_eq!(settings.tls.wanted, TlsUse::First);
        assert_eq!(settings.jetstream, JetStreamApi::Domain("hub".to_owned()));
        assert_eq!(settings.inbox_prefix.as_deref(), Some("_INBOX_u"));
    }

    #[test]
    fn what_is_wrong_with_a_context_is_said_without_its_secrets() {
        let contexts = [
            ("broken", r#"{"password": s3cret}"#),
            ("typed", r#"{"url": "nats://a", "password": ["s3cret"]}"#),
            ("empty", "{}"),
            ("half", r#"{"url":"nats://a","cert":"/c.pem"}"#),
            ("nsc", r#"{"url":"nats://a","nsc":"nsc://x"}"#),
            ("ws", r#"{"url":"ws://u:s3cret@a"}"#),
        ];
        let dir = folder(&contexts, None);
        for (name, _) in contexts {
            let error = load(dir.path(), Some(name)).unwrap_err().to_string();
            assert!(error.contains(&format!("{name}.json")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        for name in ["", "../x", ".x", "missing"] {
            assert!(load(dir.path(), Some(name)).is_err(), "{name}");
        }
        assert!(matches!(load(dir.path(), None), Err(ContextError::NoneSelected { .. })));
    }

    #[test]
    fn our_own_context_is_written_again_and_nobody_elses_is() {
        let dir = folder(&[("theirs", r#"{"url":"nats://a"}"#)], None);
        let server: ServerUrl = "nats://u:p@127.0.0.1:4333".parse().unwrap();
        for _ in 0..2 {
            write_own(dir.path(), "provost", &server).unwrap();
        }
        let settings = load(dir.path(), Some("provost")).unwrap();
        assert_eq!(settings.servers[0].address(), server.address());
        assert_eq!(&settings.auth, server.auth());
        let error = write_own(dir.path(), "theirs", &server).unwrap_err();
        assert!(matches!(error, ContextError::NotOurs { .. }));
    }
}
