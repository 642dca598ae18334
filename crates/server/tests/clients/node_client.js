// node-postgres against a server on the port given.
const { Client } = require("pg");
const assert = require("assert");

async function main() {
  const client = new Client({ host: "127.0.0.1", port: Number(process.argv[2]), user: "test", database: "test" });
  await client.connect();
  await client.query("CREATE TABLE items (id int PRIMARY KEY, name text, ok boolean)");
  await client.query("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n FROM items GROUP BY name");
  await client.query("INSERT INTO items VALUES ($1, $2, $3), ($4, $2, $5)", [1, "ash", true, 2, null]);
  const items = await client.query("SELECT id, name, ok FROM items WHERE id = $1", [1]);
  assert.deepStrictEqual(items.rows, [{ id: 1, name: "ash", ok: true }]);
  const totals = await client.query({ name: "totals", text: "SELECT * FROM totals WHERE name = $1", values: ["ash"] });
  assert.deepStrictEqual(totals.rows, [{ name: "ash", n: "2" }]);
  await assert.rejects(client.query("SELECT 1 / $1::int", [0]), { code: "22012" });
  await client.end();
  console.log("ok");
}

main().catch((error) => { console.error(error); process.exit(1); });
