//! Making, changing and dropping objects.
//!
//! ```text
//! steps of a statement --Draft--> a catalog of the transaction's own, dataflows running, rows that go with them
//! COMMIT: the shared catalog + what the transaction changed -> storage, catalog, rows: one write (`commit`)
//! ROLLBACK: the dataflows it started end (`roll_back`)
//! ```
//!
//! What a transaction defines is its own until it commits; a statement outside of a block is a transaction of one. Two that
//! change the same object meet at COMMIT, where the later one fails to serialize.
//!
//! All of it blocks (fsync, rendering, reading a table) and runs on a thread of its own, under the lock `definitions`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use catalog::{Catalog, NamedRelation, Object, ObjectKind, Position, SearchPath, Uniqueness};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use plan::{DataflowPlan, Fingerprint, SharedArrangement};
use repr::{ObjectId, PgError, RelationSchema, SqlState, ViewOptions};
use sql::bind::{BindContext, BoundQuery};
use sql::statement::{Rewrite, Step, alter, depend_on_schema};
use sql::{BoundStatement, Purpose};
use storage::{CatalogChange, StoredObject};

use crate::dataflows::{install, uninstall, with_lower_context};
use crate::engine::Shared;
use crate::rules::verify_rows;
use crate::system::Asker;
use crate::transaction::Definition;
use crate::write::{Change, Pending, rows_after};
use crate::{constant, write};

/// Dataflows to start, each with the fingerprint under which others may share it.
pub(crate) type Plans = Vec<(DataflowPlan, Option<SharedArrangement>)>;

/// The object that a CREATE of a source, a connection or a view makes, without its id. None for other statements.
pub(crate) fn object_of(statement: &BoundStatement, text: &str) -> Option<Object> {
    let (schema, name, kind, depends_on, names) = match statement {
        BoundStatement::CreateSource { schema_name, name, description, depends_on, .. } => {
            let kind = ObjectKind::Source { description: description.clone() };
            (schema_name, name, kind, depends_on.clone(), Vec::new())
        }
        BoundStatement::CreateConnection { schema_name, name, connector, options, .. } => {
            let kind = ObjectKind::Connection { connector: connector.clone(), options: options.clone() };
            (schema_name, name, kind, Vec::new(), Vec::new())
        }
        BoundStatement::CreateView { schema_name, name, query, query_text, materialized, options, .. } => {
            let (schema, text) = (query.schema.clone(), query_text.clone());
            let kind = match materialized {
                true => ObjectKind::MaterializedView { schema, query: text, options: *options },
                false => ObjectKind::View { schema, query: text },
            };
            (schema_name, name, kind, query.relations.clone(), query.names.clone())
        }
        _ => return None,
    };
    let object = Object::new(ObjectId(0), schema, name, kind);
    Some(Object { sql: text.to_string(), depends_on, names, ..object })
}

/// The dataflows that a new object needs. Errors: `0A000` for a query that cannot be maintained.
pub(crate) fn plans_of(
    shared: &Shared,
    catalog: &Catalog,
    object: &Object,
    query: Option<&BoundQuery>,
) -> Result<Plans, PgError> {
    match (&object.kind, query) {
        (ObjectKind::Table { schema, options, .. }, _) => {
            Ok(vec![(plan::relation_plan(object.id, &object.name, schema, *options), None)])
        }
        (ObjectKind::MaterializedView { options, .. }, Some(query)) => {
            view_plans(shared, catalog, object.id, &object.name, query, *options)
        }
        // The table's own arrangement is by its primary key.
        (ObjectKind::Index { uniqueness: Uniqueness::PrimaryKey, .. }, _) => Ok(Vec::new()),
        (ObjectKind::Index { on, columns, .. }, _) => {
            let relation = catalog.get(*on).ok_or_else(|| undefined(*on))?;
            if let ObjectKind::View { .. } | ObjectKind::SystemRelation { .. } = relation.kind {
                return Err(PgError::unsupported(format!("an index on a {}", relation.kind_name()))
                    .with_hint("Make it a materialized view."));
            }
            let width = relation.relation_schema().map_or(0, |schema| schema.columns.len());
            let fingerprint = Fingerprint { relation: *on, columns: (0..width).collect(), key: columns.clone() };
            let plan = with_lower_context(shared, catalog, |context| {
                plan::index_plan(object.id, &object.name, *on, columns, context)
            })?;
            let arrangement =
                SharedArrangement { dataflow: object.id, fingerprint: fingerprint.to_string(), key: columns.clone() };
            Ok(vec![(plan, Some(arrangement))])
        }
        _ => Ok(Vec::new()),
    }
}

/// The dataflows that maintain a query as `id`.
pub(crate) fn view_plans(
    shared: &Shared,
    catalog: &Catalog,
    id: ObjectId,
    name: &str,
    query: &BoundQuery,
    options: ViewOptions,
) -> Result<Plans, PgError> {
    let unkept = |id: &&ObjectId| {
        let kind = catalog.get(**id).map(|object| &object.kind);
        matches!(kind, Some(ObjectKind::SystemRelation { .. } | ObjectKind::Sequence(_)))
    };
    if let Some(relation) = query.relations.iter().find(unkept).and_then(|id| catalog.get(*id)) {
        let kind = if relation.kind_name() == "table" { "system relation" } else { relation.kind_name() };
        return Err(PgError::unsupported(format!("maintaining a query over {kind} \"{}\"", relation.name)));
    }
    let optimized = sql::optimize(query.plan.clone(), Purpose::Maintain)?;
    let mut plans = with_lower_context(shared, catalog, |context| plan::lower(id, name, &optimized, context))?;
    if let Some(mut view) = plans.pop() {
        if options.emit_on_window_close {
            let watermark = |id: ObjectId| match catalog.get(id).map(|object| &object.kind) {
                Some(ObjectKind::Source { description }) => description.watermark,
                Some(ObjectKind::Table { options, .. }) => options.watermark,
                _ => None,
            };
            view = plan::emit_on_window_close(view, &watermark)?;
        }
        view.options = options;
        plans.push(view);
    }
    let shareable = |plan: DataflowPlan| {
        let arrangement = (plan.id != id).then(|| SharedArrangement {
            dataflow: plan.id,
            fingerprint: plan.name.clone(),
            key: plan.export.key.clone(),
        });
        (plan, arrangement)
    };
    Ok(plans.into_iter().map(shareable).collect())
}

/// What statements are bound with.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    pub(crate) timezone: String,
    pub(crate) search_path: SearchPath,
}

/// What a transaction's definitions make of the catalog. Dropped without being taken, it ends what it started.
pub(crate) struct Defined {
    shared: Arc<Shared>,
    pub(crate) catalog: Arc<Catalog>,
    definitions: Vec<Definition>,
    /// Rows of tables that were rewritten or filled.
    pub(crate) changes: Vec<Change>,
    /// Tables whose rows were read for that, with their versions then.
    pub(crate) read: Vec<(ObjectId, u64)>,
    pub(crate) moves: Vec<(u32, Position)>,
    pub(crate) drop_at_commit: Vec<(String, String)>,
    pub(crate) notices: Vec<PgError>,
}

impl Defined {
    /// The definitions, which are the caller's to commit or to roll back from now on.
    pub(crate) fn take_definitions(&mut self) -> Vec<Definition> {
        std::mem::take(&mut self.definitions)
    }
}

impl Drop for Defined {
    fn drop(&mut self) {
        if !self.definitions.is_empty() {
            roll_back(&self.shared, &self.definitions);
        }
    }
}

/// Definitions on top of a catalog.
pub(crate) struct Draft<'a> {
    shared: &'a Arc<Shared>,
    asker: &'a Asker,
    naming: &'a Naming,
    /// What the transaction has written before.
    pending: &'a [Change],
    catalog: Catalog,
    defined: Defined,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        catalog: &Arc<Catalog>,
        asker: &'a Asker,
        naming: &'a Naming,
        pending: &'a [Change],
    ) -> Draft<'a> {
        let defined = Defined {
            shared: Arc::clone(shared),
            catalog: Arc::clone(catalog),
            definitions: Vec::new(),
            changes: Vec::new(),
            read: Vec::new(),
            moves: Vec::new(),
            drop_at_commit: Vec::new(),
            notices: Vec::new(),
        };
        Draft { shared, asker, naming, pending, catalog: (**catalog).clone(), defined }
    }

    /// What came of it.
    pub(crate) fn finish(mut self) -> Defined {
        self.defined.catalog = Arc::new(self.catalog);
        self.defined
    }

    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), PgError> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), PgError> {
        match step {
            Step::Statement(text) => {
                let statement = sql::parse(text)?.pop().ok_or_else(|| PgError::internal("an empty step"))?;
                let bound = self.with_context(|context| sql::bind(&statement, context));
                // Positions count in a text that the user did not write.
                match bound.map_err(|error| PgError { position: None, ..error })? {
                    BoundStatement::Define { steps, .. } => self.run(&steps),
                    _ => Err(PgError::internal("a step is no definition")),
                }
            }
            Step::Alter(alter, index) => {
                let steps = self.with_context(|context| alter::steps(alter, *index, context))?;
                self.run(&steps)
            }
            Step::Create(object) => self.create((**object).clone(), None).map(drop),
            Step::Replace(object) => self.replace((**object).clone()),
            Step::Rewrite(rewrite) => self.rewrite(rewrite),
            Step::Drop { objects, cascade } => self.drop_objects(objects, *cascade).map(drop),
            Step::DropColumnUsers { table, column, cascade } => {
                let views = self.views_reading(*table, *column)?;
                let Some(view) = views.first().and_then(|id| self.catalog.get(*id)) else { return Ok(()) };
                if !*cascade {
                    let (table, column) = self.column_names(*table, *column);
                    let message =
                        format!("cannot drop column {column} of table {table} because other objects depend on it");
                    let detail =
                        format!("{} depends on column {column} of table {table}", describe(&self.catalog, view));
                    return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                        .with_detail(detail)
                        .with_hint(CASCADE_HINT));
                }
                self.drop_objects(&views, true).map(drop)
            }
            Step::CheckColumnUnused { table, column } => {
                let views = self.views_reading(*table, *column)?;
                let Some(view) = views.first().and_then(|id| self.catalog.get(*id)) else { return Ok(()) };
                let (_, column) = self.column_names(*table, *column);
                Err(PgError::unsupported("altering the type of a column used by a view")
                    .with_detail(format!("{} depends on column \"{column}\"", describe(&self.catalog, view))))
            }
            Step::MoveSequence { oid, position } => {
                self.defined.moves.push((*oid, *position));
                Ok(())
            }
            Step::DropAtCommit(schema, name) => {
                self.defined.drop_at_commit.push((schema.clone(), name.clone()));
                Ok(())
            }
            Step::Notice(notice) => {
                self.defined.notices.push(notice.clone());
                Ok(())
            }
        }
    }

    fn with_context<T>(&self, bind: impl FnOnce(&BindContext) -> T) -> T {
        let mut context = BindContext::new(&self.catalog);
        context.timezone = self.naming.timezone.clone();
        context.search_path = self.naming.search_path.clone();
        bind(&context)
    }

    fn column_names(&self, table: ObjectId, column: usize) -> (String, String) {
        let object = self.catalog.get(table);
        let schema = object.and_then(|object| object.relation_schema());
        let column = schema.and_then(|schema| schema.columns.get(column));
        (
            object.map_or(String::new(), |object| object.name.clone()),
            column.map_or(String::new(), |column| column.name.clone()),
        )
    }

    /// Makes an object under a new id, with `query` for a view, and starts its dataflows.
    ///
    /// Errors: `42P07` for a name that is taken, `42P01` for a dependency that is gone, `23505` and its kin where rows break
    /// what it demands, and whatever planning says.
    pub(crate) fn create(&mut self, object: Object, query: Option<&BoundQuery>) -> Result<Arc<Object>, PgError> {
        let id = self.shared.allocate_id();
        self.create_as(Object { id, oid: id.0, ..object }, query)
    }

    fn create_as(&mut self, mut object: Object, query: Option<&BoundQuery>) -> Result<Arc<Object>, PgError> {
        let id = object.id;
        self.with_context(|context| depend_on_schema(&mut object, "", context));
        if let Some(missing) = object.depends_on.iter().find(|id| self.catalog.get(**id).is_none()) {
            return Err(undefined(*missing));
        }
        self.check_name(&object)?;
        self.verify(&object)?;
        let mut next = self.catalog.clone();
        next.insert(object.clone())?;
        let plans = plans_of(self.shared, &self.catalog, &object, query)?;
        install(self.shared, &next, id, plans)?;
        self.catalog = next;
        let object = self.catalog.get(id).map(Arc::clone).ok_or_else(|| PgError::internal("the new object is gone"))?;
        self.defined.definitions.push(Definition::Created(Arc::clone(&object)));
        Ok(object)
    }

    /// Errors: 42710 for a constraint whose name a key of its table has.
    fn check_name(&self, object: &Object) -> Result<(), PgError> {
        let ObjectKind::Constraint(constraint) = &object.kind else { return Ok(()) };
        let mut keys = self.catalog.indexes(constraint.table);
        match keys.any(|(index, _, uniqueness)| uniqueness.is_constraint() && index.name == object.name) {
            true => Err(self.catalog.duplicate(object)),
            false => Ok(()),
        }
    }

    /// Errors: those of rows that are there and break what a new key or constraint demands.
    fn verify(&mut self, object: &Object) -> Result<(), PgError> {
        let table = match &object.kind {
            ObjectKind::Index { on, uniqueness: Uniqueness::Index | Uniqueness::Constraint, .. } => *on,
            ObjectKind::Constraint(constraint) => constraint.table,
            _ => return Ok(()),
        };
        let relation = self.catalog.get(table).map(Arc::clone).ok_or_else(|| undefined(table))?;
        let rows = self.rows_of(&relation)?;
        if rows.1 == 0 {
            return Ok(());
        }
        let changes = self.all_changes();
        let (shared, asker, catalog) = (self.shared, self.asker, Arc::new(self.catalog.clone()));
        let pending = Pending::all(&changes);
        block_on(verify_rows(shared, asker, &catalog, object, &relation, &rows.0, rows.1, pending))
    }

    fn all_changes(&self) -> Vec<Change> {
        self.pending.iter().chain(&self.defined.changes).cloned().collect()
    }

    /// All rows of a table as the transaction sees them, and their number. Others who write them meet it at COMMIT.
    fn rows_of(&mut self, table: &Object) -> Result<(Vec<ArrayRef>, usize), PgError> {
        let version = self.shared.table_version(table.id);
        self.defined.read.push((table.id, version));
        let schema = table.relation_schema().ok_or_else(|| undefined(table.id))?;
        let changes = self.all_changes();
        block_on(rows_after(self.shared, table.id, schema, Pending::all(&changes)))
    }

    /// Puts `object` in the place of the one with its id.
    fn replace(&mut self, object: Object) -> Result<(), PgError> {
        let before = self.catalog.get(object.id).map(Arc::clone).ok_or_else(|| undefined(object.id))?;
        if object == *before {
            return Ok(());
        }
        self.check_nulls(&before, &object)?;
        self.catalog.replace(object.clone())?;
        let after = self.catalog.get(object.id).map(Arc::clone).ok_or_else(|| undefined(object.id))?;
        self.defined.definitions.push(Definition::Altered { before, after });
        Ok(())
    }

    /// Errors: 23502 if a column that is NOT NULL from now on has a NULL.
    fn check_nulls(&mut self, before: &Object, after: &Object) -> Result<(), PgError> {
        let (ObjectKind::Table { schema: old, .. }, ObjectKind::Table { schema: new, .. }) =
            (&before.kind, &after.kind)
        else {
            return Ok(());
        };
        let stricter: Vec<usize> = (0..new.columns.len())
            .filter(|index| old.columns[*index].nullable && !new.columns[*index].nullable)
            .collect();
        if stricter.is_empty() {
            return Ok(());
        }
        let (columns, _) = self.rows_of(before)?;
        match stricter.into_iter().find(|index| columns[*index].null_count() > 0) {
            None => Ok(()),
            Some(index) => Err(contains_nulls(&new.columns[index].name, &after.name)),
        }
    }

    /// Puts a table with other columns, and all that depends on it, in the place of the old: under new ids, with their OIDs.
    fn rewrite(&mut self, rewrite: &Rewrite) -> Result<(), PgError> {
        let old_id = rewrite.object.id;
        let old = self.catalog.get(old_id).map(Arc::clone).ok_or_else(|| undefined(old_id))?;
        let (ObjectKind::Table { schema: old_schema, options, .. }, ObjectKind::Table { schema, .. }) =
            (&old.kind, &rewrite.object.kind)
        else {
            return Err(PgError::internal("only a table's rows are rewritten"));
        };
        if options.append_only {
            return Err(PgError::unsupported(format!("changing the columns of APPEND ONLY table \"{}\"", old.name)));
        }
        let (rows, row_count) = self.rows_of(&old)?;
        let catalog = Arc::new(self.catalog.clone());
        let (shared, asker) = (self.shared, self.asker);
        let columns = constant::evaluate_for(shared, asker, &catalog, &rewrite.columns, old_schema, &rows, row_count)?;
        for (index, column) in schema.columns.iter().enumerate() {
            if !column.nullable && columns[index].null_count() > 0 {
                return Err(contains_nulls(&column.name, &old.name));
            }
        }
        if let Some(key) = &schema.primary_key {
            crate::unique::check_distinct(&format!("{}_pkey", old.name), schema, key, &columns, row_count)?;
        }
        // Dependents first, the table last.
        let closure: Vec<Arc<Object>> = self
            .catalog
            .dependents_closure(old_id)
            .into_iter()
            .filter_map(|id| self.catalog.get(id).map(Arc::clone))
            .collect();
        for object in &closure {
            self.catalog.remove(object.id);
            self.defined.definitions.push(Definition::Dropped(Arc::clone(object)));
        }
        let new_id = self.shared.allocate_id();
        let mut ids = BTreeMap::from([(old_id, new_id)]);
        let comments = rewrite.object.comments.clone();
        self.create_as(Object { id: new_id, oid: old.oid, comments, ..rewrite.object.clone() }, None)?;
        self.defined.changes.push(Change::constant(new_id, columns, row_count, 1));
        let mut dependents: Vec<&Arc<Object>> = closure.iter().filter(|object| object.id != old_id).collect();
        dependents.sort_by_key(|object| object.id);
        for object in dependents {
            self.rebuild(object, (old_id, new_id), rewrite, &mut ids)?;
        }
        Ok(())
    }

    /// Makes a dependent of a rewritten table again. Keys and constraints that lost a column are gone already.
    fn rebuild(
        &mut self,
        object: &Object,
        (old_table, new_table): (ObjectId, ObjectId),
        rewrite: &Rewrite,
        ids: &mut BTreeMap<ObjectId, ObjectId>,
    ) -> Result<(), PgError> {
        let Some(mut moved) = alter::moved_part(object, old_table, new_table, rewrite) else { return Ok(()) };
        let swap = |id: ObjectId| ids.get(&id).copied().unwrap_or(id);
        moved.depends_on = moved.depends_on.iter().map(|id| swap(*id)).collect();
        for named in &mut moved.names {
            named.id = swap(ObjectId(named.id)).0;
        }
        match &mut moved.kind {
            ObjectKind::Index { on, .. } => *on = swap(*on),
            ObjectKind::Constraint(constraint) => {
                if let catalog::ConstraintKind::ForeignKey(key) = &mut constraint.kind {
                    key.key = swap(key.key);
                }
            }
            _ => {}
        }
        if moved.depends_on.iter().any(|id| self.catalog.get(*id).is_none()) {
            // What it depends on has not been made again.
            return Ok(());
        }
        moved.id = self.shared.allocate_id();
        ids.insert(object.id, moved.id);
        let query = match &moved.kind {
            ObjectKind::View { .. } | ObjectKind::MaterializedView { .. } => Some(self.bind_view(&moved)?),
            _ => None,
        };
        if let (Some(query), Some(schema)) = (&query, object.relation_schema()) {
            let types = |schema: &RelationSchema| {
                schema.columns.iter().map(|column| (column.sql_type.clone(), column.typmod)).collect::<Vec<_>>()
            };
            if types(&query.schema) != types(schema) {
                return Err(PgError::unsupported(format!(
                    "changing a table whose columns {} shows",
                    describe(&self.catalog, object)
                )));
            }
        }
        self.create_as(moved, query.as_ref()).map(drop)
    }

    /// A view's query, its names meaning what they meant when it was made.
    fn bind_view(&self, view: &Object) -> Result<BoundQuery, PgError> {
        view_query(&self.catalog, view)
    }

    /// The views that read a column of a table.
    fn views_reading(&self, table: ObjectId, column: usize) -> Result<Vec<ObjectId>, PgError> {
        let (_, name) = self.column_names(table, column);
        let mut found = Vec::new();
        for object in self.catalog.dependents(table) {
            if let ObjectKind::View { .. } | ObjectKind::MaterializedView { .. } = object.kind
                && columns_read(&self.bind_view(object)?.plan)?.contains(&(table, name.clone()))
            {
                found.push(object.id);
            }
        }
        Ok(found)
    }

    /// Drops objects and, with `cascade`, what depends on them. Returns what went, dependents first.
    ///
    /// Errors: `2BP01` without `cascade` if anything that is no part of them depends on one of them.
    pub(crate) fn drop_objects(&mut self, ids: &[ObjectId], cascade: bool) -> Result<Vec<Arc<Object>>, PgError> {
        let mut going: Vec<ObjectId> = Vec::new();
        for id in ids {
            for dependent in self.catalog.dependents_closure(*id) {
                if !going.contains(&dependent) && self.catalog.get(dependent).is_some() {
                    going.push(dependent);
                }
            }
        }
        if !cascade {
            check_unused(&self.catalog, ids, &going)?;
        }
        self.release_defaults(&going, cascade)?;
        let order = in_order(&self.catalog, &going);
        let dropped: Vec<Arc<Object>> = order.into_iter().filter_map(|id| self.catalog.remove(id)).collect();
        for object in &dropped {
            self.defined.definitions.push(Definition::Dropped(Arc::clone(object)));
        }
        Ok(dropped)
    }

    /// Columns whose DEFAULT counts on a sequence that goes lose it. Errors: `2BP01` without `cascade`.
    fn release_defaults(&mut self, going: &[ObjectId], cascade: bool) -> Result<(), PgError> {
        for id in going {
            let Some(sequence) = self.catalog.get(*id).map(Arc::clone) else { continue };
            if !matches!(sequence.kind, ObjectKind::Sequence(_)) {
                continue;
            }
            let users = self.with_context(|context| alter::defaults_with(&sequence, context))?;
            for (table, column) in users.into_iter().filter(|(table, _)| !going.contains(&table.id)) {
                let name = table.relation_schema().map_or("", |schema| schema.columns[column].name.as_str());
                let default = format!("default value for column {name} of table {}", table.name);
                if !cascade {
                    let message = format!("cannot drop sequence {} because other objects depend on it", sequence.name);
                    return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                        .with_detail(format!("{default} depends on sequence {}", sequence.name))
                        .with_hint(CASCADE_HINT));
                }
                let mut table = (*table).clone();
                if let ObjectKind::Table { details, .. } = &mut table.kind {
                    details[column].default = None;
                }
                self.replace(table)?;
                let notice = format!("drop cascades to {default}");
                self.defined.notices.push(PgError::new(SqlState::SUCCESSFUL_COMPLETION, notice));
            }
        }
        Ok(())
    }

    /// OR REPLACE takes the old view out. Errors: `42809` for another kind of object, `0A000` while something depends on it.
    pub(crate) fn replace_view(&mut self, schema: &str, name: &str) -> Result<(), PgError> {
        let Some(old) = self.catalog.in_schema(schema, name).map(Arc::clone) else { return Ok(()) };
        if !matches!(old.kind, ObjectKind::View { .. }) {
            return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a view")));
        }
        if let Some(dependent) = self.catalog.dependents(old.id).first() {
            return Err(PgError::unsupported("replacing a view that others depend on")
                .with_detail(format!("{} depends on view {name}.", describe(&self.catalog, dependent))));
        }
        self.catalog.remove(old.id);
        self.defined.definitions.push(Definition::Dropped(old));
        Ok(())
    }

    /// Rows for a table that the draft has made.
    pub(crate) fn fill(&mut self, change: Change) {
        self.defined.changes.push(change);
    }
}

/// A view's query, its names meaning what they meant when it was made.
pub(crate) fn view_query(catalog: &Catalog, view: &Object) -> Result<BoundQuery, PgError> {
    let statement = sql::parse(&view.sql)?.pop().ok_or_else(|| PgError::internal("its statement is empty"))?;
    let mut context = BindContext::new(catalog);
    context.names = &view.names;
    context.search_path.schemas = vec![view.schema.clone()];
    match sql::bind(&statement, &context)? {
        BoundStatement::CreateView { query, .. } => Ok(query),
        _ => Err(PgError::internal(format!("\"{}\" is no view", view.name))),
    }
}

/// The columns of stored relations that a plan reads, by relation and name.
fn columns_read(plan: &LogicalPlan) -> Result<BTreeSet<(ObjectId, String)>, PgError> {
    let internal = |error: datafusion::error::DataFusionError| PgError::internal(error.to_string());
    let mut scans = BTreeMap::new();
    let mut columns = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::SubqueryAlias(alias) = node
            && let LogicalPlan::TableScan(scan) = alias.input.as_ref()
            && let Ok(id) = scan.table_name.table().parse::<u32>()
        {
            scans.insert(alias.alias.to_string(), ObjectId(id));
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Column(column) | Expr::OuterReferenceColumn(_, column) = expr
                    && let Some(relation) = &column.relation
                {
                    columns.insert((relation.to_string(), column.name.clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(internal)?;
    Ok(columns.into_iter().filter_map(|(alias, column)| Some((*scans.get(&alias)?, column))).collect())
}

/// Runs what reads rows on the blocking thread that definitions are made on.
fn block_on<T>(future: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    tokio::runtime::Handle::current().block_on(future)
}

fn contains_nulls(column: &str, table: &str) -> PgError {
    let message = format!("column \"{column}\" of relation \"{table}\" contains null values");
    PgError::new(SqlState::NOT_NULL_VIOLATION, message)
}

const CASCADE_HINT: &str = "Use DROP ... CASCADE to drop the dependent objects too.";

/// What PostgreSQL's messages call an object: `view v`, `constraint c on table t`.
pub(crate) fn describe(catalog: &Catalog, object: &Object) -> String {
    match &object.kind {
        ObjectKind::Constraint(constraint) => {
            let table = catalog.get(constraint.table).map_or("", |table| table.name.as_str());
            format!("constraint {} on table {table}", object.name)
        }
        ObjectKind::Index { on, uniqueness, .. } if uniqueness.is_constraint() => {
            let table = catalog.get(*on).map_or("", |table| table.name.as_str());
            format!("constraint {} on table {table}", object.name)
        }
        _ => format!("{} {}", object.kind_name(), object.name),
    }
}

/// An object as it is stored.
pub(crate) fn stored(object: &Object, catalog: &Catalog) -> StoredObject {
    let numbers: Vec<i16> = match &object.kind {
        ObjectKind::Table { details, .. } => details.iter().map(|detail| detail.number).collect(),
        _ => Vec::new(),
    };
    let plain = numbers.iter().copied().eq(1..=numbers.len() as i16);
    StoredObject {
        id: object.id.0,
        oid: object.oid,
        kind: object.kind_name().to_string(),
        schema: object.schema.clone(),
        name: object.name.clone(),
        sql: catalog::definition::create_statement(object, catalog),
        column_numbers: if plain { Vec::new() } else { numbers },
        names: (!object.names.is_empty()).then(|| serde_json::to_value(&object.names).unwrap_or_default()),
        comments: object.comments.clone(),
    }
}

/// What [`stored`] wrote of a view's names. Errors: `XX001`.
pub(crate) fn stored_names(stored: &StoredObject) -> Result<Vec<NamedRelation>, PgError> {
    match &stored.names {
        None => Ok(Vec::new()),
        Some(names) => serde_json::from_value(names.clone())
            .map_err(|error| PgError::new(SqlState::DATA_CORRUPTED, format!("names of \"{}\": {error}", stored.name))),
    }
}

pub(crate) fn undefined(id: ObjectId) -> PgError {
    PgError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {id} does not exist"))
}

/// Dependents before what they depend on, for several closures at once.
fn in_order(catalog: &Catalog, ids: &[ObjectId]) -> Vec<ObjectId> {
    let mut rest = ids.to_vec();
    let mut order = Vec::with_capacity(ids.len());
    while !rest.is_empty() {
        let free = |id: &ObjectId| !catalog.dependents(*id).iter().any(|other| rest.contains(&other.id));
        let (now, later): (Vec<ObjectId>, Vec<ObjectId>) = rest.iter().partition(|id| free(id));
        if now.is_empty() {
            // Objects do not depend on each other in a circle.
            order.extend(later);
            break;
        }
        order.extend(now);
        rest = later;
    }
    order
}

fn check_unused(catalog: &Catalog, named: &[ObjectId], going: &[ObjectId]) -> Result<(), PgError> {
    let mut details = Vec::new();
    let mut first = None;
    for id in named {
        for dependent in catalog.dependents_closure(*id) {
            let Some(object) = catalog.get(dependent) else { continue };
            if named.contains(&dependent) || going.iter().any(|going| Catalog::is_part_of(object, *going)) {
                continue;
            }
            let parent = object.depends_on.iter().find(|parent| going.contains(parent)).unwrap_or(id);
            if let (Some(parent), Some(target)) = (catalog.get(*parent), catalog.get(*id)) {
                first.get_or_insert_with(|| describe(catalog, target));
                let line = format!("{} depends on {}", describe(catalog, object), describe(catalog, parent));
                if !details.contains(&line) {
                    details.push(line);
                }
            }
        }
    }
    let Some(target) = first else { return Ok(()) };
    let message = format!("cannot drop {target} because other objects depend on it");
    Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_detail(details.join("\n"))
        .with_hint(CASCADE_HINT))
}

/// Ends what dropped objects had running.
fn release(shared: &Shared, dropped: &[Arc<Object>]) {
    let ids: Vec<ObjectId> = dropped.iter().map(|object| object.id).collect();
    uninstall(shared, &ids);
    for object in dropped {
        match object.kind {
            ObjectKind::Source { .. } => shared.readers.forget(object.id),
            ObjectKind::Table { .. } => {
                shared.table_versions.lock().remove(&object.id);
                shared.key_filters.remove(object.id);
                shared.table_times.forget(object.id);
                shared.runtime.forget_relation(object.id);
            }
            _ => {}
        }
    }
}

/// The shared catalog as a transaction's definitions make it.
///
/// Errors: `40001` where somebody else has changed what they build on; a name that was taken meanwhile.
fn rebase(current: &Catalog, definitions: &[Definition]) -> Result<Catalog, PgError> {
    let conflict = || {
        PgError::new(SqlState::SERIALIZATION_FAILURE, "could not serialize access due to concurrent definitions")
            .with_hint("The transaction might succeed if retried.")
    };
    let mut next = current.clone();
    for definition in definitions {
        match definition {
            Definition::Created(object) => {
                if object.depends_on.iter().any(|id| next.get(*id).is_none()) {
                    return Err(conflict());
                }
                next.insert((**object).clone())?;
            }
            Definition::Dropped(object) => {
                if next.get(object.id).is_none() || !next.dependents(object.id).is_empty() {
                    return Err(conflict());
                }
                next.remove(object.id);
            }
            Definition::Altered { before, after } => {
                if next.get(before.id).is_none_or(|found| **found != **before) {
                    return Err(conflict());
                }
                next.replace((**after).clone())?;
            }
        }
    }
    Ok(next)
}

/// Everything a transaction did, for everyone and for good: what it defined and the rows it wrote. The caller holds the write
/// lock. Errors: as [`rebase`], storage's; then nothing has changed.
pub(crate) fn commit(shared: &Shared, definitions: &[Definition], changes: Vec<Change>) -> Result<(), PgError> {
    if definitions.is_empty() {
        return write::apply(shared, &shared.catalog(), changes, &CatalogChange::default(), || {});
    }
    let _definitions = shared.definitions.lock();
    shared.check_running()?;
    let next = rebase(&shared.catalog(), definitions)?;
    let mut touched = BTreeSet::new();
    let mut gone: Vec<Arc<Object>> = Vec::new();
    for definition in definitions {
        match definition {
            Definition::Created(object) => {
                touched.insert(object.id);
            }
            Definition::Altered { after, .. } => {
                touched.insert(after.id);
                // Their texts name it.
                touched.extend(next.dependents(after.id).iter().map(|dependent| dependent.id));
            }
            Definition::Dropped(object) => gone.push(Arc::clone(object)),
        }
    }
    let kept = touched.iter().filter_map(|id| next.get(*id)).filter(|object| !object.is_temporary());
    let is_gone = |oid: u32| next.by_oid(oid).is_none();
    let change = CatalogChange {
        put: kept.map(|object| stored(object, &next)).collect(),
        removed: gone.iter().map(|object| object.id).collect(),
        removed_sequences: gone
            .iter()
            .filter(|object| matches!(object.kind, ObjectKind::Sequence(_)) && is_gone(object.oid))
            .map(|object| object.oid)
            .collect(),
    };
    let next = Arc::new(next);
    write::apply(shared, &next, changes, &change, || *shared.catalog.write() = Arc::clone(&next))?;
    shared.sequences.forget(&change.removed_sequences);
    release(shared, &gone);
    Ok(())
}

/// Ends what definitions have started.
pub(crate) fn roll_back(shared: &Shared, definitions: &[Definition]) {
    let created = definitions.iter().filter_map(|definition| match definition {
        Definition::Created(object) => Some(Arc::clone(object)),
        _ => None,
    });
    let created: Vec<Arc<Object>> = created.collect();
    if !created.is_empty() {
        let _definitions = shared.definitions.lock();
        let latest_first: Vec<Arc<Object>> = created.into_iter().rev().collect();
        release(shared, &latest_first);
    }
}

/// Drops everything in a schema: the temporary objects of a session that has ended.
pub(crate) fn drop_schema_objects(shared: &Shared, schema: &str) -> Result<(), PgError> {
    let _writing = shared.writing.blocking_lock();
    let catalog = shared.catalog();
    let ids: Vec<ObjectId> =
        catalog.objects().filter(|object| object.schema == schema).map(|object| object.id).collect();
    let closure = ids.iter().flat_map(|id| catalog.dependents_closure(*id)).collect::<BTreeSet<_>>();
    let order = in_order(&catalog, &closure.into_iter().collect::<Vec<_>>());
    let definitions: Vec<Definition> = order
        .into_iter()
        .filter_map(|id| catalog.get(id).map(|object| Definition::Dropped(Arc::clone(object))))
        .collect();
    commit(shared, &definitions, Vec::new())
}
