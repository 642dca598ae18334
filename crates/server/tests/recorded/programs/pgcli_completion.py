"""What pgcli asks for its completion. Usage: pgcli_completion.py PORT"""

import sys

from pgcli.pgexecute import PGExecute
from pgspecial.main import PGSpecial

executor = PGExecute("postgres", "tidewater", "", "127.0.0.1", sys.argv[1], "")
executor.search_path()
executor.schemata()
list(executor.tables())
list(executor.views())
list(executor.table_columns())
list(executor.view_columns())
executor.databases()
executor.full_databases()
list(executor.foreignkeys())
list(executor.functions())
list(executor.datatypes())
list(executor.casing())
executor.view_definition("big")
executor.function_definition("pg_catalog.now")
for command in ["\\d", "\\d customers", "\\dt", "\\dv", "\\dm", "\\di", "\\ds", "\\dn", "\\du", "\\l", "\\dT", "\\df abs", "\\dx"]:
    for _ in executor.run(command, pgspecial=PGSpecial()):
        pass
