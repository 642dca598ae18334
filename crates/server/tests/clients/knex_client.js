// Knex against a server on the port given: its schema builder, migrations, queries and transactions.
const knex = require("knex");
const assert = require("assert");

// Migrations that need no files.
const source = {
  getMigrations: async () => ["authors_and_books"],
  getMigrationName: (name) => name,
  getMigration: () => ({
    up: (db) => db.schema
      .createTable("authors", (table) => {
        table.increments("id");
        table.string("name", 100).notNullable().unique();
      })
      .createTable("books", (table) => {
        table.increments("id");
        table.integer("author_id").references("id").inTable("authors").onDelete("CASCADE").index();
        table.string("title").defaultTo("untitled");
        table.decimal("price", 8, 2);
        table.timestamps(true, true);
      }),
    down: (db) => db.schema.dropTable("books").dropTable("authors"),
  }),
};

async function main() {
  const connection = { host: "127.0.0.1", port: Number(process.argv[2]), user: "test", database: "test" };
  const db = knex({ client: "pg", connection, migrations: { migrationSource: source } });
  await db.migrate.latest();
  assert.strictEqual(await db.schema.hasTable("books"), true);
  assert.strictEqual(await db.schema.hasColumn("books", "price"), true);
  const columns = await db("books").columnInfo();
  assert.strictEqual(columns.title.type, "character varying");
  assert.strictEqual(columns.title.maxLength, 255);
  const [{ id }] = await db("authors").insert({ name: "ash" }).returning("id");
  await db("books").insert([{ author_id: id, title: "one", price: 1.5 }, { author_id: id, price: 2 }]);
  await db("authors").insert({ name: "ash" }).onConflict("name").ignore();
  await db("authors").insert({ name: "ash" }).onConflict("name").merge();
  await db.schema.createMaterializedView("totals", (view) => {
    view.columns(["name", "n"]);
    view.as(db("authors").join("books", "books.author_id", "authors.id").groupBy("name").select("name", db.raw("count(*)")));
  });
  assert.deepStrictEqual(await db("totals"), [{ name: "ash", n: "2" }]);
  await assert.rejects(db.transaction(async (transaction) => {
    await transaction("books").where({ title: "one" }).update({ price: 3 });
    throw new Error("undone");
  }), { message: "undone" });
  assert.deepStrictEqual(await db("books").select("title", "price").orderBy("id"), [{ title: "one", price: "1.50" }, { title: "untitled", price: "2.00" }]);
  await db.schema.alterTable("books", (table) => { table.renameColumn("title", "name"); table.boolean("read").defaultTo(false); });
  assert.deepStrictEqual(await db("books").where("name", "like", "un%").first("name", "read"), { name: "untitled", read: false });
  await db.schema.dropMaterializedView("totals");
  await db.migrate.rollback();
  assert.strictEqual(await db.schema.hasTable("books"), false);
  await db.destroy();
  console.log("ok");
}

main().catch((error) => { console.error(error); process.exit(1); });
