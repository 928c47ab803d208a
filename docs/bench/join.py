#!/usr/bin/env python3
"""Measures how long newcomers take to join a run, and the memory that this takes. Needs root.

join.py target/debug/weal --work /tmp/joining [--preset small] [--start checkpoint|import]
        [--donors 4] [--newcomers 1] [--up 20 --down 200]

`--work` is a folder in which the run is prepared once: by a founder, who leaves when the donors have
everything. So no round is decided any longer, and the donors only serve. With `--start checkpoint`
the run has decided at least 65 rounds, so that newcomers fetch the weights of round 64 and apply
the rounds since. With `--start import` it began with imported weights, and has decided a few rounds.

Every node is a process in a network namespace of its own. Newcomers start at once, with donors that
hold everything; lines are shaped once the donors are ready, unless `--up` is 0. A newcomer has
joined when its page says that it is no longer catching up. Prints for each newcomer the seconds
until then and its peak memory in MB: all, and without pages of files.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from homes import Homes, wait_until

PAGE = 7780
SETTINGS = "[network]\nmdns = false\nupnp = false\n[evaluation]\nevery = 0\n"
CHECKPOINT = 64


class Node:
    """A `weal` process in a home."""

    def __init__(self, program, homes, home, folder, options):
        self.program, self.homes, self.home, self.folder = program, homes, home, folder
        self.options, self.process, self.peaks = options, None, {}

    def weal(self, *arguments):
        command = [self.program, *arguments, "--dir", str(self.folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self, *arguments):
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "settings.toml"
        if not settings.exists():
            settings.write_text(SETTINGS)
        inside = self.homes.inside(self.home, "").split()
        command = [*inside, self.program, *arguments, "--dir", str(self.folder), *self.options]
        log = open(self.folder / "log.txt", "a")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started = time.monotonic()

    def status(self):
        url = f"http://{self.homes.address(self.home)}:{PAGE}/api/status"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return json.load(answer)
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.folder}: the node ended; see log.txt")
            return None

    def decided(self):
        status = self.status()
        history = status["history"] if status else []
        return history[-1]["round"] + 1 if history else 0

    def has_joined(self, rounds):
        status = self.status()
        if not status or status["node"]["state"] in ("starting", "catching_up"):
            return False
        return status["round"]["number"] >= rounds

    def memory(self):
        """Raises the peaks, in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        for name in ("VmHWM", "RssAnon", "RssFile"):
            found = re.search(rf"{name}:\s+(\d+) kB", text)
            if found:
                self.peaks[name] = max(self.peaks.get(name, 0), int(found[1]) * 1024)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def write_run(options, folder):
    """Makes short rounds of the run that `weal new` or `weal import` wrote."""
    file = folder / "run.toml"
    text = file.read_text()
    changes = {
        "steps": 1,
        "batch": 1,
        "train_seconds": options.train,
        "fetch_seconds": 20.0,
        "attest_seconds": 10.0,
        "generator_bytes": 200000,
    }
    for key, value in changes.items():
        text = re.sub(rf"(?m)^#? ?{key} = .*$", f"{key} = {value}", text)
    if "context" not in re.findall(r"(?m)^(\w+) =", text):
        text = re.sub(r"(?m)^\[model\]$", "[model]\ncontext = 32", text)
    file.write_text(text)


def prepare(options, founder, work):
    """Makes a run, and lets its founder decide the rounds that are needed. Returns its link."""
    if options.start == "import":
        source = work / "source"
        command = [options.program, "new", "--preset", options.preset, "--dir", str(source)]
        subprocess.run(command, check=True)
        write_run(options, source)
        maker = Node(options.program, founder.homes, founder.home, source, founder.options)
        maker.start("run", "--rounds", "0")
        try:
            wait_until("weights", maker.status, 3600)
        finally:
            maker.end()
        maker.weal("export", str(work / "model"))
        founder.weal("import", str(work / "model"))
        shutil.rmtree(source)
    else:
        founder.weal("new", "--preset", options.preset)
    write_run(options, founder.folder)
    rounds = CHECKPOINT + 1 if options.start == "checkpoint" else 3
    founder.start("run")
    begun = time.monotonic()
    wait_until(f"{rounds} rounds", lambda: founder.decided() >= rounds, 3600, every=0.5)
    print(f"prepared: {founder.decided()} rounds in {time.monotonic() - begun:.0f} s", flush=True)
    return link_of(founder)


def link_of(node):
    return wait_until("a link", lambda: (node.status() or {}).get("run", {}).get("link"), 600)


def join(newcomers, link, rounds, seconds):
    """Starts newcomers at once. Returns the seconds that each took, with memory sampled meanwhile."""
    for newcomer in newcomers:
        shutil.rmtree(newcomer.folder, ignore_errors=True)
        newcomer.start("join", link, "--rounds", "0")
    took = {}

    def watch(newcomer):
        def joined():
            newcomer.memory()
            return newcomer.has_joined(rounds)

        wait_until("a newcomer", joined, seconds)
        took[newcomer.home] = time.monotonic() - newcomer.started
        newcomer.memory()

    threads = [threading.Thread(target=watch, args=[newcomer]) for newcomer in newcomers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [took[newcomer.home] for newcomer in newcomers if newcomer.home in took]


def bounds(options, parameters, donors):
    """The least seconds that the lines allow, by what limits them."""
    bits, up = parameters * 4 * 8, options.up * 1e6
    # Newcomers pass on what they have; the last one to finish has nobody to send to.
    senders = donors + options.newcomers - 1
    return {
        "a newcomer's downlink": bits / (options.down * 1e6),
        "the donors' uplinks, for one copy": bits / (donors * up),
        "all uplinks, for a copy each": options.newcomers * bits / (senders * up),
    }


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--preset", default="small")
    options.add_argument("--start", choices=["checkpoint", "import"], default="checkpoint")
    options.add_argument("--donors", type=int, default=4, help="nodes that hold the weights")
    options.add_argument("--newcomers", type=int, default=1)
    options.add_argument("--up", type=float, default=20, help="Mbit/s; 0: lines are not shaped")
    options.add_argument("--down", type=float, default=200)
    options.add_argument("--train", type=float, default=15.0, help="most seconds of a round's training")
    options = options.parse_args()
    options.program = str(Path(options.program).resolve())
    work = options.work / f"{options.preset}-{options.start}"
    flags = ["--device", "cpu", "--threads", "1", "--page", f"0.0.0.0:{PAGE}", "--port", "7700"]
    donors, newcomers = max(options.donors, 1), options.newcomers
    with Homes(1 + donors + newcomers, name="wealj", net="10.78.0") as homes:
        nodes = [
            Node(options.program, homes, home, work / f"node{home}", flags)
            for home in range(1 + donors + newcomers)
        ]
        founder, serving, new = nodes[0], nodes[1 : 1 + donors], nodes[1 + donors :]
        for node in new:
            node.folder = work / f"newcomer{node.home}"
        try:
            if not (work / "ready").exists():
                shutil.rmtree(work, ignore_errors=True)
                founder.folder.mkdir(parents=True)
                link = prepare(options, founder, work)
                for donor in serving:
                    donor.start("join", link, "--rounds", "0")
                for donor in serving:
                    wait_until("a donor", lambda: donor.has_joined(founder.decided()), 1800)
                founder.end()
                (work / "ready").touch()
            else:
                for donor in serving:
                    donor.start("run", "--rounds", "0")
            link = link_of(serving[0])
            rounds = max(wait_until("a donor's rounds", donor.decided, 600) for donor in serving)
            for donor in serving:
                wait_until("a donor", lambda: donor.has_joined(rounds), 600)
            parameters = serving[0].status()["run"]["parameters"]
            if options.up:
                for node in (*serving, *new):
                    homes.shape(node.home, options.up, options.down)
            took = join(new, link, rounds, 7200)
            report(options, parameters, donors, took, new)
        finally:
            for node in nodes:
                node.end()


def report(options, parameters, donors, took, newcomers):
    megabytes = parameters * 4 / 1e6
    print(f"{parameters} parameters, {megabytes:.1f} MB; {donors} donors, {options.newcomers} newcomers")
    for seconds, node in zip(took, newcomers):
        peaks = " ".join(f"{name} {bytes / 1e6:.0f}" for name, bytes in node.peaks.items())
        print(f"newcomer {node.home}: {seconds:.1f} s; peaks in MB: {peaks}")
    print(f"slowest {max(took):.1f} s, median {statistics.median(took):.1f} s")
    if options.up:
        found = bounds(options, parameters, donors)
        for name, seconds in found.items():
            print(f"bound by {name}: {seconds:.1f} s")
        bound = max(found.values())
        print(f"allowed: 1.2 × {bound:.1f} + 10 = {1.2 * bound + 10:.1f} s")
    print(f"memory allowed: {megabytes + 256:.0f} MB")


main()
