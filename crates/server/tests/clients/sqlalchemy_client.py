"""SQLAlchemy 2: an ORM's tables made, filled, queried and read back by reflection."""

import decimal
import sys

from sqlalchemy import (
    CheckConstraint, ForeignKey, Identity, Index, Numeric, String, UniqueConstraint, create_engine, func,
    inspect, select, text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

engine = create_engine(f"postgresql+{sys.argv[2]}://test@127.0.0.1:{sys.argv[1]}/test")


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    __table_args__ = (UniqueConstraint("name", "city", name="one_a_city"), {"comment": "who buys"})
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    city: Mapped[str | None]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("amount > 0", name="positive"), Index("by_customer", "customer_id"))
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    amount: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2), server_default=text("1.50"), comment="in euros")
    customer: Mapped[Customer] = relationship(back_populates="orders")


Base.metadata.create_all(engine)
Base.metadata.create_all(engine)  # Finds what is there.

with Session(engine) as session:
    ann = Customer(name="Ann", city="Bonn", orders=[Order(amount=3), Order(amount=4)])
    session.add_all([ann, Customer(name="Bob", city=None, orders=[Order()])])
    session.commit()
    assert sorted(order.id for order in ann.orders) == [1, 2], ann.orders
    totals = select(Customer.name, func.sum(Order.amount)).join(Order).group_by(Customer.name).order_by(Customer.name)
    assert session.execute(totals).all() == [("Ann", decimal.Decimal("7.00")), ("Bob", decimal.Decimal("1.50"))]
    loaded = session.scalars(select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)).all()
    assert [len(customer.orders) for customer in loaded] == [2, 1]
    session.delete(loaded[1])
    loaded[0].orders[0].amount = decimal.Decimal("30.25")
    session.commit()
    assert session.scalar(select(func.count()).select_from(Order)) == 2
    upsert = insert(Customer).values(id=1, name="Ann", city="Köln")
    session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"city": upsert.excluded.city}))
    session.commit()
    session.refresh(ann)
    assert ann.city == "Köln"
    locked = session.scalars(select(Customer).where(Customer.id == 1).with_for_update()).one()
    assert locked is ann
    session.rollback()
    for broken, constraint in [
        (Order(customer_id=1, amount=-1), "positive"),
        (Order(customer_id=99, amount=1), "orders_customer_id_fkey"),
        (Customer(name="Ann", city="Köln"), "one_a_city"),
    ]:
        session.add(broken)
        try:
            session.commit()
            raise AssertionError(f"{constraint} does not hold")
        except IntegrityError as error:
            assert constraint in str(error), error
        session.rollback()
    with session.begin_nested() as savepoint:
        session.add(Customer(name="Gone"))
        session.flush()
        savepoint.rollback()
    assert session.scalar(select(func.count()).select_from(Customer)) == 1

with engine.begin() as connection:
    connection.execute(text("CREATE VIEW plain AS SELECT name FROM customers"))
    connection.execute(text("CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM orders"))
    connection.execute(text("CREATE SEQUENCE numbers"))

inspector = inspect(engine)
assert sorted(inspector.get_table_names()) == ["customers", "orders"], inspector.get_table_names()
assert inspector.get_view_names() == ["plain"]
assert inspector.get_materialized_view_names() == ["kept"]
assert "numbers" in inspector.get_sequence_names()
assert inspector.has_table("orders") and not inspector.has_table("nothing")
columns = {column["name"]: column for column in inspector.get_columns("orders")}
assert columns["id"]["identity"]["always"] and not columns["id"]["nullable"], columns["id"]
assert columns["amount"]["comment"] == "in euros" and "1.50" in columns["amount"]["default"], columns["amount"]
assert (columns["amount"]["type"].precision, columns["amount"]["type"].scale) == (10, 2)
names = {column["name"]: column for column in inspector.get_columns("customers")}
assert names["name"]["type"].length == 40 and names["city"]["nullable"]
assert names["id"]["default"] == "nextval('customers_id_seq'::regclass)", names["id"]
assert inspector.get_pk_constraint("orders") | {"comment": None} == {
    "constrained_columns": ["id"], "name": "orders_pkey", "comment": None,
} or inspector.get_pk_constraint("orders")["constrained_columns"] == ["id"]
(key,) = inspector.get_foreign_keys("orders")
assert (key["constrained_columns"], key["referred_table"], key["referred_columns"]) == (["customer_id"], "customers", ["id"])
assert key["options"] == {"ondelete": "CASCADE"}, key
(unique,) = inspector.get_unique_constraints("customers")
assert (unique["name"], unique["column_names"]) == ("one_a_city", ["name", "city"]), unique
(check,) = inspector.get_check_constraints("orders")
assert check["name"] == "positive" and "amount > " in check["sqltext"], check
assert inspector.get_table_comment("customers") == {"text": "who buys"}
assert "customers" in inspector.get_view_definition("plain")

with engine.begin() as connection:
    connection.execute(text("DROP MATERIALIZED VIEW kept"))
    connection.execute(text("DROP VIEW plain"))
Base.metadata.drop_all(engine)
assert inspect(engine).get_table_names() == []
print("ok")
