#!/bin/sh
# run.sh - `make run`: a Tandem to try, on loopback, with nothing to configure.
#
# From the environment: RUN_DIR (run), PORT_BASE (5222, 5223 and 5347; N means N, N+1, N+2), C2S_TLS
# (required; optional lets plain clients in), BUILD (build): where the programs are. What is in RUN_DIR stays:
# the second start has the same data. RUN_DIR/extra.conf is yours: what it sets counts, not what stands here.
set -u
umask 077

dir=${RUN_DIR:-run}
tls=${C2S_TLS:-required}
bin=${BUILD:-build}
if [ -n "${PORT_BASE:-}" ]; then
	case $PORT_BASE in
	*[!0-9]* | ??????*) echo "make run: PORT_BASE=$PORT_BASE is not a port number" >&2; exit 2 ;;
	esac
	if [ "$PORT_BASE" -lt 1 ] || [ "$PORT_BASE" -gt 65533 ]; then
		echo "make run: PORT_BASE=$PORT_BASE: from 1 to 65533 are possible" >&2
		exit 2
	fi
	c2s=$PORT_BASE direct=$((PORT_BASE + 1)) component=$((PORT_BASE + 2))
else
	c2s=5222 direct=5223 component=5347
fi
case $tls in
required | optional) ;;
*) echo "make run: C2S_TLS=$tls: required or optional are possible" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd) || exit 1
bin=$(cd "$bin" && pwd) || exit 1
mkdir -p "$dir" || { echo "make run: cannot make $dir" >&2; exit 1; }
dir=$(cd "$dir" && pwd) || exit 1
short=
pid=

# A socket's path has at most 107 octets; below a long path everything is reached through a short link.
state=$dir
if [ ${#dir} -gt 80 ]; then
	short=$(mktemp -d /tmp/tandem.XXXXXX) || exit 1
	ln -s "$dir" "$short/run"
	chmod 711 "$short"
	state=$short/run
fi

leave() {
	[ -n "$short" ] && rm -rf "$short"
	exit "$1"
}
stop() {
	[ -n "$pid" ] && kill -TERM "$pid" 2>/dev/null
}
trap stop INT TERM HUP

ctl() {
	"$bin/tandemctl" --control "$state/control" "$@"
}
password() {
	LC_ALL=C tr -dc 'a-hj-km-np-z2-9' </dev/urandom | head -c 16
}
# The password of an account in the card of an earlier start.
old_password() {
	sed -n 's/.*"jid": "'"$1"'", "password": "\([^"]*\)".*/\1/p' "$dir/card.json" 2>/dev/null
}

# --- the configuration ---------------------------------------------------------------------------

"$bin/tandemctl" certificate self-signed localhost,127.0.0.1,::1 --certificate "$dir/localhost.crt" \
	--key "$dir/localhost.key" >/dev/null || leave 1

# Both loopback addresses where there are both.
listen() {
	if grep -q '^0*1 ' /proc/net/if_inet6 2>/dev/null; then
		echo "{\"127.0.0.1:$1\", \"[::1]:$1\"}"
	else
		echo "{\"127.0.0.1:$1\"}"
	fi
}

# A second start in a folder that is in use must not touch it.
if ctl status >/dev/null 2>&1; then
	echo "make run: a Tandem is running in $dir already; another one: make run RUN_DIR=DIR PORT_BASE=20000" >&2
	leave 1
fi

extra=$dir/extra.conf
[ -f "$extra" ] || extra=/dev/null
awk -f "$here/run-extra.awk" "$extra" - >"$dir/tandem.conf" <<END || leave 1
# Written by make run at each start. Your own settings: extra.conf, which is appended; what is set
# there is left out here.
state_dir = "$state/state"
control_socket = "$state/control"
host "localhost" {
	certificate_file = "localhost.crt"
	key_file = "localhost.key"
}
c2s {
	listen = $(listen "$c2s")
	listen_tls = $(listen "$direct")
	tls = $tls
}
components {
	listen = $(listen "$component")
}
# Everybody comes from one address here, and tests are in a hurry.
limits {
	connections_per_address = 100000
	stanzas_per_second = 0
	octets_per_second = 0
}
sms {
	domain = "sms.localhost"
	country_code = "1"
}
handset "+15550100" { behaviour = answer }
handset "+15550101" { behaviour = report }
handset "+15550102" { behaviour = silent }
handset "+15550103" { behaviour = refuse }
handset "+15550104" { behaviour = absent }
END
cat "$extra" >>"$dir/tandem.conf" || leave 1
"$bin/tandemctl" config check "$dir/tandem.conf" >/dev/null || leave 1

# --- start ---------------------------------------------------------------------------------------

log=$dir/tandem.log
: >>"$log"
size=$(wc -c <"$log")
# Its own standard error holds the log, and what it has to say when it cannot start.
"$bin/tandemd" --config "$dir/tandem.conf" --fail-fast 2>>"$log" 3>&- &
pid=$!
tries=0
until ctl --json status >"$dir/.status" 2>/dev/null && grep -q '"ready": true' "$dir/.status"; do
	kill -0 "$pid" 2>/dev/null || break
	tries=$((tries + 1))
	[ $tries -gt 600 ] && break
	sleep 0.1
done
grep -q '"tandem-sms"' "$dir/.status" 2>/dev/null && sms=yes || sms=no
rm -f "$dir/.status"

fail() {
	tail -c +$((size + 1)) "$log" | grep -E 'cannot serve|^tandemd:' >&2
	if tail -c +$((size + 1)) "$log" | grep -q 'in use by another program'; then
		echo "The port is taken. Other ports: make run PORT_BASE=20000 (20000, 20001, 20002)" >&2
	fi
	echo "make run: Tandem did not start; the log is $log" >&2
	stop
	wait "$pid"
	leave 1
}
if ! kill -0 "$pid" 2>/dev/null || [ $tries -gt 600 ]; then
	fail
fi

# --- accounts and the card ------------------------------------------------------------------------

# What this build has: the card promises nothing else.
ctl --json link list 2>/dev/null | grep -q '"handset"' && phones=yes || phones=no
if [ $sms = yes ]; then
	alice_number='"+15550001"' bob_number='"+15550002"'
else
	alice_number=null bob_number=null
fi
if [ $phones = yes ]; then
	handsets='
  {"number": "+15550100", "behaviour": "answer"},
  {"number": "+15550101", "behaviour": "report"},
  {"number": "+15550102", "behaviour": "silent"},
  {"number": "+15550103", "behaviour": "refuse"},
  {"number": "+15550104", "behaviour": "absent"}'
else
	handsets=
fi

alice=$(old_password alice@localhost)
bob=$(old_password bob@localhost)
first=no
[ -n "$alice" ] && [ -n "$bob" ] || { first=yes; alice=$(password); bob=$(password); }

cat >"$dir/card.json.new" <<END
{"domain": "localhost",
 "c2s": "127.0.0.1:$c2s",
 "c2s_tls": "127.0.0.1:$direct",
 "component": "127.0.0.1:$component",
 "control": "$state/control",
 "accounts": [
  {"jid": "alice@localhost", "password": "$alice", "number": $alice_number},
  {"jid": "bob@localhost", "password": "$bob", "number": $bob_number}],
 "handsets": [$handsets]}
END
chmod 600 "$dir/card.json.new"
mv "$dir/card.json.new" "$dir/card.json"

# Made once; a start that was interrupted in between is taken up again.
account() {
	printf '%s\n' "$2" | ctl user add "$1" --password-stdin >/dev/null 2>&1 ||
		printf '%s\n' "$2" | ctl user password "$1" --password-stdin >/dev/null || return 1
	[ $sms = no ] || ctl user number "$1" "$3" >/dev/null
}
# Made by a build without SMS: what is missing is made now.
[ $sms = yes ] && [ "$(cat "$dir/accounts.made" 2>/dev/null)" = "sms=no" ] && rm "$dir/accounts.made"
if [ ! -f "$dir/accounts.made" ]; then
	account alice@localhost "$alice" +15550001 && account bob@localhost "$bob" +15550002 || {
		echo "make run: the accounts could not be made; the log is $log" >&2
		stop
		wait "$pid"
		leave 1
	}
	echo "sms=$sms" >"$dir/accounts.made"
fi

if [ $first = yes ]; then
	show_alice="password $alice" show_bob="password $bob" use=$alice
else
	show_alice="password in card.json" show_bob="password in card.json" use=PASSWORD
fi
listens() {
	ctl --json status | grep -q ":$1\""
}
listens "$direct" && and_tls=", 127.0.0.1:$direct (TLS)" || and_tls=
cat <<END

Tandem is running.   Ctrl-C stops it.

  domain      localhost
  clients     127.0.0.1:$c2s (STARTTLS)$and_tls; the certificate is self-signed
END
if listens "$component"; then
	echo "  components  127.0.0.1:$component (XEP-0114; tandemctl component add DOMAIN --secret-stdin)"
fi
if [ $sms = yes ]; then
	show_alice="number +15550001   $show_alice" show_bob="number +15550002   $show_bob"
fi
cat <<END
  accounts    alice@localhost   $show_alice
              bob@localhost     $show_bob
END
if [ $phones = yes ]; then
	cat <<END
  phones      +15550100 reports and answers    +15550101 reports    +15550102 is silent
              +15550103 refuses                +15550104 is switched off

  Try it: an SMS goes out, the receipt and the answer come back.
    go-sendxmpp -n -j 127.0.0.1:$c2s -u alice@localhost -p $use -l
    echo hello | go-sendxmpp -n -j 127.0.0.1:$c2s -u alice@localhost -p $use +15550100@sms.localhost
  In a client: log in as alice@localhost, write to +15550100@sms.localhost
END
else
	cat <<END

  Try it: bob writes to alice.
    go-sendxmpp -n -j 127.0.0.1:$c2s -u alice@localhost -p $use -l
  In a client: log in as bob@localhost, write to alice@localhost
END
fi
cat <<END

  state       $bin/tandemctl --control $state/control status
END
if [ $sms = yes ]; then
	cat <<END
  real SMSC   echo PASSWORD | $bin/tandemctl --control $state/control \\
                link add carrier --host HOST --port 2775 --system-id ID --password-stdin
              ($bin/tandemctl link add --help; settings: $dir/extra.conf)
END
fi
cat <<END
  log         $log
  card        $dir/card.json

END
if [ "$tls" = optional ]; then
	cat <<END
  *** WARNING: C2S_TLS=optional: clients may log in WITHOUT TLS. For benchmarks only. ***

END
fi

# --- until the end ----------------------------------------------------------------------------------

wait "$pid"
status=$?
# A signal ends the first wait; the clean end is what counts.
while kill -0 "$pid" 2>/dev/null; do
	wait "$pid"
	status=$?
done
echo "Tandem has stopped."
leave $status
