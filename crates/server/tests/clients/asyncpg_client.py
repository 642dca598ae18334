"""asyncpg against a server on the port given: it speaks the extended protocol and binary formats only."""
import asyncio
import decimal
import sys

import asyncpg


async def main():
    connection = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="test", database="test")
    await connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(8,2))")
    await connection.execute("CREATE MATERIALIZED VIEW totals AS SELECT name, sum(price) AS total FROM items GROUP BY name")
    await connection.executemany("INSERT INTO items VALUES ($1, $2, $3)", [(i, f"n{i % 2}", decimal.Decimal(i)) for i in range(10)])
    rows = await connection.fetch("SELECT name, total FROM totals WHERE total > $1 ORDER BY name", decimal.Decimal(1))
    assert [tuple(row) for row in rows] == [("n0", decimal.Decimal(20)), ("n1", decimal.Decimal(25))], rows
    async with connection.transaction():
        assert await connection.fetchval("SELECT count(*) FROM items") == 10
    try:
        await connection.fetch("SELECT * FROM missing")
        raise SystemExit("a missing table was found")
    except asyncpg.UndefinedTableError:
        pass
    assert await connection.fetchval("SELECT name FROM items WHERE id = $1", 3) == "n1"
    await connection.close()


asyncio.run(main())
print("ok")
