# Sourced by the other scripts: a virtual environment in .venv with this package, made once.
#
#   prepare EXTRA   installs autointerp[EXTRA] (EXTRA may be empty), unless that is done already
#
# PYTHON names the interpreter to make the environment with (default python3, 3.11 or newer).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

prepare() {
    local extra=$1 python=${PYTHON:-python3} stamp
    stamp=.venv/installed-${extra:-plain}-$(cksum <pyproject.toml | cut -d ' ' -f 1)
    [ -f "$stamp" ] && return
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "autointerp needs Python 3.11 or newer; set PYTHON to one" >&2
        exit 2
    }
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    echo "installing autointerp${extra:+[$extra]} into .venv (once)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extra:+[$extra]}"
    touch "$stamp"
}
