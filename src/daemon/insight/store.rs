//! Firing alerts and silences in the state folder, so that the next daemon goes on with them.

use std::path::{Path, PathBuf};

use crate::protocol::insight::AlertList;
use crate::transport::files::write_private;

/// The file.
pub const FILE: &str = "alerts.json";

/// Largest file that is read, in bytes; larger ones are no file of ours.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads what is kept. A file that cannot be read is told and counts as empty: alerts whose
/// conditions still hold fire again.
pub async fn read(state_dir: &Path) -> AlertList {
    let path = state_dir.join(FILE);
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let length = std::fs::metadata(&path)?.len();
        if BYTES_MAX < length {
            return Err(std::io::Error::other(format!("it has {length} bytes")));
        }
        let bytes = std::fs::read(&path)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::other)
    });
    match read.await {
        Ok(Ok(list)) => list,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => AlertList::default(),
        Ok(Err(error)) => {
            tracing::warn!(file = shown, %error, "alerts and silences of before are lost");
            AlertList::default()
        }
        Err(error) => {
            tracing::warn!(file = shown, %error, "alerts and silences of before are lost");
            AlertList::default()
        }
    }
}

/// Writes what is to be kept.
///
/// # Errors
///
/// The file cannot be written, in words.
pub async fn write(state_dir: &Path, list: AlertList) -> Result<(), String> {
    let path: PathBuf = state_dir.join(FILE);
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || {
        let bytes = serde_json::to_vec(&list).map_err(std::io::Error::other)?;
        write_private(&path, &bytes)
    });
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot write {shown}: {error}")),
        Err(error) => Err(format!("cannot write {shown}: {error}")),
    }
}
