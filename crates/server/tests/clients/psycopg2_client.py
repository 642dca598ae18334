"""psycopg2: parameters in the text, named cursors, COPY, the isolation levels, autocommit, errors."""

import io
import sys

import psycopg2
import psycopg2.extras

connection = psycopg2.connect(host="127.0.0.1", port=sys.argv[1], user="test", dbname="test")
with connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE t (id serial PRIMARY KEY, name text, tags text[], at timestamptz DEFAULT now())")
    cursor.execute("INSERT INTO t (name, tags) VALUES (%s, %s) RETURNING id", ("it's", ["a", "b"]))
    assert cursor.fetchone() == (1,)
    psycopg2.extras.execute_values(cursor, "INSERT INTO t (name) VALUES %s", [(f"n{i}",) for i in range(500)])
    cursor.copy_expert("COPY t (name, tags) FROM STDIN", io.StringIO("copied\t{x}\n"))
with connection, connection.cursor(name="server_side") as cursor:
    cursor.itersize = 100
    cursor.execute("SELECT id, name, tags FROM t ORDER BY id")
    rows = list(cursor)
    assert len(rows) == 502 and rows[0] == (1, "it's", ["a", "b"]) and rows[-1] == (502, "copied", ["x"]), rows[-1]
connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
with connection, connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM t")
    assert cursor.fetchone() == (502,)
connection.set_session(readonly=False)
try:
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO t (id) VALUES (1)")
    raise AssertionError("the key is taken")
except psycopg2.errors.UniqueViolation as error:
    assert error.diag.constraint_name in (None, "t_pkey")
connection.autocommit = True
with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
    cursor.execute("SELECT id, name FROM t WHERE id = ANY(%s) ORDER BY id", ([1, 2],))
    assert [dict(row) for row in cursor] == [{"id": 1, "name": "it's"}, {"id": 2, "name": "n0"}]
print("ok")
