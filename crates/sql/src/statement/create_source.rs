//! CREATE SOURCE: both spellings become one [`SourceDescription`].
//!
//! A load generator's columns are its own; the formats `text` and `bytes` have one column of any name. Whether the options
//! mean something is the connector's to judge: `connectors::validate` does before the source is created.

use catalog::ObjectKind;
use repr::source::{Options, SourceDescription};
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState, SqlType};
use sqlparser::ast::{ColumnDef, ColumnOption, TableConstraint};

use super::{BoundStatement, check_distinct_columns, column, creation_target, watermark};
use crate::bind::BindContext;
use crate::parse::watermark::declaration;
use crate::parse::{CreateSource, parse};

pub(super) fn bind(source: &CreateSource, context: &BindContext) -> Result<BoundStatement, PgError> {
    let Some(texts) = &source.late_into else { return bind_one(source, context) };
    let one = |text: &String| {
        let statement = parse(text)?.pop().ok_or_else(|| PgError::internal("a source without a statement"))?;
        Ok((super::bind(&statement, context)?, text.clone()))
    };
    texts.iter().map(one).collect::<Result<_, PgError>>().map(BoundStatement::CreateSources)
}

fn bind_one(source: &CreateSource, context: &BindContext) -> Result<BoundStatement, PgError> {
    let mut options = source.options.clone();
    let connector = match &source.connector {
        Some(connector) => connector.clone(),
        None => with_connector(&mut options)?,
    };
    let mut depends_on = Vec::new();
    if let Some(connection) = &source.connection {
        let (id, connection_options) = connection_options(connection, &connector, context)?;
        depends_on.push(id);
        for (name, value) in connection_options {
            options.entry(name).or_insert(value);
        }
    }
    let schema = source_schema(source, &connector, &options)?;
    let mut row_options = source.row_options.clone();
    let said_of_rows = if source.connector.is_none() { &mut options } else { &mut row_options };
    let watermark = watermark::bind(&schema.columns, &source.constraints, said_of_rows, context)?;
    if let Some(unknown) = row_options.keys().next() {
        return Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unrecognized source option \"{unknown}\""),
        )
        .with_hint("Options of the connector stand behind its name."));
    }
    let format = match (connector.as_str(), &source.format) {
        ("load_generator", None) => None,
        ("load_generator", Some(_)) => {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "a load generator has no FORMAT"));
        }
        (_, Some(format)) => Some(format.clone()),
        (_, None) => {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "FORMAT is required for a source")
                .with_hint("The formats are CSV, JSON, TEXT and BYTES."));
        }
    };
    let format_options = format_options(source, format.as_deref(), &mut options);
    Ok(BoundStatement::CreateSource {
        schema_name: creation_target(&source.name, false, context)?.schema,
        name: source.name.name.clone(),
        description: SourceDescription { connector, options, format, format_options, schema, watermark },
        if_not_exists: source.if_not_exists,
        depends_on,
    })
}

/// The connector that WITH (connector = ..) names; its options are renamed to ours.
fn with_connector(options: &mut Options) -> Result<String, PgError> {
    let Some(connector) = options.remove("connector") else {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "option connector is required for a source WITH options"));
    };
    let mut rename = |from: &str, to: &str| {
        if let Some(value) = options.remove(from) {
            options.insert(to.to_string(), value);
        }
    };
    match connector.as_str() {
        "kafka" => {
            rename("properties.bootstrap.server", "broker");
            rename("properties.bootstrap.servers", "broker");
            rename("kafka.brokers", "broker");
            rename("kafka.topic", "topic");
            rename("scan.startup.mode", "start_offset");
            Ok(connector)
        }
        "nexmark" => {
            rename("nexmark.table.type", "table");
            rename("nexmark.event.num", "events");
            if let Some(table) = options.get_mut("table") {
                *table = table.to_lowercase();
            }
            options.insert("generator".to_string(), "nexmark".to_string());
            Ok("load_generator".to_string())
        }
        "posix_fs" | "file" => {
            rename("posix_fs.root", "path");
            Ok("file".to_string())
        }
        other => Err(PgError::unsupported(format!("connector \"{other}\""))),
    }
}

fn connection_options(
    name: &crate::parse::Name,
    connector: &str,
    context: &BindContext,
) -> Result<(ObjectId, Options), PgError> {
    let undefined = || {
        let message = format!("connection \"{name}\" does not exist");
        PgError::new(SqlState::UNDEFINED_OBJECT, message).at(name.position)
    };
    let object = context.resolve(name.schema.as_deref(), &name.name).ok_or_else(undefined)?;
    match &object.kind {
        ObjectKind::Connection { connector: connected, options } if connected == connector => {
            Ok((object.id, options.clone()))
        }
        ObjectKind::Connection { connector: connected, .. } => {
            let message = format!("connection \"{name}\" is to {connected}, not to {connector}");
            Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message).at(name.position))
        }
        _ => {
            let message = format!("\"{name}\" is not a connection");
            Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, message).at(name.position))
        }
    }
}

/// RisingWave writes the CSV options `without_header` and `delimiter`; ours are COPY's.
fn format_options(source: &CreateSource, format: Option<&str>, options: &mut Options) -> Options {
    let mut format_options = source.format_options.clone();
    if format == Some("csv") {
        if let Some(without) = format_options.remove("without_header") {
            let header = if without == "true" { "false" } else { "true" };
            format_options.insert("header".to_string(), header.to_string());
        }
        // WITH (connector = 'file', header = true) says them beside the connector's.
        if source.connector.is_none() {
            for name in ["header", "delimiter", "null", "quote", "escape"] {
                if let Some(value) = options.remove(name) {
                    format_options.entry(name.to_string()).or_insert(value);
                }
            }
        }
    }
    format_options
}

fn source_schema(source: &CreateSource, connector: &str, options: &Options) -> Result<RelationSchema, PgError> {
    let constraints = source.constraints.iter().filter(|constraint| declaration(constraint).is_none());
    let constraints: Vec<_> = constraints.cloned().collect();
    if !source.columns.is_empty() || !constraints.is_empty() {
        if let Some(constraint) = constraints.first() {
            return Err(refused(constraint_word(constraint)));
        }
        let columns = source.columns.iter().map(source_column).collect::<Result<Vec<_>, PgError>>()?;
        check_distinct_columns(columns.iter().map(|column| column.name.as_str()))?;
        return Ok(RelationSchema::new(columns));
    }
    let columns = match (connector, source.format.as_deref()) {
        ("load_generator", _) => generator_columns(options)?,
        (_, Some("text")) => vec![ColumnSchema::new("text", SqlType::Text)],
        (_, Some("bytes")) => vec![ColumnSchema::new("data", SqlType::Bytea)],
        _ => {
            return Err(PgError::new(
                SqlState::INVALID_TABLE_DEFINITION,
                "a source in this format needs a column list",
            )
            .with_hint("CREATE SOURCE name (column type, ..) FROM ..")
            .at(source.name.position));
        }
    };
    Ok(RelationSchema::new(columns))
}

/// A column of a source, of which nothing can be promised. Errors: 0A000 for what promises or computes something.
fn source_column(definition: &ColumnDef) -> Result<ColumnSchema, PgError> {
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => return Err(refused("NOT NULL")),
            ColumnOption::Default(_) => return Err(refused("DEFAULT")),
            ColumnOption::PrimaryKey(_) => return Err(refused("PRIMARY KEY")),
            ColumnOption::Unique(_) => return Err(refused("UNIQUE")),
            ColumnOption::Check(_) => return Err(refused("CHECK")),
            ColumnOption::ForeignKey(_) => return Err(refused("REFERENCES")),
            other => return Err(refused(&other.to_string())),
        }
    }
    column::typed(definition)
}

fn constraint_word(constraint: &TableConstraint) -> &'static str {
    match constraint {
        TableConstraint::PrimaryKey(_) => "PRIMARY KEY",
        TableConstraint::Unique(_) => "UNIQUE",
        TableConstraint::ForeignKey(_) => "FOREIGN KEY",
        TableConstraint::Check(_) => "CHECK",
        _ => "a table constraint",
    }
}

fn refused(what: &str) -> PgError {
    PgError::unsupported(format!("{what} on a source"))
}

/// The columns a load generator makes, by `generator` and, for nexmark, `table` (person, auction, bid; bid unless said).
fn generator_columns(options: &Options) -> Result<Vec<ColumnSchema>, PgError> {
    use SqlType::{Int8, Text, Timestamp};
    let columns: &[(&str, SqlType)] = match options.get("generator").map(String::as_str) {
        Some("counter") => &[("counter", Int8)],
        Some("nexmark") => match options.get("table").map_or("bid", String::as_str) {
            "person" => &[
                ("id", Int8),
                ("name", Text),
                ("email_address", Text),
                ("credit_card", Text),
                ("city", Text),
                ("state", Text),
                ("date_time", Timestamp),
                ("extra", Text),
            ],
            "auction" => &[
                ("id", Int8),
                ("item_name", Text),
                ("description", Text),
                ("initial_bid", Int8),
                ("reserve", Int8),
                ("date_time", Timestamp),
                ("expires", Timestamp),
                ("seller", Int8),
                ("category", Int8),
                ("extra", Text),
            ],
            "bid" => &[
                ("auction", Int8),
                ("bidder", Int8),
                ("price", Int8),
                ("channel", Text),
                ("url", Text),
                ("date_time", Timestamp),
                ("extra", Text),
            ],
            other => {
                return Err(PgError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("nexmark has no table \"{other}\""),
                )
                .with_hint("Its tables are person, auction and bid."));
            }
        },
        other => {
            let name = other.unwrap_or_default();
            return Err(PgError::new(SqlState::UNDEFINED_OBJECT, format!("load generator \"{name}\" does not exist"))
                .with_hint("The load generators are counter and nexmark."));
        }
    };
    Ok(columns.iter().map(|(name, sql_type)| ColumnSchema::new(*name, sql_type.clone())).collect())
}
