//! `CREATE [MATERIALIZED] VIEW`: the query, under the column names the view gives them.

use repr::{OnError, PgError, SqlState, ViewOptions};

use super::{BoundStatement, check_distinct_columns, creation_target, invalid_option, retain_history};
use crate::bind::{BindContext, bind_query};
use crate::parse::CreateView;

pub(super) fn bind(view: &CreateView, context: &BindContext) -> Result<BoundStatement, PgError> {
    let schema_name = creation_target(&view.name, false, context)?.schema;
    let options = options(view)?;
    if view.materialized && view.or_replace {
        return Err(PgError::unsupported("CREATE OR REPLACE MATERIALIZED VIEW"));
    }
    let mut query = bind_query(&view.query, context)?;
    if context.parameter_types.borrow().iter().any(Option::is_some) {
        return Err(PgError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
    }
    if view.columns.len() > query.schema.columns.len() {
        let message = match view.materialized {
            true => "too many column names were specified",
            false => "CREATE VIEW specifies more column names than columns",
        };
        return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
    }
    for (column, name) in query.schema.columns.iter_mut().zip(&view.columns) {
        column.name = name.clone();
    }
    check_distinct_columns(query.schema.columns.iter().map(|column| column.name.as_str()))?;
    Ok(BoundStatement::CreateView {
        schema_name,
        name: view.name.name.clone(),
        query,
        query_text: view.query_text.clone(),
        or_replace: view.or_replace,
        materialized: view.materialized,
        options,
        if_not_exists: view.if_not_exists,
    })
}

/// Errors: `22023` for a value that an option does not have, `0A000` for an option there is not.
fn options(view: &CreateView) -> Result<ViewOptions, PgError> {
    let mut options = ViewOptions { emit_on_window_close: view.emit_on_window_close, ..ViewOptions::default() };
    if view.emit_on_window_close && !view.materialized {
        return Err(PgError::unsupported("EMIT ON WINDOW CLOSE of a view that is not materialized")
            .with_hint("A plain view keeps nothing that it could give later: use CREATE MATERIALIZED VIEW."));
    }
    let mut said = view.options.clone();
    if view.materialized {
        options.retain_history_ms = retain_history(&mut said)?;
    }
    for (name, value) in &said {
        match name.as_str() {
            "on_error" if view.materialized => {
                options.on_error = OnError::parse(&value.to_lowercase())
                    .ok_or_else(|| invalid_option("ON ERROR", value, "quarantine, fail, null"))?;
            }
            _ => return Err(PgError::unsupported(format!("view option \"{name}\""))),
        }
    }
    Ok(options)
}
