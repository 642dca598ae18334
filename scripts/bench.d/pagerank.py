"""PageRank in integers over a random graph, as Pathway's published benchmark has it, as a loop that ends after a number of iterations.

Each vertex starts at 6,000. In each step a vertex gives rank * 5 / (degree * 6) along each edge that leaves it, and has 1,000 and what it
was given after it. CPU seconds and memory are of the whole server, from CREATE MATERIALIZED VIEW until the view has caught up with the
edge file; then of adding edges to the file, and of what those cost. The ranks are checked against the same computed with numpy.
"""
import argparse
import json
import os
import time

import numpy

from bench import DATA, Server, timed

QUERY = """
WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT {iterations})
  vertices (n bigint) AS (SELECT a FROM edge UNION SELECT b FROM edge),
  degrees (n bigint, degree bigint) AS (SELECT a, count(*) FROM edge GROUP BY a),
  ranks (n bigint, value bigint) AS (
    SELECT n, 1000 + sum(flow) FROM (
      SELECT edge.b AS n, outflow.flow
      FROM (SELECT ranks.n, (value * 5 / (degree * 6))::int AS flow FROM ranks JOIN degrees ON degrees.n = ranks.n) AS outflow
      JOIN edge ON edge.a = outflow.n
      UNION ALL SELECT n, 0 FROM vertices
      UNION ALL SELECT n, 5000 FROM vertices WHERE NOT EXISTS (SELECT 1 FROM started)
    ) AS inflow GROUP BY n
  ),
  started (yes int) AS (SELECT 1)
SELECT n, value FROM ranks
"""


def generate(path, vertices, edges):
    """A file of edges between random vertices, as JSON lines."""
    random = numpy.random.default_rng(7)
    pairs = random.integers(0, vertices, (edges, 2))
    with open(path, "w") as file:
        file.writelines(f'{{"a":{a},"b":{b}}}\n' for a, b in pairs.tolist())
    return pairs


def expected(pairs, steps):
    """[number of vertices, sum of the ranks, sum of their squares modulo 1,000,003]"""
    vertices, places = numpy.unique(pairs, return_inverse=True)
    a, b = places.reshape(-1, 2).T
    degrees = numpy.bincount(a, minlength=len(vertices))
    ranks = numpy.full(len(vertices), 6000, dtype=numpy.int64)
    for _ in range(steps):
        flows = ranks * 5 // (numpy.maximum(degrees, 1) * 6)
        inflow = numpy.zeros(len(vertices), dtype=numpy.int64)
        numpy.add.at(inflow, b, flows[a])
        ranks = inflow + 1000
    return [len(vertices), int(ranks.sum()), int((ranks * ranks % 1_000_003).sum())]


def caught_up(server, rows):
    while server.source_rows("edge") < rows:
        if server.process.poll() is not None:
            raise SystemExit("the server has ended; see its log")
        time.sleep(0.05)
    answer = server.sql("SELECT count(*), sum(value), sum(value * value % 1000003) FROM v").strip().split("|")
    return [int(float(part)) for part in answer]


def tidewater(path, pairs, steps, workers, added):
    """Prints what it costs, and whether it is right."""
    server = Server(workers)
    try:
        server.sql(f"CREATE SOURCE edge (a bigint, b bigint) FROM FILE (PATH '{path}', FOLLOW) FORMAT JSON")
        start, cpu = time.time(), server.cpu()
        server.sql(f"CREATE MATERIALIZED VIEW v AS {QUERY.format(iterations=steps + 1)}")
        right = caught_up(server, len(pairs)) == expected(pairs, steps)
        label = f"tidewater, {workers} worker" + ("s" if workers > 1 else "")
        report(label, len(pairs), time.time() - start, server.cpu() - cpu, server.peak_mib(), right)
        if added:
            more = numpy.random.default_rng(8).integers(0, pairs.max() + 1, (added, 2))
            start, cpu = time.time(), server.cpu()
            with open(path, "a") as file:
                file.writelines(f'{{"a":{a},"b":{b}}}\n' for a, b in more.tolist())
            pairs = numpy.concatenate([pairs, more])
            changed = caught_up(server, len(pairs)) == expected(pairs, steps)
            report(f"  {added} more edges", added, time.time() - start, server.cpu() - cpu, server.peak_mib(), changed)
            right = right and changed
        return right
    finally:
        server.stop()


def pathway(path, pairs, steps):
    reference = json.dumps(expected(pairs, steps))
    result, errors = timed("pathway", "pathway_pagerank.py", "pathway pagerank", [path, str(steps), reference])
    if not result.get("inner"):
        print(f"pathway failed: {errors[-500:]}", flush=True)
        return False
    right = all(result["ok"])
    report("pathway", len(pairs), result["inner_s_med"], result["cpu_med"], result["rss_med"], right)
    return right


def report(engine, rows, seconds, cpu, peak_mib, right):
    print(f"{engine:24} {rows:>10,} edges {seconds:>8.2f} s  CPU {cpu:>7.2f} s {peak_mib:>7} MiB  {'right' if right else 'WRONG'}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench pagerank", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1_000_000)
    parser.add_argument("--vertices", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--added", type=int, default=100, help="edges that come when the view is there")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="also run Pathway")
    options = parser.parse_args()
    os.makedirs(DATA, exist_ok=True)
    path = os.path.join(DATA, "edges.jsonl")
    right = []
    if options.peers:
        right.append(pathway(path, generate(path, options.vertices, options.edges), options.steps))
    pairs = generate(path, options.vertices, options.edges)
    right.append(tidewater(path, pairs, options.steps, options.workers, options.added))
    if not all(right):
        raise SystemExit("an answer is wrong")


if __name__ == "__main__":
    main()
