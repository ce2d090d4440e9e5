//! Whether the kernel killed a process because memory was full, where no control group counts that.
//!
//! A death by SIGKILL alone proves nothing. The kernel's log names whom it killed for memory; it is
//! read only when the kernel's own count of such kills has risen since the daemon began, and may not
//! be readable (containers, no root): then the death is told as what it was, a signal.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Longest record of the kernel's log.
const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Records looked at; the log keeps fewer by default.
const RECORDS_MAX: usize = 100_000;

/// The log's clock and the one of processes may be this far apart.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// How often the kernel has killed for memory since boot.
pub(crate) fn kills() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// What the kernel's log says of the kill of this process, which began at `began` (monotonic time).
/// Reads the whole log: not to be called where nothing may wait.
pub(crate) fn evidence(pid: u32, began: Duration) -> Option<String> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
    let mut found = None;
    for _ in 0..RECORDS_MAX {
        match record(&mut log) {
            Record::End => break,
            Record::Overwritten => {}
            Record::Text(text) => found = killed(&text, pid, began).or(found),
        }
    }
    found
}

enum Record {
    Text(String),
    /// It was lost to a newer one while the log was read.
    Overwritten,
    End,
}

fn record(log: &mut File) -> Record {
    let mut bytes = vec![0; RECORD_BYTES_MAX];
    match log.read(&mut bytes) {
        Ok(length) if length > 0 => {
            Record::Text(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into())
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {
            Record::Overwritten
        }
        Ok(_) | Err(_) => Record::End,
    }
}

/// Reads one record: `<priority>,<number>,<microseconds>,<flags>;<text>`.
fn killed(record: &str, pid: u32, began: Duration) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let at = head.split(',').nth(2)?.parse().ok().map(Duration::from_micros)?;
    let text = text.lines().next()?;
    let (cause, rest) = text.split_once("Killed process ")?;
    let same = rest.split_once(' ')?.0.parse() == Ok(pid);
    let cause = cause.trim_end_matches([':', ' ']).to_lowercase();
    let recent = began <= at.saturating_add(CLOCKS_APART);
    (same && recent && cause.contains("out of memory")).then(|| {
        let resident = rest.split_once("anon-rss:").and_then(|(_, rest)| rest.split(',').next());
        let used = resident.map_or(String::new(), |resident| format!("; {resident} resident"));
        format!("killed by the kernel ({cause}){used}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recent_kill_of_that_process_for_memory_counts() {
        let record = "3,426,4973741465,-;Memory cgroup out of memory: Killed process 23172 (tail) \
                      total-vm:64084kB, anon-rss:61184kB, file-rss:1676kB\n SUBSYSTEM=x\n";
        let told = |pid, began| killed(record, pid, Duration::from_secs(began));
        let text = "killed by the kernel (memory cgroup out of memory); 61184kB resident";
        assert_eq!(told(23172, 4900).as_deref(), Some(text));
        assert_eq!(told(2317, 4900), None);
        assert_eq!(told(23172, 5000), None, "an earlier process with that number");
        let other = "3,426,4973741465,-;sysrq: Killed process 23172 (tail)";
        assert_eq!(killed(other, 23172, Duration::ZERO), None);
        assert_eq!(killed("garbage", 1, Duration::ZERO), None);
    }
}
