"""Pathway's own PageRank. pathway_pagerank.py EDGES STEPS REFERENCE: an edge file as JSON lines, and the answer as a JSON list."""
import json, sys, time
from common import emit
import pathway as pw
class Edges(pw.Schema):
    a: int; b: int
def pagerank(edges, steps):
    inward = edges.groupby(id=edges.v).reduce(degree=0)
    outward = edges.groupby(id=edges.u).reduce(degree=pw.reducers.count())
    degrees = pw.Table.update_rows(inward, outward)
    base = outward.difference(inward).select(flow=0)
    ranks = degrees.select(rank=6000)
    for _ in range(steps):
        outflow = degrees.select(flow=pw.if_else(degrees.degree == 0, 0, (ranks.rank * 5) // (degrees.degree * 6)))
        inflow = edges.groupby(id=edges.v).reduce(flow=pw.reducers.sum(outflow.ix(edges.u).flow))
        inflow = pw.Table.concat(base, inflow)
        ranks = inflow.select(rank=inflow.flow + 1000).with_universe_of(degrees)
    return ranks
if __name__ == "__main__":
    path, steps, reference = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]); got = []; start = time.time()
    read = pw.io.fs.read(path, schema=Edges, format="json", mode="static")
    edges = read.select(u=read.pointer_from(read.a), v=read.pointer_from(read.b))
    ranks = pagerank(edges, steps); this = pw.this
    total = ranks.reduce(n=pw.reducers.count(), s=pw.reducers.sum(this.rank), q=pw.reducers.sum(this.rank * this.rank % 1000003))
    def change(key, row, time, is_addition):
        if is_addition: got[:] = [row["n"], row["s"], row["q"]]
    pw.io.subscribe(total, on_change=change); pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    emit(f"pathway-{pw.__version__}", "pagerank", time.time() - start, rows=sum(1 for _ in open(path)), ok=got == reference, answer=got)
