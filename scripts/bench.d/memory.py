"""What windows keep: the rows and bytes of each arrangement, and the server's memory, for views over a million rows.

A HOP puts a row into size / slide windows on its way and adds up by (key, window), so that what it keeps are groups. Each line also
says what panes would keep, the windows of one slide from which the others could be put together.
"""
import argparse
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


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of names; all unless said")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--limit-mib", type=int, default=6000, help="gives a view up that needs more")
    options = parser.parse_args()
    for name in WORKS:
        if not options.only or any(part in name for part in options.only):
            keep(name, options.rows, options.limit_mib)


if __name__ == "__main__":
    main()
