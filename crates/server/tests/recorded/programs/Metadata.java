// pgjdbc's DatabaseMetaData over every object. Usage: java -cp postgresql.jar Metadata.java PORT
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;

public class Metadata {
    interface Call {
        ResultSet of() throws Exception;
    }

    static void read(Call call) {
        try (ResultSet rows = call.of()) {
            while (rows.next()) {
                rows.getObject(1);
            }
        } catch (Exception failure) {
            System.err.println(failure.getMessage());
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/postgres?user=tidewater&sslmode=disable";
        try (Connection connection = DriverManager.getConnection(url)) {
            DatabaseMetaData metadata = connection.getMetaData();
            metadata.getDatabaseProductVersion();
            metadata.getMaxColumnsInIndex();
            metadata.getSQLKeywords();
            metadata.getStringFunctions();
            read(() -> metadata.getCatalogs());
            read(() -> metadata.getSchemas());
            read(() -> metadata.getSchemas(null, "pub%"));
            read(() -> metadata.getTableTypes());
            read(() -> metadata.getTables(null, "public", "%", null));
            read(() -> metadata.getTables(null, null, "customers", new String[] {"TABLE", "VIEW", "MATERIALIZED VIEW"}));
            read(() -> metadata.getColumns(null, "public", "%", "%"));
            read(() -> metadata.getPrimaryKeys(null, "public", "items"));
            read(() -> metadata.getImportedKeys(null, "public", "orders"));
            read(() -> metadata.getExportedKeys(null, "public", "customers"));
            read(() -> metadata.getCrossReference(null, "public", "customers", null, "public", "orders"));
            read(() -> metadata.getIndexInfo(null, "public", "orders", false, true));
            read(() -> metadata.getIndexInfo(null, "public", "customers", true, true));
            read(() -> metadata.getBestRowIdentifier(null, "public", "items", 0, true));
            read(() -> metadata.getTypeInfo());
            read(() -> metadata.getUDTs(null, "public", "%", null));
            read(() -> metadata.getFunctions(null, "pg_catalog", "abs"));
            read(() -> metadata.getFunctionColumns(null, "pg_catalog", "abs", "%"));
            read(() -> metadata.getProcedures(null, "public", "%"));
            read(() -> metadata.getProcedureColumns(null, "public", "%", "%"));
            read(() -> metadata.getTablePrivileges(null, "public", "customers"));
            read(() -> metadata.getColumnPrivileges(null, "public", "customers", "%"));
            read(() -> metadata.getVersionColumns(null, "public", "customers"));
            read(() -> metadata.getClientInfoProperties());
            try (PreparedStatement select = connection.prepareStatement("SELECT * FROM customers c JOIN orders o ON o.customer = c.id")) {
                ResultSetMetaData columns = select.executeQuery().getMetaData();
                for (int column = 1; column <= columns.getColumnCount(); column++) {
                    columns.isAutoIncrement(column);
                    columns.isNullable(column);
                    columns.getColumnTypeName(column);
                }
            }
            connection.createArrayOf("text", new Object[] {"a"});
        }
    }
}
