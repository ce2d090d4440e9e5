#!/usr/bin/env python3
"""Runs a program on a terminal of its own and passes bytes both ways.

    terminal.py COLUMNS ROWS PROGRAM [ARGUMENT...]

What comes on standard input is typed; what the program draws goes to standard output. The first line
on standard error is its process id; the last one tells how it ended and whether the terminal's
settings are those from before:

    ended exit=0 signal=0 settings=same

The program is stopped and continued like any child: `stopped` is told when it stops. Besides keys,
standard input takes sizes, as the bytes 0xFF COLUMNS ROWS.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios


def resize(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def say(text):
    os.write(2, (text + "\n").encode())


def main():
    columns, rows = int(sys.argv[1]), int(sys.argv[2])
    program = sys.argv[3:]
    # The other end stays open here, so that the settings can be read when the program has gone.
    terminal, other = pty.openpty()
    resize(other, columns, rows)
    before = termios.tcgetattr(other)
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(other, termios.TIOCSCTTY, 0)
        for number in (0, 1, 2):
            os.dup2(other, number)
        os.closerange(3, 64)
        os.execvp(program[0], program)
    say(str(child))
    typed = bytearray()
    inputs = [terminal, 0]
    while True:
        ready, _, _ = select.select(inputs, [], [], 0.05)
        if terminal in ready:
            drawn = os.read(terminal, 65536)
            os.write(1, drawn)
            continue
        if 0 in ready:
            got = os.read(0, 4096)
            if not got:
                inputs.remove(0)
                os.kill(child, signal.SIGKILL)
            typed += got
        while typed:
            if typed[0] == 0xFF:
                if len(typed) < 3:
                    break
                resize(terminal, typed[1], typed[2])
                del typed[:3]
                continue
            end = typed.find(0xFF)
            end = len(typed) if end < 0 else end
            os.write(terminal, bytes(typed[:end]))
            del typed[:end]
        ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if ended and os.WIFSTOPPED(status):
            say("stopped settings=" + same(before, other))
        elif ended:
            break
    while select.select([terminal], [], [], 0)[0]:
        os.write(1, os.read(terminal, 65536))
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    say(f"ended exit={code} signal={number} settings={same(before, other)}")


def same(before, terminal):
    return "same" if termios.tcgetattr(terminal) == before else "other"


main()
