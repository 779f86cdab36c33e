#!/bin/sh
# Installs what this machine lacks, and only that: `tools/setup.sh run` for
# building and running, `tools/setup.sh test` for the tests too. It says what it
# installs and why. Needs apt (Debian 12 or later, Ubuntu 22.04 or later); on
# other systems it only names what is missing.
set -eu

missing=""
want() { # want PACKAGE REASON: the check before it failed
	missing="$missing $1"
	printf '  %-18s %s\n' "$1" "$2"
}
has() { command -v "$1" >/dev/null 2>&1; }
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }

if ! has go; then
	echo "Go is needed and not on PATH. Install Go $(sed -n 's/^go //p' "$(dirname "$0")/../go.mod") or later." >&2
	exit 1
fi

# Debian 12's own Cargo is older than the protocol of today's indexes.
cargo=cargo
! grep -qs 'VERSION_CODENAME=bookworm' /etc/os-release || cargo=cargo-web

list() {
	has git || want git "fetches repositories"
	has mmdebstrap || want mmdebstrap "makes the base image from Debian's packages"
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || want debian-archive-keyring "checks the signatures of Debian's packages"
	[ -e /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates "the authorities that HTTPS trusts"
	has gcc || want gcc "compiles runc, which makes containers"
	[ -e /usr/include/stdlib.h ] || [ -e "/usr/include/$(uname -m)-linux-gnu/stdlib.h" ] || want libc6-dev "compiles runc"
	has pkg-config || want pkg-config "compiles runc"
	has pkg-config && pkg-config --exists libseccomp 2>/dev/null || want libseccomp-dev "runc's filter of system calls"
	[ "$1" = test ] || return 0
	has chromium || has chromium-browser || has google-chrome || want chromium "the browser of the tests"
	has node || want nodejs "runs the published JavaScript client in the tests"
	has npm || want npm "installs the published JavaScript client"
	has git-lfs || want git-lfs "tests of large files"
	has nft || want nftables "the network of the tests' Kubernetes"
	has nginx || [ -x /usr/sbin/nginx ] || want nginx-light "the ingress of the tests"
	has initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || want postgresql "the database that the tests' replicas share"
	has docker-registry || want docker-registry "the registry of a hub that is tried out"
	[ -e /usr/sbin/sshd ] || want openssh-server "the machine that tests deploy to"
	has ssh || want openssh-client "reaches it"
	[ -e /lib/systemd/systemd ] || want systemd "starts its services"
	has sudo || want sudo "becomes root on it"
	has python3 || want python3 "peers to compare with"
	installed python3-venv || want python3-venv "peers to compare with"
	has Rscript || want r-base-core "runs what build steps do in R"
	has cargo || want "$cargo" "runs what build steps do for Rust"
}

needs=$(mktemp)
trap 'rm -f "$needs"' EXIT
list "${1:-run}" >"$needs"
[ -s "$needs" ] || exit 0
missing=$(awk '{print $1}' "$needs" | tr '\n' ' ')

if ! has apt-get; then
	echo "These are missing, and this system has no apt to install them:" >&2
	cat "$needs" >&2
	exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
	if ! has sudo; then
		echo "These are missing; install them as root: apt-get install $missing" >&2
		exit 1
	fi
	sudo="sudo"
	echo "sudo is used because installing packages needs root."
fi
echo "Installing what this machine lacks:"
cat "$needs"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# Tests start what they need themselves: services of packages stay off.
# shellcheck disable=SC2086 # a list of words
$sudo env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
