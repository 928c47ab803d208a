"""Prints the table of docs/benchmarks.md that goes from `nano` to `1b`: what the memory model predicts.

    python docs/bench/memory.py target/debug/weal

Each figure is one that `weal doctor --suppose "6 GB" --context 1024 --device cpu --json` prints for a folder whose
settings.toml fixes the plan. Nothing is measured.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PRECISIONS = ["f32", "bf16"]
# Micro-batch (0 for the whole batch), recompute, states.
PLANS = [(0, "false", "device"), (1, "true", "device"), (1, "true", "host")]


def predicted(weal, precision, plan):
    """Bytes on the GPU and in the machine, and items, for each preset."""
    micro_batch, recompute, states = plan
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "settings.toml").write_text(
            f'[compute]\nmicro_batch = {micro_batch}\nrecompute = {recompute}\nstates = "{states}"\n'
            f'precision = "{precision}"\n')
        command = [weal, "doctor", "--suppose", "6 GB", "--context", "1024", "--device", "cpu", "--no-measure", "--json"]
        done = subprocess.run([*command, "--dir", folder], capture_output=True, text=True)
    return {model["name"]: model for model in json.loads(done.stdout)["models"]}


def main():
    weal = sys.argv[1]
    columns = [predicted(weal, precision, plan) for precision in PRECISIONS for plan in PLANS]
    for name in columns[0]:
        gigabytes = [column[name]["device_bytes"] for column in columns]
        gigabytes += [column[name]["host_bytes"] for column in columns[1:3]]
        print(f"| `{name}` |", " | ".join(f"{bytes / 1e9:.2f}" for bytes in gigabytes), "|")
    largest = columns[-1]["1b"]
    for item in largest["items"]:
        print(f"1b, bf16, spared, states in host: {item['what']} ({item['place']}) {item['bytes'] / 1e9:.2f}")


if __name__ == "__main__":
    main()
