//! Standard output and standard error: data goes to the one, messages to the other.
//!
//! Colours are taken out where there is no terminal, or where `NO_COLOR` or `--color` says so. There
//! is no pager and no prompt. A reader that has gone ends the program quietly.

use std::fmt;
use std::io::{self, Write};
#[cfg(feature = "tui")]
use std::sync::{Arc, Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};

use crate::cli::arguments::ColorWhen;
use crate::cli::failure::{Failure, Report};
use crate::cli::human::one_line;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();

/// Where a verb writes.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    raw: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}

impl Console {
    /// The process's own.
    pub(crate) fn of_process(color: ColorWhen) -> Self {
        let choice = choice(color);
        let out = AutoStream::new(io::stdout(), choice);
        let raw: Box<dyn Write + Send> = match color {
            ColorWhen::Auto | ColorWhen::Always => Box::new(io::stdout()),
            ColorWhen::Never => Box::new(AutoStream::new(io::stdout(), choice)),
        };
        let err = AutoStream::new(io::stderr(), choice);
        Self { out: Box::new(out), raw, err: Box::new(err) }
    }

    /// One that nobody reads.
    #[cfg(feature = "tui")]
    pub(crate) fn muted() -> Self {
        Self { out: Box::new(io::sink()), raw: Box::new(io::sink()), err: Box::new(io::sink()) }
    }

    /// Over any three writers.
    #[cfg(test)]
    pub(crate) fn over(
        out: impl Write + Send + 'static,
        raw: impl Write + Send + 'static,
        err: impl Write + Send + 'static,
    ) -> Self {
        Self { out: Box::new(out), raw: Box::new(raw), err: Box::new(err) }
    }

    /// Writes a line of data.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written; a quiet end if its reader has gone.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(|error| Failure::output(&error))
    }

    /// Writes a line of somebody else's data as it is, colours included, because they are part of
    /// it.
    ///
    /// # Errors
    ///
    /// As [`Self::line`].
    pub(crate) fn raw_line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.raw, "{text}").map_err(|error| Failure::output(&error))
    }

    /// Writes somebody else's bytes as they are.
    ///
    /// # Errors
    ///
    /// As [`Self::line`].
    pub(crate) fn raw_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Sends what was written on its way.
    ///
    /// # Errors
    ///
    /// As [`Self::line`].
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.out.flush().and_then(|()| self.raw.flush());
        flushed.map_err(|error| Failure::output(&error))
    }

    /// Writes a message for people. Where standard error is closed, nobody wants to know.
    pub(crate) fn note(&mut self, text: &str) {
        writeln!(self.err, "{text}").unwrap_or_default();
    }

    /// Writes a warning.
    pub(crate) fn warn(&mut self, text: &str) {
        self.note(&format!("{WARNING}warning{WARNING:#}: {text}"));
    }

    /// Tells a failure: code, message, causes, next step.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if let Some(report) = &failure.report {
            self.report(report);
        }
    }

    fn report(&mut self, report: &Report) {
        let code = &report.code;
        let mut message = report.message.lines();
        let first = one_line(message.next().unwrap_or_default());
        self.note(&format!("{ERROR}error[{code}]{ERROR:#}: {first}"));
        for line in message {
            self.note(&one_line(line));
        }
        for cause in &report.causes {
            for line in cause.lines() {
                self.note(&format!("  {LABEL}cause{LABEL:#}: {}", one_line(line)));
            }
        }
        if !report.next.is_empty() {
            self.note(&format!("  {LABEL}next{LABEL:#}: {}", one_line(&report.next)));
        }
    }
}

/// What consoles wrote, kept instead of shown.
#[cfg(feature = "tui")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Caught(Arc<Mutex<Vec<u8>>>);

#[cfg(feature = "tui")]
impl Caught {
    /// A console that writes here, data and messages in one.
    pub(crate) fn console(&self) -> Console {
        let writer = || Box::new(self.clone());
        Console { out: writer(), raw: writer(), err: writer() }
    }

    /// All that was written, colours taken out.
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        anstream::adapter::strip_str(&String::from_utf8_lossy(&bytes)).to_string()
    }
}

#[cfg(feature = "tui")]
impl Write for Caught {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `--color` means to the library, which knows about terminals and `NO_COLOR`.
fn choice(color: ColorWhen) -> ColorChoice {
    match color {
        ColorWhen::Auto => ColorChoice::Auto,
        ColorWhen::Always => ColorChoice::Always,
        ColorWhen::Never => ColorChoice::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::cli::failure::Fault;
    use crate::cli::testing::console;

    /// A writer whose reader has gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_shows_code_cause_and_next_step() {
        let (mut console, screen) = console();
        let failure = Failure::new(Fault::DaemonUnreachable, "no daemon", "start it")
            .because("nobody answers\nat all");
        console.failure(&failure);
        assert_eq!(
            screen.err(),
            "error[PV0201]: no daemon\n  cause: nobody answers\n  cause: at all\n  next: start it\n"
        );
        assert_eq!(screen.out(), "");
    }

    #[test]
    fn a_quiet_end_says_nothing() {
        let (mut console, screen) = console();
        console.failure(&Failure::quiet(Exit::Interrupted));
        assert_eq!(screen.err(), "");
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let mut console = Console::over(Gone, Gone, Gone);
        assert_eq!(console.line("x"), Err(Failure::quiet(Exit::Done)));
        assert_eq!(console.raw_line("x"), Err(Failure::quiet(Exit::Done)));
        console.note("nobody hears this");
    }
}
