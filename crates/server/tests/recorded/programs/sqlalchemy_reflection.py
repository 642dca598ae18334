"""SQLAlchemy 2's inspector over every object. Usage: sqlalchemy_reflection.py PORT"""

import sys

import sqlalchemy

engine = sqlalchemy.create_engine(f"postgresql+psycopg://tidewater@127.0.0.1:{sys.argv[1]}/postgres")
inspector = sqlalchemy.inspect(engine)
inspector.get_schema_names()
inspector.get_table_names()
inspector.get_table_names(schema="other")
inspector.get_view_names()
inspector.get_materialized_view_names()
inspector.get_sequence_names()
inspector.get_temp_table_names()
inspector.get_enums()
inspector.get_domains()
for name in ["customers", "orders", "items", "serials"]:
    inspector.has_table(name)
    inspector.get_columns(name)
    inspector.get_pk_constraint(name)
    inspector.get_foreign_keys(name)
    inspector.get_indexes(name)
    inspector.get_unique_constraints(name)
    inspector.get_check_constraints(name)
    inspector.get_table_comment(name)
    inspector.get_table_options(name)
inspector.get_columns("thing", schema="other")
for name in ["big", "totals"]:
    inspector.get_columns(name)
    inspector.get_view_definition(name)
inspector.has_table("nothing")
inspector.has_sequence("counter")
inspector.has_schema("other")
metadata = sqlalchemy.MetaData()
metadata.reflect(engine, views=True)
metadata.reflect(engine, schema="other")
inspector.get_multi_columns(kind=sqlalchemy.engine.reflection.ObjectKind.ANY)
inspector.get_multi_indexes(kind=sqlalchemy.engine.reflection.ObjectKind.ANY)
