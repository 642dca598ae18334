//! WITH RECURSIVE and WITH MUTUALLY RECURSIVE.
//!
//! The rows of a query while it is being computed are a scan of a table that no relation is: PostgreSQL's working table for the
//! one, what a binding was or has become for the other ([`MutualRecursion`]).

pub(super) mod well_formed;

use std::cell::OnceCell;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Fields, Schema};
use datafusion::common::Column;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery};
use plan::mutual_recursion::{IterationLimit, MutualRecursion};
use repr::{ColumnSchema, PgError, SqlState, SqlType};
use sqlparser::ast;

use super::Binder;
use super::build::{internal, project};
use super::query::{Output, OutputColumn, check_names};
use super::scope::{Env, fold};
use crate::cast::{CastContext, cast, type_from_ast};
use crate::parse::mutually::{RecursionLimit, of_ctes};
use crate::typed::TypedExpr;

impl Binder<'_> {
    /// WITH MUTUALLY RECURSIVE: queries that see each other, all of declared columns, then the query over them.
    pub(super) fn bind_mutually_recursive(
        &self,
        ctes: &[ast::Cte],
        query: &ast::Query,
        env: &Env,
        keep_unknown: bool,
    ) -> Result<Output, PgError> {
        let Some((limit, ctes)) = of_ctes(ctes) else {
            return Err(PgError::internal("a WITH clause that is not mutually recursive"));
        };
        check_names(ctes)?;
        let limit = limit.map(iteration_limit).transpose()?.unwrap_or_default();
        let mut names = Vec::with_capacity(ctes.len());
        let mut declared = Vec::with_capacity(ctes.len());
        let mut bindings = Vec::with_capacity(ctes.len());
        for cte in ctes {
            let columns = declared_columns(cte)?;
            let rows = columns.iter().map(|column| OutputColumn {
                name: column.name.clone(),
                typed: TypedExpr {
                    expr: Expr::Column(Column::new_unqualified(&column.name)),
                    sql_type: column.sql_type.clone(),
                    typmod: column.typmod,
                },
                nullable: true,
                constant: None,
            });
            let (name, rows) = self.work_table(rows.collect())?;
            names.push(name);
            declared.push(columns);
            bindings.push((fold(&cte.alias.name), rows));
        }
        let env = Env::Bindings { bindings: &bindings, parent: env };
        let mut plans = Vec::with_capacity(ctes.len());
        for (cte, columns) in ctes.iter().zip(&declared) {
            let output = self.bind_query(&cte.query, &env, true)?;
            plans.push(self.as_declared(output, &fold(&cte.alias.name), columns)?);
        }
        let body = self.bind_body(query, &env, keep_unknown)?;
        let recursion = MutualRecursion { names, bindings: plans, body: body.plan, limit };
        Ok(Output { plan: recursion.into_plan(), columns: body.columns })
    }

    /// The rows of a binding as its columns were declared. Errors: `42804` if they cannot be assigned to them.
    fn as_declared(&self, output: Output, name: &str, declared: &[ColumnSchema]) -> Result<LogicalPlan, PgError> {
        let mismatch = |output: &Output| {
            let list = |types: &mut dyn Iterator<Item = &SqlType>| {
                types.map(|sql_type| sql_type.sql_name().to_string()).collect::<Vec<_>>().join(", ")
            };
            let message = format!(
                "WITH MUTUALLY RECURSIVE query \"{name}\" declared types ({}), but query returns types ({})",
                list(&mut declared.iter().map(|column| &column.sql_type)),
                list(&mut output.columns.iter().map(|column| &column.typed.sql_type)),
            );
            PgError::new(SqlState::DATATYPE_MISMATCH, message)
        };
        if output.columns.len() != declared.len() {
            return Err(mismatch(&output));
        }
        let mut exprs = Vec::with_capacity(declared.len());
        for (column, target) in output.columns.iter().zip(declared) {
            let typed = cast(column.value(), &target.sql_type, target.typmod, CastContext::Assignment);
            let typed = typed.map_err(|error| match error.state {
                SqlState::CANNOT_COERCE => mismatch(&output),
                _ => error,
            })?;
            exprs.push(self.named(typed.expr).0);
        }
        project(output.plan, exprs)
    }

    /// A table of `columns` that stands for rows of a query that is still to be computed: what scans call it, and its rows.
    fn work_table(&self, columns: Vec<OutputColumn>) -> Result<(String, Output), PgError> {
        let name = self.fresh("w");
        let fields: Fields =
            columns.iter().map(|column| Field::new(self.fresh("c"), column.typed.sql_type.arrow(), true)).collect();
        let table = CteWorkTable::new(&name, Arc::new(Schema::new(fields.clone())));
        let scan = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(Arc::new(table)), None);
        let plan = scan.and_then(LogicalPlanBuilder::build).map_err(internal)?;
        let columns = columns.into_iter().zip(&fields).map(|(column, field)| OutputColumn {
            typed: TypedExpr { expr: Expr::Column(Column::new(Some(name.as_str()), field.name())), ..column.typed },
            constant: None,
            ..column
        });
        Ok((name.clone(), Output { plan, columns: columns.collect() }))
    }

    /// `start UNION [ALL] step`, where the step names the query itself: rows of the step before, until a step gives none.
    pub(super) fn bind_recursive(
        &self,
        cte: &ast::Cte,
        node: &Env,
        work: &OnceCell<Output>,
    ) -> Result<Output, PgError> {
        let (quantifier, left, right) = well_formed::parts(cte)?;
        let distinct = match quantifier {
            ast::SetQuantifier::All => false,
            ast::SetQuantifier::Distinct | ast::SetQuantifier::None => true,
            other => return Err(PgError::unsupported(format!("UNION {other}"))),
        };
        let mut start = self.renamed(self.bind_set_expr(left, node, false)?)?;
        for column in &mut start.columns {
            column.nullable = true;
        }
        let (name, mut step_columns) = self.work_table(start.columns.clone())?;
        self.rename_columns(&mut step_columns, &cte.alias)?;
        let _ = work.set(step_columns);
        let step = self.bind_set_expr(right, node, false)?;
        if step.columns.len() != start.columns.len() {
            let message = "each UNION query must have the same number of columns";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        }
        let mut exprs = Vec::with_capacity(step.columns.len());
        for (index, (column, wanted)) in step.columns.iter().zip(&start.columns).enumerate() {
            let (found, wanted) = (column.value(), &wanted.typed);
            let (from, to) = (found.sql_type.sql_name(), wanted.sql_type.sql_name());
            let typed = cast(found, &wanted.sql_type, -1, CastContext::Implicit).map_err(|_| {
                let name = fold(&cte.alias.name);
                let number = index + 1;
                PgError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "recursive query \"{name}\" column {number} has type {to} in non-recursive term but type {from} overall"
                    ),
                )
                .with_hint("Cast the output of the non-recursive term to the correct type.")
            })?;
            exprs.push(self.named(typed.expr).0);
        }
        let step = project(step.plan, exprs)?;
        let query = RecursiveQuery::try_new(name, Arc::new(start.plan), Arc::new(step), distinct).map_err(internal)?;
        Ok(Output { plan: LogicalPlan::RecursiveQuery(query), columns: start.columns })
    }
}

/// Errors: `22023` for a number of iterations that is none.
fn iteration_limit(limit: RecursionLimit) -> Result<IterationLimit, PgError> {
    match limit.count.parse::<u64>() {
        Ok(count) if count > 0 => Ok(IterationLimit { count, returns: limit.returns }),
        _ => Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("RECURSION LIMIT must be a whole number above 0, not {}", limit.count),
        )),
    }
}

/// The columns that a binding declares. Errors: `42601` for one without a type.
fn declared_columns(cte: &ast::Cte) -> Result<Vec<ColumnSchema>, PgError> {
    let name = fold(&cte.alias.name);
    let untyped = || {
        let message =
            format!("WITH MUTUALLY RECURSIVE query \"{name}\" must declare the names and types of its columns");
        PgError::new(SqlState::SYNTAX_ERROR, message).with_hint("For example: reach (id integer) AS (..)")
    };
    if cte.alias.columns.is_empty() {
        return Err(untyped());
    }
    let columns = cte.alias.columns.iter().map(|column| {
        let (sql_type, typmod) = type_from_ast(column.data_type.as_ref().ok_or_else(untyped)?)?;
        Ok(ColumnSchema { name: fold(&column.name), sql_type, typmod, nullable: true })
    });
    columns.collect()
}
