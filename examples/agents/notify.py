"""An agent that speaks sd_notify: says when it is ready, pings its watchdog, says that it stops."""

import os
import signal
import socket
import sys
import time


def notify(text):
    """Sends a state to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(text.encode(), address.replace("@", "\0", 1))


def stop(_signal, _frame):
    notify("STOPPING=1")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
notify("READY=1\nSTATUS=works")
# Half the watchdog's time, as systemd advises.
pause = int(os.environ.get("WATCHDOG_USEC", "2000000")) / 2_000_000
while True:
    notify("WATCHDOG=1")
    time.sleep(pause)
