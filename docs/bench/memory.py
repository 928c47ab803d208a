"""Prints two tables of docs/benchmarks.md: what the memory model predicts for `nano` to `1b`, and which plan a node
would choose for the largest presets on cards and machines of usual sizes.

    python docs/bench/memory.py target/debug/weal

Each figure is one that `weal doctor --suppose "6 GB" --context 1024 --device cpu --json` prints, in the first table for
a folder whose settings.toml fixes the plan. Nothing is measured.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PRECISIONS = ["f32", "bf16"]
# Micro-batch (0 for the whole batch), recompute, states, moments and error feedback.
LONG, SHORT = ("f32", "f32"), ("8bit", "bf16")
PLANS = [(0, "false", "device", LONG), (1, "true", "device", LONG), (1, "true", "host", LONG)]
# GB.
CARDS, MACHINES = (4, 6, 8, 12, 24), (16, 32, 64)
SPARED = (1, "true", "host", SHORT)


def predicted(weal, precision, plan):
    """Bytes on the GPU and in the machine, and items, for each preset."""
    micro_batch, recompute, states, (moments, error_feedback) = plan
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "settings.toml").write_text(
            f'[compute]\nmicro_batch = {micro_batch}\nrecompute = {recompute}\nby_block = false\nstates = "{states}"\n'
            f'precision = "{precision}"\nmoments = "{moments}"\nerror_feedback = "{error_feedback}"\n')
        command = [weal, "doctor", "--suppose", "6 GB", "--context", "1024", "--device", "cpu", "--no-measure", "--json"]
        done = subprocess.run([*command, "--dir", folder], capture_output=True, text=True)
    return {model["name"]: model for model in json.loads(done.stdout)["models"]}


def chosen(weal, card, machine):
    """What the node would do, by preset, on a card and a machine with that many GB."""
    command = [weal, "doctor", "--suppose", f"{card} GB", "--suppose-machine", f"{machine} GB", "--context", "1024",
               "--device", "cpu", "--no-measure", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--dir", folder], capture_output=True, text=True)
    return {model["name"]: model for model in json.loads(done.stdout)["models"]}


def print_choices(weal):
    for card in CARDS:
        for machine in MACHINES:
            models = chosen(weal, card, machine)
            for name in ("medium", "1b"):
                model = models[name]
                need = f"{model['device_bytes'] / 1e9:.1f} and {model['host_bytes'] / 1e9:.1f} GB"
                plan = model["plan"] if model["fits"] else f"does not fit: the least is {need}"
                print(f"| {card} GB | {machine} GB | `{name}` | {plan} | {need if model['fits'] else ''} |")


def main():
    weal = sys.argv[1]
    columns = [predicted(weal, precision, plan) for precision in PRECISIONS for plan in PLANS]
    short = predicted(weal, "f32", SPARED)
    for name in columns[0]:
        gigabytes = [column[name]["device_bytes"] for column in columns]
        gigabytes += [column[name]["host_bytes"] for column in (columns[2], short)]
        print(f"| `{name}` |", " | ".join(f"{bytes / 1e9:.2f}" for bytes in gigabytes), "|")
    largest = short["1b"]
    for item in largest["items"]:
        print(f"1b, f32, spared, states in host, short: {item['what']} ({item['place']}) {item['bytes'] / 1e9:.2f}")
    print_choices(weal)


if __name__ == "__main__":
    main()
