// node-postgres: arrays, names and types. Usage: node node_postgres.js PORT
const { Client } = require('pg')

async function main() {
  const client = new Client({ host: '127.0.0.1', port: process.argv[2], user: 'tidewater', database: 'postgres' })
  await client.connect()
  await client.query('SELECT oid, typname, typarray FROM pg_type WHERE typname = ANY($1) ORDER BY oid', [['int4', 'text', 'jsonb']])
  await client.query('SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1', ['public'])
  await client.query(`SELECT column_name, data_type, udt_name, is_nullable, column_default, character_maximum_length,
    numeric_precision, numeric_scale, is_identity FROM information_schema.columns
    WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position`, ['public', 'customers'])
  await client.query("SELECT 'customers'::regclass, 'customers'::regclass::oid = $1", [1])
  await client.query('SELECT current_schema(), current_schemas(true), pg_typeof(1)::text')
  await client.end()
}

main()
