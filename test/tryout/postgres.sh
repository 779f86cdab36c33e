#!/bin/bash
# Does what the description of the image "postgres" on Docker Hub promises, as far as
# the chart relies on it: POSTGRES_USER, POSTGRES_DB and POSTGRES_PASSWORD (or …_FILE)
# are what an empty PGDATA begins with; while it begins, nobody reaches it but through
# its socket; then it listens on every address and wants the password.
set -euo pipefail

value() { # value NAME DEFAULT: of NAME, or of the file that NAME_FILE names
	local file=${1}_FILE
	if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then
		echo >&2 "error: both $1 and $file are set (but are exclusive)"
		exit 1
	fi
	if [ -n "${!file:-}" ]; then cat "${!file}"; else echo "${!1:-$2}"; fi
}

[ "${1:-}" = postgres ] || exec "$@"
mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	user=$(value POSTGRES_USER postgres)
	database=$(value POSTGRES_DB "$user")
	password=$(value POSTGRES_PASSWORD "")
	if [ -z "$password" ]; then
		echo >&2 "Error: Database is uninitialized and superuser password is not specified."
		exit 1
	fi
	initdb --username="$user" --pwfile=<(echo "$password")
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	pg_ctl -o "-c listen_addresses=''" -w start
	[ "$database" = postgres ] || psql --username "$user" --dbname postgres --command "CREATE DATABASE \"$database\""
	pg_ctl -m fast -w stop
fi
exec "$@" -c "listen_addresses=*"
