#!/usr/bin/env bash
# Make the virtual environment $1 with Python 3.11. On a bare Debian as root, the missing piece is installed first.
set -euo pipefail

find_python() {
    for candidate in "${PYTHON:-python3.11}" python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

complete() { [ -n "$1" ] && "$1" -c 'import ensurepip, venv' 2>/dev/null; }

python=$(find_python)
if ! complete "$python" && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3.11 and python3.11-venv with apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3.11 python3.11-venv; } >/dev/null </dev/null || true
    python=$(find_python)
fi
if ! complete "$python"; then
    echo "Winnow needs Python 3.11 with its venv module: on Debian 12, apt-get install python3.11 python3.11-venv" >&2
    exit 1
fi
"$python" -m venv --clear "$1"
