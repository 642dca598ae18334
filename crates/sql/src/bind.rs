//! Binds a query: names, types, grouping and subqueries of the AST become a DataFusion `LogicalPlan` by PostgreSQL's rules.
//!
//! The plan means what it says without an analyzer: every cast and operator is explicit, and there is no subquery
//! expression and no outer reference left, because decorrelation is done here ([`decorrelate`]).
//!
//! Every column in a plan has a name no other column of the whole plan has: `t3.price` under the unique alias of a scan,
//! `c17` for anything computed. So a column means the same wherever it stands, duplicate output names cost nothing (the
//! user's names live in [`BoundQuery::schema`] alone), and plans can be joined, wrapped and pushed into each other without
//! renaming. Aggregates and window functions are always aliased: `Expr::Alias(AggregateFunction.., "c18")`.
//!
//! ```text
//! ast::Query -> query (set operations, VALUES, ORDER BY, LIMIT) -> from (FROM) -> expr (expressions, over a scope)
//!                                                              -> aggregate, window (the stages after WHERE)
//!               subquery (a subquery is a column until the stage that holds it) -> decorrelate (the dependent join)
//! ```

pub(crate) mod aggregate;
pub(crate) mod asof;
pub(crate) mod build;
pub(crate) mod decorrelate;
pub(crate) mod expr;
pub(crate) mod from;
pub(crate) mod function;
pub(crate) mod grouping;
pub(crate) mod query;
mod recursive;
pub(crate) mod scope;
pub(crate) mod select;
pub(crate) mod set;
pub(crate) mod subquery;
pub(crate) mod table_function;
mod temporal_join;
pub(crate) mod window;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use std::sync::Arc;

use catalog::{Catalog, NamedRelation, Object, SearchPath};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use repr::{ColumnSchema, ObjectId, PgError, RelationSchema, SqlState, SqlType};
use sqlparser::ast;
use sqlparser::tokenizer::Span;

use crate::cast::{CastContext, cast};
use crate::typed::TypedExpr;
use query::Output;
use scope::{Env, Scope, ScopeColumn};
use subquery::Pending;

/// What a statement is bound against.
pub struct BindContext<'a> {
    /// The objects that names mean.
    pub catalog: &'a Catalog,
    /// `$1` first. A type that is None is deduced from the parameter's use and stands here after binding.
    pub parameter_types: RefCell<Vec<Option<SqlType>>>,
    /// The session's time zone.
    pub timezone: String,
    /// Where names without a schema are looked for.
    pub search_path: SearchPath,
    /// What the relations' names in the statement's query mean, where that is known from when it was made.
    pub names: &'a [NamedRelation],
}

impl<'a> BindContext<'a> {
    /// A context without parameters, in UTC.
    pub fn new(catalog: &'a Catalog) -> BindContext<'a> {
        BindContext {
            catalog,
            parameter_types: RefCell::new(Vec::new()),
            timezone: "UTC".to_string(),
            search_path: SearchPath::default(),
            names: &[],
        }
    }

    /// The object that a name means, looked for along the search path.
    pub fn resolve(&self, schema: Option<&str>, name: &str) -> Option<&'a Arc<Object>> {
        self.search_path.resolve(self.catalog, schema, name)
    }
}

/// A query as a plan.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    /// Its output columns are in the order of `schema`, under names that mean nothing.
    pub plan: LogicalPlan,
    /// The columns as the user named them; names may repeat.
    pub schema: RelationSchema,
    /// Every relation it names, and what the views among them name, in the order of their ids.
    pub relations: Vec<ObjectId>,
    /// What it calls the relations that it names itself.
    pub names: Vec<NamedRelation>,
    /// Whether it says FOR UPDATE or FOR SHARE: who writes what it reads makes the transaction fail.
    pub locks: bool,
    /// The moment as of which it is asked, a `timestamptz` or a `bigint` of milliseconds; now if none.
    pub as_of: Option<Expr>,
}

/// Binds a query.
///
/// Errors: those of PostgreSQL with its SQLSTATE; `0A000` for what is valid but not done.
pub fn bind_query(query: &ast::Query, context: &BindContext) -> Result<BoundQuery, PgError> {
    let binder = Binder::new(context);
    let output = binder.bind_query(query, &Env::Root, false)?;
    binder.finish(output)
}

/// Binds a query whose rows are stored into `targets`: each column is cast to its target as an assignment.
///
/// A literal of unknown type takes the target's type, and the expressions of a VALUES list each by themselves, as in INSERT.
/// Errors: as [`bind_query`], `42804` for a column that cannot be assigned, `42601` if the counts differ.
pub fn bind_query_for(
    query: &ast::Query,
    targets: &[ColumnSchema],
    context: &BindContext,
) -> Result<BoundQuery, PgError> {
    let binder = Binder::new(context);
    let output = binder.bind_query_for(query, targets)?;
    binder.finish(output)
}

/// Binds an expression over one row of `columns`, which `relation` qualifies. A column is `Expr::Column` of its own name.
///
/// Errors: as [`bind_query`]; `0A000` for a subquery, `42803` for an aggregate.
pub fn bind_expr_over(
    relation: Option<&str>,
    columns: &RelationSchema,
    expr: &ast::Expr,
    context: &BindContext,
) -> Result<TypedExpr, PgError> {
    let binder = Binder::new(context);
    let columns = columns.columns.iter().map(|column| {
        let typed = TypedExpr {
            expr: Expr::Column(Column::new_unqualified(&column.name)),
            sql_type: column.sql_type.clone(),
            typmod: column.typmod,
        };
        ScopeColumn { name: column.name.clone(), typed, nullable: column.nullable }
    });
    let scope = Scope::of_relation(relation.unwrap_or_default(), None, columns.collect(), None);
    let env = Env::Scope { scope: &scope, parent: &Env::Root };
    let typed = binder.bind_expr(expr, &env, expr::Clause::Where)?;
    if !binder.pending.borrow().is_empty() {
        return Err(PgError::unsupported("a subquery here"));
    }
    binder.deduce_parameters([&typed.expr])?;
    Ok(typed)
}

/// Notes the types of parameters in an expression that [`bind_expr_over`] gave and a cast has given a type since.
///
/// Errors: as [`bind_query`].
pub(crate) fn deduce_parameters(expr: &Expr, context: &BindContext) -> Result<(), PgError> {
    Binder::new(context).deduce_parameters([expr])
}

/// Binds a constant length of time in the unit of a column of type `time`; `what` needs it.
///
/// Errors: 42804 for another type, 22023 for an interval with months and for what is no constant.
pub(crate) fn bind_length(expr: &ast::Expr, time: &SqlType, what: &str, context: &BindContext) -> Result<i64, PgError> {
    Binder::new(context).window_length(expr, time, what)
}

/// Binds a moment of AS OF and UP TO: a `timestamptz`, or a `bigint` of milliseconds since 1970.
///
/// Errors: as [`bind_query`], `42804` for an expression of another type.
pub fn bind_moment(expr: &ast::Expr, context: &BindContext) -> Result<Expr, PgError> {
    let typed = bind_expr_over(None, &RelationSchema::new(Vec::new()), expr, context)?;
    let is_number = matches!(&typed.expr, Expr::Literal(ScalarValue::Utf8(Some(text)), _)
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let wanted = match &typed.sql_type {
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric => SqlType::Int8,
        SqlType::Unknown if is_number => SqlType::Int8,
        _ => SqlType::Timestamptz,
    };
    let sql_type = typed.sql_type.clone();
    let moment = cast(typed, &wanted, -1, CastContext::Assignment);
    moment.map(|typed| typed.expr).map_err(|error| match sql_type {
        SqlType::Unknown => error,
        other => PgError::new(SqlState::DATATYPE_MISMATCH, format!("AS OF does not take a {}", other.sql_name()))
            .with_hint("Write a timestamp, or milliseconds since 1970."),
    })
}

/// The state of one binding: what names were given out, what was read, which subqueries wait for their plan.
pub(crate) struct Binder<'a> {
    pub(crate) context: &'a BindContext<'a>,
    next_name: Cell<u32>,
    relations: RefCell<BTreeSet<ObjectId>>,
    /// Outputs of views already bound; a second use shares the plan.
    views: RefCell<HashMap<ObjectId, Output>>,
    /// What was named outside of views, and in the views that are being bound what their names mean.
    named: RefCell<Vec<NamedRelation>>,
    /// Whether FOR UPDATE or FOR SHARE was said.
    pub(crate) locks: Cell<bool>,
    meanings: RefCell<Vec<Arc<Object>>>,
    /// How many views deep we are: positions inside a view's text mean nothing to the user.
    view_depth: Cell<u32>,
    pub(crate) pending: RefCell<HashMap<String, Pending>>,
    /// Where in the text each column was first named in what GROUP BY checks, and whether by a subquery: for its errors.
    spans: RefCell<HashMap<(Column, bool), Span>>,
    /// How many aggregates' arguments we are in: columns named there need no grouping.
    aggregate_depth: Cell<u32>,
    /// Whether the SELECT being bound has called an aggregate: its groups count even where the call itself has been folded
    /// away, as in `pg_typeof(sum(x))`.
    pub(crate) aggregated: Cell<bool>,
}

impl<'a> Binder<'a> {
    fn new(context: &'a BindContext<'a>) -> Binder<'a> {
        Binder {
            context,
            next_name: Cell::new(0),
            relations: RefCell::default(),
            views: RefCell::default(),
            named: RefCell::default(),
            locks: Cell::new(false),
            meanings: RefCell::default(),
            view_depth: Cell::new(0),
            pending: RefCell::default(),
            spans: RefCell::default(),
            aggregate_depth: Cell::new(0),
            aggregated: Cell::new(false),
        }
    }

    /// The relation that a name in a FROM clause means, and what its columns are called there: in a view as they were when
    /// the view was made.
    pub(crate) fn relation(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> Option<(&'a Arc<Object>, Option<NamedRelation>)> {
        let meanings = self.meanings.borrow();
        let known = match meanings.last() {
            Some(view) => view.names.as_slice(),
            None => self.context.names,
        };
        let meant = known.iter().find(|known| known.schema.as_deref() == schema && known.name == name);
        let object = match meant {
            Some(known) => self.context.catalog.get(ObjectId(known.id))?,
            None => self.context.resolve(schema, name)?,
        };
        if meanings.is_empty() {
            let mut named = self.named.borrow_mut();
            if !named.iter().any(|known| known.schema.as_deref() == schema && known.name == name) {
                named.push(meant.cloned().unwrap_or_else(|| NamedRelation::new(schema, name, object)));
            }
        }
        Some((object, meant.cloned()))
    }

    /// A name no column or relation of this binding has yet.
    pub(crate) fn fresh(&self, prefix: &str) -> String {
        let number = self.next_name.get();
        self.next_name.set(number + 1);
        format!("{prefix}{number}")
    }

    /// `expr` under a fresh column name, and that column.
    pub(crate) fn named(&self, expr: Expr) -> (Expr, Column) {
        let name = self.fresh("c");
        (expr.alias(&name), Column::new_unqualified(name))
    }

    /// Each row of `plan` once. `plan` has computed columns only; they keep their names. See [`build::aggregate`].
    pub(crate) fn distinct(&self, plan: LogicalPlan) -> Result<LogicalPlan, PgError> {
        let (mut exprs, mut groups) = (Vec::new(), Vec::new());
        for column in plan.schema().columns() {
            let (expr, name) = self.named(Expr::Column(column.clone()));
            exprs.push(expr);
            groups.push(Expr::Column(name).alias(column.name));
        }
        build::aggregate(build::project(plan, exprs)?, groups, Vec::new())
    }

    /// `error`, pointing at the start of `span` where that is known.
    pub(crate) fn at(&self, error: PgError, span: Span) -> PgError {
        if error.position.is_some() || self.view_depth.get() > 0 {
            return error;
        }
        // The parser counts every statement's characters on one line, from 1; 0 is no place.
        match u32::try_from(span.start.column) {
            Ok(column) if column > 0 => error.at(column),
            _ => error,
        }
    }

    pub(crate) fn remember_span(&self, column: &Column, outer: bool, span: Span) {
        if self.aggregate_depth.get() == 0 {
            self.spans.borrow_mut().entry((column.clone(), outer)).or_insert(span);
        }
    }

    pub(crate) fn span_of(&self, column: &Column, outer: bool) -> Span {
        self.spans.borrow().get(&(column.clone(), outer)).copied().unwrap_or(Span::empty())
    }

    /// Forgets spans before the clauses that GROUP BY checks; what it gives back goes to [`Self::end_spans`].
    pub(crate) fn begin_spans(&self) -> HashMap<(Column, bool), Span> {
        self.spans.take()
    }

    /// Back to the query around: it keeps what this one named of its columns.
    pub(crate) fn end_spans(&self, around: HashMap<(Column, bool), Span>) {
        let mut spans = self.spans.borrow_mut();
        spans.retain(|(_, outer), _| *outer);
        spans.extend(around);
    }

    fn finish(&self, output: Output) -> Result<BoundQuery, PgError> {
        if !self.all_resolved() {
            return Err(PgError::internal("a subquery was bound but never joined to a plan"));
        }
        let mut placeholders = Vec::new();
        output
            .plan
            .apply(|node| {
                node.apply_expressions(|expr| {
                    expr.apply(|expr| {
                        match expr {
                            Expr::Placeholder(_) => placeholders.push(expr.clone()),
                            Expr::OuterReferenceColumn(_, column) => {
                                return datafusion::common::internal_err!("{column} was left correlated");
                            }
                            _ => {}
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                })
            })
            .map_err(build::internal)?;
        self.deduce_parameters(placeholders.iter())?;
        let columns = output
            .columns
            .into_iter()
            .map(|column| ColumnSchema {
                name: column.name,
                sql_type: column.typed.sql_type,
                typmod: column.typed.typmod,
                nullable: column.nullable,
            })
            .collect();
        Ok(BoundQuery {
            plan: output.plan,
            schema: RelationSchema::new(columns),
            relations: self.relations.borrow().iter().copied().collect(),
            names: self.named.take(),
            locks: self.locks.get(),
            as_of: None,
        })
    }

    /// Notes the type that each placeholder's context gave it. `cast` names the SQL type as the placeholder's field.
    fn deduce_parameters<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<(), PgError> {
        let mut types = self.context.parameter_types.borrow_mut();
        for expr in exprs {
            expr.apply(|expr| {
                if let Expr::Placeholder(placeholder) = expr
                    && let Some(field) = &placeholder.field
                    && let Some(index) = parameter_index(&placeholder.id)
                    && let Some(sql_type) = type_named(field.name())
                {
                    if types.len() <= index {
                        types.resize(index + 1, None);
                    }
                    match &types[index] {
                        None => types[index] = Some(sql_type),
                        Some(known) if *known == sql_type => {}
                        Some(known) => {
                            let error = PgError::new(
                                SqlState::AMBIGUOUS_PARAMETER,
                                format!("inconsistent types deduced for parameter {}", placeholder.id),
                            )
                            .with_detail(format!(
                                "{} versus {}.",
                                known.sql_name(),
                                sql_type.sql_name()
                            ));
                            return Err(datafusion::common::DataFusionError::External(Box::new(error)));
                        }
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(build::internal)?;
        }
        Ok(())
    }

    /// An output column that is an assignment to `target`.
    pub(crate) fn assign(&self, typed: TypedExpr, target: &ColumnSchema) -> Result<TypedExpr, PgError> {
        let from = typed.sql_type.clone();
        cast(typed, &target.sql_type, target.typmod, CastContext::Assignment).map_err(|error| {
            if error.state != SqlState::CANNOT_COERCE {
                return error;
            }
            PgError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but expression is of type {}",
                    target.name,
                    target.sql_type.sql_name(),
                    from.sql_name()
                ),
            )
            .with_hint("You will need to rewrite or cast the expression.")
        })
    }
}

/// `$3` is 2.
pub(crate) fn parameter_index(id: &str) -> Option<usize> {
    id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn type_named(name: &str) -> Option<SqlType> {
    if let Some(element) = name.strip_prefix('_') {
        return type_named(element).map(|element| SqlType::Array(Box::new(element)));
    }
    repr::types::TYPES.iter().find(|info| info.name == name).map(|info| info.sql_type.clone())
}
