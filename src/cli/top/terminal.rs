//! The terminal: taken over, and given back however the program ends: by its end, by a panic, by a
//! signal, or for a while by Ctrl-Z.

use std::io::{self, BufWriter, Stdout, Write as _};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use data_encoding::BASE64;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};

use crate::cli::failure::{Failure, Fault};

/// Bytes that are gathered before they are written: a whole picture.
const BUFFER_BYTES: usize = 64 * 1024;

/// A terminal that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Tty {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Tty {
    /// Takes the terminal over.
    ///
    /// # Errors
    ///
    /// It does not let itself be taken over.
    pub(crate) fn take() -> Result<Self, Failure> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // The message shall stand on the screen that stays.
            give_back();
            before(info);
        }));
        let out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        let terminal = enter().and_then(|()| Terminal::new(CrosstermBackend::new(out)));
        match terminal {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(failed(&error))
            }
        }
    }

    /// The terminal, for drawing.
    pub(crate) fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<BufWriter<Stdout>>> {
        &mut self.terminal
    }

    /// Gives the terminal to the shell, stops, and takes it over again when somebody says `fg`.
    ///
    /// # Errors
    ///
    /// It cannot be taken over again.
    pub(crate) fn suspend(&mut self) -> Result<(), Failure> {
        give_back();
        kill_process(getpid(), Signal::STOP).map_err(|error| failed(&error.into()))?;
        enter().map_err(|error| failed(&error))?;
        self.draw_anew()
    }

    /// Lets the next picture be drawn as a whole. Nothing is asked of the terminal for that: one
    /// that is far away may answer too late.
    ///
    /// # Errors
    ///
    /// The terminal cannot be written.
    pub(crate) fn draw_anew(&mut self) -> Result<(), Failure> {
        let size = self.terminal.size().map_err(|error| failed(&error))?;
        let cleared = self.terminal.resize(Rect::new(0, 0, size.width, size.height));
        cleared.map_err(|error| failed(&error))
    }

    /// Puts a text into the clipboard, through the terminal (OSC 52).
    ///
    /// # Errors
    ///
    /// The terminal cannot be written.
    pub(crate) fn copy(&mut self, text: &str) -> Result<(), Failure> {
        let out = self.terminal.backend_mut();
        let written = write!(out, "\u{1b}]52;c;{}\u{7}", BASE64.encode(text.as_bytes()));
        written.and_then(|()| io::Write::flush(out)).map_err(|error| failed(&error))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Puts the terminal back as it was. Where it is gone there is nothing to put back.
fn give_back() {
    execute!(io::stdout(), LeaveAlternateScreen, Show).unwrap_or_default();
    disable_raw_mode().unwrap_or_default();
}

/// The terminal does not do its part.
pub(crate) fn failed(error: &io::Error) -> Failure {
    let next = "check the terminal; provost list -w needs none";
    Failure::new(Fault::OutputFailed, "the terminal cannot be used", next).caused_by(error)
}
