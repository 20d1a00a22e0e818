# Two commands: `make demo` shows one certificate's whole life, `make test` runs everything.
# `make bench` measures it beside what it is built on.
.POSIX:
.PHONY: demo test bench fmt build
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

demo:
	deploy/dependencies.sh
	cargo build --locked --bins -p vault -p vault-agent -p vaultctl
	deploy/demo/demo.sh

test:
	deploy/dependencies.sh --for-tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo deny --locked check bans licenses sources
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace --no-fail-fast
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items

bench:
	deploy/dependencies.sh --for-tests
	cargo build --locked --release -p vault -p vault-agent -p vaultctl -p vault-pkcs11
	cargo run --locked --release -p vault-bench -- --plot docs/benchmarks.svg

fmt:
	cargo fmt --all

build:
	cargo build --locked --release -p vault -p vault-agent -p vaultctl -p vault-pkcs11
