#!/bin/sh
# psql's backslash commands, each in a session of its own. Usage: psql.sh PORT
while IFS= read -r command; do
    psql -X -q -h 127.0.0.1 -p "$1" -U tidewater postgres -c "$command" > /dev/null 2>&1
done < "$(dirname "$0")/psql.txt"
