//! The keeper's end of the control socket: never blocks, and holds a bounded amount.
//!
//! While more than `OUT_BYTES_HIGH` wait to be sent, no commands are read: then only runs that
//! already live can add answers (one each), and what is not an answer is left out.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::runtimes::keeper::wire::{Decoder, FromKeeper, ToKeeper, encode};

/// Bytes waiting to be sent from which on no more commands are taken.
const OUT_BYTES_HIGH: usize = 1024 * 1024;

/// Most bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// The socket and what waits on either side of it.
#[derive(Debug)]
pub(super) struct Control {
    socket: Option<UnixStream>,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Control {
    /// Takes a connected, non-blocking socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket: Some(socket), decoder: Decoder::default(), out: Vec::new() }
    }

    /// Nobody, who takes everything.
    pub(super) fn nobody() -> Self {
        Self { socket: None, decoder: Decoder::default(), out: Vec::new() }
    }

    /// Queues an answer and sends what can be sent at once.
    pub(super) fn send(&mut self, message: &FromKeeper) {
        if self.socket.is_none() {
            return;
        }
        match encode(message) {
            Ok(bytes) => self.out.extend(bytes),
            Err(error) => eprint(&format!("answer left out: {error}")),
        }
        self.flush();
    }

    /// Like [`Self::send`], for what may be left out when the daemon does not read.
    pub(super) fn send_if_room(&mut self, message: &FromKeeper) {
        if self.takes_commands() {
            self.send(message);
        }
    }

    /// Sends what can be sent without waiting.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while let (Some(socket), Some(rest)) = (&mut self.socket, self.out.get(sent..)) {
            if rest.is_empty() {
                break;
            }
            match socket.write(rest) {
                Ok(count) if count > 0 => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.close(),
            }
        }
        self.out.drain(..sent.min(self.out.len()));
    }

    /// Reads once and gives the whole commands that came. Closes at the end of the stream and at
    /// anything that is no command.
    pub(super) fn read(&mut self) -> Vec<ToKeeper> {
        let mut commands = Vec::new();
        let Some(socket) = &mut self.socket else { return commands };
        let mut chunk = vec![0; READ_BYTES];
        match socket.read(&mut chunk) {
            Ok(count) if count > 0 => self.decoder.push(chunk.get(..count).unwrap_or_default()),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(_) | Err(_) => self.close(),
        }
        loop {
            match self.decoder.pop() {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => return commands,
                Err(error) => {
                    eprint(&format!("control socket closed: {error}"));
                    self.close();
                    return commands;
                }
            }
        }
    }

    fn close(&mut self) {
        self.socket = None;
        self.out.clear();
    }

    /// The socket, while the daemon is there.
    pub(super) fn socket(&self) -> Option<&UnixStream> {
        self.socket.as_ref()
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether commands may be read now.
    pub(super) fn takes_commands(&self) -> bool {
        self.out.len() < OUT_BYTES_HIGH
    }
}

/// Writes a line to the keeper's own log, its standard error. A full disk changes nothing.
pub(super) fn eprint(message: &str) {
    writeln!(std::io::stderr(), "provost keeper {}: {message}", std::process::id()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::keeper::wire::RunId;

    #[test]
    fn a_daemon_that_does_not_read_stops_commands_but_never_the_keeper() {
        let (mine, theirs) = UnixStream::pair().unwrap();
        mine.set_nonblocking(true).unwrap();
        let mut control = Control::new(mine);
        let warning = FromKeeper::Warned { message: "x".repeat(10_000) };
        for _ in 0..1_000 {
            control.send_if_room(&warning);
        }
        assert!(!control.takes_commands());
        assert!(control.out.len() < OUT_BYTES_HIGH + 20_000);

        let answer = FromKeeper::Started { run: RunId(1), pid: 2, start_time: 3 };
        let before = control.out.len();
        control.send(&answer);
        assert!(control.out.len() > before, "answers are always kept");
        drop(theirs);
        control.flush();
        assert!(control.socket().is_none());
        assert!(!control.has_output());
    }

    #[test]
    fn garbage_closes_the_socket() {
        let (mine, mut theirs) = UnixStream::pair().unwrap();
        mine.set_nonblocking(true).unwrap();
        let mut control = Control::new(mine);
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(control.read().is_empty());
        assert!(control.socket().is_none());
    }
}
