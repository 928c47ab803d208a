"""Draw the results of `sparse.py`: loss by round, and loss against bytes.

    venv/bin/python docs/bench/plot.py docs/bench/results.jsonl docs/bench

writes `loss.svg` (curves, with the spread over seeds) and `pareto.svg`, and prints the table of
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
COLOURS = dict(zip(NAMES, plt.get_cmap("tab20").colors))


def runs_of(path):
    """(name, peers, rounds) -> runs; names of runs on the generator's text begin with `gen-`."""
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
    def place(item):
        (name, peers, rounds), found = item
        return name.startswith("gen-"), peers, rounds, spread_of(found)[0]

    for (name, peers, rounds), found in sorted(runs.items(), key=place):
        text = ", generator's text" if name.startswith("gen-") else ""
        mean, least, most = spread_of(found)
        bits = found[0]["bits_a_parameter"]
        smaller = f"{32 / bits:.0f}" if bits else ""
        print(f"| {NAMES[name.removeprefix('gen-')]}{text} | {peers} | {rounds} | {smaller} | {len(found)} | {mean:.3f} | {least:.3f} to {most:.3f} |")


def spread_of(found):
    return spread([run["final"] for run in found])


def draw_curves(runs, folder):
    figure, panels = plt.subplots(1, 2, figsize=(13, 5))
    for axes, (peers, rounds) in zip(panels, [(8, 30), (4, 100)]):
        for name in NAMES:
            found = runs.get((name, peers, rounds))
            if not found:
                continue
            by_round = [spread(losses) for losses in zip(*(run["losses"] for run in found))]
            places = range(1, rounds + 1)
            label = f"{NAMES[name]} ({len(found)})"
            (line,) = axes.plot(places, [mean for mean, _, _ in by_round], label=label, lw=1.2, color=COLOURS[name])
            least, most = [low for _, low, _ in by_round], [high for _, _, high in by_round]
            axes.fill_between(places, least, most, color=line.get_color(), alpha=0.15)
        axes.set(xlabel="round", ylabel="held-out loss, nats a byte", ylim=(1.7, 2.6), xlim=(rounds // 6, rounds))
        axes.set_title(f"{peers} peers; number of seeds in brackets, bands from least to most", fontsize=9)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(folder / "loss.svg", metadata={"Date": None}, bbox_inches="tight")


def draw_pareto(runs, folder):
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    shown = set()
    for axes, rounds in zip(panels, [30, 100]):
        means = []
        for (name, peers, of), found in sorted(runs.items()):
            bits = found[0]["bits_a_parameter"]
            if of != rounds or peers not in (4, 8) or not bits or name.startswith("gen-"):
                continue
            mean, least, most = spread_of(found)
            means.append(mean)
            label = NAMES[name] if name not in shown else None
            shown.add(name)
            axes.errorbar(
                bits, mean, yerr=[[mean - least], [most - mean]], fmt="o" if peers == 8 else "s",
                color=COLOURS[name], ms=5, capsize=2, label=label,
            )  # fmt: skip
        axes.set(xscale="log", xlabel="bits a parameter and round (f32 has 32)", xlim=(0.03, 50))
        axes.set(ylabel=f"held-out loss after {rounds} rounds, nats a byte", ylim=(min(means) - 0.02, min(means) + 0.25))
        axes.set_title("circles: 8 peers; squares: 4 peers; bars from least to most of the seeds", fontsize=9)
        axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(folder / "pareto.svg", metadata={"Date": None}, bbox_inches="tight")


def main():
    source, folder = sys.argv[1], Path(sys.argv[2])
    runs = runs_of(source)
    table(runs)
    draw_curves(runs, folder)
    draw_pareto(runs, folder)


if __name__ == "__main__":
    main()
