#!/usr/bin/env bash
# Installs the database servers that the tests start for themselves: PostgreSQL and MariaDB from apt, and the real
# MySQL from Debian's unstable suite, unpacked into a folder of its own. No service is started, and nothing is done
# that was done before.
#
# Needs Debian (or a relative with apt) and root, or a user that may use sudo.
#   WEIR_TEST_CACHE   where MySQL goes, default ~/.cache/weir-test
#   WEIR_TEST_MIRROR  the Debian mirror, default the one in the machine's apt sources
set -euo pipefail

cache="${WEIR_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weir-test}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

# Runs a command without its output, unless it fails.
quietly() {
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "install-test-servers: failed: $*" >&2
        exit 1
    fi
}

missing=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
[ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
[ -x /usr/sbin/debootstrap ] || missing+=(debootstrap)

if [ "${#missing[@]}" -gt 0 ]; then
    # Packages start their services as they are installed, unless this file says no; one that is there is left alone.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        trap 'rm -f "$log"; as_root rm -f "$policy"' EXIT
    fi
    echo "install-test-servers: apt-get install ${missing[*]}" >&2
    quietly as_root apt-get update -q
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}"
fi

# The first mirror of the main archive in apt's sources, in either of their two formats.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -E '^(deb |URIs:)' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true
}

if [ ! -e "$cache/mysql9/.complete" ]; then
    echo "install-test-servers: unpacking MySQL into $cache/mysql9" >&2
    mkdir -p "$cache"
    work="$cache/mysql9.$$"
    # A folder beside the final one, renamed at the end: a broken attempt is never taken for a whole one.
    from="${WEIR_TEST_MIRROR:-$(mirror)}"
    if ! as_root debootstrap --variant=minbase --include=mysql-server-core sid "$work" ${from:+"$from"} >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        as_root rm -rf "$work"
        echo "install-test-servers: debootstrap of MySQL failed" >&2
        exit 1
    fi
    as_root rm -rf "$work"/var/cache/apt/archives/*.deb "$work"/var/lib/apt/lists/* "$work"/usr/share/{doc,man,locale}
    as_root touch "$work/.complete"
    as_root rm -rf "$cache/mysql9"
    as_root mv -T "$work" "$cache/mysql9"
fi
echo "install-test-servers: PostgreSQL, MariaDB and MySQL are there" >&2
