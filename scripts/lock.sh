#!/usr/bin/env bash
# Makes requirements.lock: one version of everything that the demo and the tests install, for
# Python 3.11 to 3.13 on Linux and on Macs with Apple's processors. What is locked stays as it is
# as long as pyproject.toml allows it; --upgrade raises all, --upgrade-package NAME one.
# Needs uv (https://docs.astral.sh/uv).
set -euo pipefail
cd "$(dirname "$0")/.."
uv pip compile pyproject.toml --extra test --group build --group real-model \
    --universal --python-version 3.11 --no-annotate \
    --custom-compile-command "bash scripts/lock.sh" --output-file requirements.lock "$@" \
    >/dev/null
# Every version must be there as a wheel, wherever the lock is said to hold (glibc 2.31; macOS 14 is torch's own
# lower bound).
export MACOSX_DEPLOYMENT_TARGET=14.0
for python in 3.11 3.12 3.13; do
    for platform in x86_64-manylinux_2_31 aarch64-manylinux_2_31 aarch64-apple-darwin; do
        echo "Python $python on $platform" >&2
        uv pip compile requirements.lock --python-version "$python" --python-platform "$platform" \
            --only-binary :all: --no-python-downloads --no-header >/dev/null
    done
done
