//! Names to objects: what exists, what it is made of, and what depends on it.
//!
//! A [`Catalog`] is a plain value. `engine` alone changes it, by building the next one and sharing it as `Arc<Catalog>`;
//! everyone else binds against the snapshot they hold. What is durable is each object's SQL text ([`definition`]): a restart
//! binds it again.

pub mod constraint;
pub mod definition;
pub mod names;
pub mod object;
pub mod role;
pub mod sequence;
pub mod system;
pub mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use repr::{ObjectId, PgError, SqlState};

pub use constraint::{Constraint, ConstraintKind, ForeignKey, ReferentialAction};
pub use names::{NamedRelation, SearchPath};
pub use object::{Object, ObjectKind, TEMPORARY_SCHEMA_PREFIX, Uniqueness};
pub use sequence::{Position, Sequence, SequenceAccess};
pub use table::{ColumnDetail, Generation};

/// The schema that new objects go to.
pub const DEFAULT_SCHEMA: &str = "public";

/// User objects get ids from here on, as in PostgreSQL; below are system relations.
pub const FIRST_USER_ID: u32 = 16384;

/// All objects at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    by_name: HashMap<Key, ObjectId>,
    by_oid: HashMap<u32, ObjectId>,
    /// By an object, those that name it.
    dependents: HashMap<ObjectId, BTreeSet<ObjectId>>,
    /// Counts changes; a plan bound against an older version may name objects that are gone.
    pub version: u64,
}

/// What no two objects share: relations and indexes a name within a schema, constraints one within a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Schema(String),
    Relation(String, String),
    Constraint(ObjectId, String),
}

impl Key {
    fn of(object: &Object) -> Key {
        match &object.kind {
            ObjectKind::Schema => Key::Schema(object.name.clone()),
            ObjectKind::Constraint(constraint) => Key::Constraint(constraint.table, object.name.clone()),
            _ => Key::Relation(object.schema.clone(), object.name.clone()),
        }
    }
}

impl Catalog {
    /// The object with this id.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// The object that users know by this OID.
    pub fn by_oid(&self, oid: u32) -> Option<&Arc<Object>> {
        self.by_oid.get(&oid).and_then(|id| self.get(*id))
    }

    /// Every object, in the order of its id.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Finds a relation or index, in `schema` or, without one, where everybody looks: [`SearchPath::default`].
    pub fn resolve(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Object>> {
        SearchPath::default().resolve(self, schema, name)
    }

    /// The relation or index `name` of `schema`.
    pub fn in_schema(&self, schema: &str, name: &str) -> Option<&Arc<Object>> {
        self.by_name.get(&Key::Relation(schema.to_string(), name.to_string())).and_then(|id| self.get(*id))
    }

    /// The schema of this name, if somebody made it.
    pub fn schema(&self, name: &str) -> Option<&Arc<Object>> {
        self.by_name.get(&Key::Schema(name.to_string())).and_then(|id| self.get(*id))
    }

    /// Whether there is a schema of this name, made by somebody or always there.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schema(name).is_some()
            || system::schemas().into_iter().any(|(schema, _)| schema == name)
            || name.starts_with(TEMPORARY_SCHEMA_PREFIX)
    }

    /// The CHECK or FOREIGN KEY `name` of a table.
    pub fn constraint(&self, table: ObjectId, name: &str) -> Option<&Arc<Object>> {
        self.by_name.get(&Key::Constraint(table, name.to_string())).and_then(|id| self.get(*id))
    }

    /// The objects that directly name `id`: an index of a table, a view over it.
    pub fn dependents(&self, id: ObjectId) -> Vec<&Arc<Object>> {
        self.dependents.get(&id).into_iter().flatten().filter_map(|id| self.get(*id)).collect()
    }

    /// The indexes of a relation, its primary key's among them.
    pub fn indexes(&self, on: ObjectId) -> impl Iterator<Item = (&Arc<Object>, &Vec<usize>, Uniqueness)> {
        self.dependents(on).into_iter().filter_map(move |object| match &object.kind {
            ObjectKind::Index { on: relation, columns, uniqueness } if *relation == on => {
                Some((object, columns, *uniqueness))
            }
            _ => None,
        })
    }

    /// The constraints of a table that are no keys.
    pub fn constraints(&self, table: ObjectId) -> impl Iterator<Item = (&Arc<Object>, &ConstraintKind)> {
        self.dependents(table).into_iter().filter_map(move |object| match &object.kind {
            ObjectKind::Constraint(constraint) if constraint.table == table => Some((object, &constraint.kind)),
            _ => None,
        })
    }

    /// The foreign keys of any table that refer to `table`.
    pub fn references(&self, table: ObjectId) -> impl Iterator<Item = (&Arc<Object>, ObjectId, &ForeignKey)> {
        self.dependents(table).into_iter().filter_map(move |object| match &object.kind {
            ObjectKind::Constraint(Constraint { table: from, kind: ConstraintKind::ForeignKey(key) })
                if key.referenced == table =>
            {
                Some((object, *from, key))
            }
            _ => None,
        })
    }

    /// `id` and everything that depends on it, dependents first: the order in which DROP .. CASCADE drops.
    pub fn dependents_closure(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        self.visit_dependents(id, &mut seen, &mut order);
        order
    }

    fn visit_dependents(&self, id: ObjectId, seen: &mut BTreeSet<ObjectId>, order: &mut Vec<ObjectId>) {
        if !seen.insert(id) {
            return;
        }
        for dependent in self.dependents(id) {
            self.visit_dependents(dependent.id, seen, order);
        }
        order.push(id);
    }

    /// Whether `dependent` goes with `object` without being asked for: an index or a table's own constraint or sequence.
    pub fn is_part_of(dependent: &Object, object: ObjectId) -> bool {
        match &dependent.kind {
            ObjectKind::Index { on, .. } => *on == object,
            ObjectKind::Constraint(constraint) => constraint.table == object,
            ObjectKind::Sequence(sequence) => sequence.owned_by.is_some_and(|(table, _)| table == object),
            _ => false,
        }
    }

    /// Adds an object. Errors: `42P07` if its schema has that name already, `42P06` for a schema, `42710` for a constraint.
    pub fn insert(&mut self, object: Object) -> Result<(), PgError> {
        let key = Key::of(&object);
        if self.by_name.contains_key(&key) {
            return Err(self.duplicate(&object));
        }
        self.by_name.insert(key, object.id);
        self.by_oid.insert(object.oid, object.id);
        for id in &object.depends_on {
            self.dependents.entry(*id).or_default().insert(object.id);
        }
        self.objects.insert(object.id, Arc::new(object));
        self.version += 1;
        Ok(())
    }

    /// The error for an object whose name is taken.
    pub fn duplicate(&self, object: &Object) -> PgError {
        let name = &object.name;
        match &object.kind {
            ObjectKind::Schema => PgError::new(SqlState::DUPLICATE_SCHEMA, format!("schema \"{name}\" already exists")),
            ObjectKind::Constraint(constraint) => {
                let table = self.get(constraint.table).map_or("", |table| table.name.as_str());
                let message = format!("constraint \"{name}\" for relation \"{table}\" already exists");
                PgError::new(SqlState::DUPLICATE_OBJECT, message)
            }
            _ => PgError::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists")),
        }
    }

    /// Takes an object out. Its dependents must have gone first.
    pub fn remove(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        debug_assert!(self.dependents(id).is_empty());
        self.take(id)
    }

    /// Puts another object in the place of the one with its id. Errors: as [`Catalog::insert`]; then nothing has changed.
    pub fn replace(&mut self, object: Object) -> Result<(), PgError> {
        let Some(old) = self.take(object.id) else { return self.insert(object) };
        let inserted = self.insert(object);
        if inserted.is_err() {
            self.insert(Arc::unwrap_or_clone(old))?;
        }
        inserted
    }

    fn take(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        let object = self.objects.remove(&id)?;
        self.by_name.remove(&Key::of(&object));
        self.by_oid.remove(&object.oid);
        for dependency in &object.depends_on {
            if let Some(dependents) = self.dependents.get_mut(dependency) {
                dependents.remove(&id);
                if dependents.is_empty() {
                    self.dependents.remove(dependency);
                }
            }
        }
        self.version += 1;
        Some(object)
    }
}
