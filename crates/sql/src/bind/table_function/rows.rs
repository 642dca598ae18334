//! Functions as relations: one, or several side by side (ROWS FROM, unnest of several arrays), WITH ORDINALITY.
//!
//! Whatever the functions, their columns are lists of one row, and the relation is these lists unnested together.

use datafusion::arrow::datatypes::DataType;
use datafusion::functions_nested::make_array::make_array_udf;
use datafusion::logical_expr::Expr;
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use super::{positional, unnest};
use crate::bind::Binder;
use crate::bind::build::{extend, one_row, project};
use crate::bind::expr::Clause;
use crate::bind::from::{Item, name_text};
use crate::bind::query::{Output, OutputColumn};
use crate::bind::scope::{Env, fold};
use crate::cast::{CastContext, cast, type_from_ast};
use crate::functions::set_returning::{RECORDS, SetColumn, is_set_returning, ordinals, record_fields, resolve_set};
use crate::typed::TypedExpr;

/// A call in FROM.
pub(super) struct RowsCall<'e> {
    pub(super) function: String,
    pub(super) args: Vec<&'e ast::Expr>,
}

/// A column of what a call returns.
struct RowsColumn {
    /// The function's own name for it.
    own_name: Option<String>,
    set: SetColumn,
    /// What its elements, which are text, are read as.
    read_as: Option<(SqlType, i32)>,
}

/// Whether a function returns rows whose columns the query says: `AS t (a int, b text)`.
pub(super) fn returns_record(function: &str) -> bool {
    RECORDS.contains(&function)
}

fn syntax_error(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, message)
}

/// The calls that ROWS FROM lists.
pub(super) fn listed_calls<'e>(args: &[&'e ast::Expr]) -> Result<Vec<RowsCall<'e>>, PgError> {
    let call = |expr: &&'e ast::Expr| match expr {
        ast::Expr::Function(ast::Function { name, args: ast::FunctionArguments::List(list), .. }) => {
            let text = name_text(name);
            let function = text.strip_prefix("pg_catalog.").unwrap_or(&text).to_string();
            Ok(RowsCall { args: positional(&list.args, &function)?, function })
        }
        other => Err(PgError::unsupported(format!("\"{other}\" in ROWS FROM"))),
    };
    args.iter().map(call).collect()
}

impl Binder<'_> {
    /// The rows of `calls`, side by side: where one has fewer than another, it ends in NULLs.
    pub(super) fn bind_rows(
        &self,
        calls: &[RowsCall],
        with_ordinality: bool,
        alias: Option<&ast::TableAlias>,
        env: &Env,
    ) -> Result<Item, PgError> {
        let definitions = alias.map_or(&[][..], |alias| &alias.columns);
        let defined = definitions.iter().any(|definition| definition.data_type.is_some());
        if defined && (calls.len() > 1 || !calls.iter().all(|call| returns_record(&call.function))) {
            let message = "a column definition list is only allowed for functions returning \"record\"";
            return Err(syntax_error(message));
        }
        if defined && with_ordinality {
            return Err(syntax_error("WITH ORDINALITY cannot be used with a column definition list"));
        }
        let mut columns: Vec<(String, RowsColumn)> = Vec::new();
        for call in calls {
            let found = self.rows_of_call(call, definitions, env)?;
            columns.extend(found.into_iter().map(|column| (call.function.clone(), column)));
        }
        let first = calls.first().map(|call| call.function.clone()).unwrap_or_default();
        let relation = alias.map_or(first, |alias| fold(&alias.name));
        let only = columns.len() == 1;
        let names: Vec<String> = columns
            .iter()
            .map(|(function, column)| match &column.own_name {
                Some(name) => name.clone(),
                None if only => relation.clone(),
                None => function.clone(),
            })
            .collect();
        let output =
            self.side_by_side(names, columns.into_iter().map(|(_, column)| column).collect(), with_ordinality)?;
        match alias {
            Some(alias) if !defined => self.aliased(output, alias),
            _ => {
                let scope = output.scope(&relation);
                Ok((output.plan, scope))
            }
        }
    }

    fn rows_of_call(
        &self,
        call: &RowsCall,
        definitions: &[ast::TableAliasColumnDef],
        env: &Env,
    ) -> Result<Vec<RowsColumn>, PgError> {
        let mut args = Vec::new();
        for arg in &call.args {
            args.push(self.bind_expr(arg, env, Clause::FromFunction)?);
        }
        if returns_record(&call.function) {
            return defined_columns(&call.function, args, definitions);
        }
        if is_set_returning(&call.function) {
            let columns = resolve_set(&call.function, args)?.columns.into_iter();
            return Ok(columns
                .map(|set| RowsColumn { own_name: set.name.map(str::to_string), set, read_as: None })
                .collect());
        }
        let typed = self.call(&call.function, args)?;
        let set = SetColumn {
            name: None,
            list: make_array_udf().call(vec![typed.expr]),
            element: typed.sql_type,
            typmod: typed.typmod,
        };
        Ok(vec![RowsColumn { own_name: None, set, read_as: None }])
    }

    fn side_by_side(
        &self,
        names: Vec<String>,
        columns: Vec<RowsColumn>,
        with_ordinality: bool,
    ) -> Result<Output, PgError> {
        let mut lists: Vec<Expr> = columns.iter().map(|column| column.set.list.clone()).collect();
        let plan = self.resolve_subqueries(one_row(), &mut lists.iter_mut().collect::<Vec<_>>())?;
        let (lists, mut places): (Vec<Expr>, Vec<_>) = lists.into_iter().map(|list| self.named(list)).unzip();
        let mut plan = project(plan, lists)?;
        if with_ordinality {
            let of = places.iter().zip(&columns).map(|(place, column)| {
                (Expr::Column(place.clone()), DataType::new_list(column.set.element.arrow(), true))
            });
            let (numbers, place) = self.named(ordinals(of.collect()));
            plan = extend(plan, vec![numbers])?;
            places.push(place);
        }
        plan = unnest(plan, places.clone())?;
        let mut read = Vec::new();
        let mut output = Vec::new();
        for ((name, column), place) in names.into_iter().zip(columns).zip(&places) {
            let SetColumn { element, typmod, .. } = column.set;
            let mut typed = TypedExpr { expr: Expr::Column(place.clone()), sql_type: element, typmod };
            if let Some((sql_type, typmod)) = column.read_as {
                // Text that does not fit a length is an error, as everywhere that it is not cast by hand.
                let context = match sql_type {
                    SqlType::Varchar | SqlType::Bpchar => CastContext::Assignment,
                    _ => CastContext::Explicit,
                };
                let cast = cast(typed, &sql_type, typmod, context)?;
                let (expr, place) = self.named(cast.expr);
                read.push(expr);
                typed = TypedExpr { expr: Expr::Column(place), sql_type, typmod };
            }
            output.push(OutputColumn { name, typed, nullable: true, constant: None });
        }
        if with_ordinality && let Some(place) = places.last() {
            let typed = TypedExpr::new(Expr::Column(place.clone()), SqlType::Int8);
            output.push(OutputColumn { name: "ordinality".to_string(), typed, nullable: false, constant: None });
        }
        let plan = extend(plan, read)?;
        let exprs = output.iter().map(|column| column.typed.expr.clone()).collect();
        Ok(Output { plan: crate::bind::query::narrowed(plan, exprs)?, columns: output })
    }
}

/// The columns that a column definition list asks of JSON objects.
fn defined_columns(
    function: &str,
    args: Vec<TypedExpr>,
    definitions: &[ast::TableAliasColumnDef],
) -> Result<Vec<RowsColumn>, PgError> {
    let mut columns = Vec::new();
    for definition in definitions {
        let Some(data_type) = &definition.data_type else { continue };
        columns.push((fold(&definition.name), type_from_ast(data_type)?));
    }
    if columns.is_empty() || columns.len() < definitions.len() {
        return Err(syntax_error("a column definition list is required for functions returning \"record\""));
    }
    if columns.iter().any(|(_, (sql_type, _))| matches!(sql_type, SqlType::Array(_))) {
        return Err(PgError::unsupported(format!("a column of {function} that is an array"))
            .with_hint("Take it as json and use json_array_elements."));
    }
    let names: Vec<(String, SqlType)> =
        columns.iter().map(|(name, (sql_type, _))| (name.clone(), sql_type.clone())).collect();
    let sets = record_fields(function, args, &names)?;
    let columns = columns.into_iter().zip(sets).map(|((name, (sql_type, typmod)), set)| RowsColumn {
        own_name: Some(name),
        read_as: (set.element == SqlType::Text).then_some((sql_type, typmod)),
        set: SetColumn { ..set },
    });
    Ok(columns.collect())
}
