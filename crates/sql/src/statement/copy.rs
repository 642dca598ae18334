//! COPY to and from the client.

use catalog::{Generation, Object, ObjectKind};
use repr::{PgError, SqlState};

use super::{BoundStatement, resolve_table, subscribe, target_column};
use crate::bind::{BindContext, BoundQuery, bind_query};
use crate::parse::{CopyIn, CopyOut, CopySource, Options, boolean_option};

/// What COPY TO STDOUT sends.
#[derive(Clone, Debug)]
pub enum CopyOutSource {
    /// A query's rows.
    Query(BoundQuery),
    /// A SUBSCRIBE's, for as long as it goes on.
    Subscribe(Box<BoundStatement>),
}

/// How COPY writes a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Fields separated by a delimiter, backslash escapes.
    Text,
    /// Fields quoted where needed.
    Csv,
    /// PostgreSQL's binary layout.
    Binary,
}

/// COPY's options, the format's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// How rows are written.
    pub format: CopyFormat,
    /// Between fields.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    /// Whether the first line has the columns' names.
    pub header: bool,
    /// CSV's quote.
    pub quote: u8,
    /// What precedes a quote within quotes.
    pub escape: u8,
}

impl CopyOptions {
    /// The options under the names of COPY. Errors: 42601 and 22023 in PostgreSQL's words.
    pub(crate) fn from_options(options: &Options) -> Result<CopyOptions, PgError> {
        let format = match options.get("format").map(String::as_str) {
            None | Some("text") => CopyFormat::Text,
            Some("csv") => CopyFormat::Csv,
            Some("binary") => CopyFormat::Binary,
            Some(other) => {
                let message = format!("COPY format \"{other}\" not recognized");
                return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
        let csv = format == CopyFormat::Csv;
        let mut copy = CopyOptions {
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_string() },
            header: false,
            quote: b'"',
            escape: b'"',
        };
        let syntax_error = |message: String| Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        for (name, value) in options {
            match name.as_str() {
                "format" => {}
                "delimiter" => copy.delimiter = one_byte(name, value)?,
                "null" if value.contains(['\r', '\n']) => {
                    let message = "COPY null representation cannot use newline or carriage return";
                    return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
                }
                "null" => copy.null = value.clone(),
                "header" if value == "match" => return Err(PgError::unsupported("HEADER MATCH")),
                "header" => copy.header = boolean_option(name, value)?,
                "quote" | "escape" if !csv => return syntax_error(format!("COPY {name} available only in CSV mode")),
                "quote" => copy.quote = one_byte(name, value)?,
                "escape" => copy.escape = one_byte(name, value)?,
                "freeze" => {}
                "encoding" if ["utf8", "utf-8", "unicode"].contains(&value.to_lowercase().as_str()) => {}
                "encoding" => return Err(PgError::unsupported(format!("COPY in encoding {value}"))),
                "force_quote" | "force_not_null" | "force_null" => {
                    return Err(PgError::unsupported(format!("COPY {name}")));
                }
                other => return syntax_error(format!("option \"{other}\" not recognized")),
            }
        }
        if csv && options.contains_key("quote") && !options.contains_key("escape") {
            copy.escape = copy.quote;
        }
        if format == CopyFormat::Binary {
            for name in ["delimiter", "null", "header"] {
                if options.contains_key(name) {
                    return syntax_error(format!("cannot specify {} in BINARY mode", name.to_uppercase()));
                }
            }
        }
        if csv && copy.delimiter == copy.quote {
            let message = "COPY delimiter and quote must be different";
            return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        Ok(copy)
    }
}

fn one_byte(name: &str, value: &str) -> Result<u8, PgError> {
    match value.as_bytes() {
        [byte] if !matches!(byte, b'\r' | b'\n') => Ok(*byte),
        _ => {
            let message = format!("COPY {name} must be a single one-byte character");
            Err(PgError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
        }
    }
}

pub(super) fn bind_out(copy: &CopyOut, context: &BindContext) -> Result<BoundStatement, PgError> {
    let source = match &copy.source {
        CopySource::Query(query) => CopyOutSource::Query(bind_query(query, context)?),
        CopySource::Subscribe(subscribe) => CopyOutSource::Subscribe(Box::new(subscribe::bind(subscribe, context)?)),
    };
    Ok(BoundStatement::CopyOut { source, options: CopyOptions::from_options(&copy.options)? })
}

fn is_generated(table: &Object, index: usize) -> bool {
    matches!(&table.kind, ObjectKind::Table { details, .. } if details[index].generation == Generation::Stored)
}

pub(super) fn bind_in(copy: &CopyIn, context: &BindContext) -> Result<BoundStatement, PgError> {
    let (table, schema) = resolve_table(&copy.table, context)?;
    let columns = match copy.columns.is_empty() {
        true => (0..schema.columns.len()).filter(|index| !is_generated(table, *index)).collect(),
        false => {
            super::check_distinct_columns(copy.columns.iter().map(String::as_str))?;
            let columns = copy.columns.iter().map(|name| target_column(schema, &table.name, name, None));
            let columns = columns.collect::<Result<Vec<usize>, PgError>>()?;
            if let Some(index) = columns.iter().find(|index| is_generated(table, **index)) {
                let message = format!("column \"{}\" is a generated column", schema.columns[*index].name);
                return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message)
                    .with_detail("Generated columns cannot be used in COPY."));
            }
            columns
        }
    };
    let options = CopyOptions::from_options(&copy.options)?;
    Ok(BoundStatement::CopyIn { table: table.id, columns, options })
}
