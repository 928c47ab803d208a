"""Measure the memory of a whole node on the CPU: rounds with compression, evaluation and saving, before and after
`kill -9`.

    python3 docs/bench/host_memory.py target/debug/weal --preset 1b --context 1024 --memory "17 GB"

Presets with a vocabulary of 32,000 get a tokeniser that joins two bytes, of that size. Prints one line of JSON: the
highest memory of either process, and what the memory model predicts. It needs Linux, Python 3.9 and no packages.
"""

import argparse
import json
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
# What the log must not say after the restart.
LOST = ("is ignored", "starting from zeros", "not the decided ones")
# Presets whose vocabulary is not bytes.
TOKENS = {"medium": 32_000, "1b": 32_000}


def characters():
    """The characters by which byte-level tokenisers write the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def write_tokeniser(path, tokens):
    """Writes a tokenizer.json of that many tokens: an end of text, the bytes, and pairs of them."""
    signs = characters()
    pairs = [(one, two) for one in signs[32:] + signs[:32] for two in signs][: tokens - len(signs) - 1]
    end = "<|endoftext|>"
    names = [end, *signs, *(one + two for one, two in pairs)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = {"id": 0, "content": end, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}
    path.write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "vocab": {name: number for number, name in enumerate(names)},
                  "merges": [f"{one} {two}" for one, two in pairs]},
    }))


class Memory:
    """Samples the memory of a process."""

    def __init__(self, pid):
        self.pid, self.most, self.done = pid, {}, threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def sample(self):
        while not self.done.wait(0.1):
            try:
                text = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            for key, kibibytes in re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB", text, re.MULTILINE):
                self.most[key] = max(self.most.get(key, 0), int(kibibytes) * 1024)


class Node:
    """A node that trains alone."""

    def __init__(self, settings, folder, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.page = f"127.0.0.1:{free.getsockname()[1]}"
        self.weal = settings.weal
        memory = ["--memory", settings.memory] if settings.memory else []
        command = [self.weal, "run", "--dir", folder, "--port", "0", "--no-mdns", "--page", self.page,
                   "--device", "cpu", *memory]
        self.process = subprocess.Popen(["nice", "-n", "10", *map(str, command)], stdout=log, stderr=log)
        self.memory = Memory(self.process.pid)

    def wait(self, rounds, end):
        """Waits until that many rounds are decided, and a loss is measured after one of the last two."""
        while time.monotonic() < end and self.process.poll() is None:
            command = [self.weal, "status", "--json", "--page", self.page]
            found = subprocess.run(command, capture_output=True, text=True)
            status = json.loads(found.stdout) if found.returncode == 0 else None
            history = status and status["history"]
            if history and status["round"]["number"] >= rounds:
                if any(entry.get("heldout_nats_per_byte") for entry in history[-2:]):
                    return history
            time.sleep(1)
        raise TimeoutError(f"{rounds} rounds were not decided")

    def kill(self):
        self.memory.done.set()
        self.process.kill()
        self.process.wait()


def make_run(settings, folder):
    """Writes run.toml and settings.toml."""
    flags = ["--preset", settings.preset]
    if settings.data:
        flags += ["--data", settings.data]
    if settings.preset in TOKENS:
        tokeniser = folder / "tokenizer.json"
        write_tokeniser(tokeniser, TOKENS[settings.preset])
        flags += ["--tokeniser", tokeniser]
    run = folder / "run"
    subprocess.run([settings.weal, "new", "--dir", run, *map(str, flags)], check=True, capture_output=True)
    values = {"steps": settings.steps, "batch": settings.batch, "train_seconds": float(settings.seconds)}
    text = (run / "run.toml").read_text().replace("[model]\n", f"[model]\ncontext = {settings.context}\n", 1)
    for key, value in values.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, (key, count)
    (run / "run.toml").write_text(text)
    (run / "settings.toml").write_text("[evaluation]\nsequences = 2\n" + settings.settings.replace("\\n", "\n"))
    return run


def predicted(log):
    """Bytes in the machine that the node's plan needs, and the plan."""
    plan, number, unit = re.search(r"(micro-batch \d+|whole batches)(.*?): ([\d.]+) (\w+) (?:of .*? )?in the machine",
                                   log).group(1, 3, 4)
    line = next(line for line in log.splitlines() if plan in line and "in the machine" in line)
    return float(number) * UNITS[unit], line[line.index(plan):]


def main():
    arguments = argparse.ArgumentParser(description="Measures the memory of a whole node on the CPU.")
    arguments.add_argument("weal", type=Path)
    arguments.add_argument("--preset", default="medium")
    arguments.add_argument("--context", type=int, default=1024)
    arguments.add_argument("--steps", type=int, default=1)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--memory", help="what the node may take for training")
    arguments.add_argument("--settings", default="", help="more of settings.toml")
    arguments.add_argument("--data", help="text file; by default the built-in generator makes the text")
    arguments.add_argument("--seconds", type=int, default=3600, help="the most that a round may take")
    arguments.add_argument("--keep", type=Path, help="folder to put run and log into; by default a temporary one")
    settings = arguments.parse_args()
    settings.weal = settings.weal.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = settings.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run, found = make_run(settings, folder), []
        rounds = 1
        for name in ("first", "restarted"):
            path, start = folder / f"{name}.log", time.monotonic()
            with open(path, "wb") as log:
                node = Node(settings, run, log)
                try:
                    history = node.wait(rounds, start + 2 * settings.seconds)
                finally:
                    node.kill()
            text = path.read_text(errors="replace")
            assert not any(sign in text for sign in LOST), text
            found.append({"seconds": round(time.monotonic() - start), **node.memory.most, "round": history[-1]})
            rounds = history[-1]["round"] + 2
        need, plan = predicted(text)
        most = {key: max(process[key] for process in found) for key in ("VmHWM", "RssAnon", "RssFile")}
        print(json.dumps({"preset": settings.preset, "context": settings.context, "plan": plan, **most,
                          "predicted": need, "off": need / most["RssAnon"] - 1, "processes": found}))


if __name__ == "__main__":
    main()
