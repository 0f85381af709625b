# Sourced by the other scripts: a virtual environment in .venv with this package, made once.
#
#   prepare EXTRA   installs autointerp[EXTRA] (EXTRA may be empty), unless that is done already
#   browser         installs Chromium, for the tests of pages, where Debian's packages can be had
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

browser() {
    command -v chromium >/dev/null || command -v google-chrome >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Chromium (once)" >&2
        timeout 240 sh -c "apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium" \
            >/dev/null 2>&1 && return
    fi
    echo "there is no Chromium: the tests of pages in a browser are skipped" >&2
}
