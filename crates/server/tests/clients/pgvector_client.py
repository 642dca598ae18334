"""pgvector's own Python library over psycopg 3: vectors as parameters and results in both formats, and a view of the nearest.

Usage: pgvector_client.py PORT
"""

import sys

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

connection = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=test dbname=test", autocommit=True)
connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
register_vector(connection)
connection.execute("CREATE TABLE items (id bigserial PRIMARY KEY, embedding vector(3))")
connection.execute(
    "CREATE MATERIALIZED VIEW nearest AS SELECT id, embedding FROM items ORDER BY embedding <-> '[0,0,0]' LIMIT 2"
)
rows = [np.array([number, 0.5, -1]) for number in range(5)]
for row in rows:
    connection.execute("INSERT INTO items (embedding) VALUES (%s)", (row,))
with connection.cursor().copy("COPY items (embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
    copy.set_types(["vector"])
    copy.write_row([np.array([0, 0, 0.25], dtype=np.float32)])

for binary in (False, True):
    found = connection.execute(
        "SELECT id, embedding, embedding <-> %s AS distance FROM items ORDER BY embedding <-> %s LIMIT 1",
        (rows[3], rows[3]), binary=binary,
    ).fetchone()
    assert found[0] == 4 and np.array_equal(found[1], rows[3].astype(np.float32)) and found[2] == 0, found
    kept = connection.execute("SELECT id FROM nearest ORDER BY id", binary=binary).fetchall()
    assert kept == [(1,), (6,)], kept

try:
    connection.execute("INSERT INTO items (embedding) VALUES (%s)", (np.array([1, 2]),))
    raise AssertionError("a vector of two dimensions was taken for one of three")
except psycopg.errors.DataException as error:
    assert "expected 3 dimensions, not 2" in str(error), error
print("ok")
