//! What a name means: the relations of a FROM clause, and the chain of scopes a query stands in.
//!
//! A scope lists its relations (what `t.x` can name) apart from the columns an unqualified name and `*` see, because
//! JOIN USING merges two columns into one for the latter while both stay reachable by their relation.

use std::cell::{Cell, OnceCell};

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast::{self, Ident};
use sqlparser::tokenizer::Span;

use super::Binder;
use super::build::outer_reference;
use super::query::Output;
use crate::typed::TypedExpr;

/// A column that a name can mean. Its expression is a column of the plan.
#[derive(Clone, Debug)]
pub(crate) struct ScopeColumn {
    pub(crate) name: String,
    pub(crate) typed: TypedExpr,
    pub(crate) nullable: bool,
}

/// One item of FROM.
#[derive(Clone, Debug)]
pub(crate) struct ScopeRelation {
    /// Its alias, or its own name; empty for a join that nothing names.
    pub(crate) name: String,
    /// The schema of a relation named without an alias.
    pub(crate) schema: Option<String>,
    pub(crate) columns: Vec<ScopeColumn>,
    /// Indexes of the primary key's columns.
    pub(crate) key: Option<Vec<usize>>,
    /// What `tableoid` is in its rows; None where it has none.
    pub(crate) oid: Option<u32>,
    /// Whether an outer join may have put NULLs in the place of its rows.
    pub(crate) padded: bool,
}

/// What an unqualified name and `*` see.
#[derive(Clone, Debug)]
pub(crate) struct VisibleColumn {
    pub(crate) column: ScopeColumn,
    /// Index of its relation; None for a column that JOIN USING merged.
    pub(crate) relation: Option<usize>,
}

/// The names of one FROM clause.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) relations: Vec<ScopeRelation>,
    pub(crate) visible: Vec<VisibleColumn>,
}

/// Where a query stands: the scopes around it, innermost first, and the WITH queries it can name.
pub(crate) enum Env<'p> {
    Root,
    Scope {
        scope: &'p Scope,
        parent: &'p Env<'p>,
    },
    /// The items before a derived table that is not LATERAL: named only to say that they cannot be.
    Hidden {
        scope: &'p Scope,
        parent: &'p Env<'p>,
    },
    Cte {
        cte: &'p ast::Cte,
        recursive: bool,
        bound: OnceCell<Output>,
        binding: Cell<bool>,
        /// What the name means within its own definition: the rows of the step before.
        work: OnceCell<Output>,
        parent: &'p Env<'p>,
    },
    /// The queries of a WITH MUTUALLY RECURSIVE, which all see each other: their names, and the rows that these stand for.
    Bindings {
        bindings: &'p [(String, Output)],
        parent: &'p Env<'p>,
    },
}

impl Scope {
    pub(crate) fn of_relation(
        name: &str,
        schema: Option<String>,
        columns: Vec<ScopeColumn>,
        key: Option<Vec<usize>>,
    ) -> Scope {
        let visible =
            columns.iter().map(|column| VisibleColumn { column: column.clone(), relation: Some(0) }).collect();
        let relation = ScopeRelation { name: name.to_string(), schema, columns, key, oid: None, padded: false };
        Scope { relations: vec![relation], visible }
    }

    /// The same, of a relation with rows of its own: its `tableoid` is `oid`.
    pub(crate) fn with_oid(mut self, oid: Option<u32>) -> Scope {
        self.relations.iter_mut().for_each(|relation| relation.oid = oid);
        self
    }

    /// Both sides' relations, and their visible columns left first. Errors: `42712` where two relations share a name.
    pub(crate) fn join(mut self, other: Scope) -> Result<Scope, PgError> {
        let offset = self.relations.len();
        for relation in &other.relations {
            let same = |known: &&ScopeRelation| {
                !relation.name.is_empty() && known.name == relation.name && known.schema == relation.schema
            };
            if self.relations.iter().any(|known| same(&known)) {
                return Err(PgError::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", relation.name),
                ));
            }
        }
        self.relations.extend(other.relations);
        self.visible.extend(
            other.visible.into_iter().map(|visible| VisibleColumn {
                relation: visible.relation.map(|relation| relation + offset),
                ..visible
            }),
        );
        Ok(self)
    }

    /// After an outer join whose other side may be missing.
    pub(crate) fn make_nullable(&mut self) {
        for relation in &mut self.relations {
            relation.columns.iter_mut().for_each(|column| column.nullable = true);
            relation.padded = true;
        }
        self.visible.iter_mut().for_each(|visible| visible.column.nullable = true);
    }

    /// The column that is `column` in the plan.
    pub(crate) fn find(&self, column: &Column) -> Option<&ScopeColumn> {
        let is = |candidate: &&ScopeColumn| matches!(&candidate.typed.expr, Expr::Column(known) if known == column);
        let of_relations = self.relations.iter().flat_map(|relation| relation.columns.iter());
        of_relations.chain(self.visible.iter().map(|visible| &visible.column)).find(is)
    }

    /// The relation that `column` of the plan belongs to.
    pub(crate) fn relation_of(&self, column: &Column) -> Option<&ScopeRelation> {
        self.relations.iter().find(|relation| {
            relation.columns.iter().any(|known| matches!(&known.typed.expr, Expr::Column(known) if known == column))
        })
    }

    /// `t.x` as PostgreSQL's messages show it; `x` for a merged column.
    pub(crate) fn label(&self, column: &Column) -> String {
        let name = self.find(column).map(|found| found.name.clone()).unwrap_or_else(|| column.name.clone());
        match self.relation_of(column) {
            Some(relation) if !relation.name.is_empty() => format!("{}.{name}", relation.name),
            _ => name,
        }
    }

    /// Whether `expr` can be NULL, as far as the columns of this scope promise.
    pub(crate) fn is_nullable(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Column(column) => self.find(column).is_none_or(|column| column.nullable),
            Expr::Literal(value, _) => value.is_null(),
            Expr::Alias(alias) => self.is_nullable(&alias.expr),
            Expr::AggregateFunction(function) => function.func.name() != "count",
            Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_) => false,
            _ => true,
        }
    }

    fn relation_named(&self, schema: Option<&str>, name: &str) -> Option<&ScopeRelation> {
        self.relations.iter().find(|relation| {
            relation.name == name && schema.is_none_or(|schema| relation.schema.as_deref() == Some(schema))
        })
    }
}

impl<'p> Env<'p> {
    /// The scopes from the innermost outwards.
    fn scopes(&self) -> impl Iterator<Item = &'p Scope> + use<'_, 'p> {
        let mut next = Some(self);
        std::iter::from_fn(move || {
            while let Some(env) = next {
                match env {
                    Env::Root => next = None,
                    Env::Cte { parent, .. } | Env::Hidden { parent, .. } | Env::Bindings { parent, .. } => {
                        next = Some(parent)
                    }
                    Env::Scope { scope, parent } => {
                        next = Some(parent);
                        return Some(*scope);
                    }
                }
            }
            None
        })
    }
}

impl Env<'_> {
    fn hides(&self, schema: Option<&str>, name: &str) -> bool {
        match self {
            Env::Root => false,
            Env::Hidden { scope, parent } => scope.relation_named(schema, name).is_some() || parent.hides(schema, name),
            Env::Scope { parent, .. } | Env::Cte { parent, .. } | Env::Bindings { parent, .. } => {
                parent.hides(schema, name)
            }
        }
    }
}

/// A name folded as PostgreSQL folds it: lower case unless quoted.
pub(crate) fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl Binder<'_> {
    /// What `name` means here, or None if no scope has a column of that name. Errors: `42702` if it could be two.
    pub(crate) fn find_column(&self, ident: &Ident, env: &Env) -> Result<Option<TypedExpr>, PgError> {
        let name = fold(ident);
        for (depth, scope) in env.scopes().enumerate() {
            let mut matches = scope.visible.iter().filter(|visible| visible.column.name == name);
            let Some(found) = matches.next() else {
                let mut systems = scope.relations.iter().filter(|relation| relation.oid.is_some());
                match (systems.next(), systems.next()) {
                    (Some(relation), None) => match self.system_column(&name, relation, depth, ident.span) {
                        Some(typed) => return Ok(Some(typed)),
                        None => continue,
                    },
                    _ => continue,
                }
            };
            if matches.next().is_some() {
                let error =
                    PgError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{name}\" is ambiguous"));
                return Err(self.at(error, ident.span));
            }
            return Ok(Some(self.reference(&found.column, depth, ident.span)));
        }
        Ok(None)
    }

    /// The row of the relation that `ident` names, as JSON; None if it names a column, or nothing.
    ///
    /// Errors: `0A000` where the row may be missing, as of an outer join: nothing tells it from one of NULLs.
    pub(crate) fn row_as_json(&self, ident: &Ident, env: &Env) -> Result<Option<TypedExpr>, PgError> {
        let name = fold(ident);
        let known = env.scopes().any(|scope| scope.relation_named(None, &name).is_some());
        if !known || self.find_column(ident, env)?.is_some() {
            return Ok(None);
        }
        let (depth, relation) = self.resolve_relation(std::slice::from_ref(ident), env)?;
        let alone = env.scopes().nth(depth).is_some_and(|scope| scope.relations.len() == 1);
        if !alone && relation.columns.iter().all(|column| column.nullable) {
            let what = format!("the row \"{name}\" of a join as a value");
            return Err(self.at(PgError::unsupported(what), ident.span));
        }
        let fields = relation.columns.iter().map(|column| {
            let value = self.reference(column, depth, ident.span);
            (column.name.clone(), value)
        });
        Ok(Some(crate::functions::whole_row(fields.collect())))
    }

    /// The column an unqualified name means. Errors: `42703`, `42702`.
    pub(crate) fn resolve_column(&self, ident: &Ident, env: &Env) -> Result<TypedExpr, PgError> {
        if let Some(found) = self.find_column(ident, env)? {
            return Ok(found);
        }
        let name = fold(ident);
        if env.scopes().any(|scope| scope.relation_named(None, &name).is_some()) {
            return Err(self.at(PgError::unsupported(format!("a whole row (\"{name}\") as a value")), ident.span));
        }
        let error = PgError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
        let relations: Vec<&ScopeRelation> = env.scopes().flat_map(|scope| scope.relations.iter()).collect();
        Err(self.at(with_suggestion(error, &name, &relations), ident.span))
    }

    /// The column `t.x` or `s.t.x` means. Errors: `42P01` if nothing is called `t` here, `42703` if it has no `x`.
    pub(crate) fn resolve_qualified(&self, parts: &[Ident], env: &Env) -> Result<TypedExpr, PgError> {
        let (qualifier, ident) = match parts {
            [qualifier @ .., ident] => (qualifier, ident),
            [] => return Err(PgError::internal("a name without parts")),
        };
        let span = parts[0].span;
        let (depth, relation) = self.resolve_relation(qualifier, env)?;
        let name = fold(ident);
        let mut matches = relation.columns.iter().filter(|column| column.name == name);
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(self.reference(found, depth, span)),
            (Some(_), Some(_)) => {
                let message = format!("column reference \"{name}\" is ambiguous");
                Err(self.at(PgError::new(SqlState::AMBIGUOUS_COLUMN, message), span))
            }
            (None, _) => {
                if let Some(typed) = self.system_column(&name, relation, depth, span) {
                    return Ok(typed);
                }
                let message = format!("column {}.{name} does not exist", relation.name);
                let error = PgError::new(SqlState::UNDEFINED_COLUMN, message);
                Err(self.at(with_suggestion(error, &name, &[relation]), span))
            }
        }
    }

    /// A column that every row has without its being listed: `tableoid`, and `xmin` where rows have no history.
    fn system_column(&self, name: &str, relation: &ScopeRelation, depth: usize, span: Span) -> Option<TypedExpr> {
        let oid = relation.oid?;
        let (value, sql_type) = match name {
            "tableoid" => (oid, SqlType::Oid),
            // What PostgreSQL's rows have from birth.
            "xmin" if oid < catalog::FIRST_USER_ID => (1, SqlType::Xid),
            _ => return None,
        };
        let mut expr = lit(value);
        if relation.padded {
            let there = relation.columns.iter().map(|column| self.reference(column, depth, span).expr.is_not_null());
            let there = there.reduce(Expr::or)?;
            expr = super::build::case(vec![(there, expr)], lit(ScalarValue::UInt32(None)));
        }
        Some(TypedExpr::new(expr, sql_type))
    }

    /// The relation that `t` or `s.t` means, and how many scopes out it is. Errors: `42P01`.
    pub(crate) fn resolve_relation<'s>(
        &self,
        qualifier: &[Ident],
        env: &Env<'s>,
    ) -> Result<(usize, &'s ScopeRelation), PgError> {
        let names: Vec<String> = qualifier.iter().map(fold).collect();
        let (schema, name) = match names.as_slice() {
            [name] => (None, name),
            [schema, name] | [_, schema, name] => (Some(schema.as_str()), name),
            _ => {
                let message = format!("improper qualified name (too many dotted names): {}", names.join("."));
                return Err(PgError::new(SqlState::SYNTAX_ERROR, message));
            }
        };
        for (depth, scope) in env.scopes().enumerate() {
            if let Some(relation) = scope.relation_named(schema, name) {
                return Ok((depth, relation));
            }
        }
        let span = qualifier.first().map_or(Span::empty(), |ident| ident.span);
        let error = if env.hides(schema, name) {
            let message = format!("invalid reference to FROM-clause entry for table \"{name}\"");
            PgError::new(SqlState::UNDEFINED_TABLE, message)
                .with_detail(format!(
                    "There is an entry for table \"{name}\", but it cannot be referenced from this part of the query."
                ))
                .with_hint("To reference that table, you must mark this subquery with LATERAL.")
        } else {
            PgError::new(SqlState::UNDEFINED_TABLE, format!("missing FROM-clause entry for table \"{name}\""))
        };
        Err(self.at(error, span))
    }

    fn reference(&self, column: &ScopeColumn, depth: usize, span: Span) -> TypedExpr {
        let mut typed = column.typed.clone();
        if let Expr::Column(plan_column) = &column.typed.expr {
            self.remember_span(plan_column, depth > 0, span);
            if depth > 0 {
                typed.expr = outer_reference(plan_column.clone(), typed.sql_type.arrow());
            }
        }
        typed
    }
}

/// Adds what columns there are, and the one that was probably meant.
fn with_suggestion(error: PgError, name: &str, relations: &[&ScopeRelation]) -> PgError {
    let mut best: Option<(usize, &str)> = None;
    for column in relations.iter().flat_map(|relation| relation.columns.iter()) {
        let distance = edit_distance(name, &column.name);
        if distance <= 1 + name.chars().count() / 3 && best.is_none_or(|(known, _)| distance < known) {
            best = Some((distance, &column.name));
        }
    }
    let error = match best {
        Some((_, column)) => error.with_hint(format!("Did you mean \"{column}\"?")),
        None => error,
    };
    match relations {
        [relation] if !relation.columns.is_empty() && relation.columns.len() <= 30 => {
            let columns: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
            error.with_detail(format!("Relation \"{}\" has columns {}.", relation.name, columns.join(", ")))
        }
        _ => error,
    }
}

/// Insertions, deletions and replacements of characters between two names.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
