//! The address file: how others on this machine find the embedded server.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::transport::embedded_error::{EmbeddedError, file_error};
use crate::transport::files::write_private;
use crate::transport::settings::ServerUrl;

/// Name of the address file in the state folder.
pub const ADDRESS_FILE: &str = "nats.json";

/// What stands in the address file. It holds the password: the file is its owner's alone.
#[derive(Clone, Deserialize, Serialize)]
pub struct AddressFile {
    /// Address with credentials.
    pub url: String,
    /// Process id of the server.
    pub pid: u32,
    /// Version of the server.
    pub server_version: String,
    /// Always true: provost's own server.
    pub embedded: bool,
    /// `default` or `durable`.
    pub durability: String,
}

impl std::fmt::Debug for AddressFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressFile").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Reads the address file of a state folder; `None` when no embedded server was announced there.
///
/// # Errors
///
/// The file exists and cannot be read, or does not hold an address.
pub fn read_address(state_dir: &Path) -> Result<Option<(AddressFile, ServerUrl)>, EmbeddedError> {
    let path = state_dir.join(ADDRESS_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error("read", &path)(error)),
    };
    let address: AddressFile = serde_json::from_slice(&text)
        .map_err(|error| file_error("read", &path)(io::Error::other(error)))?;
    let url = address.url.parse()?;
    Ok(Some((address, url)))
}

/// Writes the address file, readable by its owner only.
pub(crate) fn write_address(state_dir: &Path, address: &AddressFile) -> Result<(), EmbeddedError> {
    let path = state_dir.join(ADDRESS_FILE);
    let text = serde_json::to_vec_pretty(address)
        .map_err(|error| file_error("write", &path)(io::Error::other(error)))?;
    write_private(&path, &text).map_err(file_error("write", &path))
}

/// Removes the address file: nobody shall look for a server that is not there.
pub(crate) fn remove_address(state_dir: &Path) -> Result<(), EmbeddedError> {
    let path = state_dir.join(ADDRESS_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error("remove", &path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
