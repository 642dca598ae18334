//! A query: WITH, then SELECT, VALUES or a set operation, then ORDER BY, OFFSET and LIMIT.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Fields};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, Filter, Limit, LogicalPlan, Sort, SortExpr, Values, lit};
use repr::{ColumnSchema, PgError, SqlState, SqlType};
use sqlparser::ast;

use super::Binder;
use super::build::{any_expr, columns, internal, one_row, project};
use super::expr::Clause;
use super::recursive::well_formed::{check_acyclic, is_recursive};
use super::scope::{Env, Scope, ScopeColumn, fold};
use crate::cast::{CastContext, cast, common_type};
use crate::operators::equality_key;
use crate::parse::mutually::of_ctes;
use crate::typed::TypedExpr;

/// A bound query inside a statement: its columns are exactly the plan's, in order.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) plan: LogicalPlan,
    pub(crate) columns: Vec<OutputColumn>,
}

/// One column of a query.
#[derive(Clone, Debug)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    /// A column of the plan.
    pub(crate) typed: TypedExpr,
    pub(crate) nullable: bool,
    /// The literal or parameter it is, where its type is still unknown: a cast of that is decided when it is bound.
    pub(crate) constant: Option<Expr>,
}

impl OutputColumn {
    /// The column as something to cast.
    pub(crate) fn value(&self) -> TypedExpr {
        match &self.constant {
            Some(expr) if self.typed.is_unknown() => TypedExpr { expr: expr.clone(), ..self.typed.clone() },
            _ => self.typed.clone(),
        }
    }
}

impl Output {
    /// The scope of a relation with these columns.
    pub(crate) fn scope(&self, relation: &str) -> Scope {
        let columns = self
            .columns
            .iter()
            .map(|column| ScopeColumn {
                name: column.name.clone(),
                typed: column.typed.clone(),
                nullable: column.nullable,
            })
            .collect();
        Scope::of_relation(relation, None, columns, None)
    }
}

/// How the rows of a query are ordered and cut.
pub(crate) struct Tail<'p> {
    pub(crate) order_by: &'p [ast::OrderByExpr],
    pub(crate) skip: Option<Expr>,
    pub(crate) fetch: Option<Expr>,
    /// Whether rows that tie with the last one come too.
    pub(crate) with_ties: bool,
}

/// Errors: `42712` for a name that two of `ctes` have.
pub(super) fn check_names(ctes: &[ast::Cte]) -> Result<(), PgError> {
    let mut names: Vec<String> = ctes.iter().map(|cte| fold(&cte.alias.name)).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let message = format!("WITH query name \"{}\" specified more than once", pair[0]);
            Err(PgError::new(SqlState::DUPLICATE_ALIAS, message))
        }
    }
}

impl Binder<'_> {
    /// Binds a query within `env`. Literals of unknown type become text unless `keep_unknown`.
    pub(crate) fn bind_query(&self, query: &ast::Query, env: &Env, keep_unknown: bool) -> Result<Output, PgError> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || match &query.with {
            None => self.bind_body(query, env, keep_unknown),
            Some(with) if of_ctes(&with.cte_tables).is_some() => {
                self.bind_mutually_recursive(&with.cte_tables, query, env, keep_unknown)
            }
            Some(with) => {
                check_names(&with.cte_tables)?;
                if with.recursive {
                    check_acyclic(&with.cte_tables)?;
                }
                self.bind_ctes(&with.cte_tables, with.recursive, query, env, keep_unknown)
            }
        })
    }

    fn bind_ctes(
        &self,
        ctes: &[ast::Cte],
        recursive: bool,
        query: &ast::Query,
        env: &Env,
        keep_unknown: bool,
    ) -> Result<Output, PgError> {
        let [cte, rest @ ..] = ctes else { return self.bind_body(query, env, keep_unknown) };
        let (bound, work) = (OnceCell::new(), OnceCell::new());
        let node = Env::Cte { cte, recursive, bound, binding: Cell::new(false), work, parent: env };
        // Bound even where nothing names it: its errors are errors of the statement.
        self.bind_cte(&node)?;
        self.bind_ctes(rest, recursive, query, &node, keep_unknown)
    }

    /// The WITH query `name` within `env`, with columns of its own for this use.
    pub(crate) fn find_cte(&self, name: &str, env: &Env) -> Result<Option<Output>, PgError> {
        match env {
            Env::Root => Ok(None),
            Env::Scope { parent, .. } | Env::Hidden { parent, .. } => self.find_cte(name, parent),
            Env::Bindings { bindings, parent } => match bindings.iter().find(|(other, _)| other == name) {
                Some((_, output)) => self.renamed(output.clone()).map(Some),
                None => self.find_cte(name, parent),
            },
            Env::Cte { cte, parent, .. } => {
                if fold(&cte.alias.name) != name {
                    return self.find_cte(name, parent);
                }
                self.bind_cte(env)?.map(|output| self.renamed(output)).transpose()
            }
        }
    }

    fn bind_cte(&self, node: &Env) -> Result<Option<Output>, PgError> {
        let Env::Cte { cte, recursive, bound, binding, work, parent } = node else { return Ok(None) };
        if let Some(output) = bound.get() {
            return Ok(Some(output.clone()));
        }
        if binding.get() {
            let work = work.get().cloned();
            return work.map(Some).ok_or_else(|| PgError::unsupported("this form of WITH RECURSIVE"));
        }
        binding.set(true);
        // Only under RECURSIVE does a WITH query see its own name.
        let mut output = match *recursive && is_recursive(cte) {
            true => self.bind_recursive(cte, node, work)?,
            false => self.bind_query(&cte.query, if *recursive { node } else { parent }, false)?,
        };
        binding.set(false);
        self.rename_columns(&mut output, &cte.alias)?;
        Ok(Some(bound.get_or_init(|| output).clone()))
    }

    /// The same rows under fresh column names, so that a plan used twice can meet itself in a join.
    pub(crate) fn renamed(&self, output: Output) -> Result<Output, PgError> {
        let mut exprs = Vec::new();
        let mut renamed = Vec::new();
        for mut column in output.columns {
            let (expr, name) = self.named(column.typed.expr);
            exprs.push(expr);
            column.typed.expr = Expr::Column(name);
            renamed.push(column);
        }
        Ok(Output { plan: project(output.plan, exprs)?, columns: renamed })
    }

    /// Applies the column list of `AS t(a, b)`. Errors: `42P10` if it is too long.
    pub(crate) fn rename_columns(&self, output: &mut Output, alias: &ast::TableAlias) -> Result<(), PgError> {
        if alias.columns.len() > output.columns.len() {
            let message = format!(
                "table \"{}\" has {} columns available but {} columns specified",
                fold(&alias.name),
                output.columns.len(),
                alias.columns.len()
            );
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        for (column, alias) in output.columns.iter_mut().zip(&alias.columns) {
            if alias.data_type.is_some() {
                return Err(PgError::unsupported("a column definition list"));
            }
            column.name = fold(&alias.name);
        }
        Ok(())
    }

    pub(super) fn bind_body(&self, query: &ast::Query, env: &Env, keep_unknown: bool) -> Result<Output, PgError> {
        refuse_extras(query)?;
        if !query.locks.is_empty() {
            self.locks.set(true);
        }
        let order_by: &[ast::OrderByExpr] = match &query.order_by {
            None => &[],
            Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(exprs), interpolate: None }) => exprs,
            Some(_) => return Err(PgError::unsupported("ORDER BY ALL")),
        };
        let (skip, fetch) = self.bind_limits(query, env)?;
        let with_ties = query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties);
        if with_ties && order_by.is_empty() {
            let message = "WITH TIES cannot be specified without ORDER BY clause";
            return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
        }
        let tail = Tail { order_by, skip, fetch, with_ties };
        match query.body.as_ref() {
            ast::SetExpr::Select(select) => self.bind_select(select, tail, env, keep_unknown),
            body => {
                let output = self.bind_set_expr(body, env, keep_unknown)?;
                self.finish_rows(output, tail, env)
            }
        }
    }

    /// Binds what stands between the parts of a set operation.
    pub(crate) fn bind_set_expr(&self, body: &ast::SetExpr, env: &Env, keep_unknown: bool) -> Result<Output, PgError> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || match body {
            ast::SetExpr::Select(select) => {
                let tail = Tail { order_by: &[], skip: None, fetch: None, with_ties: false };
                self.bind_select(select, tail, env, keep_unknown)
            }
            ast::SetExpr::Query(query) => self.bind_query(query, env, keep_unknown),
            ast::SetExpr::SetOperation { op, set_quantifier, left, right } => {
                self.bind_set_operation(*op, *set_quantifier, left, right, env, keep_unknown)
            }
            ast::SetExpr::Values(values) => self.bind_values(values, env, keep_unknown),
            ast::SetExpr::Table(table) => {
                let part = |name: &String| ast::ObjectNamePart::Identifier(ast::Ident::new(name.clone()));
                let parts: Vec<ast::ObjectNamePart> =
                    table.schema_name.iter().chain(&table.table_name).map(part).collect();
                let (plan, scope) = self.bind_relation(&ast::ObjectName(parts), None, env)?;
                Ok(star_output(plan, &scope))
            }
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
                Err(PgError::unsupported("a data-modifying statement within a query"))
            }
        })
    }

    /// ORDER BY, OFFSET and LIMIT over rows whose only names are the output's.
    fn finish_rows(&self, output: Output, tail: Tail, env: &Env) -> Result<Output, PgError> {
        let mut keys = Vec::new();
        for item in tail.order_by {
            let typed = match self.output_named(&item.expr, &output.columns, "ORDER BY")? {
                Some(index) => output.columns[index].typed.clone(),
                None => {
                    let scope = output.scope("");
                    let env = Env::Scope { scope: &scope, parent: env };
                    let typed = self.bind_expr(&item.expr, &env, Clause::OrderBy)?;
                    if !any_expr(&typed.expr, |expr| matches!(expr, Expr::Column(_))) {
                        typed
                    } else {
                        return Err(PgError::new(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        )
                        .with_detail("Only result column names can be used, not expressions or functions.")
                        .with_hint(
                            "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                        ));
                    }
                }
            };
            keys.push(sort_key(typed, &item.options)?);
        }
        let plan = self.cut(output.plan, keys, tail)?;
        Ok(Output { plan, columns: output.columns })
    }

    /// The rows in order, cut as the tail says.
    pub(crate) fn cut(&self, plan: LogicalPlan, keys: Vec<SortExpr>, tail: Tail) -> Result<LogicalPlan, PgError> {
        match tail.fetch {
            Some(fetch) if tail.with_ties => {
                let kept = columns(&plan);
                let plan = self.first_with_ties(plan, keys.clone(), tail.skip, fetch)?;
                Ok(sort(narrowed(plan, kept)?, keys))
            }
            None if tail.skip.is_none() => Ok(sort(plan, keys)),
            fetch => {
                let keys = definite(&plan, keys);
                Ok(limit(sort(plan, keys), tail.skip, fetch))
            }
        }
    }

    /// The output column that an item of ORDER BY, GROUP BY or DISTINCT ON means by its name or its position.
    ///
    /// Errors: `42702` for a name two different columns have, `42P10` for a position that is none, `42601` for another literal.
    pub(crate) fn output_named(
        &self,
        expr: &ast::Expr,
        columns: &[OutputColumn],
        clause: &str,
    ) -> Result<Option<usize>, PgError> {
        match expr {
            ast::Expr::Identifier(ident) => {
                let name = fold(ident);
                let mut found: Option<usize> = None;
                for (index, column) in columns.iter().enumerate().filter(|(_, column)| column.name == name) {
                    match found {
                        Some(first) if columns[first].typed.expr != column.typed.expr => {
                            let error =
                                PgError::new(SqlState::AMBIGUOUS_COLUMN, format!("{clause} \"{name}\" is ambiguous"));
                            return Err(self.at(error, ident.span));
                        }
                        Some(_) => {}
                        None => found = Some(index),
                    }
                }
                Ok(found)
            }
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let index = text.parse::<usize>().ok().and_then(|position| position.checked_sub(1));
                    match index.filter(|index| *index < columns.len()) {
                        Some(index) => Ok(Some(index)),
                        None => {
                            let error = PgError::new(
                                SqlState::INVALID_COLUMN_REFERENCE,
                                format!("{clause} position {text} is not in select list"),
                            );
                            Err(self.at(error, value.span))
                        }
                    }
                }
                ast::Value::Placeholder(_) => Ok(None),
                _ => {
                    let error = PgError::new(SqlState::SYNTAX_ERROR, format!("non-integer constant in {clause}"));
                    Err(self.at(error, value.span))
                }
            },
            _ => Ok(None),
        }
    }

    fn bind_limits(&self, query: &ast::Query, env: &Env) -> Result<(Option<Expr>, Option<Expr>), PgError> {
        let (mut limit, mut offset) = (None, None);
        match &query.limit_clause {
            None => {}
            Some(ast::LimitClause::LimitOffset { limit: fetch, offset: skip, limit_by }) => {
                if !limit_by.is_empty() {
                    return Err(PgError::unsupported("LIMIT BY"));
                }
                limit = fetch.as_ref();
                offset = skip.as_ref().map(|offset| &offset.value);
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."));
            }
        }
        let one = ast::Expr::value(ast::Value::Number("1".to_string(), false));
        if let Some(fetch) = &query.fetch {
            if fetch.percent {
                return Err(PgError::unsupported("FETCH .. PERCENT"));
            }
            if limit.is_some() {
                return Err(PgError::new(SqlState::SYNTAX_ERROR, "multiple LIMIT clauses not allowed"));
            }
            limit = Some(fetch.quantity.as_ref().unwrap_or(&one));
        }
        let skip = offset.map(|expr| self.bind_limit(expr, env, Clause::Offset)).transpose()?.flatten();
        let fetch = limit.map(|expr| self.bind_limit(expr, env, Clause::Limit)).transpose()?.flatten();
        Ok((skip, fetch))
    }

    /// A row count. None is no limit (NULL).
    fn bind_limit(&self, expr: &ast::Expr, env: &Env, clause: Clause) -> Result<Option<Expr>, PgError> {
        let typed = self.bind_expr(expr, env, clause)?;
        if any_expr(&typed.expr, |expr| matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..))) {
            let message = format!("argument of {} must not contain variables", clause.name());
            return Err(PgError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
        let typed = cast(typed, &SqlType::Int8, -1, CastContext::Assignment)?;
        let value = match super::function::constant(&typed.expr)? {
            Some(value) => value,
            // A parameter: its value comes in before the plan runs.
            None => return Ok(Some(typed.expr)),
        };
        match value {
            ScalarValue::Int64(None) => Ok(None),
            ScalarValue::Int64(Some(count)) if count < 0 => Err(match clause {
                Clause::Limit => {
                    PgError::new(SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE, "LIMIT must not be negative")
                }
                _ => PgError::new(SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE, "OFFSET must not be negative"),
            }),
            ScalarValue::Int64(Some(count)) => Ok(Some(lit(count))),
            other => Err(PgError::internal(format!("a row count of type {}", other.data_type()))),
        }
    }

    /// VALUES: constant rows in one node; rows that need a plan (subqueries, outer columns) as a union of projections.
    fn bind_values(&self, values: &ast::Values, env: &Env, keep_unknown: bool) -> Result<Output, PgError> {
        let nothing = Scope::default();
        let env = &Env::Scope { scope: &nothing, parent: env };
        let mut rows = Vec::new();
        for row in &values.rows {
            let mut bound = Vec::new();
            for expr in &row.content {
                bound.push(self.bind_expr(expr, env, Clause::Values)?);
            }
            rows.push(bound);
        }
        let width = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != width) {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
        }
        let mut types = Vec::new();
        for index in 0..width {
            let inputs: Vec<&TypedExpr> = rows.iter().map(|row| &row[index]).collect();
            let mut sql_type = common_type("VALUES", &inputs)?;
            if inputs.iter().all(|input| input.is_unknown()) {
                sql_type = if keep_unknown { SqlType::Unknown } else { SqlType::Text };
            }
            let typmod = inputs[0].typmod;
            let shared = inputs.iter().all(|input| input.typmod == typmod && input.sql_type == sql_type);
            types.push((sql_type, if shared { typmod } else { -1 }));
        }
        for row in &mut rows {
            for (typed, (sql_type, typmod)) in row.iter_mut().zip(&types) {
                if typed.sql_type != *sql_type {
                    *typed = cast(typed.clone(), sql_type, *typmod, CastContext::Implicit)?;
                }
            }
        }
        self.values_output(rows, types)
    }

    /// Rows of expressions, typed alike, as an output with columns `column1`, `column2`, ..
    pub(crate) fn values_output(
        &self,
        rows: Vec<Vec<TypedExpr>>,
        types: Vec<(SqlType, i32)>,
    ) -> Result<Output, PgError> {
        let names: Vec<String> = types.iter().map(|_| self.fresh("c")).collect();
        let single = rows.len() == 1;
        let mut columns = Vec::new();
        for (index, ((sql_type, typmod), name)) in types.iter().zip(&names).enumerate() {
            let expr = Expr::Column(Column::new_unqualified(name));
            columns.push(OutputColumn {
                name: format!("column{}", index + 1),
                typed: TypedExpr { expr, sql_type: sql_type.clone(), typmod: *typmod },
                nullable: true,
                constant: single.then(|| rows[0][index].expr.clone()).filter(|_| *sql_type == SqlType::Unknown),
            });
        }
        let needs_plan =
            |expr: &Expr| any_expr(expr, |expr| matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..)));
        let exprs: Vec<Vec<Expr>> =
            rows.into_iter().map(|row| row.into_iter().map(|typed| typed.expr).collect()).collect();
        let plan = if exprs.iter().flatten().any(needs_plan) {
            let mut inputs = Vec::new();
            for mut row in exprs {
                let plan = self.resolve_subqueries(one_row(), &mut row.iter_mut().collect::<Vec<_>>())?;
                let row = row.into_iter().zip(&names).map(|(expr, name)| expr.alias(name)).collect();
                inputs.push(project(plan, row)?);
            }
            super::set::union(inputs)?
        } else {
            let fields: Vec<Field> = types
                .iter()
                .zip(&names)
                .map(|((sql_type, _), name)| Field::new(name, sql_type.arrow(), true))
                .collect();
            let schema = DFSchema::from_unqualified_fields(Fields::from(fields), HashMap::new()).map_err(internal)?;
            LogicalPlan::Values(Values { schema: Arc::new(schema), values: exprs })
        };
        Ok(Output { plan, columns })
    }

    /// See [`super::bind_query_for`].
    pub(crate) fn bind_query_for(&self, query: &ast::Query, targets: &[ColumnSchema]) -> Result<Output, PgError> {
        let bare = query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none();
        if let (ast::SetExpr::Values(values), true) = (query.body.as_ref(), bare && query.fetch.is_none()) {
            let mut rows = Vec::new();
            for row in &values.rows {
                check_width(row.content.len(), targets.len())?;
                let mut bound = Vec::new();
                for (expr, target) in row.content.iter().zip(targets) {
                    let typed = self.bind_expr(expr, &Env::Root, Clause::Values)?;
                    bound.push(self.assign(typed, target)?);
                }
                rows.push(bound);
            }
            let types = targets.iter().map(|target| (target.sql_type.clone(), target.typmod)).collect();
            return self.values_output(rows, types);
        }
        let output = self.bind_query(query, &Env::Root, true)?;
        check_width(output.columns.len(), targets.len())?;
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for (mut column, target) in output.columns.into_iter().zip(targets) {
            let typed = self.assign(column.value(), target)?;
            let (expr, name) = self.named(typed.expr);
            exprs.push(expr);
            column.typed = TypedExpr { expr: Expr::Column(name), sql_type: typed.sql_type, typmod: typed.typmod };
            column.constant = None;
            columns.push(column);
        }
        Ok(Output { plan: project(output.plan, exprs)?, columns })
    }
}

/// The columns `*` shows, as an output.
pub(crate) fn star_output(plan: LogicalPlan, scope: &Scope) -> Output {
    let columns = scope
        .visible
        .iter()
        .map(|visible| OutputColumn {
            name: visible.column.name.clone(),
            typed: visible.column.typed.clone(),
            nullable: visible.column.nullable,
            constant: None,
        })
        .collect();
    Output { plan, columns }
}

/// What ORDER BY sorts by. NULLs come last ascending and first descending unless said otherwise.
pub(crate) fn sort_key(typed: TypedExpr, options: &ast::OrderByOptions) -> Result<SortExpr, PgError> {
    let ascending = options.asc.unwrap_or(true);
    if matches!(typed.sql_type, SqlType::Json) {
        let message = format!("could not identify an ordering operator for type {}", typed.sql_type.sql_name());
        return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
    }
    Ok(SortExpr::new(equality_key(typed), ascending, options.nulls_first.unwrap_or(!ascending)))
}

/// An order of `plan`'s rows that says also which of those that tie come first, by all columns: of what is cut from them a
/// view and its query keep the same. Without any order rows are cut as they come.
pub(crate) fn definite(plan: &LogicalPlan, keys: Vec<SortExpr>) -> Vec<SortExpr> {
    match keys.is_empty() {
        true => keys,
        false => super::window::ties::extended(keys, &[], &plan.schema().columns()),
    }
}

/// `plan`, and what its rows are sorted by where its last steps tell. Those columns are among the plan's then.
pub(crate) fn ordering(plan: LogicalPlan) -> (LogicalPlan, Vec<SortExpr>) {
    let order = match &plan {
        LogicalPlan::Sort(sort) => sort.expr.clone(),
        LogicalPlan::Limit(limit) => match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => sort.expr.clone(),
            _ => Vec::new(),
        },
        LogicalPlan::Filter(filter) => {
            let (input, order) = ordering(filter.input.as_ref().clone());
            match Filter::try_new(filter.predicate.clone(), Arc::new(input)) {
                Ok(filter) if !order.is_empty() => return (LogicalPlan::Filter(filter), order),
                _ => Vec::new(),
            }
        }
        // It only hides the columns that are sorted by.
        LogicalPlan::Projection(narrowing) if narrowing.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            match ordering(narrowing.input.as_ref().clone()) {
                (_, order) if order.is_empty() => order,
                sorted => return sorted,
            }
        }
        _ => Vec::new(),
    };
    (plan, order)
}

/// Sorted, unless there is nothing to sort by.
pub(crate) fn sort(plan: LogicalPlan, keys: Vec<SortExpr>) -> LogicalPlan {
    if keys.is_empty() {
        return plan;
    }
    LogicalPlan::Sort(Sort { expr: keys, input: Arc::new(plan), fetch: None })
}

/// Cut to `fetch` rows after `skip`.
pub(crate) fn limit(plan: LogicalPlan, skip: Option<Expr>, fetch: Option<Expr>) -> LogicalPlan {
    if skip.is_none() && fetch.is_none() {
        return plan;
    }
    LogicalPlan::Limit(Limit { skip: skip.map(Box::new), fetch: fetch.map(Box::new), input: Arc::new(plan) })
}

/// `plan` with exactly the columns of `output`, in that order.
pub(crate) fn narrowed(plan: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan, PgError> {
    if columns(&plan) == exprs { Ok(plan) } else { project(plan, exprs) }
}

fn check_width(given: usize, wanted: usize) -> Result<(), PgError> {
    match given.cmp(&wanted) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => {
            Err(PgError::new(SqlState::SYNTAX_ERROR, "INSERT has more expressions than target columns"))
        }
        std::cmp::Ordering::Less => {
            Err(PgError::new(SqlState::SYNTAX_ERROR, "INSERT has more target columns than expressions"))
        }
    }
}

fn refuse_extras(query: &ast::Query) -> Result<(), PgError> {
    let refusals = [
        (query.for_clause.is_some(), "FOR XML or JSON"),
        (query.settings.is_some(), "SETTINGS"),
        (query.format_clause.is_some(), "FORMAT"),
        (!query.pipe_operators.is_empty(), "the pipe operator"),
    ];
    match refusals.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(PgError::unsupported(what)),
        None => Ok(()),
    }
}
