#!/usr/bin/env bash
# All tests: sets up what they need and runs them. Options are passed on to pytest.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
prepare test
"$venv/bin/python" -m pytest -n logical --maxprocesses 8 --dist worksteal "$@"
