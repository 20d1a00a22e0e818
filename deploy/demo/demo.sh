#!/bin/bash
# One certificate's whole life on real parts: SoftHSM, Pebble, nginx, vaultd, vault-agent.
# Everything is on loopback and below target/demo; KEEP=1 leaves it running.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
bin=${BIN:-$root/target/debug}
work=$root/target/demo
export PATH=$bin:$PATH:/usr/sbin:/sbin

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '   $ %s\n' "$*"; "$@" | sed 's/^/     /'; }
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
    done
}
wait_for() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "no $what; see $work/*.log" >&2
    exit 1
}
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

pids=()
start() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >>"$work/$name.log" 2>&1 </dev/null &
    pids+=($!)
}
finish() {
    [ -n "${KEEP:-}" ] && [ -n "${shown:-}" ] && return
    kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
}
trap finish EXIT

if [ -e "$work/pids" ]; then
    xargs kill <"$work/pids" 2>/dev/null || true
fi
rm -rf "$work"
mkdir -p "$work"/{tokens,tmp,webroot,agent}
chmod 700 "$work/agent"
vault_port=$(free_port) acme=$(free_port) acme_mgmt=$(free_port) dns=$(free_port)
dns_mgmt=$(free_port) http=$(free_port) https=$(free_port) name=shop.example

say "a public CA to be: Pebble, a real RFC 8555 server, rejecting every fifth nonce"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj /CN=pebble \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout "$work/pebble.key" -out "$work/pebble.pem" 2>/dev/null
cat >"$work/pebble.json" <<JSON
{ "pebble": { "listenAddress": "127.0.0.1:$acme", "managementListenAddress": "127.0.0.1:$acme_mgmt",
  "certificate": "$work/pebble.pem", "privateKey": "$work/pebble.key",
  "httpPort": $http, "tlsPort": $(free_port), "ocspResponderURL": "",
  "externalAccountBindingRequired": false, "certificateValidityPeriod": 7776000 } }
JSON
start dns pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 "" -http01 "" -https01 "" \
    -tlsalpn01 "" -dns01 "127.0.0.1:$dns" -management "127.0.0.1:$dns_mgmt"
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=20 start pebble \
    pebble -config "$work/pebble.json" -dnsserver "127.0.0.1:$dns"
wait_for Pebble listening "$acme"
echo "   directory https://127.0.0.1:$acme/dir"

say "a web server: nginx on 127.0.0.1:$https, with a placeholder certificate"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj /CN=placeholder \
    -keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null
cat >"$work/nginx.conf" <<CONF
daemon off; worker_processes 2; pid $work/nginx.pid; error_log stderr notice;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path $work/tmp; proxy_temp_path $work/tmp; fastcgi_temp_path $work/tmp;
  uwsgi_temp_path $work/tmp; scgi_temp_path $work/tmp;
  server { listen 127.0.0.1:$http; root $work/webroot; }
  server { listen 127.0.0.1:$https ssl; server_name $name; root $work/webroot;
    ssl_certificate $work/chain.pem; ssl_certificate_key $work/key.pem; }
}
CONF
nginx=(nginx -e stderr -p "$work" -c "$work/nginx.conf")
start nginx "${nginx[@]}"
wait_for nginx listening "$https"

say "the vault: its HSM token is empty, so it serves its admin socket only"
printf 'directories.tokendir = %s\n' "$work/tokens" >"$work/softhsm2.conf"
(umask 077; openssl rand -hex 8 >"$work/pin"; openssl rand -hex 8 >"$work/so-pin")
cat >"$work/vault.toml" <<TOML
[hsm]
uri = "pkcs11:token=demo?module-path=/usr/lib/softhsm/libsofthsm2.so"
pin = { file = "$work/pin" }
so_pin = { file = "$work/so-pin" }
[hsm.environment]
SOFTHSM2_CONF = "$work/softhsm2.conf"
[store]
url = "sqlite:$work/vault.db"
[listen]
address = "127.0.0.1:$vault_port"
admin_socket = "$work/admin.sock"
[audit]
path = "$work/audit.log"
[policy]
trust_domain = "demo.example"
TOML
start vaultd vaultd run --config "$work/vault.toml"
export VAULTCTL_SOCKET=$work/admin.sock
wait_for "admin socket" vaultctl status

say "the ceremony: token, internal CA, and a key-encryption key split among three custodians"
for who in ops security audit; do
    age-keygen -o "$work/custodian-$who.txt" 2>/dev/null
done
recipient() { age-keygen -y "$work/custodian-$1.txt"; }
run vaultctl init --custodian "ops=$(recipient ops)" --custodian "security=$(recipient security)" \
    --custodian "audit=$(recipient audit)" --threshold 2 --shares-dir "$work/shares"

say "an ACME account, whose key is born in the HSM and never leaves it"
run vaultctl account register ca --directory "https://127.0.0.1:$acme/dir" \
    --ca-root "$work/pebble.pem" --contact mailto:ops@$name --agree-tos

say "a certificate with its key in the HSM, and a key for other uses"
run vaultctl key generate code-signing --algorithm ec-p384
vaultctl -o json agent token web1 >"$work/invitation.json" 2>/dev/null
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$work/invitation.json"; }
(umask 077; field token >"$work/token")

say "the agent on the web server joins with a one-time token and the CA's fingerprint"
cat >"$work/agent.toml" <<TOML
state_dir = "$work/agent/state"
[vault]
addresses = ["127.0.0.1:$vault_port"]
[[install]]
certificate = "shop"
chain = "$work/chain.pem"
key = "$work/key.pem"
test = ["nginx", "-e", "stderr", "-p", "$work", "-c", "$work/nginx.conf", "-t", "-q"]
reload = ["nginx", "-e", "stderr", "-p", "$work", "-c", "$work/nginx.conf", "-s", "reload"]
check = { address = "127.0.0.1:$https", server_name = "$name" }
[[install]]
certificate = "shop-hsm"
chain = "$work/agent/shop-hsm.pem"
[http01]
webroot = "$work/webroot"
TOML
run vault-agent enroll --vault "127.0.0.1:$vault_port" --ca-fingerprint "$(field ca_fingerprint)" \
    --token-file "$work/token" --config "$work/agent.toml"
start vault-agent vault-agent run --config "$work/agent.toml"

say "issue: the agent makes the web server's key and answers the challenge; the chain is pushed,
   nginx reloads, and a handshake proves it"
run vaultctl cert issue shop --account ca --domain "$name" --challenge http-01 \
    --custody agent --deploy-to web1 --wait
served() {
    openssl s_client -connect "127.0.0.1:$https" -servername "$name" </dev/null 2>/dev/null |
        openssl x509 -noout -serial -issuer -enddate
}
first=$(served)
say "what nginx serves, in OpenSSL's eyes"
printf '%s\n' "$first" | sed 's/^/   /'

say "issue: a second certificate, whose key stays in the HSM; its chain is checked against that key and installed"
run vaultctl cert issue shop-hsm --account ca --domain "$name" --challenge http-01 \
    --deploy-to web1 --wait

say "renew: the same certificate again, by push"
run vaultctl cert renew shop --force --wait
second=$(served)
say "what nginx serves now"
printf '%s\n' "$second" | sed 's/^/   /'
[ "$first" != "$second" ] || { echo "the certificate did not change" >&2; exit 1; }

say "the agent's own view, and the vault's"
run vault-agent status --config "$work/agent.toml"
run vaultctl cert list
run vaultctl key list
run vaultctl audit verify

shown=yes
say "proven: $(printf %s "$second" | head -1) is served on 127.0.0.1:$https for $name"
if [ -n "${KEEP:-}" ]; then
    printf '%s\n' "${pids[@]}" >"$work/pids"
    cat <<TEXT
   left running; try
     export PATH=$bin:\$PATH VAULTCTL_SOCKET=$work/admin.sock
     vaultctl status
     curl -vk --resolve $name:$https:127.0.0.1 https://$name:$https/
   logs and state are in $work; end it with
     xargs kill <$work/pids
TEXT
fi
