#!/usr/bin/env bash
# The whole job on the bundled demo: sets up what it needs, runs, and prints some of the result.
# Options are passed on, and the last of a kind counts: bash scripts/demo.sh --features all
set -euo pipefail
. "$(dirname "$0")/environment.sh"
prepare serve
"$venv/bin/autointerp" run --tokens 100_000 --features random:500 "$@"
"$venv/bin/autointerp" labels --run outputs/demo --sort simulation --limit 10
echo "to look at it in a browser: .venv/bin/autointerp serve outputs/demo"
