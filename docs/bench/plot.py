"""Draws what `sparse.py` found: loss by round, and loss against bytes.

    venv/bin/python docs/bench/plot.py docs/bench/results.jsonl docs/bench

writes `loss.svg` (curves of one number of peers, with the spread over seeds) and `pareto.svg`, and prints the table of
docs/benchmarks.md. Each line of the input is one run, as `sparse.py` prints it.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "weal"
import matplotlib.pyplot as plt  # noqa: E402

NAMES = {
    "sync": "AdamW, all batches together",
    "nesterov": "DiLoCo, Nesterov, nothing left out",
    "unquantised": "64, not quantised, mean of senders",
    "covenant": "64, Covenant's quantiser, mean of senders",
    "default": "64, signs, mean of senders, β 0.95",
    "all1": "64, signs, mean of all",
    "all": "64, signs, sum, β 0.9",
    "sumroot": "64, signs, root of senders, β 0.9",
    "unqroot": "64, not quantised, root of senders, β 0.9",
    "k32": "32, signs, mean of senders, β 0.95",
    "k32root": "32, signs, root of senders, β 0.9",
    "k16root": "16, signs, root of senders, β 0.9",
}


def runs_of(path):
    """(name, peers, rounds) -> runs"""
    runs = defaultdict(list)
    for line in Path(path).read_text().splitlines():
        run = json.loads(line)
        name, peers = run["label"].removeprefix("long-").rsplit("-p", 1)
        runs[name, int(peers), len(run["losses"])].append(run)
    return runs


def spread(values):
    return sum(values) / len(values), min(values), max(values)


def table(runs):
    print("| what is sent | peers | rounds | times smaller | seeds | loss | least to most |\n|---|---|---|---|---|---|---|")
    for (name, peers, rounds), found in sorted(runs.items(), key=lambda item: (item[0][1:], spread_of(item[1])[0])):
        mean, least, most = spread_of(found)
        bits = found[0]["bits_a_parameter"]
        smaller = f"{32 / bits:.0f}" if bits else ""
        print(f"| {NAMES[name]} | {peers} | {rounds} | {smaller} | {len(found)} | {mean:.3f} | {least:.3f} to {most:.3f} |")


def spread_of(found):
    return spread([run["final"] for run in found])


def draw_curves(runs, folder, peers=8, rounds=30):
    figure, axes = plt.subplots(figsize=(8, 5))
    for name in NAMES:
        found = runs.get((name, peers, rounds))
        if not found:
            continue
        by_round = [spread(losses) for losses in zip(*(run["losses"] for run in found))]
        places = range(1, rounds + 1)
        (line,) = axes.plot(places, [mean for mean, _, _ in by_round], label=f"{NAMES[name]} ({len(found)})", lw=1.2)
        axes.fill_between(places, [b for _, b, _ in by_round], [c for _, _, c in by_round], color=line.get_color(), alpha=0.15)
    axes.set(xlabel="round", ylabel="held-out loss, nats a byte", ylim=(1.85, 2.6), xlim=(5, rounds))
    axes.set_title(f"{peers} peers, 20 steps a round, tinyshakespeare; number of seeds in brackets, band from least to most")
    axes.title.set_fontsize(9)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    figure.savefig(folder / "loss.svg", metadata={"Date": None}, bbox_inches="tight")


def draw_pareto(runs, folder, rounds=30):
    figure, axes = plt.subplots(figsize=(8, 5))
    for (name, peers, of), found in sorted(runs.items()):
        bits = found[0]["bits_a_parameter"]
        if of != rounds or peers not in (4, 8) or not bits:
            continue
        mean, least, most = spread_of(found)
        colour = "C0" if peers == 8 else "C1"
        axes.errorbar(bits, mean, yerr=[[mean - least], [most - mean]], fmt="o", color=colour, ms=4, capsize=2)
        axes.annotate(NAMES[name], (bits, mean), fontsize=6, xytext=(4, 3), textcoords="offset points")
    axes.plot([], [], "o", color="C0", label="8 peers")
    axes.plot([], [], "o", color="C1", label="4 peers")
    axes.set(xscale="log", xlabel="bits a parameter and round (f32 has 32)", ylabel=f"held-out loss after {rounds} rounds, nats a byte")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(folder / "pareto.svg", metadata={"Date": None}, bbox_inches="tight")


def main():
    source, folder = sys.argv[1], Path(sys.argv[2])
    runs = runs_of(source)
    table(runs)
    draw_curves(runs, folder)
    draw_pareto(runs, folder)


if __name__ == "__main__":
    main()
