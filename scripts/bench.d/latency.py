"""Measures how long a single INSERT takes to reach a SUBSCRIBE on another connection, over a view of a million groups.

Both connections speak the wire protocol with messages made beforehand, and nothing is parsed while the clock runs but the
frames, so that what is measured is the server and two hops over loopback. A line gives p50, p99 and maximum in milliseconds:

  seen       from the first byte of the INSERT sent until the new row of its group has been read from the SUBSCRIBE
  answered   from then until the INSERT's own answer has been read

With `synchronous_commit = on` the answer waits for the disk; the cost of one fdatasync of a 4 KiB append there is printed beside.
"""
import argparse
import os
import random
import socket
import struct
import sys
import tempfile
import time

from bench import Server


class Wire:
    """One connection: whole messages out, frames in."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        body = struct.pack("!i", 196608) + b"user\0bench\0database\0bench\0\0"
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.until(b"Z")

    def send(self, data):
        self.socket.sendall(data)

    def frame(self):
        """The next message as (type, body)."""
        while True:
            if len(self.received) >= 5:
                end = 1 + struct.unpack_from("!i", self.received, 1)[0]
                if len(self.received) >= end:
                    kind, body = self.received[:1], self.received[5:end]
                    self.received = self.received[end:]
                    return kind, body
            more = self.socket.recv(65536)
            if not more:
                raise SystemExit("the server closed the connection")
            self.received += more

    def until(self, wanted):
        while True:
            kind, body = self.frame()
            if kind == b"E":
                raise SystemExit(f"the server answered with an error: {body!r}")
            if kind == wanted:
                return body

    def query(self, text):
        self.send(message(b"Q", text.encode() + b"\0"))
        self.until(b"Z")


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


def execution(statement, parameters):
    """Bind of text parameters, Execute and Sync as one write."""
    values = b"".join(struct.pack("!i", len(p)) + p for p in parameters)
    bind = b"\0" + statement + b"\0" + struct.pack("!hh", 0, len(parameters)) + values + struct.pack("!h", 0)
    return message(b"B", bind) + message(b"E", b"\0" + struct.pack("!i", 0)) + message(b"S", b"")


def fields(row):
    """The values of a DataRow."""
    count, at, values = struct.unpack_from("!h", row)[0], 2, []
    for _ in range(count):
        size = struct.unpack_from("!i", row, at)[0]
        at += 4
        values.append(None if size < 0 else row[at:at + size])
        at += max(size, 0)
    return values


def fill(wire, groups, batch):
    wire.query("SET synchronous_commit = off")
    wire.query("CREATE TABLE reading (id bigint PRIMARY KEY, sensor bigint, value bigint)")
    wire.query("CREATE MATERIALIZED VIEW per_sensor AS SELECT sensor, count(*) AS n, sum(value) AS total FROM reading GROUP BY sensor")
    for start in range(0, groups, batch):
        end = min(groups, start + batch) - 1
        wire.query(f"INSERT INTO reading SELECT g, g, 1 FROM generate_series({start}, {end}) AS s(g)")


def measure(port, groups, count, first_id, synchronous):
    writer, reader = Wire(port), Wire(port)
    writer.query(f"SET synchronous_commit = {'on' if synchronous else 'off'}")
    insert = b"\0INSERT INTO reading VALUES ($1, $2, $3)\0" + struct.pack("!h", 0)
    writer.send(message(b"P", b"i" + insert) + message(b"S", b""))
    writer.until(b"Z")
    reader.send(message(b"Q", b"SUBSCRIBE TO per_sensor WITH (SNAPSHOT = false)\0"))
    reader.until(b"T")
    choose = random.Random(20261122)
    work = []
    for index in range(count):
        sensor = str(choose.randrange(groups)).encode()
        work.append((sensor, execution(b"i", [str(first_id + index).encode(), sensor, b"7"])))
    seen, answered = [], []
    clock = time.perf_counter
    for sensor, data in work:
        start = clock()
        writer.send(data)
        # The group's old row leaves and its new row comes: columns mz_timestamp, mz_diff, sensor, ..
        while True:
            values = fields(reader.until(b"D"))
            if values[2] == sensor and values[1] == b"1":
                break
        seen.append(clock() - start)
        writer.until(b"Z")
        answered.append(clock() - start)
    writer.socket.close()
    reader.socket.close()
    return seen, answered


def fdatasync_cost(directory, count=300):
    """Seconds that appending 4 KiB and making it durable takes, `count` times."""
    costs = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(count):
            start = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            costs.append(time.perf_counter() - start)
    return costs


def line(what, costs):
    costs = sorted(costs)
    at = lambda share: costs[min(len(costs) - 1, int(len(costs) * share))] * 1000
    print(f"{what:44} {at(0.5):8.3f} {at(0.99):8.3f} {costs[-1] * 1000:8.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    server = Server(options.workers)
    try:
        start = time.time()
        fill(Wire(server.port), options.groups, 50_000)
        print(f"{options.groups} groups filled in {time.time() - start:.1f} s", file=sys.stderr)
        # Once unmeasured: code and caches warm up.
        measure(server.port, options.groups, 200, 2_000_000_000, False)
        print(f"{'one INSERT, milliseconds':44} {'p50':>8} {'p99':>8} {'max':>8}")
        for synchronous, first_id in [(False, 3_000_000_000), (True, 4_000_000_000)]:
            seen, answered = measure(server.port, options.groups, options.updates, first_id, synchronous)
            setting = "on" if synchronous else "off"
            line(f"synchronous_commit = {setting}, seen", seen)
            line(f"synchronous_commit = {setting}, seen and answered", answered)
        line("one fdatasync of a 4 KiB append", fdatasync_cost(server.directory))
        print(f"server memory at its peak: {server.peak_mib()} MiB", file=sys.stderr)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
