// node-postgres by password on the port given, in TLS or in the clear; a wrong password is the right error.
const { Client } = require("pg");

const [port, transport] = process.argv.slice(2);

function client(password) {
  const ssl = transport === "tls" ? { rejectUnauthorized: false } : false;
  const address = { host: "127.0.0.1", port: Number(port), user: "tidewater", database: "test" };
  return new Client({ ...address, password, ssl, enableChannelBinding: true });
}

async function main() {
  const right = client("of the owner");
  await right.connect();
  const { rows } = await right.query("SELECT current_user AS name");
  if (rows[0].name !== "tidewater") throw new Error(JSON.stringify(rows));
  await right.end();
  try {
    await client("wrong").connect();
  } catch (error) {
    if (error.code !== "28P01") throw error;
    console.log("ok");
    return;
  }
  throw new Error("a wrong password was accepted");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
