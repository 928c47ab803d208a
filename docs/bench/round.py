"""Show where the time and bytes of a round go, from the page of a running node.

    cargo run -- testnet --data text.txt --rounds 30 &
    python3 docs/bench/round.py http://127.0.0.1:7780 20

waits until 20 rounds are decided, then prints the mean seconds of each phase and the mean bytes sent per round, by kind.
"""

import json
import sys
import time
import urllib.request


def status(page):
    with urllib.request.urlopen(f"{page}/api/status", timeout=10) as answer:
        return json.load(answer)


def main(page, rounds):
    while True:
        try:
            seen = status(page)
            if len(seen["history"]) >= rounds:
                break
        except OSError:
            pass
        time.sleep(1)
    history = seen["history"][1:]  # the first round begins with the start of the process
    count = len(history)
    print(f"{count} rounds, {sum(r['seconds'] for r in history) / count:.2f} s each")
    for phase in history[0]["phases"]:
        print(f"  {phase:8} {sum(r['phases'][phase] for r in history) / count:.3f} s")
    share = sum(r["phases"]["train"] for r in history) / sum(r["seconds"] for r in history)
    print(f"  training {share:.1%} of the time")
    for kind, traffic in seen["traffic"].items():
        print(f"  {kind:8} {traffic['bytes_sent'] / len(seen['history']):.0f} bytes sent per round")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
