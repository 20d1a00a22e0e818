#!/bin/sh
# Installs what the demo (and with --for-tests, the tests) need and this machine lacks; does nothing
# where all is there. Debian's packages by apt (with sudo where it must), cargo-deny by cargo.
set -eu

packages=""
need() { # PACKAGE TEST...
    package=$1
    shift
    "$@" >/dev/null 2>&1 || packages="$packages $package"
}
any_file() { test -e "$1"; } # of a pattern that matched
program() { command -v "$1" || PATH="$PATH:/usr/sbin:/sbin" command -v "$1"; }

need gcc program cc
need make program make
need softhsm2 test -e /usr/lib/softhsm/libsofthsm2.so
need softhsm2 program softhsm2-util
need pebble program pebble
need pebble program pebble-challtestsrv
need nginx-light program nginx
need openssl program openssl
need age program age-keygen

if [ "${1:-}" = --for-tests ]; then
    need opensc program pkcs11-tool
    need opensc-pkcs11 any_file /usr/lib/*/pkcs11-spy.so
    need caddy program caddy
    need curl program curl
    # The runbooks, which are run as written, read JSON.
    need jq program jq
    # A backup is opened by the tools that its format promises.
    need tar program tar
    need zstd program zstd
    need iproute2 program ip
    need util-linux program unshare
    need uidmap program newuidmap
    # It reads the units.
    need systemd program systemd-analyze
    need postgresql any_file /usr/lib/postgresql/*/bin/initdb
    # Kryoptic, the second token of the key store's tests, is built over OpenSSL and SQLite.
    need pkg-config program pkg-config
    need libssl-dev pkg-config --exists openssl
    need libsqlite3-dev pkg-config --exists sqlite3
    need libclang-dev any_file /usr/lib/llvm-*/lib/libclang.so*
    # The PKCS#11 module is tested from C, under valgrind, and by OpenSSL's engine and provider.
    need libp11-kit-dev pkg-config --exists p11-kit-1
    need binutils program readelf
    need valgrind program valgrind
    # Where a program under test hangs, its threads' stacks are shown.
    need gdb-minimal program gdb
    need libengine-pkcs11-openssl any_file /usr/lib/*/engines-3/pkcs11.so
    need pkcs11-provider any_file /usr/lib/*/ossl-modules/pkcs11.so
    # Web servers besides nginx that use the vault's keys.
    need apache2-bin program apache2
    need haproxy program haproxy
    # An nginx that hands TLS-ALPN-01 challenges to the agent.
    need libnginx-mod-stream test -e /usr/lib/nginx/modules/ngx_stream_module.so
    # DNS servers that dns-01 challenges are written to.
    need bind9 program named
    need bind9-dnsutils program nsupdate
    need knot program knotd
    # The ACME client that orders are measured beside.
    need lego program lego
fi

packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
if [ -n "$(printf %s "$packages" | tr -d ' ')" ]; then
    echo "installing Debian packages: $packages"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    # Installed servers must not start by themselves: demo and tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap '$sudo rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
        $sudo chmod 755 $policy
    fi
    $sudo apt-get update -q
    # Debian 12 has pkcs11-provider in its backports only, from where nothing else is taken: they are
    # at the mirror that the machine has.
    case "$packages" in *pkcs11-provider*)
        if ! apt-cache show pkcs11-provider >/dev/null 2>&1; then
            mirror=$(apt-cache policy base-files | sed -n 's/^ *[0-9]* \(http[^ ]*\) .*/\1/p' | head -1)
            release=$(. /etc/os-release && echo "$VERSION_CODENAME-backports")
            echo "deb $mirror $release main" |
                $sudo tee "/etc/apt/sources.list.d/$release.list" >/dev/null
            $sudo apt-get update -q
        fi
        ;;
    esac
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends $packages
fi

if [ "${1:-}" = --for-tests ] && ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny"
    cargo install --locked cargo-deny@0.20.2
fi
