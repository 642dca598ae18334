// postgres.js against a server on the port given: tagged queries, helpers, transactions, cursors, notifications.
const postgres = require("postgres");
const assert = require("assert");

async function main() {
  const sql = postgres({ host: "127.0.0.1", port: Number(process.argv[2]), user: "test", database: "test", onnotice: () => {} });
  await sql`CREATE TABLE items (id int PRIMARY KEY, name text, price numeric, at timestamptz, tags text[], body jsonb)`;
  await sql`CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n FROM items GROUP BY name`;
  const at = new Date("2026-01-02T03:04:05.678Z");
  const rows = [
    { id: 1, name: "ash", price: "1.50", at, tags: ["a", "b c"], body: { x: [1] } },
    { id: 2, name: "ash", price: null, at: null, tags: [], body: null },
  ];
  for (const row of rows) {
    await sql`INSERT INTO items ${sql({ ...row, body: sql.json(row.body) })}`;
  }
  const [first] = await sql`SELECT * FROM items WHERE id = ${1} AND name = ANY(${["ash", "oak"]})`;
  assert.deepStrictEqual({ ...first }, rows[0]);
  const inList = await sql`SELECT id FROM items WHERE id IN ${sql([1, 2, 3])} ORDER BY id`;
  assert.deepStrictEqual(inList.map((row) => row.id), [1, 2]);
  await sql.begin(async (transaction) => {
    await transaction`UPDATE items SET name = 'oak' WHERE id = 2`;
    await transaction.savepoint((point) => point`DELETE FROM items`.then(() => { throw new Error("undone"); })).catch((error) => {
      assert.strictEqual(error.message, "undone");
    });
  });
  assert.deepStrictEqual((await sql`SELECT name, n FROM totals ORDER BY name`).map((row) => [row.name, row.n]), [["ash", "1"], ["oak", "1"]]);
  let read = 0;
  await sql`SELECT generate_series(1, 25) AS n`.cursor(10, (part) => { read += part.length; });
  assert.strictEqual(read, 25);
  const heard = new Promise((resolve) => sql.listen("news", resolve));
  await new Promise((resolve) => setTimeout(resolve, 200));
  await sql.notify("news", "told");
  assert.strictEqual(await heard, "told");
  await assert.rejects(sql`INSERT INTO items (id) VALUES (1)`, { code: "23505" });
  await sql.end();
  console.log("ok");
}

main().catch((error) => { console.error(error); process.exit(1); });
