//! TLS of downstreams: rustls with ring, certificates verified against the system's roots or one's
//! own authority, a client certificate where it is configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::adapters::AdapterError;

/// What TLS is made from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSettings {
    /// PEM file of authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate with its chain, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Makes the settings of TLS connections.
///
/// # Errors
///
/// [`AdapterError::File`] and [`AdapterError::Tls`] say which file or setting is wrong.
pub fn client_config(settings: &TlsSettings) -> Result<ClientConfig, AdapterError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| AdapterError::Tls { reason: error.to_string() })?
        .with_root_certificates(roots(settings.ca.as_deref())?);
    match &settings.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates(cert)?;
            let fault =
                |path: &Path, reason: String| AdapterError::File { path: path.to_owned(), reason };
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| fault(key, format!("no private key: {error}")))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| fault(cert, format!("does not fit its key: {error}")))
        }
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, AdapterError> {
    let mut store = RootCertStore::empty();
    let found = match ca {
        Some(path) => certificates(path)?,
        // What cannot be read of the system's is left out; a server that needs it is refused then.
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, refused) = store.add_parsable_certificates(found);
    if let Some(path) = ca.filter(|_| added == 0) {
        let reason = format!("none of its {refused} certificates can be an authority");
        return Err(AdapterError::File { path: path.to_owned(), reason });
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AdapterError> {
    let fault = |reason: String| AdapterError::File { path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(format!("no certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}
