//! `provost top` on a real terminal, over a real daemon with real agents.
//!
//! `tests/outside/terminal.py` holds the other end of the terminal; what the program draws goes
//! through a terminal emulator, and the tests wait for what then stands on the screen.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::cli::{check_failure, home, typed};
use crate::daemon::{WORKER, with_agents};
use crate::support::daemon::{Daemon, signal};
use crate::support::eventually_blocking;
use crate::tidy::root;

/// Columns and rows of the terminal.
const SIZE: (u16, u16) = (110, 30);

/// A program on a terminal of its own.
struct Terminal {
    holder: Child,
    keys: Option<ChildStdin>,
    screen: Arc<Mutex<vt100::Parser>>,
    told: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `provost top` against the daemon of a state folder.
    fn top(state_dir: &Path, arguments: &[&str]) -> Self {
        let (columns, rows) = SIZE;
        let mut command = Command::new("python3");
        command.arg(root().join("tests/outside/terminal.py"));
        command.args([columns.to_string(), rows.to_string()]);
        command.arg(env!("CARGO_BIN_EXE_provost")).arg("top");
        command.arg("--state-dir").arg(state_dir).args(arguments);
        command.env_clear().env("TERM", "xterm-256color").env("TZ", "UTC").env("HOME", state_dir);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let keys = holder.stdin.take();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (drawn, lines) = (holder.stdout.take().unwrap(), holder.stderr.take().unwrap());
        let (on_screen, by_holder) = (Arc::clone(&screen), Arc::clone(&told));
        let readers = vec![
            std::thread::spawn(move || draw(drawn, &on_screen)),
            std::thread::spawn(move || listen(lines, &by_holder)),
        ];
        Self { holder, keys, screen, told, readers }
    }

    fn keys(&mut self, keys: &[u8]) {
        let holder = self.keys.as_mut().unwrap();
        holder.write_all(keys).unwrap();
        holder.flush().unwrap();
    }

    fn resize(&mut self, columns: u8, rows: u8) {
        self.screen.lock().unwrap().screen_mut().set_size(u16::from(rows), u16::from(columns));
        self.keys(&[0xFF, columns, rows]);
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually_blocking(what, || Some(self.text()).filter(|text| wanted(text)))
        }));
        let told = self.told.lock().unwrap().clone();
        seen.unwrap_or_else(|_| panic!("{what}; told {told:?}; the screen is\n{}", self.text()))
    }

    fn says(&self, text: &str) {
        self.wait(&format!("the screen says {text:?}"), |screen| screen.contains(text));
    }

    /// Waits for a line of the screen that has all these texts.
    fn line_says(&self, texts: &[&str]) {
        let has = |line: &str| texts.iter().all(|text| line.contains(text));
        let what = format!("a line says {texts:?}");
        self.wait(&what, |screen| screen.lines().any(has));
    }

    /// Waits for a line that the holder tells.
    fn told(&self, beginning: &str) -> String {
        eventually_blocking(&format!("{beginning} is told"), || {
            let told = self.told.lock().unwrap();
            told.iter().find(|line| line.starts_with(beginning)).cloned()
        })
    }

    /// The program's process id.
    fn pid(&self) -> u32 {
        let first = || self.told.lock().unwrap().first().cloned();
        eventually_blocking("the program runs", first).parse().unwrap()
    }

    /// Waits for the end; checks it, and that the terminal is as it was before.
    fn ended(mut self, exit: i32) -> String {
        let expected = format!("ended exit={exit} signal=0 settings=same");
        assert_eq!(self.told("ended"), expected, "{}", self.text());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "the shell's screen is back");
        assert!(!screen.hide_cursor(), "the cursor is back");
        screen.contents()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The holder kills the program when nobody types any more, and ends after it.
        self.keys = None;
        self.holder.wait().unwrap();
    }
}

fn draw(mut drawn: ChildStdout, screen: &Mutex<vt100::Parser>) {
    let mut bytes = [0; 8192];
    while let Ok(count) = drawn.read(&mut bytes)
        && 0 < count
    {
        screen.lock().unwrap().process(&bytes[..count]);
    }
}

fn listen(lines: ChildStderr, told: &Mutex<Vec<String>>) {
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        told.lock().unwrap().push(line);
    }
}

fn two_agents() -> Daemon {
    Daemon::start(&with_agents(WORKER, &["w1", "w2"]))
}

#[test]
fn an_agent_is_killed_through_the_dialog_and_seen_to_come_back() {
    let daemon = two_agents();
    let mut terminal = Terminal::top(&daemon.state_dir(), &[]);
    terminal.line_says(&["w1", "● running"]);
    terminal.line_says(&["w2", "● running"]);
    terminal.keys(b"/w1\r");
    terminal.says("filter \"w1\"");
    terminal.keys(b"G");
    terminal.line_says(&["> ", "w1"]);
    terminal.keys(b"K");
    terminal.line_says(&["$ provost kill w1 --state-dir"]);
    terminal.says("[>Cancel<]");
    terminal.keys(b"\t");
    terminal.says("[>Run<]");
    terminal.keys(b"\r");
    terminal.says("provost kill w1: done");
    terminal.line_says(&["w1", "● running", "1 (1/"]);
    let agent = daemon.agent("w1").unwrap();
    assert_eq!((&agent["generation"], &agent["restarts"]), (&2.into(), &1.into()));
    assert_eq!(daemon.agent("w2").unwrap()["generation"], 1);
    // Why it is so, from the decision that was made.
    terminal.keys(b"\r");
    terminal.says("one_for_one");
    terminal.says("child exited");
    terminal.keys(b"q");
    terminal.ended(0);
}

#[test]
fn a_refusal_is_shown_with_its_next_step() {
    let daemon = two_agents();
    let mut terminal = Terminal::top(&daemon.state_dir(), &["--color", "never"]);
    terminal.line_says(&["w2", "● running"]);
    terminal.keys(b"/w2\r");
    terminal.says("filter \"w2\"");
    terminal.keys(b"G");
    terminal.line_says(&["> ", "w2"]);
    // Gone behind the back of the picture: the dialog is open already.
    terminal.keys(b"R");
    terminal.says("$ provost restart w2");
    assert!(daemon.cli(&["remove", "w2"]).status.success());
    terminal.keys(b"\t");
    terminal.says("[>Run<]");
    terminal.keys(b"\r");
    terminal.says("error[PV");
    terminal.says("next:");
    terminal.keys(b"\r");
    terminal.wait("the box is gone", |screen| !screen.contains("error[PV"));
    terminal.keys(b"q");
    terminal.ended(0);
}

#[test]
fn the_terminal_is_given_back_on_signals_and_for_a_stop() {
    let daemon = two_agents();
    for number in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = Terminal::top(&daemon.state_dir(), &[]);
        terminal.line_says(&["w1", "● running"]);
        signal(terminal.pid(), number);
        terminal.ended(130);
    }
    let mut terminal = Terminal::top(&daemon.state_dir(), &[]);
    terminal.line_says(&["w1", "● running"]);
    terminal.keys(&[0x1A]);
    assert_eq!(terminal.told("stopped"), "stopped settings=same");
    assert!(!terminal.screen.lock().unwrap().screen().alternate_screen());
    signal(terminal.pid(), Signal::CONT);
    terminal.line_says(&["w1", "● running"]);
    terminal.resize(40, 10);
    terminal.says("provost top needs 60x15");
    terminal.resize(80, 24);
    terminal.line_says(&["w1", "● running"]);
    terminal.says("no room for");
    terminal.keys(&[0x03]);
    terminal.ended(130);
}

#[test]
fn a_daemon_that_goes_away_is_told_and_found_again_where_it_then_is() {
    let mut daemon = two_agents();
    let mut terminal = Terminal::top(&daemon.state_dir(), &[]);
    terminal.line_says(&["w1", "● running"]);
    assert!(daemon.terminate().success());
    terminal.says("daemon unreachable since");
    // The last picture stays.
    terminal.line_says(&["w1"]);
    daemon.up();
    terminal.wait("the daemon is back", |screen| {
        !screen.contains("unreachable") && screen.lines().any(|line| line.contains("w1"))
    });
    terminal.keys(b"q");
    terminal.ended(0);
}

#[test]
fn without_a_terminal_or_a_daemon_top_says_what_to_use() {
    let home = home();
    for line in ["top", "top -o json"] {
        let words = ["error[PV0200]: ", "provost list -w"];
        check_failure(&typed(home.path(), line), 2, &words);
    }
    let shown = Terminal::top(home.path(), &[]).ended(5);
    assert!(shown.contains("error[PV0201]"), "{shown}");
}
