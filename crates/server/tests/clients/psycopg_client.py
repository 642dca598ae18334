"""psycopg 3 against a server on the port given: text and binary results, parameters, transactions, COPY."""
import datetime
import decimal
import sys

import psycopg

with psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="test", dbname="test", autocommit=True) as connection:
    connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(8,2), at timestamp, ok boolean, w float8)")
    connection.execute("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n, sum(price) AS total FROM items GROUP BY name")
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 600000)
    rows = [(1, "ash", decimal.Decimal("1.50"), at, True, 0.25), (2, "ash", decimal.Decimal("2.25"), None, False, None)]
    for row in rows:
        connection.execute("INSERT INTO items VALUES (%s, %s, %s, %s, %s, %s)", row)
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        assert cursor.execute("SELECT * FROM items ORDER BY id").fetchall() == rows
        assert cursor.execute("SELECT * FROM totals").fetchall() == [("ash", 2, decimal.Decimal("3.75"))]
        found = cursor.execute("SELECT name FROM items WHERE id = %s AND price > %s", (2, decimal.Decimal("1"))).fetchall()
        assert found == [("ash",)], found
    try:
        connection.execute("INSERT INTO items (id) VALUES (%s)", (1,))
        raise SystemExit("a duplicate key was accepted")
    except psycopg.errors.UniqueViolation as error:
        assert error.diag.sqlstate == "23505"
    with connection.transaction():
        connection.execute("UPDATE items SET price = price + 1 WHERE id = 1")
    assert connection.execute("SELECT total FROM totals").fetchone() == (decimal.Decimal("4.75"),)
    with connection.cursor().copy("COPY (SELECT id, name FROM items ORDER BY id) TO STDOUT") as copy:
        assert b"".join(bytes(block) for block in copy) == b"1\tash\n2\tash\n"
with psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="test", dbname="test", autocommit=True) as connection:
    connection.execute("LISTEN news")
    with connection.transaction():
        connection.execute("SELECT pg_notify('news', %s)", ("first",))
        connection.execute("NOTIFY news, 'second'")
    told = [(notify.channel, notify.payload) for notify in connection.notifies(timeout=10, stop_after=2)]
    assert told == [("news", "first"), ("news", "second")], told
with psycopg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="test", dbname="test") as connection:
    with connection.cursor("named", scrollable=True) as cursor:
        cursor.execute("SELECT g FROM generate_series(1, 10) AS g")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        cursor.scroll(-2)
        assert cursor.fetchone() == (2,)
        cursor.scroll(9, mode="absolute")
        assert cursor.fetchall() == [(10,)]
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT g FROM generate_series(1, 3) AS g")
        connection.commit()
        assert cursor.fetchall() == [(1,), (2,), (3,)]
print("ok")
