"""Django: its own applications migrated, models queried through the ORM, migrations that alter tables."""

import sys
import types

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "test", "USER": "test", "HOST": "127.0.0.1", "PORT": sys.argv[1],
        }
    },
    INSTALLED_APPS=[
        "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.admin",
        "django.contrib.messages", "shop",
    ],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    SECRET_KEY="x",
    MIGRATION_MODULES={"shop": None},
)

# An application without files: a module and models that are made as they are.
shop = types.ModuleType("shop")
shop.__path__ = []
shop.__file__ = __file__
sys.modules["shop"] = shop
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.db.models import Count, F, Q, Sum  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    born = models.DateField(null=True)

    class Meta:
        app_label = "shop"


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    title = models.TextField(db_index=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    tags = models.JSONField(default=dict)
    added = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "shop"
        constraints = [
            models.UniqueConstraint(fields=["author", "title"], name="once_an_author"),
            models.CheckConstraint(condition=Q(price__gte=0), name="not_negative"),
        ]


call_command("migrate", verbosity=0)
with connection.schema_editor() as editor:
    editor.create_model(Author)
    editor.create_model(Book)

ann = Author.objects.create(name="Ann")
bob = Author.objects.create(name="Bob", born="1970-01-02")
Book.objects.bulk_create([
    Book(author=ann, title="One", price="10.50", tags={"a": [1, 2]}),
    Book(author=ann, title="Two", price="5.25"),
    Book(author=bob, title="One", price="1"),
])
counted = Author.objects.annotate(n=Count("books"), total=Sum("books__price")).order_by("name")
assert [(author.name, author.n, str(author.total)) for author in counted] == [("Ann", 2, "15.75"), ("Bob", 1, "1.00")]
assert Book.objects.filter(title__icontains="on", author__born__year=1970).count() == 1
assert Book.objects.get(author=ann, title="One").tags == {"a": [1, 2]}
Book.objects.filter(author=ann).update(price=F("price") * 2)
assert Book.objects.filter(price__gt=10).order_by("-price").values_list("title", flat=True)[0] == "One"
made, created = Author.objects.get_or_create(name="Ann")
assert (made.pk, created) == (ann.pk, False)
assert Author.objects.update_or_create(name="Cid", defaults={"born": "1980-05-05"})[1]
for broken in [
    lambda: Author.objects.create(name="Ann"),
    lambda: Book.objects.create(author=ann, title="One"),
    lambda: Book.objects.create(author=ann, title="Minus", price=-1),
]:
    try:
        with transaction.atomic():
            broken()
        raise AssertionError("a constraint does not hold")
    except IntegrityError:
        pass
try:
    with transaction.atomic():
        Book.objects.create(author_id=999, title="Nobody's")
    raise AssertionError("a foreign key does not hold")
except IntegrityError:
    pass
with transaction.atomic():
    Author.objects.create(name="Dot")
    try:
        with transaction.atomic():
            Author.objects.create(name="Dot")
    except IntegrityError:
        pass
    Author.objects.select_for_update().get(name="Dot")
assert Author.objects.filter(name="Dot").exists()
bob.delete()
assert Book.objects.count() == 2

user = User.objects.create_user("eve", password="secret")
group = Group.objects.create(name="readers")
user.groups.add(group)
assert User.objects.filter(groups__name="readers").get().check_password("secret")

# What migrations do to tables that have rows.
with connection.schema_editor() as editor:
    pages = models.IntegerField(default=7)
    pages.set_attributes_from_name("pages")
    editor.add_field(Book, pages)
    wider = models.CharField(max_length=80, unique=True)
    wider.set_attributes_from_name("name")
    wider.model = Author
    editor.alter_field(Author, Author._meta.get_field("name"), wider)
    plain = models.TextField()
    plain.set_attributes_from_name("title")
    plain.model = Book
    editor.alter_field(Book, Book._meta.get_field("title"), plain)
    editor.remove_constraint(Book, Book._meta.constraints[1])
    editor.add_index(Book, models.Index(fields=["price"], name="by_price"))
    editor.alter_db_table(Author, "shop_author", "shop_writer")
with connection.cursor() as cursor:
    cursor.execute("SELECT pages, count(*) FROM shop_book GROUP BY pages")
    assert cursor.fetchall() == [(7, 2)]
    cursor.execute("SELECT count(*) FROM shop_writer")
    assert cursor.fetchone() == (3,)

tables = connection.introspection.table_names()
assert {"auth_user", "django_migrations", "shop_book", "shop_writer"} <= set(tables), tables
with connection.cursor() as cursor:
    constraints = connection.introspection.get_constraints(cursor, "shop_book")
    assert constraints["once_an_author"]["unique"] and constraints["by_price"]["index"], constraints
    relations = connection.introspection.get_relations(cursor, "shop_book")
    assert relations == {"author_id": ("id", "shop_writer")}, relations
    description = connection.introspection.get_table_description(cursor, "shop_book")
    assert {column.name for column in description} >= {"id", "author_id", "title", "pages"}, description
call_command("migrate", "auth", "zero", verbosity=0)
print("ok")
