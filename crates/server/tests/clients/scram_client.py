"""psycopg 3 and asyncpg, each by password on the port given, in TLS or in the clear; a wrong password is the right error."""
import asyncio
import socket
import ssl
import sys

import asyncpg
import psycopg

PORT, TLS = int(sys.argv[1]), sys.argv[2] == "tls"
ADDRESS = {"host": "127.0.0.1", "port": PORT, "user": "tidewater"}

with psycopg.connect(**ADDRESS, dbname="test", password="of the owner", sslmode="require" if TLS else "disable",
                     channel_binding="require" if TLS else "disable") as connection:
    assert connection.execute("SELECT current_user").fetchone() == ("tidewater",)
try:
    psycopg.connect(**ADDRESS, dbname="test", password="wrong", sslmode="require" if TLS else "disable")
    raise SystemExit("a wrong password was accepted")
except psycopg.OperationalError as error:
    assert 'password authentication failed for user "tidewater"' in str(error), error


async def main():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    encryption = context if TLS else False
    connection = await asyncpg.connect(**ADDRESS, database="test", password="of the owner", ssl=encryption)
    assert await connection.fetchval("SELECT current_user") == "tidewater"
    await connection.close()
    try:
        await asyncpg.connect(**ADDRESS, database="test", password="wrong", ssl=encryption)
        raise SystemExit("a wrong password was accepted")
    except asyncpg.InvalidPasswordError:
        pass


asyncio.run(main())

if TLS:
    # TLS from the first byte on, as libpq 17 has it; without saying that it is PostgreSQL's protocol it is refused.
    for protocols, expected in ((["postgresql"], b"R"), ([], b"E")):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(protocols)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", PORT))) as stream:
            body = b"\0\3\0\0user\0tidewater\0\0"
            stream.sendall((len(body) + 4).to_bytes(4, "big") + body)
            assert stream.recv(1) == expected, protocols
print("ok")
