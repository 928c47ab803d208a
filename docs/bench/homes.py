"""Homes for the scripts beside this one: network namespaces on one bridge, with shaped lines. Needs root."""

import subprocess
import time


def run(command, check=True):
    quiet = None if check else subprocess.DEVNULL
    return subprocess.run(command.split(), check=check, stderr=quiet)


class Homes:
    """Namespaces `weal0`, `weal1`, … with the addresses 10.77.0.1, 10.77.0.2, …"""

    def __init__(self, count, name="weal", net="10.77.0"):
        self.count, self.name, self.net = count, name, net
        self.bridge = f"{name}br"
        self.clean()
        run(f"ip link add {self.bridge} type bridge")
        run(f"ip addr add {net}.254/24 dev {self.bridge}")
        run(f"ip link set {self.bridge} up")
        # With Docker, bridges do not forward by default.
        run(f"iptables -I FORWARD -i {self.bridge} -o {self.bridge} -j ACCEPT", check=False)
        for home in range(count):
            self._add(home)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clean()

    def _add(self, home):
        name, host = self.namespace(home), self._host(home)
        run(f"ip netns add {name}")
        run(f"ip link add {host} type veth peer name eth0 netns {name}")
        run(f"ip link set {host} master {self.bridge} up")
        run(self.inside(home, f"ip addr add {self.address(home)}/24 dev eth0"))
        run(self.inside(home, "ip link set eth0 up"))
        run(self.inside(home, "ip link set lo up"))

    def shape(self, home, up, down):
        """Limits a home's line, in Mbit/s."""
        # The buffers of a home router: 100 ms.
        run(self.inside(home, f"tc qdisc replace dev eth0 root tbf rate {up}mbit burst 32kb latency 100ms"))
        run(f"tc qdisc replace dev {self._host(home)} root tbf rate {down}mbit burst 256kb latency 100ms")

    def namespace(self, home):
        return f"{self.name}{home}"

    def _host(self, home):
        return f"{self.name}v{home}"

    def address(self, home):
        return f"{self.net}.{home + 1}"

    def inside(self, home, command):
        return f"ip netns exec {self.namespace(home)} {command}"

    def clean(self):
        for home in range(self.count):
            run(f"ip netns del {self.namespace(home)}", check=False)
        run(f"ip link del {self.bridge}", check=False)
        run(f"iptables -D FORWARD -i {self.bridge} -o {self.bridge} -j ACCEPT", check=False)


def wait_until(what, condition, seconds, every=0.2):
    """Returns what `condition` returns, once that is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise TimeoutError(f"{what}: not within {seconds} s")
