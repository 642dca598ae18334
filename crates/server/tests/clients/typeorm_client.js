// TypeORM against a server on the port given: tables made from entities and compared with them again, relations, queries.
const { DataSource, EntitySchema } = require("typeorm");
const assert = require("assert");

const Author = new EntitySchema({
  name: "Author",
  columns: {
    id: { type: Number, primary: true, generated: true },
    name: { type: String, unique: true, length: 100 },
    born: { type: "timestamptz", nullable: true },
  },
  relations: { books: { type: "one-to-many", target: "Book", inverseSide: "author", cascade: true } },
});
const Book = new EntitySchema({
  name: "Book",
  columns: {
    id: { type: Number, primary: true, generated: true },
    title: { type: String, default: "untitled" },
    price: { type: "numeric", precision: 8, scale: 2, nullable: true },
    tags: { type: "text", array: true, default: () => "'{}'" },
  },
  indices: [{ name: "book_title", columns: ["title"] }],
  relations: { author: { type: "many-to-one", target: "Author", inverseSide: "books", onDelete: "CASCADE", joinColumn: true } },
});

async function main() {
  const options = { type: "postgres", host: "127.0.0.1", port: Number(process.argv[2]), username: "test", database: "test", entities: [Author, Book] };
  const source = await new DataSource({ ...options, synchronize: true }).initialize();
  // What it reads back of the tables is what it made: nothing is left to be changed.
  const changes = await source.driver.createSchemaBuilder().log();
  assert.deepStrictEqual(changes.upQueries.map((query) => query.query), []);
  const authors = source.getRepository("Author");
  await authors.save({ name: "ash", books: [{ title: "one", price: "1.50", tags: ["a", "b"] }, {}] });
  const [ash] = await authors.find({ where: { name: "ash" }, relations: { books: true }, order: { books: { id: "ASC" } } });
  assert.deepStrictEqual(ash.books.map((book) => [book.title, book.price, book.tags]), [["one", "1.50", ["a", "b"]], ["untitled", null, []]]);
  await source.query("CREATE MATERIALIZED VIEW totals AS SELECT a.name, count(*) AS n FROM author a JOIN book b ON b.\"authorId\" = a.id GROUP BY a.name");
  assert.deepStrictEqual(await source.query("SELECT * FROM totals WHERE name = $1", ["ash"]), [{ name: "ash", n: "2" }]);
  await assert.rejects(source.transaction(async (manager) => {
    await manager.update("Book", { title: "one" }, { title: "two" });
    throw new Error("undone");
  }), { message: "undone" });
  const query = source.getRepository("Book").createQueryBuilder("b").innerJoin("b.author", "a").where("a.name = :name", { name: "ash" });
  assert.strictEqual(await query.andWhere("b.title ILIKE :like", { like: "O%" }).getCount(), 1);
  await assert.rejects(authors.insert({ name: "ash" }), (error) => error.driverError.code === "23505");
  await source.query("DROP MATERIALIZED VIEW totals");
  await source.dropDatabase();
  await source.destroy();
  console.log("ok");
}

main().catch((error) => { console.error(error); process.exit(1); });
