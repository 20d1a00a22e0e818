#!/bin/sh
# Installs what the tests and the demo need and this machine lacks; does nothing where all is there.
# Debian's packages by apt (with sudo where it must), cargo-deny by cargo.
set -eu

packages=""
need() { # PACKAGE TEST...
    package=$1
    shift
    "$@" >/dev/null 2>&1 || packages="$packages $package"
}
program() { command -v "$1" || PATH="$PATH:/usr/sbin:/sbin" command -v "$1"; }

need softhsm2 test -e /usr/lib/softhsm/libsofthsm2.so
need softhsm2 program softhsm2-util
need pebble program pebble
need pebble program pebble-challtestsrv
need nginx-light program nginx
need opensc program pkcs11-tool
need openssl program openssl
need caddy program caddy
need iproute2 program ip
need age program age-keygen
need curl program curl
need procps program ps
need util-linux program unshare
need gcc program cc
need pkg-config program pkg-config
need libssl-dev pkg-config --exists openssl
need libsqlite3-dev pkg-config --exists sqlite3
need libclang-dev sh -c 'ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so*'
need postgresql sh -c 'command -v initdb || ls /usr/lib/postgresql/*/bin/initdb'

packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
if [ -n "$(printf %s "$packages" | tr -d ' ')" ]; then
    echo "installing Debian packages: $packages"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    # Installed servers must not start by themselves: the tests start their own.
    policy=/usr/sbin/policy-rc.d
    ours=""
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
        $sudo chmod 755 $policy
    fi
    $sudo apt-get update -q
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends $packages
    [ -z "$ours" ] || $sudo rm -f $policy
fi

if [ "${1:-}" = --for-tests ] && ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny"
    cargo install --locked cargo-deny@0.20.2
fi
