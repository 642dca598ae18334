"""Runs the benchmarks and prints a table: rows a second, CPU seconds per million input rows, peak memory.

CPU seconds are the whole server's, from CREATE MATERIALIZED VIEW until the view has caught up with its files. The line "decode"
of a work is a view that only counts the values of the columns which the work reads, so the difference is the engine's. Absolute times on a shared machine mislead:
compare the columns of one run.
"""
import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.environ["PEERS_DIR"]
DATA = os.path.join(PEERS, "data")
BASE_MS = 1_767_225_600_000
TICK = os.sysconf("SC_CLK_TCK")

BID = "auction bigint, bidder bigint, price bigint, channel text, url text, date_time bigint, extra text"
AUCTION = ("id bigint, item_name text, description text, initial_bid bigint, reserve bigint, date_time bigint, "
           "expires bigint, seller bigint, category bigint, extra text")
PERSON = ("id bigint, name text, email text, credit_card text, city text, state text, date_time bigint, extra text")
SOURCES = {
    "words": ("word text", "w1/words.jsonl"),
    "bid": (BID, "nexmark/bid/part-0.jsonl"),
    "auction": (AUCTION, "nexmark/auction/part-0.jsonl"),
    "person": (PERSON, "nexmark/person/part-0.jsonl"),
}
IN_AUCTION = "auction a JOIN bid b ON a.id = b.auction WHERE b.date_time BETWEEN a.date_time AND a.expires"

# Work: its sources, the maintained query, and the checksum over its rows that DuckDB's answer is reduced to as well.
WORKS = {
    "w1": (["words"], "SELECT word, count(*) AS c FROM words GROUP BY word", "c * c"),
    "q0": (["bid"], "SELECT auction, bidder, price, date_time FROM bid", f"auction + bidder + price + (date_time - {BASE_MS})"),
    "q3": (["auction", "person"],
           "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id "
           "WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')", "id"),
    "q4": (["auction", "bid"],
           f"SELECT category, avg(m) AS a FROM (SELECT a.id, a.category, max(b.price) AS m FROM {IN_AUCTION} "
           "GROUP BY a.id, a.category) AS x GROUP BY category", "floor(a)"),
    "q5": (["bid"],
           "WITH c AS (SELECT auction, window_start AS w, count(*) AS num FROM HOP(bid, date_time, 2000, 10000) "
           "GROUP BY auction, window_start) SELECT c.auction, c.num, c.w FROM c JOIN "
           "(SELECT w, max(num) AS m FROM c GROUP BY w) AS x ON c.w = x.w AND c.num = x.m",
           f"auction + num + (w - {BASE_MS})"),
    "q7": (["bid"],
           "SELECT b.auction, b.bidder, b.price, b.date_time FROM TUMBLE(bid, date_time, 10000) AS b JOIN "
           "(SELECT window_start AS w, max(price) AS p FROM TUMBLE(bid, date_time, 10000) GROUP BY window_start) AS m "
           "ON b.price = m.p AND b.window_start = m.w", "auction + bidder + price"),
    "q8": (["person", "auction"],
           "SELECT DISTINCT p.id, p.name, p.window_start FROM TUMBLE(person, date_time, 10000) AS p JOIN "
           "TUMBLE(auction, date_time, 10000) AS a ON p.id = a.seller AND p.window_start = a.window_start", "id"),
    "q9": (["auction", "bid"],
           "SELECT id, price, dt FROM (SELECT a.id, b.price, b.date_time AS dt, row_number() OVER (PARTITION BY a.id "
           f"ORDER BY b.price DESC, b.date_time) AS r FROM {IN_AUCTION}) AS x WHERE r = 1",
           f"id + price + (dt - {BASE_MS})"),
    "q18": (["bid"],
            "SELECT auction, bidder, price, channel, url, date_time, extra FROM (SELECT *, row_number() OVER "
            "(PARTITION BY bidder, auction ORDER BY date_time DESC) AS r FROM bid) AS x WHERE r = 1",
            f"bidder + auction + (date_time - {BASE_MS})"),
    "q20": (["bid", "auction"],
            "SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_time, b.extra, a.item_name, "
            "a.description, a.initial_bid, a.reserve, a.expires, a.seller, a.category FROM bid b JOIN auction a "
            "ON b.auction = a.id WHERE a.category = 10", "auction + bidder + price"),
}
NEXMARK = ["q0", "q3", "q4", "q5", "q7", "q8", "q9", "q18", "q20"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One Tidewater on a fresh data directory, measured by its process id."""

    def __init__(self, workers):
        self.directory = tempfile.mkdtemp(prefix="tidewater-bench-")
        self.port, self.http = free_port(), free_port()
        self.log = open(os.path.join(PEERS, "log", "tidewater.log"), "a")
        self.process = subprocess.Popen(
            [os.environ["TIDEWATER_BINARY"], "serve", "--data-dir", self.directory, "--listen", f"127.0.0.1:{self.port}",
             "--http", f"127.0.0.1:{self.http}", "--workers", str(workers)], stdout=self.log, stderr=self.log)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/ready", timeout=1).read()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server did not become ready")

    def ask(self, text):
        """A running psql whose output is the answer."""
        return subprocess.Popen(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U",
                                 "bench", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def sql(self, text):
        asked = self.ask(text)
        output, errors = asked.communicate()
        if asked.returncode != 0:
            raise subprocess.CalledProcessError(asked.returncode, asked.args, output, errors)
        return output

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def peak_mib(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024

    def source_rows(self, source):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10).read().decode()
        for line in text.splitlines():
            if line.startswith("tidewater_source_rows_total{") and f'object="{source}"' in line:
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            print("the server did not stop within 30 s: killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def counts():
    return json.load(open(os.path.join(DATA, "counts.json")))


def input_rows(work):
    known = {"words": "words", "bid": "bid", "auction": "auction", "person": "person"}
    return sum(counts()[known[source]] for source in WORKS[work][0])


def declare(server, sources):
    for source in sources:
        columns, path = SOURCES[source]
        server.sql(f"CREATE SOURCE {source} ({columns}) FROM FILE (PATH '{os.path.join(DATA, path)}') FORMAT JSON")


def run_view(workers, sources, query, setup=""):
    """(seconds, CPU seconds, peak MiB, server) for the view to catch up with its files; `setup` is run before."""
    server = Server(workers)
    declare(server, sources)
    if setup:
        server.sql(setup)
    start, cpu = time.time(), server.cpu()
    server.sql(f"CREATE MATERIALIZED VIEW v AS {query}")
    while any(server.source_rows(source) < counts()[source] for source in sources):
        if server.process.poll() is not None:
            raise SystemExit("the server has ended; see its log")
        time.sleep(0.05)
    # The last rows are in the view once the server has nothing left to do.
    used, end = server.cpu(), time.time()
    while time.time() - end < 0.2:
        time.sleep(0.02)
        if server.cpu() > used + 0.01:
            used, end = server.cpu(), time.time()
    return end - start, used - cpu, server.peak_mib(), server


def tidewater(work, workers, reference):
    sources, query, checksum = WORKS[work]
    seconds, cpu, peak, server = run_view(workers, sources, query)
    answer = [int(float(x or 0)) for x in server.sql(f"SELECT count(*), sum({checksum}) FROM v").strip().split("|")]
    server.stop()
    seconds_d, cpu_d, peak_d, server = run_view(workers, sources, " UNION ALL ".join(decoding(s, query) for s in sources))
    server.stop()
    rows = input_rows(work)
    label = f"tidewater, {workers} worker" + ("s" if workers > 1 else "")
    return [line(label, work, rows, seconds, cpu, peak, answer == reference[work]),
            line(label + ", decode", work, rows, seconds_d, cpu_d, peak_d, None)]


def decoding(source, query):
    """Counts the values of the columns of `source` that `query` reads."""
    columns = [column.split()[0] for column in SOURCES[source][0].split(", ")]
    read = [column for column in columns if re.search(rf"\b{column}\b", query)]
    return f"SELECT {' + '.join(f'count({column})' for column in read)} FROM {source}"


def line(engine, work, rows, seconds, cpu, peak, right):
    return dict(engine=engine, work=work, rows_per_second=round(rows / seconds), cpu_per_million=round(cpu / rows * 1e6, 3),
                peak_mib=peak, right=right)


def timed(name, script, label, arguments):
    """What timed.py measured of a peer program in its own virtual environment, and its errors; "inner" is missing if it failed."""
    python = os.path.join(os.environ["CACHE"], f"venv-{name}", "bin", "python")
    out = subprocess.run([sys.executable, os.path.join(HERE, "timed.py"), "--label", label, "--", python,
                          os.path.join(HERE, script), *arguments], capture_output=True, text=True, cwd=HERE,
                         env={**os.environ, "PEERS_RESULTS": os.path.join(PEERS, "results.jsonl")})
    last = [l for l in open(os.path.join(PEERS, "results.jsonl"))][-1]
    return json.loads(last), out.stderr


def peer(name, script, work, arguments):
    """A peer program, which checks its answer itself with --verify."""
    result, errors = timed(name, script, f"{script} {work}", [work, "--verify", *arguments])
    if not result.get("inner"):
        return [dict(engine=name, work=work, rows_per_second=0, cpu_per_million=0, peak_mib=0, right=False, note=errors[-500:])]
    return [line(name, work, input_rows(work), result["inner_s_med"], result["cpu_med"], result["rss_med"], all(result["ok"]))]


def prepare(options):
    arguments = ["--out", DATA, "--w1-rows", str(options.rows), "--events", str(options.events), "w1", "nexmark"]
    stamp = os.path.join(DATA, "size.json")
    size = [options.rows, options.events]
    if os.path.exists(stamp) and json.load(open(stamp)) == size:
        return
    print("generating input and DuckDB's answers", file=sys.stderr)
    shutil.rmtree(DATA, ignore_errors=True)
    os.makedirs(DATA)
    subprocess.run([sys.executable, os.path.join(HERE, "gen.py"), *arguments], check=True)
    subprocess.run([sys.executable, os.path.join(HERE, "duck.py"), "--write-ref", *WORKS], check=True, cwd=HERE,
                   stdout=subprocess.DEVNULL)
    json.dump(size, open(stamp, "w"))


def main():
    if sys.argv[1:2] in (["operators"], ["memory"], ["pagerank"]):
        os.execv(sys.executable, [sys.executable, os.path.join(HERE, sys.argv[1] + ".py"), *sys.argv[2:]])
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", nargs="*", default=["wordcount", "nexmark"],
                        help="wordcount, nexmark, latency, one work such as q4; operators, memory or pagerank with options of their own")
    parser.add_argument("--rows", type=int, default=5_000_000, help="words")
    parser.add_argument("--events", type=int, help="Nexmark events; 2,000,000 unless said, 200,000 with --all")
    parser.add_argument("--all", action="store_true", help="check all Nexmark queries row by row, instead of measuring some")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="also run Pathway and Flink SQL")
    options = parser.parse_args()
    options.events = options.events or (200_000 if options.all else 2_000_000)
    if options.all:
        import nexmark
        if not nexmark.run(options):
            raise SystemExit("an answer is wrong")
        return
    works = []
    for what in options.what or ["wordcount", "nexmark"]:
        works += {"wordcount": ["w1"], "nexmark": NEXMARK, "latency": []}.get(what, [what])
    results = []
    if works:
        prepare(options)
        reference = json.load(open(os.path.join(DATA, "ref.json")))
    print(f"{'work':5} {'engine':32} {'rows/s':>10} {'CPU s/M rows':>13} {'peak MiB':>9}  right")
    for work in works:
        rows = tidewater(work, options.workers, reference)
        if options.peers:
            rows += peer("pathway", "pathway_bench.py", work, [])
            rows += peer("apache-flink", "flink_bench.py", work, ["--par", str(options.workers)])
        for r in rows:
            right = {True: "yes", False: "NO", None: ""}[r["right"]]
            print(f"{r['work']:5} {r['engine']:32} {r['rows_per_second']:>10} {r['cpu_per_million']:>13} {r['peak_mib']:>9}  {right}",
                  flush=True)
        results += rows
    if "latency" in options.what:
        subprocess.run([sys.executable, os.path.join(HERE, "latency.py")], check=True)
    if any(r["right"] is False for r in results):
        raise SystemExit("an answer is wrong")


if __name__ == "__main__":
    main()
