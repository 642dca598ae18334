"""Measures what one change costs each operator, by the number of rows it keeps.

A table of 10^4, 10^5 and 10^6 rows, one view over it at a time. Rows are inserted one by one and deleted again, the next when a
SUBSCRIBE on another connection has seen what the last one changed, so that no two changes share their work. The CPU time is that
of the worker thread, which maintains the table's arrangement too: the line "table" shows that alone. The whole server's, with
statements, log and protocol, is the last column. Prints a table, and writes it with its plot into docs/performance.md and
docs/operators.svg with --write.
"""
import argparse
import math
import os
import random
import struct
import sys
import time

from bench import Server
from latency import Wire, execution, fields, message

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GROUPS = 10
FLAT = 4
MARKS = ("<!-- operators: written by scripts/bench operators --write -->", "<!-- operators: end -->")

# Operator: the view, whether inserted rows lie behind all others by v or anywhere, and whether its line has to be flat.
# Columns: g is one of ten large groups, k one of many small ones, v is unique, at is a time, in sessions of ten rows for each g.
ANYWHERE, LAST = "anywhere", "last"
OPERATORS = {
    "table": ("", ANYWHERE, True),
    "filter": ("SELECT id, v FROM t WHERE v > 0", ANYWHERE, True),
    "inner join": ("SELECT t.id, d.name FROM t JOIN d ON t.k = d.k", ANYWHERE, True),
    "join of three": ("SELECT t.id, d.name, e.name AS other FROM t JOIN d ON t.k = d.k JOIN d AS e ON t.g = e.k", ANYWHERE, True),
    "left join": ("SELECT t.id, d.name FROM t LEFT JOIN d ON t.k = d.k AND d.k % 2 = 0", ANYWHERE, True),
    "semi join": ("SELECT t.id FROM t WHERE EXISTS (SELECT 1 FROM d WHERE d.k = t.k)", ANYWHERE, True),
    "count, sum": ("SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k", ANYWHERE, True),
    "count, sum, ten groups": ("SELECT g, count(*) AS n, sum(v) AS s FROM t GROUP BY g", ANYWHERE, True),
    "min, max": ("SELECT g, min(v) AS a, max(v) AS b FROM t GROUP BY g", LAST, True),
    "distinct": ("SELECT DISTINCT v FROM t", ANYWHERE, True),
    "top 10 a group": ("SELECT id, g, v FROM (SELECT *, row_number() OVER (PARTITION BY g ORDER BY v DESC) AS r FROM t) AS x "
                       "WHERE r <= 10", LAST, True),
    "ORDER BY LIMIT 10": ("SELECT id, v FROM t ORDER BY v DESC LIMIT 10", LAST, True),
    "DISTINCT ON": ("SELECT DISTINCT ON (g) g, id, v FROM t ORDER BY g, v DESC", LAST, True),
    "row_number": ("SELECT id, row_number() OVER (PARTITION BY g ORDER BY v) AS r FROM t", LAST, True),
    "running sum": ("SELECT id, sum(v) OVER (PARTITION BY g ORDER BY v) AS s FROM t", LAST, True),
    "lag": ("SELECT id, lag(v) OVER (PARTITION BY g ORDER BY v) AS p FROM t", ANYWHERE, True),
    "moving sum": ("SELECT id, sum(v) OVER (PARTITION BY g ORDER BY v ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS s FROM t",
                   ANYWHERE, True),
    "percentile_cont": ("SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM t GROUP BY k", ANYWHERE, True),
    "percentile_cont, ten groups": ("SELECT g, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM t GROUP BY g", ANYWHERE, True),
    "array_agg": ("SELECT k, array_agg(v ORDER BY v) AS vs FROM t GROUP BY k", ANYWHERE, True),
    "session window": ("SELECT g, window_start, count(*) AS n FROM SESSION(t, at, 100, g) GROUP BY g, window_start", ANYWHERE, True),
    "HOP of 10": ("SELECT g, window_start, count(*) AS n FROM HOP(t, at, 1000, 10000) GROUP BY g, window_start", ANYWHERE, True),
}


def fill(wire, rows):
    """Ids from 0 on; the same values for the same id in every run."""
    wire.query("SET synchronous_commit = off")
    wire.query("CREATE TABLE d (k bigint PRIMARY KEY, name text)")
    wire.query(f"INSERT INTO d SELECT i, 'name ' || i FROM generate_series(0, {rows // GROUPS - 1}) AS s(i)")
    wire.query("CREATE TABLE t (id bigint PRIMARY KEY, g bigint, k bigint, v bigint, at bigint)")
    for start in range(0, rows, 50_000):
        end = min(rows, start + 50_000) - 1
        # Neighbours by v are not neighbours by id: 15485863 is a prime.
        wire.query(f"INSERT INTO t SELECT i, i % {GROUPS}, i % {rows // GROUPS}, i::bigint * 7368787 % 15485863 * 10 + 1, "
                   f"i / {10 * GROUPS} * 1000 + i / {GROUPS} % 10 * 10 FROM generate_series({start}, {end}) AS s(i)")


def prepare(wire, name, text):
    wire.send(message(b"P", name + b"\0" + text + b"\0" + struct.pack("!h", 0)) + message(b"S", b""))
    wire.until(b"Z")


def worker_cpu(server):
    """CPU seconds of the dataflow workers, from the scheduler's nanoseconds."""
    tasks, spent = f"/proc/{server.process.pid}/task", 0
    for task in os.listdir(tasks):
        try:
            if open(f"{tasks}/{task}/comm").read().startswith("timely"):
                spent += int(open(f"{tasks}/{task}/schedstat").read().split()[0])
        except FileNotFoundError:
            # A thread that has ended since the listing; workers do not end.
            continue
    return spent / 1e9


def settled(server):
    """CPU seconds of the workers and of the whole server, once there is nothing left to do."""
    used, since = server.cpu(), time.time()
    while time.time() - since < 0.3:
        time.sleep(0.05)
        if server.cpu() > used + 0.02:
            used, since = server.cpu(), time.time()
    return worker_cpu(server), server.cpu()


class Follower:
    """A SUBSCRIBE that tells when a change has been seen: all rows of a change have one time, later than those before."""

    def __init__(self, port, relation):
        self.wire, self.time = Wire(port), 0
        self.wire.send(message(b"Q", f"SUBSCRIBE TO {relation} WITH (SNAPSHOT = false)\0".encode()))
        self.wire.until(b"T")

    def wait(self):
        while True:
            time_ms = int(fields(self.wire.until(b"D"))[0])
            if time_ms > self.time:
                self.time = time_ms
                return


def rows_to_insert(rows, count, where, seed):
    """The parameters of each INSERT."""
    choose = random.Random(seed)
    made = []
    for index in range(count):
        v = 10**9 + index if where == LAST else choose.randrange(15485863) * 10 + 2
        row = [rows + index, index % GROUPS, choose.randrange(rows // GROUPS), v, choose.randrange(max(1, rows // 100)) * 1000 + 45]
        made.append([str(value).encode() for value in row])
    return made


def measure(server, operator, rows, count):
    """CPU microseconds of an insertion and of a deletion, the worker's and the whole server's; the rows are gone again afterwards."""
    query, where, _ = OPERATORS[operator]
    writer = Wire(server.port)
    writer.query("SET synchronous_commit = off")
    relation = "v" if query else "t"
    if query:
        writer.query(f"CREATE MATERIALIZED VIEW v AS {query}")
        writer.query("SELECT count(*) FROM v")
    prepare(writer, b"i", b"INSERT INTO t VALUES ($1, $2, $3, $4, $5)")
    prepare(writer, b"d", b"DELETE FROM t WHERE id = $1")
    follower = Follower(server.port, relation)
    costs = []
    # A first round warms code and caches up.
    for size in (count // 10, count):
        made = rows_to_insert(rows, size, where, size)
        inserts = [execution(b"i", row) for row in made]
        # The last one first: where rows were put last, each of them is the last when it goes.
        deletes = [execution(b"d", row[:1]) for row in reversed(made)]
        costs = []
        for changes in (inserts, deletes):
            start = settled(server)
            for change in changes:
                writer.send(change)
                follower.wait()
                writer.until(b"Z")
            costs.append([(after - before) / len(changes) * 1e6 for before, after in zip(start, settled(server))])
    writer.socket.close()
    follower.wire.socket.close()
    if query:
        Wire(server.port).query("DROP MATERIALIZED VIEW v")
    return [costs[0][0], costs[1][0], (costs[0][1] + costs[1][1]) / 2]


def print_line(cells):
    print(f"{cells[0]:28}" + "".join(f"{cell:>10}" for cell in cells[1:]), flush=True)


def ratio(costs):
    return costs[-1] / max(costs[0], 1e-9)


def markdown(sizes, results):
    power = lambda size: f"10^{round(math.log10(size))}"
    lines = ["| | " + " | ".join(f"insert, {power(s)}" for s in sizes) + " | times | " +
             " | ".join(f"delete, {power(s)}" for s in sizes) + f" | times | whole server, {power(sizes[-1])} |",
             "|---|" + "---|" * (2 * len(sizes) + 3)]
    for operator, (inserts, deletes, whole) in results.items():
        cells = [operator]
        for costs in (inserts, deletes):
            cells += [f"{cost:,.0f}" for cost in costs] + [f"{ratio(costs):.1f}"]
        cells.append(f"{whole[-1]:,.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(sizes, results):
    """An SVG: the mean of insertion and deletion by rows, both axes logarithmic, a line an operator."""
    width, height, left, bottom, right, top = 900, 560, 70, 50, 230, 30
    means = {operator: [sum(pair) / 2 for pair in zip(*costs[:2])] for operator, costs in results.items()}
    flat = [cost for costs in means.values() for cost in costs]
    low, high = math.floor(math.log10(min(flat))), math.ceil(math.log10(max(flat)))
    x = lambda size: left + (math.log10(size) - math.log10(sizes[0])) / max(1e-9, math.log10(sizes[-1] / sizes[0])) * (width - left - right)
    y = lambda cost: height - bottom - (math.log10(cost) - low) / (high - low) * (height - bottom - top)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="18">CPU microseconds of one change in the worker, by rows of the table</text>']
    for exponent in range(low, high + 1):
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(10**exponent):.1f}" y2="{y(10**exponent):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 8}" y="{y(10**exponent) + 4:.1f}" text-anchor="end">{10**exponent:,}</text>')
    for size in sizes:
        out.append(f'<line x1="{x(size):.1f}" x2="{x(size):.1f}" y1="{top}" y2="{height - bottom}" stroke="#ddd"/>'
                   f'<text x="{x(size):.1f}" y="{height - bottom + 18}" text-anchor="middle">{size:,}</text>')
    # Names stand beside the last points, in their order, without covering each other.
    at = top
    for index, (operator, costs) in enumerate(sorted(means.items(), key=lambda item: -item[1][-1])):
        colour = f"hsl({index * 137 % 360}, 65%, 42%)"
        points = " ".join(f"{x(size):.1f},{y(cost):.1f}" for size, cost in zip(sizes, costs))
        at = max(at + 15, y(costs[-1]))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   f'<line x1="{x(sizes[-1]):.1f}" y1="{y(costs[-1]):.1f}" x2="{width - right + 26}" y2="{at - 4:.1f}" stroke="{colour}" stroke-width="0.5"/>'
                   f'<text x="{width - right + 30}" y="{at:.1f}" fill="{colour}">{operator}</text>')
    return "\n".join(out) + "\n</svg>\n"


def write(sizes, results):
    with open(os.path.join(ROOT, "docs", "operators.svg"), "w") as file:
        file.write(plot(sizes, results))
    path = os.path.join(ROOT, "docs", "performance.md")
    text = open(path).read()
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    with open(path, "w") as file:
        file.write(f"{before}{MARKS[0]}\n{markdown(sizes, results)}\n{MARKS[1]}{after}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench operators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of operators' names; all unless said")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--changes", type=int, default=1000, help="insertions, and as many deletions")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the table and the plot into docs")
    options = parser.parse_args()
    operators = [name for name in OPERATORS if not options.only or any(part in name for part in options.only)]
    results = {operator: ([], [], []) for operator in operators}
    for size in options.sizes:
        server = Server(options.workers)
        try:
            fill(Wire(server.port), size)
            for operator in operators:
                costs = measure(server, operator, size, options.changes)
                for known, cost in zip(results[operator], costs):
                    known.append(cost)
                print(f"{size} {operator}: {costs[0]:.0f} {costs[1]:.0f}, {costs[2]:.0f}", file=sys.stderr, flush=True)
        finally:
            server.stop()
    uneven = []
    print_line(["CPU microseconds a change"] + [f"{kind} {size:.0e}" for size in options.sizes for kind in ("ins", "del", "all")])
    for operator in operators:
        inserts, deletes, _ = results[operator]
        print_line([operator] + [f"{cost:.0f}" for costs in zip(*results[operator]) for cost in costs])
        if OPERATORS[operator][2] and max(ratio(inserts), ratio(deletes)) > FLAT:
            uneven.append(operator)
    if options.write:
        write(options.sizes, results)
    if uneven:
        raise SystemExit(f"more than {FLAT} times as dear with the largest table: {', '.join(uneven)}")


if __name__ == "__main__":
    main()
