"""psqlodbc through pyodbc: parameters, catalog functions, transactions, errors. Usage: odbc_client.py PORT"""

import datetime
import decimal
import glob
import sys

import pyodbc

driver = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")[0]
connection = pyodbc.connect(
    f"DRIVER={driver};SERVER=127.0.0.1;PORT={sys.argv[1]};DATABASE=test;UID=test;SSLmode=disable", autocommit=True
)
cursor = connection.cursor()
cursor.execute("CREATE TABLE items (id int PRIMARY KEY, name varchar(20) NOT NULL, price numeric(8, 2), at timestamp, ok boolean)")
cursor.execute("CREATE TABLE parts (id serial PRIMARY KEY, item int REFERENCES items)")
cursor.execute("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n, sum(price) AS total FROM items GROUP BY name")
at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
cursor.executemany(
    "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
    [(1, "ash", decimal.Decimal("1.50"), at, True), (2, "ash", decimal.Decimal("2.25"), None, False)],
)
row = cursor.execute("SELECT id, name, price, at FROM items WHERE id = ?", 1).fetchone()
assert tuple(row) == (1, "ash", decimal.Decimal("1.50"), at), row
row = cursor.execute("SELECT * FROM totals WHERE name = ?", "ash").fetchone()
assert tuple(row) == ("ash", 2, decimal.Decimal("3.75")), row

assert {(table.table_name, table.table_type) for table in cursor.tables(schema="public")} >= {("items", "TABLE"), ("parts", "TABLE")}
columns = [(column.column_name, column.type_name, column.nullable) for column in cursor.columns(table="items")]
assert columns == [("id", "int4", 0), ("name", "varchar", 0), ("price", "numeric", 1), ("at", "timestamp", 1), ("ok", "bool", 1)], columns
assert [key.column_name for key in cursor.primaryKeys(table="items")] == ["id"]
keys = [(key.pktable_name, key.fktable_name, key.fkcolumn_name) for key in cursor.foreignKeys(foreignTable="parts")]
assert keys == [("items", "parts", "item")], keys
assert "items_pkey" in [index.index_name for index in cursor.statistics("items")]

connection.autocommit = False
cursor.execute("DELETE FROM items")
connection.rollback()
assert cursor.execute("SELECT count(*) FROM items").fetchval() == 2
connection.commit()
try:
    cursor.execute("INSERT INTO items (id, name) VALUES (1, 'oak')")
    raise AssertionError("a key was taken twice")
except pyodbc.IntegrityError as error:
    assert error.args[0] == "23505", error
connection.rollback()
print("ok")
