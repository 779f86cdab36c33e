# What is done on the machine, as root: sh -c THIS binnacle VERB NAME DATA …
# Each verb may be run again after it was killed at any point.
set -eu
umask 022
verb=$1 name=$2 data=$3
shift 3
base=/opt/binnacle-$name
unit=binnacle-$name.service
file=/etc/systemd/system/$unit
watch=binnacle-$name-watch.service
watchfile=/etc/systemd/system/$watch
mark=$data/.binnacle-deployment

say() { printf '%s %s\n' "$1" "$2"; }
text() { base64 | tr -d '\n'; }
fail() {
	echo "$2" >&2
	exit "$1"
}
owner() { if [ "$(cat "$1" 2>/dev/null)" = "$name" ]; then echo ours; else echo foreign; fi; }
current() { basename "$(readlink "$base/current" 2>/dev/null || echo 0)"; }
property() { systemctl show --value -p "$1" "$unit" 2>/dev/null || true; }
schema() { od -An -tu1 -j60 -N4 "$1" 2>/dev/null | awk '{print (($1*256+$2)*256+$3)*256+$4}'; }
switch() { # switch REVISION
	ln -sfn "releases/$1" "$base/current.new"
	mv -fT "$base/current.new" "$base/current"
}
start() {
	[ -e "$file" ] && [ ! -e "$base/asleep" ] || return 0
	systemctl reset-failed "$unit" 2>/dev/null || true
	systemctl restart --no-block "$unit"
}
lacks() { # lacks PACKAGE: the same tests as `binnacle doctor` and `make setup` have
	case $1 in
	git | mmdebstrap) ! command -v "$1" >/dev/null 2>&1 ;;
	debian-archive-keyring) [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ] ;;
	ca-certificates) [ ! -e /etc/ssl/certs/ca-certificates.crt ] ;;
	*) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" != installed ] ;;
	esac
}

case $verb in
facts)
	say arch "$(uname -m)"
	say kernel "$(uname -r)"
	say root "$(id -u)"
	say booted "$([ -d /run/systemd/system ] && echo yes || echo no)"
	say systemd "$(systemctl --version 2>/dev/null | awk 'NR==1{print $2}')"
	say apt "$(command -v apt-get >/dev/null 2>&1 && echo yes || echo no)"
	say addresses "$(hostname -I 2>/dev/null || true)"
	for tool in flock sha256sum base64 od awk timeout journalctl; do
		command -v $tool >/dev/null 2>&1 || say tool $tool
	done
	for package; do
		if lacks "$package"; then say lacks "$package"; fi
	done
	;;

look)
	for package; do
		if ! lacks "$package"; then say package "$package"; fi
	done
	if [ -e "$mark" ]; then
		if [ "$(owner "$mark")" = ours ]; then say data ours; else say data "of $(cat "$mark")"; fi
	elif [ -e "$data" ]; then
		say data foreign
	fi
	[ ! -e "$base" ] || say base "$(owner "$base/deployment")"
	now=$(current)
	if [ "$now" != 0 ] && [ -e "$base/current/binnacle" ]; then
		say current "$now"
		say version "$(cat "$base/current/version")"
		say program "$(sha256sum "$base/current/binnacle" | cut -c1-64)"
		say config "$(text <"$base/current/binnacle.yaml")"
	fi
	[ ! -e "$base/asleep" ] || say asleep yes
	if [ -e "$file" ]; then
		if grep -qx "Deployment=$name" "$file"; then say unit ours; else say unit foreign; fi
		say content "$(text <"$file")"
		say active "$(property ActiveState)"
		say sub "$(property SubState)"
		say restarts "$(property NRestarts)"
		say enabled "$(systemctl is-enabled "$unit" 2>/dev/null || true)"
		say since "$(property ActiveEnterTimestamp)"
		case $(property ActiveState) in
		active | inactive) ;;
		*) say reason "$(journalctl -u "$unit" -n 6 -o cat --no-pager 2>/dev/null | text)" ;;
		esac
	fi
	if [ -e "$watchfile" ]; then
		if grep -qx "Deployment=$name" "$watchfile"; then say watch ours; else say watch foreign; fi
		say watchunit "$(text <"$watchfile")"
		say watchsettings "$(text <"$base/watch/inside.json" 2>/dev/null || true)"
		say watchtoken "$(cat "$base/watch/token" 2>/dev/null | sha256sum | cut -c1-64)"
		say watchactive "$(systemctl show --value -p ActiveState "$watch" 2>/dev/null || true)"
		say watchsub "$(systemctl show --value -p SubState "$watch" 2>/dev/null || true)"
		say watchenabled "$(systemctl is-enabled "$watch" 2>/dev/null || true)"
		pid=$(systemctl show --value -p MainPID "$watch" 2>/dev/null || echo 0)
		say watchprogram "$(sha256sum "/proc/$pid/exe" 2>/dev/null | cut -c1-64)"
	fi
	;;

probe) # probe DIGEST BYTES: doctor, by the program that is there or comes after the BYTES of configuration
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	head -c "$2" >"$dir/binnacle.yaml"
	program=$base/programs/$1
	if [ ! -e "$program" ]; then
		program=$dir/binnacle
		cat >"$program"
		chmod 755 "$program"
	fi
	"$program" --config "$dir/binnacle.yaml" doctor --json || true
	;;

has) # has DIGEST
	[ ! -e "$base/programs/$1" ] || say has yes
	;;

package) # package NAME
	export DEBIAN_FRONTEND=noninteractive
	lacks "$1" || exit 0
	apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 ||
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1" >/dev/null; }
	;;

data)
	mkdir -p "$data"
	chmod 711 "$data"
	echo "$name" >"$mark"
	;;

program) # program DIGEST, which is read
	mkdir -p "$base/programs"
	echo "$name" >"$base/deployment"
	[ ! -e "$base/programs/$1" ] || exit 0
	new=$(mktemp "$base/programs/.new.XXXXXX")
	trap 'rm -f "$new"' EXIT
	cat >"$new"
	[ "$(sha256sum "$new" | cut -c1-64)" = "$1" ] || fail 74 "The program did not arrive whole."
	chmod 755 "$new"
	mv -f "$new" "$base/programs/$1"
	;;

release) # release DIGEST VERSION KEEP; the configuration is read
	mkdir -p "$base/releases"
	rm -rf "$base"/releases/.new.*
	new=$(mktemp -d "$base/releases/.new.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	chmod 755 "$new"
	( umask 077 && cat >"$new/binnacle.yaml" )
	ln "$base/programs/$1" "$new/binnacle"
	echo "$2" >"$new/version"
	"$new/binnacle" --config "$new/binnacle.yaml" config check >/dev/null || fail 65 "The hub refuses its configuration."
	now=$(current)
	if [ "$now" != 0 ] && cmp -s "$new/binnacle.yaml" "$base/current/binnacle.yaml" && cmp -s "$new/binnacle" "$base/current/binnacle"; then
		case $(property ActiveState) in active | activating) ;; *) start ;; esac
		exit 0
	fi
	if [ -e "$data/binnacle.db" ] && ! cmp -s "$new/binnacle" "$base/current/binnacle"; then
		# Another version may bring the database to another form: going back needs it as it is.
		systemctl stop "$unit" 2>/dev/null || true
		mkdir -m 700 "$new/before"
		cp -p --reflink=auto "$data"/binnacle.db* "$new/before/"
	fi
	last=$(ls "$base/releases" | sort -n | tail -1)
	next=$((${last:-0} + 1))
	mv -fT "$new" "$base/releases/$next"
	switch "$next"
	start
	# The oldest go, but never one that is in use.
	for old in $(ls "$base/releases" | sort -n | head -n "-$3"); do
		[ "$old" = "$(current)" ] || rm -rf "$base/releases/$old"
	done
	for program in "$base"/programs/*; do
		[ "$(stat -c %h "$program")" != 1 ] || rm -f "$program"
	done
	;;

history)
	[ "$(owner "$base/deployment")" = ours ] || exit 0
	for revision in $(ls "$base/releases" 2>/dev/null | sort -n); do
		dir=$base/releases/$revision
		state=failed
		[ ! -e "$dir/worked" ] || state=superseded
		[ "$revision" != "$(current)" ] || state=current
		[ "$state" != current ] || [ ! -e "$dir/worked" ] || state=deployed
		printf 'revision %s %s %s %s\n' "$revision" "$(stat -c %Y "$dir/version")" "$state" "$(cat "$dir/version")"
	done
	;;

rollback) # rollback REVISION
	[ -e "$base/releases/$1/binnacle" ] || fail 66 "There is no revision $1."
	systemctl stop "$unit" 2>/dev/null || true
	# The form of the database that this revision left, and the newest copy in it.
	form="" copy=""
	for later in $(ls "$base/releases" | sort -n); do
		[ "$later" -gt "$1" ] && [ -e "$base/releases/$later/before/binnacle.db" ] || continue
		have=$(schema "$base/releases/$later/before/binnacle.db")
		: "${form:=$have}"
		[ "$have" != "$form" ] || copy=$later
	done
	if [ -n "$copy" ] && [ "$(schema "$data/binnacle.db")" -gt "$form" ]; then
		mkdir -p -m 700 "$base/releases/$copy/after"
		mv -f "$data"/binnacle.db* "$base/releases/$copy/after/"
		cp -p --reflink=auto "$base/releases/$copy/before"/binnacle.db* "$data/"
		say database "$copy"
	fi
	switch "$1"
	start
	;;

service) # the unit is read
	cat >"$file.new"
	mv -f "$file.new" "$file"
	rm -f "$base/asleep"
	systemctl daemon-reload
	systemctl --quiet enable "$unit"
	start
	;;

watch) # watch KEEP: three lines are read, in base64: unit, settings, token, unless the one that is there is kept
	mkdir -p -m 700 "$base/watch"
	IFS= read -r unitfile
	IFS= read -r settings
	IFS= read -r token || true
	printf %s "$settings" | base64 -d >"$base/watch/inside.json"
	[ "$1" = yes ] || ( umask 077 && printf %s "$token" | base64 -d >"$base/watch/token" )
	printf %s "$unitfile" | base64 -d >"$watchfile.new"
	mv -f "$watchfile.new" "$watchfile"
	systemctl daemon-reload
	systemctl --quiet enable "$watch"
	[ -e "$base/asleep" ] || systemctl restart --no-block "$watch"
	;;

commits)
	[ "$(owner "$base/deployment")" = ours ] || exit 0
	cat "$base/commits.json" 2>/dev/null || true
	;;
keepcommits) # what is known of commits is read
	[ "$(owner "$base/deployment")" = ours ] || exit 0
	cat >"$base/commits.new"
	mv -f "$base/commits.new" "$base/commits.json"
	;;

await) # await SECONDS
	end=$(($(date +%s) + $1))
	while :; do
		state=$(property ActiveState)
		case $state in
		active)
			touch "$base/current/worked"
			exit 0
			;;
		failed | inactive) why="The hub has ended." ;;
		*)
			why=""
			if [ "$(property NRestarts)" != 0 ] || [ "$(property SubState)" = auto-restart ]; then why="The hub does not start."; fi
			;;
		esac
		if [ -n "$why" ] || [ "$(date +%s)" -ge "$end" ]; then
			echo "${why:-The hub does not get ready.}" >&2
			journalctl -u "$unit" -n 6 -o cat --no-pager 2>/dev/null | sed 's/^/  /' >&2
			exit 69
		fi
		sleep 0.2
	done
	;;

restart) start ;;
sleep)
	touch "$base/asleep"
	if [ -e "$watchfile" ]; then
		systemctl --quiet disable "$watch"
		systemctl stop "$watch"
	fi
	systemctl --quiet disable "$unit"
	systemctl stop "$unit"
	;;
wake)
	rm -f "$base/asleep"
	systemctl --quiet enable "$unit"
	start
	if [ -e "$watchfile" ]; then
		systemctl --quiet enable "$watch"
		systemctl restart --no-block "$watch"
	fi
	;;

logs) # logs FOLLOW PREVIOUS SECONDS LINES WATCH
	[ "$5" = no ] || unit=$watch
	set -- "$1" "$2" "$3" "$4" --no-pager -o short-iso
	[ "$1" = no ] || set -- "$@" -f
	[ "$3" = 0 ] || set -- "$@" --since "-${3}s"
	if [ "$4" != 0 ]; then set -- "$@" -n "$4"; elif [ "$1" = yes ]; then set -- "$@" -n 20; fi
	run=$(property InvocationID)
	if [ "$2" = yes ]; then
		run=$(journalctl -u "$unit" -o cat --output-fields=_SYSTEMD_INVOCATION_ID --no-pager | awk -v now="$run" 'NF && $1 != now {last = $1} END {print last}')
		[ -n "$run" ] || fail 66 "There was no run before this one."
		set -- "$@" "_SYSTEMD_INVOCATION_ID=$run"
	else
		set -- "$@" -u "$unit"
	fi
	shift 4
	exec journalctl "$@"
	;;

builds) # builds FLAG…
	[ -e "$base/current/binnacle" ] || fail 66 "The hub is not installed."
	exec "$base/current/binnacle" --config "$base/current/binnacle.yaml" build-logs "$@"
	;;

save)
	[ -e "$base/current/binnacle" ] || fail 66 "The hub is not installed."
	exec "$base/current/binnacle" --config "$base/current/binnacle.yaml" snapshot save "$@"
	;;
load) # what save wrote is read
	[ -e "$base/current/binnacle" ] || fail 66 "The hub is not installed."
	systemctl stop "$unit" 2>/dev/null || true
	code=0
	"$base/current/binnacle" --config "$base/current/binnacle.yaml" snapshot load || code=$?
	start
	exit $code
	;;

lock) # lock HOLDER
	lock=/run/binnacle-$name.lock
	exec 9>>"$lock"
	flock -n 9 && [ /proc/$$/fd/9 -ef "$lock" ] || fail 75 "Another run works on this deployment: $(cat "$lock")"
	echo "$1" >"$lock"
	echo locked
	# Who holds it says so every few seconds: it can't stay when its machine has gone.
	while beat=$(timeout 60 head -c 1 9>&-) && [ -n "$beat" ]; do :; done
	rm -f "$lock"
	;;

unwatch)
	[ -e "$watchfile" ] || exit 0
	systemctl stop "$watch" 2>/dev/null || true
	systemctl --quiet disable "$watch" 2>/dev/null || true
	rm -f "$watchfile"
	rm -rf "$base/watch"
	systemctl daemon-reload
	systemctl reset-failed "$watch" 2>/dev/null || true
	;;
unservice)
	[ -e "$file" ] || exit 0
	systemctl stop "$unit" 2>/dev/null || true
	if [ -e "$base/current/binnacle" ] && [ -e "$data" ]; then
		# Sessions outlive the service; they end here, and their network with them.
		timeout 120 "$base/current/binnacle" --config "$base/current/binnacle.yaml" stop --all >/dev/null || true
	fi
	systemctl kill --kill-whom=all --signal=KILL "$unit" 2>/dev/null || true
	systemctl --quiet disable "$unit" 2>/dev/null || true
	rm -f "$file"
	systemctl daemon-reload
	systemctl reset-failed "$unit" 2>/dev/null || true
	;;
unrelease) rm -rf "$base" ;;
undata)
	[ "$(owner "$mark")" = ours ] || exit 0
	awk -v under="$data/" 'index($2, under) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r mounted; do
		umount -l "$(printf '%b' "$mounted")" || true
	done
	# The mark goes last: a removal that was stopped is still ours.
	find "$data" -mindepth 1 -maxdepth 1 ! -name .binnacle-deployment -exec rm -rf {} +
	rm -rf "$data"
	;;
*) fail 64 "There is no verb $verb." ;;
esac
