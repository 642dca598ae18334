"""Django's introspection, as `manage.py inspectdb` does it. Usage: django_introspection.py PORT"""

import sys

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "tidewater", "HOST": "127.0.0.1",
        "PORT": sys.argv[1],
    }},
    INSTALLED_APPS=[],
)
django.setup()

from django.db import connection  # noqa: E402

with open("/dev/null", "w") as nowhere:
    call_command("inspectdb", "--include-views", stdout=nowhere)
with connection.cursor() as cursor:
    for table in ["customers", "orders", "items", "serials"]:
        connection.introspection.get_table_description(cursor, table)
        connection.introspection.get_constraints(cursor, table)
        connection.introspection.get_sequences(cursor, table)
        connection.introspection.get_relations(cursor, table)
        connection.introspection.get_primary_key_columns(cursor, table)
    connection.introspection.get_table_list(cursor)
