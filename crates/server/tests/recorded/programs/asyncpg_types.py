"""asyncpg's introspection of types: arrays, and whatever it has no codec for. Usage: asyncpg_types.py PORT"""

import asyncio
import sys

import asyncpg


async def main():
    connection = await asyncpg.connect(host="127.0.0.1", port=int(sys.argv[1]), user="tidewater", database="postgres")
    for query in [
        "SELECT ARRAY[1, 2]::int[]",
        "SELECT ARRAY['a']::name[]",
        "SELECT ARRAY[1.5]::numeric[], ARRAY['2024-01-01']::date[]",
        "SELECT tags FROM customers",
        "SELECT 'pg_class'::regclass, 'int4'::regtype",
        "SELECT proargtypes FROM pg_proc WHERE oid = 1318",
        "SELECT indkey FROM pg_index WHERE indrelid = 'items'::regclass",
        "SELECT typtype, typname FROM pg_type WHERE oid = 23",
    ]:
        await connection.fetch(query)
    await connection.execute("SET search_path = public")
    await connection.set_type_codec("numeric", encoder=str, decoder=str, schema="pg_catalog", format="text")
    await connection.set_type_codec("json", encoder=str, decoder=str, schema="pg_catalog")
    await connection.fetch("SELECT ARRAY['{}']::json[], ARRAY['{}']::jsonb[]")
    await connection.close()


asyncio.run(main())
