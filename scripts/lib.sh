# Sourced by the other scripts: where things are, and how to say what is being done.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/tidewater"
# Build output lives outside the checkout, so that every clone and CI share it.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"
# Servers and files that scripts make and can make again.
STATE="${TIDEWATER_STATE:-$CACHE/state}"
# Python packages of the tests' clients, and of the peers that benchmarks compare with.
CLIENTS_VENV="$CACHE/venv-clients"
mkdir -p "$CACHE" "$STATE"

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly where we are, through sudo elsewhere.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# wait_for SECONDS COMMAND..: until the command succeeds; fails when the time is up.
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
