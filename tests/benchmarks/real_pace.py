"""How evenly states come with `--pace real`: their distances in time at a client by bytes, in the middle of a motion.

    python tests/benchmarks/real_pace.py [seconds] [busy processes]

The client holds the arm where it is, by a joint position motion, and takes the time at which each packet has come. It runs
at ordinary priority like the lab; what it reports depends on the machine, and nothing is asserted.
"""

import socket
import struct
import subprocess
import sys
import time

import numpy as np

from robosteer_core.runtime.lab_link import LabLink
from robosteer_sim.fci import wire
from robosteer_sim.fci.versions import V10

HOST, CONTROL = "127.0.0.98", "127.0.0.98:1340"
BUSY = "while True: sum(range(10000))"


class Client:
    """One connection to the robot; states and commands as bytes."""

    def __init__(self) -> None:
        self.tcp = socket.create_connection((HOST, wire.ROBOT_PORT), timeout=10)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(2)
        self._request(V10.commands.CONNECT, struct.pack("<HH", V10.number, self.udp.getsockname()[1]))

    def hold(self, seconds: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Hold the arm for so long: (times of arrival [s], ids of the states, whether the motion was ended by the robot)."""
        self._request(V10.commands.MOVE, V10.move_request.pack(0, 0, *[0.0] * 6, False, *[0.0] * 7))
        command, arrivals, ids, until = np.zeros((), V10.control), [], [], time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            packet, peer = self.udp.recvfrom(4096)
            now = time.perf_counter()
            state = np.frombuffer(packet, V10.state)[0]
            if state["robot_mode"] == wire.Mode.MOVE:
                command["message_id"], command["q_c"] = state["message_id"], state["q_d"]
                self.udp.sendto(command.tobytes(), peer)
                arrivals.append(now)
                ids.append(int(state["message_id"]))
            elif ids:
                return np.array(arrivals), np.array(ids), True
        return np.array(arrivals), np.array(ids), False

    def _request(self, command: int, payload: bytes) -> None:
        self.tcp.sendall(wire.ROBOT_HEADER.pack(command, 1, wire.ROBOT_HEADER.size + len(payload)) + payload)
        self.tcp.recv(64)


def main(seconds: float, busy: int) -> None:
    words = ["sim", "serve", "--host", HOST, "--control", CONTROL, "--pace", "real"]
    server = subprocess.Popen([sys.executable, "-m", "robosteer_core.cli", *words], stdout=subprocess.PIPE, text=True)
    load = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        server.stdout.readline()
        with LabLink(CONTROL, "benchmark") as link:
            before = link.status()
            arrivals, ids, ended = Client().hold(seconds)
            after = link.status()
        # The first states of a motion come at a slow pace of their own, until its client has commanded.
        period_ms = 1e3 * np.diff(arrivals[10:])
        p50, p99, p999 = np.percentile(period_ms, [50, 99, 99.9])
        print(f"{len(period_ms)} states in {arrivals[-1] - arrivals[10]:.2f} s beside {busy} busy processes: period median "
              f"{p50:.3f} ms, p99 {p99:.2f}, p99.9 {p999:.2f}, longest {period_ms.max():.2f}; of {ids[-1] - ids[10]} cycles "
              f"{ids[-1] - ids[10] - len(period_ms)} states not seen, {after['missed_cycles'] - before['missed_cycles']} "
              f"without a command{'; ended by the robot: 20 of them in a row' if ended else ''}")  # fmt: skip
    finally:
        for each in (server, *load):
            each.kill()
            each.wait()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
