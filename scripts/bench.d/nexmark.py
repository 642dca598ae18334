"""Nexmark q0 to q22 as maintained views: every row of every answer equals DuckDB's, and that of the query run from scratch.

A query is the benchmark's text with times as integers of milliseconds. Where it leaves open which of several equal rows it
means (q9, q18, q19), only the columns that are definite are compared; averages are compared without their fractions, which the
two engines round in types of their own.
"""
import collections
import os
import subprocess
import sys

import duckdb

import duck
from bench import BASE_MS, IN_AUCTION, WORKS, prepare, run_view

NOT_A_VIEW = {
    "q12": "windows by the time at which a row is processed have no answer that could be run again",
}
DAY = "to_char(timestamp '1970-01-01' + date_time * interval '1 millisecond', 'YYYY-MM-DD')"
MINUTE = "to_char(timestamp '1970-01-01' + date_time * interval '1 millisecond', 'HH24:MI')"
DUCK_DAY, DUCK_MINUTE = (f"strftime(make_timestamp(date_time * 1000), '{format}')" for format in ("%Y-%m-%d", "%H:%M"))
RANKS = {"rank1": "price < 10000", "rank2": "price >= 10000 AND price < 1000000", "rank3": "price >= 1000000"}


def counts(what):
    """count(..) of all bids and of each rank."""
    name = what.split()[-1].strip("*") or "bid"
    return ", ".join([f"count({what}) AS total_{name}s"] +
                     [f"count({what}) FILTER (WHERE {where}) AS {rank}_{name}s" for rank, where in RANKS.items()])


ALL_COUNTS = ", ".join(counts(what) for what in ("*", "DISTINCT bidder", "DISTINCT auction"))
Q6 = ("SELECT seller, id, avg(price) OVER (PARTITION BY seller ORDER BY dt, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS a FROM "
      "(SELECT a.id, a.seller, b.price, b.date_time AS dt, row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time) "
      f"AS r FROM {IN_AUCTION}) AS w WHERE r = 1")
HOUR = "(date_time / 3600000) % 24"
Q14 = ("SELECT auction, bidder, 0.908 * price AS price, CASE WHEN {hour} >= 8 AND {hour} <= 18 THEN 'dayTime' "
       "WHEN {hour} <= 6 OR {hour} >= 20 THEN 'nightTime' ELSE 'otherTime' END AS kind, date_time, extra, "
       "length(extra) - length(replace(extra, 'c', '')) AS c_counts FROM bid "
       "WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000")
Q21 = ("SELECT auction, bidder, price, channel, CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1' "
       "WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3' ELSE {id} END AS channel_id FROM bid "
       "WHERE {id} IS NOT NULL OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')")
SESSIONS = ("SELECT bidder, count(*) AS n, min(date_time) AS window_start, max(date_time) + 10000 AS window_end FROM "
            "(SELECT *, sum(starts) OVER (PARTITION BY bidder ORDER BY date_time) AS session FROM (SELECT bidder, date_time, CASE WHEN "
            "date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) <= 10000 THEN 0 ELSE 1 END AS starts FROM bid)) "
            "GROUP BY bidder, session")
TUMBLED = "(SELECT *, date_time // 10000 * 10000 AS window_start FROM {0})"

# Query: its sources, the view, the columns that are compared, and DuckDB's query for them; None where it takes the view's own text.
QUERIES = {
    "q0": (["bid"], "SELECT auction, bidder, price, date_time, extra FROM bid", "*", None),
    "q1": (["bid"], "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid", "*", None),
    "q2": (["bid"], "SELECT auction, price FROM bid WHERE auction % 123 = 0", "*", None),
    "q3": (*WORKS["q3"][:2], "*", None),
    "q4": (*WORKS["q4"][:2], "category, floor(a)", None),
    "q5": (*WORKS["q5"][:2], "*",
           "WITH c AS (SELECT auction, w, count(*) AS num FROM (SELECT auction, unnest([date_time // 2000 * 2000 - 2000 * i FOR i IN "
           "range(5)]) AS w FROM bid) GROUP BY ALL) SELECT auction, num, w FROM (SELECT *, max(num) OVER (PARTITION BY w) AS m FROM c) "
           "WHERE num = m"),
    "q6": (["auction", "bid"], Q6, "seller, id, floor(a)", None),
    "q7": (*WORKS["q7"][:2], "*",
           f"SELECT auction, bidder, price, date_time FROM (SELECT *, max(price) OVER (PARTITION BY window_start) AS m FROM "
           f"{TUMBLED.format('bid')}) WHERE price = m"),
    "q8": (*WORKS["q8"][:2], "*",
           f"SELECT DISTINCT p.id, p.name, p.window_start FROM {TUMBLED.format('person')} AS p JOIN {TUMBLED.format('auction')} AS a ON "
           "p.id = a.seller AND p.window_start = a.window_start"),
    "q9": (*WORKS["q9"][:2], "*", None),
    "q10": (["bid"], f"SELECT auction, bidder, price, date_time, extra, {DAY} AS day, {MINUTE} AS minute FROM bid", "*",
            f"SELECT auction, bidder, price, date_time, extra, {DUCK_DAY}, {DUCK_MINUTE} FROM bid"),
    "q11": (["bid"], "SELECT bidder, count(*) AS n, window_start, window_end FROM SESSION(bid, date_time, 10000, bidder) "
                     "GROUP BY bidder, window_start, window_end", "*", SESSIONS),
    "q13": (["bid"], "SELECT b.auction, b.bidder, b.price, b.date_time, s.value FROM bid b JOIN side_input s ON b.auction % 10000 = s.key",
            "*", None),
    "q14": (["bid"], Q14.format(hour=HOUR), "*", Q14.format(hour=HOUR.replace("/", "//"))),
    "q15": (["bid"], f"SELECT {DAY} AS day, {ALL_COUNTS} FROM bid GROUP BY {DAY}", "*",
            f"SELECT {DUCK_DAY}, {ALL_COUNTS} FROM bid GROUP BY {DUCK_DAY}"),
    "q16": (["bid"], f"SELECT channel, {DAY} AS day, max({MINUTE}) AS minute, {ALL_COUNTS} FROM bid GROUP BY channel, {DAY}", "*",
            f"SELECT channel, {DUCK_DAY}, max({DUCK_MINUTE}), {ALL_COUNTS} FROM bid GROUP BY channel, {DUCK_DAY}"),
    "q17": (["bid"], f"SELECT auction, {DAY} AS day, {counts('*')}, min(price) AS low, max(price) AS high, avg(price) AS a, sum(price) "
                     f"AS s FROM bid GROUP BY auction, {DAY}",
            "auction, day, total_bids, rank1_bids, rank2_bids, rank3_bids, low, high, floor(a), s",
            f"SELECT auction, {DUCK_DAY} AS day, {counts('*')}, min(price) AS low, max(price) AS high, avg(price) AS a, sum(price) AS s "
            f"FROM bid GROUP BY auction, day"),
    "q18": (*WORKS["q18"][:2], "bidder, auction, date_time", None),
    "q19": (["bid"], "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS rank FROM bid) AS x "
                     "WHERE rank <= 10", "auction, price, rank", None),
    "q20": (*WORKS["q20"][:2], "*", None),
    "q21": (["bid"], Q21.format(id="(regexp_match(url, '(&|^)channel_id=([^&]*)'))[2]"), "*",
            Q21.format(id="nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')")),
    "q22": (["bid"], "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, "
                     "split_part(url, '/', 6) AS dir3 FROM bid", "*", None),
}
SETUP = {"q13": "CREATE TABLE side_input (key bigint PRIMARY KEY, value text);\n"
                "INSERT INTO side_input SELECT i, 'side ' || i FROM generate_series(0, 9999) AS s(i)"}


def duck_rows(query, columns):
    """DuckDB's answer as a multiset of lines."""
    connection = duckdb.connect()
    for name, source in duck.SRC.items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")
    connection.execute("CREATE TABLE side_input AS SELECT i AS key, 'side ' || i AS value FROM range(10000) AS s(i)")
    columns = columns.replace("floor(a)", "floor(a)::bigint")
    return lines("|".join(map(str, row)) for row in connection.execute(f"SELECT {columns} FROM ({query}) AS v").fetchall())


def lines(rows):
    return collections.Counter(rows)


def ask(server, text):
    return lines(row for row in server.sql(text).split("\n") if row)


def run(options):
    """Prints a line a query. Returns whether all answers are right."""
    prepare(options)
    right = True
    print(f"{'query':6} {'rows':>9} {'CPU s':>7} {'peak MiB':>9}  view = DuckDB, view = SELECT")
    for number in range(23):
        name = f"q{number}"
        if name in NOT_A_VIEW:
            print(f"{name:6} not a view: {NOT_A_VIEW[name]}")
            continue
        sources, query, columns, reference = QUERIES[name]
        try:
            _, cpu, peak, server = run_view(options.workers, sources, query, SETUP.get(name, ""))
        except subprocess.CalledProcessError as error:
            right = False
            print(f"{name:6} NO: {error.stderr.strip()}", flush=True)
            continue
        try:
            view = ask(server, f"SELECT {columns} FROM v")
            verdicts = []
            for other in (duck_rows(reference or query, columns), ask(server, f"SELECT {columns} FROM ({query}) AS v")):
                verdicts.append("yes" if view == other else "NO")
                if view != other:
                    right = False
                    print(f"{name}: only in the view {list((view - other).items())[:3]}, only in the other "
                          f"{list((other - view).items())[:3]}", file=sys.stderr)
            print(f"{name:6} {view.total():>9} {cpu:>7.2f} {peak:>9}  {', '.join(verdicts)}", flush=True)
        finally:
            server.stop()
    return right
