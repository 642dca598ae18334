// Drizzle against a server on the port given: typed tables, inserts, joins, conflicts, transactions, a materialized view.
const { drizzle } = require("drizzle-orm/node-postgres");
const { pgTable, pgMaterializedView, serial, integer, text, numeric, timestamp, jsonb, vector } = require("drizzle-orm/pg-core");
const { eq, count, sql, l2Distance } = require("drizzle-orm");
const { Client } = require("pg");
const assert = require("assert");

const authors = pgTable("authors", { id: serial().primaryKey(), name: text().notNull().unique() });
const books = pgTable("books", {
  id: serial().primaryKey(),
  authorId: integer("author_id").references(() => authors.id),
  title: text().default("untitled"),
  price: numeric({ precision: 8, scale: 2 }),
  at: timestamp({ withTimezone: true }).defaultNow(),
  body: jsonb(),
  embedding: vector({ dimensions: 2 }),
});
const totals = pgMaterializedView("totals").as((db) =>
  db.select({ name: authors.name, n: count().as("n") }).from(authors).innerJoin(books, eq(books.authorId, authors.id)).groupBy(authors.name));

async function main() {
  const client = new Client({ host: "127.0.0.1", port: Number(process.argv[2]), user: "test", database: "test" });
  await client.connect();
  const db = drizzle(client);
  await db.execute(sql`CREATE TABLE authors (id serial PRIMARY KEY, name text NOT NULL UNIQUE)`);
  await db.execute(sql`CREATE TABLE books (id serial PRIMARY KEY, author_id int REFERENCES authors, title text DEFAULT 'untitled',
    price numeric(8, 2), at timestamptz DEFAULT now(), body jsonb, embedding vector(2))`);
  await db.execute(sql`CREATE MATERIALIZED VIEW totals AS SELECT a.name, count(*) AS n FROM authors a JOIN books b ON b.author_id = a.id GROUP BY a.name`);
  const [author] = await db.insert(authors).values({ name: "ash" }).returning();
  await db.insert(books).values([
    { authorId: author.id, title: "one", price: "1.50", body: { x: [1] }, embedding: [1, 2] },
    { authorId: author.id, embedding: [5, 5] },
  ]);
  await db.insert(authors).values({ name: "ash" }).onConflictDoUpdate({ target: authors.name, set: { name: "oak" } });
  const joined = await db.select().from(books).innerJoin(authors, eq(books.authorId, authors.id)).orderBy(books.id);
  assert.deepStrictEqual(joined.map((row) => [row.authors.name, row.books.title, row.books.price, row.books.body]), [["oak", "one", "1.50", { x: [1] }], ["oak", "untitled", null, null]]);
  assert.ok(joined[0].books.at instanceof Date);
  const [near] = await db.select({ id: books.id, embedding: books.embedding }).from(books).orderBy(l2Distance(books.embedding, [4, 4])).limit(1);
  assert.deepStrictEqual(near, { id: 2, embedding: [5, 5] });
  assert.deepStrictEqual(await db.select().from(totals), [{ name: "oak", n: 2 }]);
  await assert.rejects(db.transaction(async (transaction) => {
    await transaction.update(books).set({ title: "two" }).where(eq(books.id, 1));
    transaction.rollback();
  }));
  assert.strictEqual((await db.select().from(books).where(eq(books.title, "one"))).length, 1);
  await client.end();
  console.log("ok");
}

main().catch((error) => { console.error(error); process.exit(1); });
