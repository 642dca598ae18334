"""What windows and temporal filters keep: the rows and bytes of each arrangement, and the server's memory, for views over a million
rows; for a temporal filter while ten times as many pass through it.

A HOP puts a row into size / slide windows on its way and adds up by (key, window), so that what it keeps are groups. Each line also
says what panes would keep, the windows of one slide from which the others could be put together.
"""
import argparse
import datetime
import os
import time

from bench import Server
from latency import Wire

# View: the number of keys, and the query. HOPs of one second make 600 rows of each: minutes of CPU.
HOP = "SELECT key, window_start, count(*) AS n, sum(v) AS s FROM HOP(t, at, {slide}, {size}) GROUP BY key, window_start"
SESSION = "SELECT key, window_start, window_end, count(*) AS n, sum(v) AS s FROM SESSION(t, at, 60000, key) GROUP BY key, window_start, window_end"
PANES = "SELECT key, window_start, count(*) AS n, sum(v) AS s FROM TUMBLE(t, at, {slide}) GROUP BY key, window_start"
WORKS = {
    "TUMBLE 10 min, 1,000 keys": (1000, PANES.format(slide=600_000)),
    "HOP 10 min by 1 min, 1,000 keys": (1000, HOP.format(slide=60_000, size=600_000)),
    "HOP 10 min by 1 s, 10 keys": (10, HOP.format(slide=1000, size=600_000)),
    "panes of 1 s, 10 keys": (10, PANES.format(slide=1000)),
    "panes of 1 s, 1 key": (1, PANES.format(slide=1000)),
    "panes of 1 s, 1,000 keys": (1000, PANES.format(slide=1000)),
    "SESSION 1 min, 1M keys": (1_000_000, SESSION),
    "SESSION 1 min, 1,000 keys": (1000, SESSION),
}


def keep(name, rows, limit_mib):
    """Prints what a view keeps, the table's own arrangement first; or that it needs more than `limit_mib`."""
    keys, query = WORKS[name]
    server = Server(1)
    try:
        wire = Wire(server.port)
        wire.query("SET synchronous_commit = off")
        wire.query("CREATE TABLE t (id bigint PRIMARY KEY, key bigint, at bigint, v bigint)")
        for start in range(0, rows, 50_000):
            end = min(rows, start + 50_000) - 1
            # Times are in order, as they mostly come; keys are not: 7919 is a prime.
            wire.query(f"INSERT INTO t SELECT i, i::bigint * 7919 % {keys}, i::bigint * 86400000 / {rows}, i % 100 "
                       f"FROM generate_series({start}, {end}) AS s(i)")
        table_mib, cpu, start = server.peak_mib(), server.cpu(), time.time()
        server.sql(f"CREATE MATERIALIZED VIEW v AS {query}")
        # The view is read once it is there. It may be too large to wait for.
        asked = server.ask("SELECT count(*) FROM v")
        while asked.poll() is None:
            if server.peak_mib() > limit_mib:
                print(f"{name:34} more than {limit_mib} MiB after {time.time() - start:.0f} s", flush=True)
                asked.kill()
                return
            time.sleep(0.1)
        count = asked.stdout.read().strip()
        seconds, used = time.time() - start, server.cpu() - cpu
        print(f"{name:34} {count:>11} rows, {seconds:.1f} s, CPU {used:.1f} s, {table_mib} MiB before, {server.peak_mib()} MiB at the peak",
              flush=True)
        for line in server.sql("SELECT object_name, operator, row_count, size_bytes FROM tw_catalog.tw_arrangements ORDER BY 1, 2").splitlines():
            relation, operator, row_count, size_bytes = line.split("|")
            print(f"    {relation:4} {operator:24} {int(row_count):>12,} rows {int(size_bytes) / 2**20:>10,.1f} MiB", flush=True)
    finally:
        server.stop()


PASSING = "temporal filter, rows that pass"
LIFE_S = 5


def size_of_view(server):
    """Rows and bytes of all arrangements."""
    sums = server.sql("SELECT coalesce(sum(row_count), 0), coalesce(sum(size_bytes), 0) FROM tw_catalog.tw_arrangements")
    return [int(value) for value in sums.strip().split("|")]


def pass_through(rows):
    """Lets rows of a followed file, which is all that keeps them, through a filter of some seconds; prints what the view had at most and
    what is left once all have passed."""
    server = Server(1)
    try:
        path = os.path.join(server.directory, "passing.csv")
        open(path, "w").close()
        server.sql(f"CREATE SOURCE s (id bigint, at timestamptz) FROM FILE (PATH '{path}', FOLLOW) FORMAT CSV")
        server.sql(f"CREATE MATERIALIZED VIEW v AS SELECT id, at FROM s WHERE at > now() - INTERVAL '{LIFE_S} seconds'")
        before_mib, cpu, start = server.peak_mib(), server.cpu(), time.time()
        most, halfway_mib = [0, 0], 0
        with open(path, "a") as out:
            for first in range(0, rows, 25_000):
                at = datetime.datetime.now(datetime.timezone.utc).isoformat()
                out.write("".join(f"{row},{at}\n" for row in range(first, min(rows, first + 25_000))))
                out.flush()
                if first % 250_000 == 0:
                    most = max(most, size_of_view(server))
                if first <= rows // 2:
                    halfway_mib = server.peak_mib()
                # Some 200,000 rows a second, so that most have passed while others come.
                time.sleep(max(0.0, start + (first + 25_000) / 200_000 - time.time()))
        while server.source_rows("s") < rows or int(server.sql("SELECT count(*) FROM v")) > 0:
            time.sleep(0.5)
        seconds, used = time.time() - start, server.cpu() - cpu
        # The last rows are let go when time passes and batches are merged.
        time.sleep(2 * LIFE_S)
        rest = size_of_view(server)
        print(f"{PASSING:34} {rows:>11,} rows through {LIFE_S} s, {seconds:.1f} s, CPU {used:.1f} s, {before_mib} MiB before, "
              f"{halfway_mib} MiB at the peak halfway, {server.peak_mib()} MiB at the end")
        for when, (row_count, size_bytes) in [("at most", most), ("afterwards", rest)]:
            print(f"    {when:29} {row_count:>12,} rows {size_bytes / 2**20:>10,.1f} MiB", flush=True)
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of names; all unless said")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit-mib", type=int, default=6000, help="gives a view up that needs more")
    options = parser.parse_args()
    for name in WORKS:
        if not options.only or any(part in name for part in options.only):
            keep(name, options.rows, options.limit_mib)
    if not options.only or any(part in PASSING for part in options.only):
        pass_through(10 * options.rows)


if __name__ == "__main__":
    main()
