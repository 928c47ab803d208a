#!/usr/bin/env python3
"""Measures how long a blob takes to reach many peers on home uplinks. Needs root.

swarm.py target/release/examples/swarm [--peers 20] [--authors 1] [--bytes 100000000] [--up 20] [--down 200]

Each peer is a process in a network namespace of its own, whose uplink and downlink (Mbit/s) are
shaped with `tc tbf`. With one author there is one more peer, which has the blob. Prints when the
last peer had everything, and the bound that the uplinks set.
"""

import argparse
import subprocess
import tempfile
import time

from homes import Homes


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--peers", type=int, default=20)
    options.add_argument("--authors", type=int, default=1)
    options.add_argument("--bytes", type=int, default=100_000_000)
    options.add_argument("--up", type=float, default=20)
    options.add_argument("--down", type=float, default=200)
    options = options.parse_args()
    peers = options.peers + (options.authors == 1)
    uplink = options.up * 1e6 / 8
    copies = options.peers if options.authors == 1 else options.authors * (peers - 1)
    bound = max(options.bytes / uplink, copies * options.bytes / (peers * uplink))
    homes = Homes(peers)
    processes = []
    folder = tempfile.TemporaryDirectory()
    try:
        for peer in range(peers):
            homes.shape(peer, options.up, options.down)
        start = int(time.time()) + 15 + peers
        for peer in range(peers):
            arguments = f"{peer} {peers} {options.authors} {options.bytes} {start} {folder.name}"
            command = homes.inside(peer, f"{options.program} {arguments}")
            pipe = subprocess.PIPE
            processes.append(subprocess.Popen(command.split(), stdin=pipe, stdout=pipe, text=True))
        took = [float(process.stdout.readline()) for process in processes]
        for process in processes:
            process.stdin.close()
        sent = [int(process.stdout.readline()) for process in processes]
        print(f"last peer after {max(took):.1f} s; bound {bound:.1f} s; ratio {max(took) / bound:.3f}")
        print(f"first author sent {sent[0] / options.bytes:.2f} copies; all sent {sum(sent) / options.bytes:.1f}")
    finally:
        for process in processes:
            process.kill()
        homes.clean()
        folder.cleanup()


main()
