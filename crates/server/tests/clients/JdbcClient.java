// pgjdbc against a server on the port given: batches, generated keys, cursors, arrays, COPY, transactions, metadata.
import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.postgresql.PGConnection;

public class JdbcClient {
    static void expect(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("found " + found + ", expected " + wanted);
        }
    }

    static List<Object> column(ResultSet rows, String name) throws SQLException {
        List<Object> values = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                values.add(rows.getObject(name));
            }
        }
        return values;
    }

    static void typedValues(Connection connection) throws SQLException {
        OffsetDateTime at = OffsetDateTime.of(2026, 1, 2, 3, 4, 5, 678000000, ZoneOffset.UTC);
        String insert = "INSERT INTO items (name, price, at, tags) VALUES (?, ?, ?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (int number = 1; number <= 3; number++) {
                statement.setString(1, number == 3 ? "oak" : "ash");
                statement.setBigDecimal(2, number == 2 ? null : new BigDecimal("1.50"));
                statement.setObject(3, at);
                statement.setArray(4, connection.createArrayOf("text", new String[] {"a", "b c"}));
                statement.addBatch();
            }
            expect(Arrays.stream(statement.executeBatch()).sum(), 3);
            expect(column(statement.getGeneratedKeys(), "id"), List.of(1, 2, 3));
        }
        // The sixth run is prepared on the server, and in binary.
        try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM items WHERE id = ?")) {
            for (int run = 0; run < 8; run++) {
                statement.setInt(1, 1);
                ResultSet rows = statement.executeQuery();
                expect(rows.next(), true);
                expect(rows.getBigDecimal("price"), new BigDecimal("1.50"));
                expect(rows.getObject("at", OffsetDateTime.class).toInstant(), at.toInstant());
                Array tags = rows.getArray("tags");
                expect(Arrays.asList((Object[]) tags.getArray()), List.of("a", "b c"));
            }
        }
    }

    static void transactions(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("UPDATE items SET name = 'elm' WHERE id = 3");
            Savepoint point = connection.setSavepoint();
            statement.executeUpdate("DELETE FROM items");
            connection.rollback(point);
            connection.commit();
            statement.setFetchSize(10);
            expect(column(statement.executeQuery("SELECT generate_series(1, 95) AS n"), "n").size(), 95);
            connection.commit();
        }
        connection.setAutoCommit(true);
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/test?user=test&sslmode=disable";
        try (Connection connection = DriverManager.getConnection(url); Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE items (id serial PRIMARY KEY, name varchar(20), price numeric(8, 2), at timestamptz, tags text[])");
            statement.execute("CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n FROM items GROUP BY name");
            typedValues(connection);
            transactions(connection);
            expect(column(statement.executeQuery("SELECT n FROM totals ORDER BY name"), "n"), List.of(2L, 1L));
            long copied = connection.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY items (id, name) FROM STDIN", new StringReader("10\tfir\n11\tfir\n"));
            expect(copied, 2L);
            try {
                statement.execute("INSERT INTO items (id) VALUES (10)");
                throw new AssertionError("a key was taken twice");
            } catch (SQLException error) {
                expect(error.getSQLState(), "23505");
            }
            expect(column(connection.getMetaData().getPrimaryKeys(null, "public", "items"), "COLUMN_NAME"), List.of("id"));
            expect(column(connection.getMetaData().getColumns(null, "public", "items", "%"), "TYPE_NAME"), List.of("serial", "varchar", "numeric", "timestamptz", "_text"));
            expect(column(connection.getMetaData().getTables(null, "public", "%", new String[] {"MATERIALIZED VIEW"}), "TABLE_NAME"), List.of("totals"));
        }
        System.out.println("ok");
    }
}
