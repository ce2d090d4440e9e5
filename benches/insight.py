#!/usr/bin/env python3
"""What events, metrics and detectors cost: tasks a second with all of it on and all of it off.

    cargo build --release
    PYTHONPATH=.tools/python benches/insight.py [--tasks 5000] [--rounds 3] [--agents 4]

Each round starts a fresh daemon with its own embedded server, once with supervision (events,
metrics, patterns, alerts, HTTP) and once without, in turns; coordination is on in both. Counted is
from the first submission to the last result; submissions are published as fast as they are
acknowledged. Needs nats-py and a nats-server (`make setup`). Leaves nothing running.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nats

WORKER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["op"] == "task":
        print(json.dumps({"id": message["id"], "attempt": message["attempt"],
                          "state": "completed", "result": None}), flush=True)
    elif message["op"] == "stop":
        break
"""

CONFIG = """
[provost]
http = "{http}"
[supervision]
enabled = {on}
pattern_detection_enabled = {on}
[coordination]
enabled = true
[agents]
max = 100
[agent_types.worker]
runtime = "stdio"
command = ["python3", "-u", "worker.py"]
slots = 32
"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provost", default="target/release/provost")
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agents", type=int, default=4)
    return parser.parse_args()


def write(folder, on, agents):
    (folder / "worker.py").write_text(WORKER)
    text = CONFIG.format(on=str(on).lower(), http="127.0.0.1:0" if on else "off")
    for index in range(agents):
        text += f'[[agent]]\nname = "w{index}"\ntype = "worker"\n'
    (folder / "provost.toml").write_text(text)


def ask(provost, folder, *words):
    command = [provost, *words, "--state-dir", folder / "state", "-o", "json"]
    done = subprocess.run(command, capture_output=True, cwd=folder)
    return json.loads(done.stdout) if done.stdout else None


def ready(provost, folder, agents, daemon):
    until = time.monotonic() + 60
    while time.monotonic() < until and daemon.poll() is None:
        answer = ask(provost, folder, "list") or {}
        running = [agent for agent in answer.get("agents", []) if agent["state"] == "running"]
        if len(running) == agents:
            return
        time.sleep(0.1)
    sys.exit("the daemon did not start: " + (folder / "log").read_text()[-2000:])


async def tasks(url, count):
    client = await nats.connect(url)
    stream = client.jetstream()
    done = asyncio.Event()
    seen = 0

    async def result(_message):
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    await client.subscribe("coordination.results.>", cb=result)
    await client.flush()
    began = time.monotonic()
    for first in range(0, count, 200):
        batch = range(first, min(first + 200, count))
        await asyncio.gather(*(stream.publish("coordination.tasks.x", b'{"input":1}') for _ in batch))
    await asyncio.wait_for(done.wait(), 300)
    took = time.monotonic() - began
    await client.close()
    return count / took


def once(options, on):
    with tempfile.TemporaryDirectory(prefix="provost-insight-") as name:
        folder = Path(name)
        write(folder, on, options.agents)
        log = open(folder / "log", "wb")
        provost = str(Path(options.provost).resolve())
        command = [provost, "up", "-f", folder / "provost.toml", "--state-dir", folder / "state",
                   "--log", "warn"]
        environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        server = Path(".tools/bin/nats-server").resolve()
        if server.exists():
            environment["PROVOST_NATS_SERVER"] = str(server)
        daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            ready(provost, folder, options.agents, daemon)
            url = json.loads((folder / "state/nats.json").read_text())["url"]
            return asyncio.run(tasks(url, options.tasks))
        finally:
            daemon.terminate()
            daemon.wait(30)


def main():
    options = parse()
    rates = {True: [], False: []}
    for round_number in range(options.rounds):
        # In turns, and the first in turn changes, so that a drift of the machine hits both.
        for on in (True, False) if round_number % 2 == 0 else (False, True):
            rates[on].append(once(options, on))
            print(f"{'on ' if on else 'off'}  {rates[on][-1]:8.0f} tasks/s", flush=True)
    on, off = statistics.median(rates[True]), statistics.median(rates[False])
    load = os.getloadavg()[0]
    print(f"median on {on:.0f}, off {off:.0f}: {100 * (1 - on / off):.1f} % (load {load:.1f})")


if __name__ == "__main__":
    main()
