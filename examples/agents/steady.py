"""A healthy agent: does a little work every second, and stops when it is asked to."""

import os
import signal
import sys
import time


def stop(_signal, _frame):
    print("asked to stop: goodbye")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
print(f"{os.environ.get('PROVOST_AGENT_NAME', 'steady')} started as process {os.getpid()}")
count = 0
while True:
    count += 1
    print(f"did piece of work {count}")
    time.sleep(1)
