//! Reads agents' log files: the end of one, or what came since a position.

use std::io::SeekFrom;
use std::path::PathBuf;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::protocol::command::{CommandError, ErrorKind, LOG_LINES_MAX, LogLines};

/// Lines given when nobody says how many.
const LINES: u32 = 100;

/// Most bytes of a log given in one answer; an answer must fit into a NATS message.
const BYTES_MAX: u64 = 512 * 1024;

/// Reads the last `lines` lines, or what came after the byte position `after`.
///
/// # Errors
///
/// `invalid_request` when `lines` is out of range, `internal` when the file cannot be read. A file
/// that does not exist yet is empty.
pub async fn read(
    file: PathBuf,
    lines: Option<u32>,
    after: Option<u64>,
) -> Result<LogLines, CommandError> {
    let lines = lines.unwrap_or(LINES);
    if LOG_LINES_MAX < lines {
        return Err(CommandError::new(
            ErrorKind::InvalidRequest,
            format!("lines is {lines}; at most {LOG_LINES_MAX} are allowed"),
            "ask for fewer lines, or follow the log",
        ));
    }
    let failed = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", file.display());
        CommandError::new(ErrorKind::Internal, message, "check the state folder's permissions")
    };
    match File::open(&file).await {
        Ok(open) => read_open(open, lines, after).await.map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(LogLines::default()),
        Err(error) => Err(failed(error)),
    }
}

async fn read_open(mut file: File, lines: u32, after: Option<u64>) -> std::io::Result<LogLines> {
    let length = file.metadata().await?.len();
    let floor = length.saturating_sub(BYTES_MAX);
    // A file shorter than the position was rotated: read it from its beginning.
    let wanted = after.map_or(floor, |after| if length < after { 0 } else { after });
    let begin = wanted.max(floor);
    let lost_bytes = if after.is_some() { begin.saturating_sub(wanted) } else { 0 };
    file.seek(SeekFrom::Start(begin)).await?;
    let mut bytes = Vec::new();
    file.take(length.saturating_sub(begin)).read_to_end(&mut bytes).await?;
    // Only whole lines are given; what is unfinished comes with the next call.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let unfinished = after.is_none() && whole < bytes.len();
    let used = if unfinished { bytes.len() } else { whole };
    let text = String::from_utf8_lossy(bytes.get(..used).unwrap_or_default()).into_owned();
    let mut all: Vec<&str> = text.lines().collect();
    if after.is_none() && 0 < begin && !all.is_empty() {
        all.remove(0);
    }
    let keep = if after.is_some() { all.len() } else { lines as usize };
    let skipped = all.len().saturating_sub(keep);
    let lines = all.into_iter().skip(skipped).map(str::to_owned).collect();
    let next = begin.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
    Ok(LogLines { lines, next, lost_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(content: &str, lines: Option<u32>, after: Option<u64>) -> (Vec<String>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w1.log");
        std::fs::write(&file, content).unwrap();
        let seen = read(file, lines, after).await.unwrap();
        (seen.lines, seen.next)
    }

    #[tokio::test]
    async fn the_last_lines_are_read() {
        assert_eq!(check("a\nb\nc\n", Some(2), None).await, (vec!["b".into(), "c".into()], 6));
        assert_eq!(check("", None, None).await, (vec![], 0));
        assert_eq!(check("no end", None, None).await, (vec!["no end".into()], 6));
    }

    #[tokio::test]
    async fn following_gives_whole_lines_once() {
        assert_eq!(check("a\nb\nc", None, Some(2)).await, (vec!["b".into()], 4));
        assert_eq!(check("a\nb\nc", None, Some(4)).await, (vec![], 4));
    }

    #[tokio::test]
    async fn a_rotated_log_is_read_from_its_beginning() {
        assert_eq!(check("new\n", None, Some(5_000)).await, (vec!["new".into()], 4));
    }

    #[tokio::test]
    async fn a_missing_file_is_empty_and_too_many_lines_are_refused() {
        let missing = PathBuf::from("/nonexistent/w1.log");
        assert_eq!(read(missing.clone(), None, None).await, Ok(LogLines::default()));
        assert!(read(missing, Some(LOG_LINES_MAX + 1), None).await.is_err());
    }
}
