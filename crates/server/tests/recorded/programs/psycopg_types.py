"""psycopg's TypeInfo.fetch, by names and OIDs. Usage: psycopg_types.py PORT"""

import sys

import psycopg
from psycopg.types import TypeInfo
from psycopg.types.composite import CompositeInfo
from psycopg.types.enum import EnumInfo
from psycopg.types.multirange import MultirangeInfo
from psycopg.types.range import RangeInfo

with psycopg.connect(host="127.0.0.1", port=sys.argv[1], user="tidewater", dbname="postgres") as connection:
    for name in ["int4", "text", "varchar", "timestamptz", "numeric", "jsonb", "uuid", "nothing"]:
        TypeInfo.fetch(connection, name)
    EnumInfo.fetch(connection, "nothing")
    RangeInfo.fetch(connection, "nothing")
    MultirangeInfo.fetch(connection, "nothing")
    CompositeInfo.fetch(connection, "nothing")
    connection.execute("SELECT %s::regclass, %s::regtype", ["customers", "int4"]).fetchall()
