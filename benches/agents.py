#!/usr/bin/env python3
"""Real processes: kill to replacement, many starts, many kills at once, and idle cost, of provost
beside runit, s6 and supervisord, in one run, with the same service under each.

    cargo build --release
    benches/agents.py [--agents 1000] [--rounds 40] [--provost target/release/provost] [--only NAME]

A peer that is not installed is left out and said so: apt-get install runit s6, pip install supervisor.
The service is a shell that writes its pid into a pipe and then becomes `sleep`: a replacement counts
from the kill to the arrival of its pid, so the start of a shell is in every figure. Before each kill
the service has run for over a second, because runit and s6 hold back one that has not.

Needs Linux, Python 3 and nothing else. Leaves nothing running.
"""

import argparse
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60.0
SETTLE = 1.15


class Reports:
    """The pipe into which every service writes its pid when it begins."""

    def __init__(self, folder):
        self.path = str(folder / "reports")
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.rest = b""

    def next(self, count):
        """Waits for so many pids; gives those that came in time."""
        pids, until = [], time.monotonic() + PATIENCE
        while len(pids) < count and time.monotonic() < until:
            if select.select([self.fd], [], [], 0.5)[0]:
                lines = (self.rest + os.read(self.fd, 65536)).split(b"\n")
                self.rest = lines.pop()
                pids += [int(line) for line in lines]
        return pids

    def command(self):
        return f"echo $$ > {self.path}; exec sleep 100000"


class Supervisor:
    name = ""
    needs = ()
    binary = None

    def __init__(self, folder, reports, count, options):
        self.folder, self.reports, self.count, self.options = folder, reports, count, options
        self.process = None

    @classmethod
    def missing(cls, options):
        return [need for need in cls.needs if not shutil.which(need)]

    def launch(self, argv, **more):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def scan_folder(self, before=""):
        scan = self.folder / "scan"
        for number in range(self.count):
            service = scan / f"w{number}"
            service.mkdir(parents=True)
            run = service / "run"
            run.write_text(f"#!/bin/sh\n{before}{self.reports.command()}\n")
            run.chmod(0o755)
        return scan

    def end_tree(self, pids):
        """For supervisors that leave their services: ends those and their parents."""
        for pid in pids:
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent > 1 and parent != os.getpid() and parent != self.process.pid:
                    os.kill(parent, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass


class Provost(Supervisor):
    name = "provost"

    @classmethod
    def missing(cls, options):
        return [] if Path(options.provost).exists() else [options.provost]

    def start(self):
        memory = 1024 if self.options.sampling else 0
        every = "30s" if self.options.sampling else "24h"
        agents = "".join(f'[[agent]]\nname = "w{n}"\ntype = "w"\n' for n in range(self.count))
        config = self.folder / "provost.toml"
        config.write_text(
            f'[supervision]\nenabled = true\nhealth_check_interval = "{every}"\n'
            f"[agents]\nmax = {max(self.count, 1)}\n"
            f"[agent_types.w]\ncommand = {['sh', '-c', self.reports.command()]}\n"
            f"max_memory_mb = {memory}\n"
            'stop = { grace = "1s" }\n'
            'restart = { intensity = 10000, period = "60s", backoff = { initial = "0s" } }\n' + agents
        )
        environment = dict(os.environ)
        tools = Path(__file__).resolve().parent.parent / ".tools"
        for server in sorted(tools.rglob("nats-server")):
            environment.setdefault("PROVOST_NATS_SERVER", str(server))
        argv = [self.options.provost, "up", "-f", str(config), "--state-dir", str(self.folder / "state")]
        self.launch(argv, env=environment)


class Runit(Supervisor):
    name = "runit"
    needs = ("runsvdir", "runsv")

    def start(self):
        scan = self.scan_folder()
        self.launch(["runsvdir", str(scan)])

    def stop(self):
        # SIGHUP ends runsvdir and all runsv with their services.
        self.process.send_signal(signal.SIGHUP)
        self.process.wait(30)


class S6(Supervisor):
    name = "s6"
    needs = ("s6-svscan", "s6-supervise")

    def start(self):
        # With its readiness protocol: without, it waits for a second whatever the service did.
        scan = self.scan_folder("echo >&3; exec 3>&-; ")
        for service in scan.iterdir():
            (service / "notification-fd").write_text("3\n")
        self.launch(["s6-svscan", "-c", str(max(self.count + 10, 500)), str(scan)])


class Supervisord(Supervisor):
    name = "supervisord"
    needs = ("supervisord",)

    def start(self):
        folder = self.folder
        programs = "".join(
            f"[program:w{n}]\ncommand=sh -c '{self.reports.command()}'\n"
            "autorestart=true\nstartsecs=0\nstartretries=1000000\nstdout_logfile=NONE\nstderr_logfile=NONE\n"
            for n in range(self.count)
        )
        config = folder / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n"
            f"minfds=8192\nuser=root\n{programs}"
        )
        self.launch(["supervisord", "-c", str(config)])


ALL = (Provost, Runit, S6, Supervisord)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


class Trial:
    """One supervisor with so many services, in a folder of its own."""

    def __init__(self, kind, count, options):
        self.folder = Path(tempfile.mkdtemp(prefix=f"agents-{kind.name}-"))
        self.reports = Reports(self.folder)
        self.supervisor = kind(self.folder, self.reports, count, options)
        self.count = count

    def __enter__(self):
        begun = time.monotonic()
        self.supervisor.start()
        self.pids = self.reports.next(self.count)
        self.started = time.monotonic() - begun
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.supervisor.end_tree(self.pids)
        shutil.rmtree(self.folder, ignore_errors=True)


def replacement(kind, options):
    times = []
    with Trial(kind, 1, options) as trial:
        if not trial.pids:
            return f"no start within {PATIENCE:.0f} s: {(trial.folder / 'log').read_text()[-300:]}"
        for _ in range(options.rounds):
            time.sleep(SETTLE)
            begun = time.monotonic()
            os.kill(trial.pids[-1], signal.SIGKILL)
            came = trial.reports.next(1)
            times.append(1e3 * (time.monotonic() - begun))
            if not came:
                return f"no replacement within {PATIENCE:.0f} s"
            trial.pids = came
    return (
        f"kill to replacement, {len(times)} kills: median {statistics.median(times):.2f} ms, "
        f"p99 {percentile(times, 0.99):.2f} ms"
    )


def cpu_of(pids):
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def parts(pid, services):
    """The supervisor's own processes: itself and its children but for services and nats-server."""
    own = [pid]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid and int(entry.name) not in services and b"nats-server" not in argv[0]:
            own.append(int(entry.name))
    return own


def anonymous_mib(pids):
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1])
    return total / 1024


def crowd(kind, options):
    lines = []
    with Trial(kind, options.agents, options) as trial:
        lines.append(f"{len(trial.pids)} of {options.agents} started in {trial.started:.2f} s")
        time.sleep(3)
        own = parts(trial.supervisor.process.pid, set(trial.pids))
        before, begun = cpu_of(own), time.monotonic()
        time.sleep(options.idle)
        share = 100 * (cpu_of(own) - before) / (time.monotonic() - begun)
        lines.append(f"idle {share:.2f} % of a core ({len(own)} processes, {anonymous_mib(own):.1f} MiB anonymous)")
        begun = time.monotonic()
        for pid in trial.pids:
            os.kill(pid, signal.SIGKILL)
        trial.pids = trial.reports.next(len(trial.pids))
        lines.append(f"all killed, {len(trial.pids)} back in {time.monotonic() - begun:.2f} s")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--idle", type=float, default=20, help="seconds of the idle measurement")
    parser.add_argument("--provost", default="target/release/provost")
    parser.add_argument("--only", action="append", help="only this supervisor; may be given again")
    options = parser.parse_args()
    for kind in ALL:
        if options.only and kind.name not in options.only:
            continue
        missing = kind.missing(options)
        if missing:
            print(f"{kind.name}: left out, not installed: {', '.join(missing)}", flush=True)
            continue
        options.sampling = True
        load = os.getloadavg()[0]
        print(f"{kind.name}: {replacement(kind, options)} (load {load:.1f})", flush=True)
        for line in crowd(kind, options):
            print(f"{kind.name}: {line}", flush=True)
        if kind is Provost:
            options.sampling = False
            for line in crowd(kind, options):
                print(f"provost without sampling and health events: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
