//! The README does what it says: its files are written and its commands are run, in order.
//!
//! A block whose fence names a file (` ```toml provost.toml `) is that file. In ` ```console `
//! blocks a line with `$ ` is a command; the other lines show what it prints and are not compared.
//! Commands of other tools (`make`, `nats`, `cargo`) are not run here.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::eventually_blocking;
use crate::tidy::root;

/// A reader's machine: a folder with the README's files, a home, and `provost` on PATH.
struct Reader {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Reader {
    fn command(&self, line: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_provost")).parent().unwrap();
        let tools = root().join(".tools/bin");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{path}", programs.display(), tools.display());
        let folder = self.folder.path();
        let mut command = Command::new("sh");
        // The shell becomes the command, so that a signal reaches it.
        command.arg("-c").arg(format!("exec {line}")).current_dir(folder).process_group(0);
        command.env("PATH", path).env("HOME", folder).env("XDG_STATE_HOME", folder.join("state"));
        for name in ["NATS_URL", "NATS_CONTEXT", "ENABLE_SUPERVISION", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&mut self, line: &str) {
        if let Some(background) = line.strip_suffix(" &") {
            let log = fs::File::create(self.folder.path().join("up.log")).unwrap();
            let mut command = self.command(background);
            let command = command.stdout(log.try_clone().unwrap()).stderr(log);
            self.daemon = Some(command.spawn().unwrap());
            eventually_blocking("the daemon answers", || {
                let listed = self.command("provost list").output().unwrap();
                listed.status.success().then_some(())
            });
        } else if line.starts_with("provost run ") {
            self.run_until_it_works(line);
        } else {
            let output = self.command(line).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "$ {line}\n{}: {said}", output.status);
        }
    }

    /// Runs a command that goes on by itself until its agent runs, then presses Ctrl-C.
    fn run_until_it_works(&self, line: &str) {
        let path = self.folder.path().join("run.log");
        let log = fs::File::create(&path).unwrap();
        let mut command = self.command(line);
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        eventually_blocking("the agent runs", || {
            let said = fs::read_to_string(&path).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "$ {line}\nended: {said}");
            said.contains("running (pid ").then_some(())
        });
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let status = child.wait().unwrap();
        let said = fs::read_to_string(&path).unwrap();
        assert!(status.success() || status.code() == Some(130), "$ {line}\n{status}: {said}");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Only when a command failed does it still run here.
            kill_process_group(Pid::from_child(&daemon), Signal::TERM).ok();
            drop(daemon.wait());
        }
    }
}

/// Blocks of the README: what stands behind the fence, and the lines.
fn blocks() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(fence), None) => open = Some((fence.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of the README is not closed");
    blocks
}

fn commands() -> Vec<String> {
    let blocks = blocks().into_iter().filter(|(fence, _)| fence == "console");
    let lines = blocks.flat_map(|(_, lines)| lines);
    lines.filter_map(|line| line.strip_prefix("$ ").map(str::to_owned)).collect()
}

#[test]
fn the_commands_of_the_readme_work() {
    let mut reader = Reader { folder: tempfile::tempdir().unwrap(), daemon: None };
    for (fence, lines) in blocks() {
        if let Some((_, name)) = fence.split_once(' ') {
            fs::write(reader.folder.path().join(name), lines.join("\n") + "\n").unwrap();
        }
    }
    let ours: Vec<String> =
        commands().into_iter().filter(|line| line.starts_with("provost ")).collect();
    assert!(ours.len() > 5, "the README has no commands: {ours:?}");
    for line in &ours {
        reader.run(line);
    }
    let daemon = reader.daemon.as_mut().expect("the README starts a daemon");
    let ended = eventually_blocking("the daemon ends", || daemon.try_wait().unwrap());
    assert!(ended.success(), "the daemon ended with {ended}");
}

#[test]
fn what_the_readme_names_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for line in commands() {
        if let Some(target) = line.strip_prefix("make ") {
            assert!(makefile.contains(&format!("\n{target}:")), "no target {target} in Makefile");
        }
    }
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("https://")) {
        let path: PathBuf = root().join(link);
        assert!(path.exists(), "README.md links to {link}, which does not exist");
    }
}
