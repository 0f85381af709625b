#!/usr/bin/env bash
# The main job on the bundled demo: sets up what it needs, runs, and prints some of the result.
# Options are passed on: bash scripts/demo.sh --features 0-99
set -euo pipefail
. "$(dirname "$0")/environment.sh"
prepare serve
"$venv/bin/autointerp" run "$@"
"$venv/bin/autointerp" labels --run outputs/demo --sort simulation --limit 10
echo "to look at it in a browser: .venv/bin/autointerp serve outputs/demo"
