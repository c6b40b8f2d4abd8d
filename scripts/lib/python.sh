# shellcheck shell=bash
# For the scripts beside it: finds a Python that runs, and keeps `.venv/` in step with the lock files.
#
#   root=...; . "$root/scripts/lib/python.sh"
#   ensure_venv runtime|dev      afterwards "$venv/bin/python" and "$venv/bin/holdfast" work
#
# Messages go to standard error: standard output belongs to the program that is run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=$root/.venv
cache=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "holdfast: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

# A name on the PATH proves nothing (it can be a version manager's shim), so every candidate is run.
runs_as_python() {
    "$1" -c 'import sys, ssl, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

# The versions that the tests cover before any newer one.
python_candidates() {
    local versions=${PYENV_ROOT:-$HOME/.pyenv}/versions
    printf '%s\n' python3.13 python3.12 python3
    printf '%s\n' "$versions"/3.13*/bin/python3 "$versions"/3.12*/bin/python3 "$versions"/3.1[4-9]*/bin/python3
    [ ! -x "$(uv_path)" ] || "$(uv_path)" python find --no-project '>=3.12' 2>/dev/null || true
}

find_python() {
    local candidate
    while read -r candidate; do
        if runs_as_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done < <(python_candidates)
    return 1
}

uv_path() { command -v uv || printf '%s\n' "$cache/uv/bin/uv"; }

# uv brings a Python of its own; uv itself comes from the package index, by whatever python3 there is.
fetch_uv() {
    [ ! -x "$(uv_path)" ] || return 0
    say "fetching uv into $cache/uv"
    mkdir -p "$cache"
    python3 -m venv "$cache/uv" && "$cache/uv/bin/pip" install --quiet uv
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() { # PACKAGES...
    local log
    log=$(mktemp)
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"; } \
        >"$log" 2>&1 || tail -n 20 "$log" >&2
    rm -f "$log"
}

# The distribution's own python3 where that is new enough (Debian 13, Ubuntu 24.04), else what uv needs to start from.
fetch_python() {
    if can_apt; then
        say "no Python of 3.12 or newer: installing the distribution's python3"
        apt_install python3 python3-venv ca-certificates
        ! find_python >/dev/null || return 0
    fi
    fetch_uv >&2 && "$(uv_path)" python install 3.13 >&2
}

python_or_fail() {
    if [ -n "${HOLDFAST_PYTHON:-}" ]; then
        runs_as_python "$HOLDFAST_PYTHON" || fail "HOLDFAST_PYTHON=$HOLDFAST_PYTHON does not run as a Python of 3.12 or newer"
        printf '%s\n' "$HOLDFAST_PYTHON"
        return
    fi
    find_python && return
    fetch_python || true
    find_python && return
    fail "Python 3.12 or newer is needed, and none was found or could be fetched. One of these gives you one:
  Debian 13, Ubuntu 24.04 or newer:  apt-get install python3 python3-venv
  anywhere, with pyenv:              pyenv install 3.13
  anywhere, with uv:                 uv python install 3.13
Or name one that is there already:   HOLDFAST_PYTHON=/path/to/python3.13 $0"
}

# What an environment was made from. The folder is part of it: a virtual environment does not survive being moved.
venv_state() { # SET
    { printf '%s\n' "$root"; cat "$root/requirements/$1.txt" "$root/requirements/build.txt" "$root/pyproject.toml"; } | cksum
}

venv_is_current() { # SET
    [ -x "$venv/bin/holdfast" ] && "$venv/bin/python" -c '' 2>/dev/null &&
        [ "$(cat "$venv/.made-from-$1" 2>/dev/null)" = "$(venv_state "$1")" ]
}

# Its programs name their interpreter by its full path, which is wrong once the project's folder was moved or copied.
venv_is_usable() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 && grep -qsF "$venv/bin/python" "$venv/bin/pip"
}

make_venv() { # SET
    local python
    rm -f "$venv"/.made-from-*
    if ! venv_is_usable; then
        python=$(python_or_fail)
        say "making .venv/ with $("$python" --version) ($python)"
        "$python" -m venv --clear "$venv"
    fi
    say "installing requirements/$1.txt (a minute the first time)"
    "$venv/bin/python" -m pip install --quiet --require-hashes \
        -r "$root/requirements/build.txt" -r "$root/requirements/$1.txt" >&2
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable "$root" >&2
    venv_state "$1" >"$venv/.made-from-$1"
}

# `dev` holds all of `runtime` at the same versions, so `run` is content with what `test` has installed.
ensure_venv() { # runtime|dev
    if command -v flock >/dev/null; then # two scripts started together: the second waits, then finds the work done
        exec 9<"$root"
        flock 9
    fi
    venv_is_current "$1" || venv_is_current dev || make_venv "$1"
    exec 9<&-
}
