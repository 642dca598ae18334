// pgx against a server on the port given: typed rows in its binary formats, batches, COPY, transactions, notifications, a pool.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type item struct {
	ID    int32
	Name  string
	Price *float64
	At    time.Time
	Tags  []string
	Body  map[string]any
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func expect(found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		log.Fatalf("found %v, expected %v", found, wanted)
	}
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	connection, err := pgx.Connect(ctx, fmt.Sprintf("postgres://test@127.0.0.1:%s/test?sslmode=disable", os.Args[1]))
	check(err)
	defer connection.Close(ctx)
	run := func(sql string, arguments ...any) {
		_, err := connection.Exec(ctx, sql, arguments...)
		check(err)
	}
	run("CREATE TABLE items (id int PRIMARY KEY, name text, price float8, at timestamptz, tags text[], body jsonb)")
	run("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n FROM items GROUP BY name")

	price := 1.25
	at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	wanted := item{1, "ash", &price, at, []string{"a", "b c"}, map[string]any{"x": 1.0}}
	run("INSERT INTO items VALUES ($1, $2, $3, $4, $5, $6)", wanted.ID, wanted.Name, wanted.Price, wanted.At, wanted.Tags, wanted.Body)
	rows, err := connection.Query(ctx, "SELECT * FROM items WHERE id = $1", 1)
	check(err)
	found, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[item])
	check(err)
	found.At = found.At.UTC()
	expect(found, wanted)

	source := pgx.CopyFromRows([][]any{{int32(2), "ash", nil, at, []string{}}, {int32(3), "oak", 2.0, at, nil}})
	copied, err := connection.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "name", "price", "at", "tags"}, source)
	check(err)
	expect(copied, int64(2))

	batch := &pgx.Batch{}
	batch.Queue("UPDATE items SET name = $1 WHERE id = $2", "elm", 3)
	batch.Queue("SELECT count(*) FROM items WHERE name = $1", "elm")
	results := connection.SendBatch(ctx, batch)
	updated, err := results.Exec()
	check(err)
	expect(updated.RowsAffected(), int64(1))
	var count int64
	check(results.QueryRow().Scan(&count))
	expect(count, int64(1))
	check(results.Close())
	check(connection.QueryRow(ctx, "SELECT n FROM totals WHERE name = $1", "ash").Scan(&count))
	expect(count, int64(2))

	undone := errors.New("undone")
	err = pgx.BeginFunc(ctx, connection, func(transaction pgx.Tx) error {
		_, err := transaction.Exec(ctx, "DELETE FROM items")
		check(err)
		return undone
	})
	expect(errors.Is(err, undone), true)
	check(connection.QueryRow(ctx, "SELECT count(*) FROM items").Scan(&count))
	expect(count, int64(3))

	var refused *pgconn.PgError
	_, err = connection.Exec(ctx, "INSERT INTO items (id) VALUES (1)")
	expect(errors.As(err, &refused) && refused.Code == "23505", true)

	run("LISTEN news")
	run("NOTIFY news, 'told'")
	heard, err := connection.WaitForNotification(ctx)
	check(err)
	expect(heard.Payload, "told")

	hurried, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, err = connection.Exec(hurried, "SELECT pg_sleep(30)")
	expect(errors.Is(err, context.DeadlineExceeded), true)
	fmt.Println("ok")
}
