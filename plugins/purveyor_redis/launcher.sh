#!/bin/sh
# One server for each folder of /data/projects that has a file "on", named by its port, beside the service's own server.
#
#   redis-launcher COMMAND...       the container's entrypoint: keeps COMMAND, the service's own server, and every project's running
#   redis-launcher add N [MARK]     take the accounts of the server on port N from stdin, up to a line "end", have it run and know them, and print what
#                                   PING says; or "held" and whose it is, when it has data and its first line is not the MARK
#   redis-launcher load N           make its folder anew, with the RDB that comes by stdin as its data; `add` starts it
#   redis-launcher purge N          stop it and delete its folder;  restart N: stop it, its keeper starts it again
#   redis-launcher ask N WORD...    a command as its administrator;  each WORD...: of every server, "@N" before each answer
#   redis-launcher cli WORD...      redis-cli to the own server, or as its administrator to the server that -p N names
#   redis-launcher stream N         its data, as an RDB
#   redis-launcher accounts         what `add` was given, of every folder, "@N" before each
#   redis-launcher list             port, pid, starts, last exit status of each that should run
#   redis-launcher look             port, how it serves, starts, last exit status, account of each; 64 are asked at a time, in turn
#   redis-launcher renew            have every server take the certificate that is there now
#
# A server listens on all of the container's addresses but those in the networks of other environments, which $NETWORKS says; the own one
# at home alone. A container that is started without that file is none of a service: somebody else runs it, on networks of theirs, and
# none of this holds. Process 1 sees within a second that addresses or the file are others. Of a file that does not have the sum which
# is beside it a part is still to come: what there was before holds until then.
#
# In the volume lies what is wanted, in $RUN, which is made anew at each start, what runs. Commands tell process 1 by SIGUSR1. A
# folder belongs to root, its data to a user of the port's number: who breaks out of one server has that project, and no more.
set -u
PROJECTS=${PROJECTS:-/data/projects} RUN=${RUN:-/run/redis-projects} CONFIG=${CONFIG:-/etc/purveyor/project.conf}
PAIR=${PAIR:-/etc/purveyor/server.pem} NETWORKS=${NETWORKS:-/etc/purveyor/networks} PORTS=7000
if command -v valkey-server >/dev/null; then KIND=valkey; else KIND=redis; fi
if id "$KIND" >/dev/null 2>&1; then OWNER=$KIND; else OWNER=redis; fi

say() { echo "launcher: $*"; }
hash() { sha256sum | cut -c1-64; }
# by what the process is called as well: the number may be another's by now
runs() { pid=; read -r pid 2>/dev/null <"$1" && [ -n "$pid" ] && read -r name 2>/dev/null <"/proc/$pid/comm" && [ "${name%"$2"}" != "$name" ]; }
alive() { runs "$RUN/$1.pid" -server; }
kept() { [ -e "$RUN/$1.keeper" ] && { [ ! -s "$RUN/$1.keeper/pid" ] || runs "$RUN/$1.keeper/pid" -launcher; }; }
owned() { for made in "$PROJECTS"/[0-9]*/made; do [ ! -e "$made" ] || return 0; done; return 1; } # somebody's data is here
wanted() { [ ! -e "$RUN/stopping" ] && { [ "$1" = own ] || [ -e "$PROJECTS/$1/on" ]; }; }

as() { # become a program as a user who can never be more
    user=$1; shift
    if setpriv --help 2>&1 | grep -q reuid; then
        exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --no-new-privs "$@"
    fi
    if command -v gosu >/dev/null; then exec gosu "$user:$user" "$@"; fi
    exec su-exec "$user:$user" "$@"
}

prepare() { # where the server N writes, for it alone
    mkdir -p "$PROJECTS/$1/data" "$RUN/$1"
    chown -Rh "$1:$1" "$PROJECTS/$1/data" "$RUN/$1"
    chmod 700 "$PROJECTS/$1/data" "$RUN/$1"
}

certify() { # its own copy of the certificate: the file is for the own server's user alone
    [ -s "$PAIR" ] || return 1
    rm -f "$RUN/$1/new.pem"; (umask 077; cat "$PAIR" >"$RUN/$1/new.pem")
    chown "$1:$1" "$RUN/$1/new.pem"; mv "$RUN/$1/new.pem" "$RUN/$1/server.pem"
}

value() { IFS=.; set -- $1; unset IFS; at=$((($1 << 24) + ($2 << 16) + ($3 << 8) + $4)); } # of an address, as a number
turned() { at=$((0x$1)); at=$(((at & 255) << 24 | (at >> 8 & 255) << 16 | (at >> 16 & 255) << 8 | at >> 24)); } # the kernel writes it so
located() { cat /proc/net/fib_trie /proc/net/route "$NETWORKS" "$NETWORKS.sum" 2>/dev/null; } # all that decides on what servers listen
take() { # into $told: the file of networks, as it was last there in whole; false while it is not
    if [ -e "$NETWORKS" ] || [ -e "$NETWORKS.sum" ]; then rm -f "$RUN/foreign"; fi
    # the sum first: the engine writes it last, so that where it is missing the other is there in whole
    sum=none; [ ! -e "$NETWORKS.sum" ] || { sum=; read -r sum 2>/dev/null <"$NETWORKS.sum"; }
    told=$(cat "$NETWORKS" 2>/dev/null) known=yes
    if [ -e "$NETWORKS" ] && { [ "$sum" = none ] || [ "$(printf %s "$told" | hash)" = "$sum" ]; }; then return 0; fi
    if [ -e "$RUN/networks" ]; then told=$(cat "$RUN/networks"); else told= known=; fi
    return 1
}
survey() { # of the container's addresses: those at home, those that are nobody's, and whose the others are
    table= last= device=
    while read -r first second third; do
        case "$first $second $third" in
        "|-- "*) last=$second ;;
        "/32 host LOCAL") value "$last"; case $table in *" $last="*) ;; *) table="$table $last=$at" ;; esac ;;
        esac
    done </proc/net/fib_trie
    while read -r name to _ _ _ _ _ mask _; do if [ "$to$mask" = 0000000000000000 ]; then device=$name; fi; done </proc/net/route
    home=
    while read -r name to _ _ _ _ _ mask _; do
        if [ "$name" = "$device" ] && [ "$mask" != 00000000 ]; then
            turned "$mask"; range=$at; turned "$to"
            for item in $table; do if [ $((${item#*=} & range)) = "$at" ]; then home="$home -${item%=*}"; fi; done
        fi
    done </proc/net/route
    owned=' ' theirs=
    if [ -n "$told" ]; then
        while read -r slot range || [ -n "$slot" ]; do
            # a line that is none of ours would end this shell, and with it every server
            case $slot in '' | *[!0-9]* | 0?*) continue ;; esac
            case $range in *[!0-9./]* | *..* | 0[0-9]* | *[./]0[0-9]* | */*/* | */???* | */3[3-9] | */[4-9][0-9]) continue ;; [0-9]*.[0-9]*.[0-9]*.[0-9]*/[0-9]*) ;; *) continue ;; esac
            value "${range%/*}"; bits=$((32 - ${range#*/})) from=$((at >> bits))
            for item in $table; do
                if [ $((${item#*=} >> bits)) = "$from" ]; then owned="$owned${item%=*} " theirs="$theirs $((PORTS + slot)):${item%=*}"; fi
            done
        done <<EOF
$told
EOF
    fi
    free=; for item in $table; do case $owned in *" ${item%=*} "*) ;; *) free="$free -${item%=*}" ;; esac; done
}
places() { # into $where: what the server N listens on, once that was surveyed. A server takes sixteen addresses: the first ones
    where='* -::*'
    if [ -e "$RUN/foreign" ]; then return; fi
    # while nothing whole is known a server of an environment is at home alone, as the own one is
    if [ "$1" = own ] || [ -z "$known" ]; then if [ -n "$home" ]; then where="127.0.0.1$home"; fi; return; fi
    if [ "$owned" = ' ' ]; then return; fi
    some=
    for item in $theirs; do case "$item $some " in "$1":*" -${item#*:} "*) ;; "$1":*) some="$some -${item#*:}" ;; esac; done # twice is once too often
    where= left=16; for item in $some $free; do if [ "$left" -gt 0 ]; then where="$where $item" left=$((left - 1)); fi; done; where=${where# }
}
settle() { # have servers that run listen where they should; what cannot be told now is told again
    whole=yes
    if take; then printf %s "$told" >"$RUN/networks.new" && mv "$RUN/networks.new" "$RUN/networks"
    elif [ ! -e "$RUN/foreign" ]; then whole=; fi
    survey
    for file in "$RUN"/*.pid; do
        n=${file##*/} n=${n%.pid}; alive "$n" || continue
        places "$n"; was=; read -r was 2>/dev/null <"$RUN/$n.where"; [ "$was" != "$where" ] || continue
        if [ "$n" = own ]; then : >"$RUN/own.again"; halt own # it tells its administrator's password to nobody
        elif said=$(PATIENCE=2 ask "$n" CONFIG SET bind "$where" 2>&1) && [ "$said" = OK ]; then echo "$where" >"$RUN/$n.where"
        else whole=; fi
    done
    if [ -n "$whole" ]; then printf %s "$1" >"$RUN/located"; fi
}

launch() { # in a process of its own: become the server N, as the user N, within limits of its own
    n=$1; shift; ulimit -c 0
    take || true; survey; places "$n"; echo "$where" >"$RUN/$n.where"; set -f
    if [ "$n" = own ]; then as "$OWNER" "$@" --bind $where; fi
    echo 500 >/proc/self/oom_score_adj # when the container's memory ends, projects go before process 1 and the own server
    if [ -e "$PROJECTS/$n/made" ] && [ ! -e "$PROJECTS/$n/data/appendonlydir/appendonly.aof.manifest" ]; then
        say "the data of $n is gone; it does not come up empty"; exit 99
    fi
    cd "$PROJECTS/$n/data" || exit 1
    secret=$(head -c 32 /dev/urandom | hash) plain=$n encrypted=0
    (umask 077; printf %s "$secret" >"$RUN/admin/$n")
    if certify "$n"; then
        if [ "${PROJECT_TLS:-}" = only ]; then plain=0 encrypted=$n; else encrypted=$((n + 10000)); fi
        set -- --tls-port "$encrypted" --tls-cert-file "$RUN/$n/server.pem" --tls-key-file "$RUN/$n/server.pem" --tls-auth-clients no
    else
        set --
    fi
    # what maxmemory does not count is bounded here: scripts, fragments, buffers
    if [ -n "${PROJECT_KIB:-}" ]; then ulimit -v "$PROJECT_KIB"; fi
    as "$n" "$KIND-server" "$CONFIG" --include "$PROJECTS/$n/accounts.conf" --port "$plain" --bind $where "$@" \
        --dir "$PROJECTS/$n/data" --unixsocket "$RUN/$n/sock" --unixsocketperm 700 \
        --user purveyor on "#$(printf %s "$secret" | hash)" '~*' '&*' +@all
}

keep() { # run one server again and again while it is wanted, more slowly while it keeps falling
    n=$1 pause=1 starts=0; shift
    halt "$n" # that of a keeper which is no more
    while wanted "$n"; do
        began=$(date +%s) starts=$((starts + 1))
        launch "$n" "$@" & child=$!
        echo "$child" >"$RUN/$n.pid"; echo "$starts" >"$RUN/$n.starts"; say "$n runs as process $child"
        wanted "$n" || kill -TERM "$child" # whoever looked for the number above may have come before it
        wait "$child"; code=$?; : >"$RUN/$n.pid"; echo "$code" >"$RUN/$n.code"; say "$n ended with $code"
        if [ -e "$RUN/$n.again" ]; then rm -f "$RUN/$n.again"; continue; fi
        # the first start of all: an image that cannot serve ends the container, and is told by its last words
        if [ "$n$starts" = own1 ] && [ $(($(date +%s) - began)) -lt 5 ] && wanted own && ! owned; then : >"$RUN/failed"; kill -TERM 1; fi
        if [ $(($(date +%s) - began)) -ge 60 ]; then pause=1; fi
        i=0; while [ "$i" -lt "$pause" ] && wanted "$n"; do sleep 1; i=$((i + 1)); done
        pause=$((pause * 2)); if [ "$pause" -gt 30 ]; then pause=30; fi
    done
    rm -rf "$RUN/$n.pid" "$RUN/$n.keeper"
}

hire() { # a keeper for a server, unless it has one that lives; mkdir is what cannot happen twice
    if [ -e "$RUN/$1.keeper" ] && ! kept "$1"; then say "the keeper of $1 is gone"; rm -rf "$RUN/$1.keeper"; fi
    if mkdir "$RUN/$1.keeper" 2>/dev/null; then keep "$@" & echo "$!" >"$RUN/$1.keeper/pid"; fi
}
sweep() { # process 1 alone does that
    for on in "$PROJECTS"/[0-9]*/on; do
        n=${on%/on}; if [ -e "$on" ]; then hire "${n##*/}"; fi
    done
}

all() { for file in "$RUN"/*.pid; do pid=$(cat "$file"); [ -z "$pid" ] || kill "$1" "$pid" 2>/dev/null; done; }
stop() { : >"$RUN/stopping"; all -TERM; }
halt() { # a server in an endless script hears no SIGTERM
    alive "$1" || return 0
    told=$pid i=0; kill -TERM "$told"
    while alive "$1" && [ "$pid" = "$told" ]; do i=$((i + 1)); if [ "$i" = 100 ]; then kill -KILL "$told"; fi; sleep 0.1; done
}
end() { # the server is not wanted; one whose keeper is no more is stopped all the same
    rm -f "$PROJECTS/$1/on"
    while kept "$1" || alive "$1"; do halt "$1"; sleep 0.05; done
    rm -rf "$RUN/$1.keeper"
}

connect() { # redis-cli as the administrator of the server N, whose password is another after each start of it
    n=$1; shift
    REDISCLI_AUTH=$(cat "$RUN/admin/$n" 2>/dev/null) exec "$@"
}
ask() {
    n=$1; shift
    (connect "$n" timeout "${PATIENCE:-30}" "$KIND-cli" -e -s "$RUN/$n/sock" --user purveyor --no-auth-warning "$@")
}

number() { # of a word of INFO, "" when it is not there
    case $said in *"$1:"*) value=${said#*"$1:"}; echo "${value%%[!0-9]*}" ;; esac
}
state() { # how the server N serves, in a word; one that somebody stopped goes on
    if ! alive "$1"; then echo down; return; fi
    while read -r key value _; do
        if [ "$key$value" = State:T ]; then kill -CONT "$pid"; echo stopped; return; fi
    done <"/proc/$pid/status"
    said=$(PATIENCE=2 ask "$1" INFO memory persistence 2>&1)
    case $said in
    *BUSY*) echo busy ;;
    *NOAUTH* | *WRONGPASS*) echo locked ;;
    *used_memory:*)
        used=$(number used_memory) most=$(number maxmemory)
        case $said in
        *loading:1*) echo loading ;;
        *aof_last_write_status:err*) echo unwritable ;;
        *maxmemory_policy:noeviction*) if [ "${most:-0}" -gt 0 ] && [ $((used * 100)) -ge $((most * 97)) ]; then echo full; else echo serves; fi ;;
        *) echo serves ;;
        esac ;;
    *) echo silent ;;
    esac
}

grant() { # what `add` was given, on the server that runs
    while read -r word user rules; do
        if [ "$word" = user ] && [ "$user" != default ]; then (set -f; ask "$1" ACL SETUSER "$user" reset $rules) </dev/null >&2 || return 1; fi
    done <"$PROJECTS/$1/accounts.conf"
}

case ${1:-} in add | load | purge | restart | ask | stream)
    case ${2:-} in '' | *[!0-9]*) echo "a port number is needed" >&2; exit 2 ;; esac ;;
esac
case ${1:-} in
add)
    dir=$PROJECTS/$2; whose=; read -r whose 2>/dev/null <"$dir/accounts.conf"
    if [ -n "${3:-}" ] && [ "${whose#"# $3 "}" = "$whose" ] && { [ -e "$dir/made" ] || [ -e "$dir/data/appendonlydir" ]; }; then echo "held $whose"; exit 0; fi
    mkdir -p "$dir"
    (umask 077; while read -r line; do if [ "$line" = end ]; then exit 0; fi; printf '%s\n' "$line"; done >"$dir/accounts.new"; exit 1) || exit 2
    chown "0:$2" "$dir/accounts.new"; chmod 640 "$dir/accounts.new"; mv "$dir/accounts.new" "$dir/accounts.conf"
    chmod 711 "$dir"; alive "$2" || prepare "$2"
    : >"$dir/on"; kill -USR1 1
    i=0; until said=$(ask "$2" PING 2>&1); case $said in *PONG* | *LOADING* | *BUSY* | *MISCONF*) true ;; *) false ;; esac; do
        i=$((i + 1)); [ "$i" -lt 150 ] || { echo "the server on port $2 did not start" >&2; exit 1; }; sleep 0.1
    done
    : >"$dir/made"
    case $said in *PONG* | *MISCONF*) grant "$2" || exit 1 ;; esac
    echo "$said" ;;
load)
    end "$2"; dir=$PROJECTS/$2; rm -rf "$dir"; mkdir -p "$dir/data/appendonlydir"; chmod 711 "$dir"
    cat >"$dir/data/appendonlydir/appendonly.aof.1.base.rdb" || exit 1
    echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$dir/data/appendonlydir/appendonly.aof.manifest" ;;
purge) end "$2"; rm -rf "${PROJECTS:?}/$2/data" "${RUN:?}/$2" "$RUN/admin/$2" "$RUN/$2.state"; rm -rf "${PROJECTS:?}/$2" ;; # whose it was goes last
restart) : >"$RUN/$2.again"; halt "$2" ;;
ask) shift; ask "$@" ;;
each)
    shift; i=0 # at a time, so that those that a script holds up hold nobody else up
    for on in "$PROJECTS"/[0-9]*/on; do
        n=${on%/on} n=${n##*/}; [ -e "$on" ] || continue
        PATIENCE=6 ask "$n" "$@" >"$RUN/each.$$.$n" 2>&1 &
        i=$((i + 1)); if [ $((i % 16)) = 0 ]; then wait; fi
    done
    wait
    for said in "$RUN/each.$$."*; do if [ -e "$said" ]; then echo "@${said##*.}"; cat "$said"; rm -f "$said"; fi; done ;;
cli)
    shift; n=; left=$#
    while [ "$left" -gt 0 ]; do # the words are looked at one by one, and put behind again
        word=$1; shift; left=$((left - 1))
        if [ "$word" = -p ] && [ -e "$PROJECTS/${1:-}/on" ] && [ "$left" -gt 0 ]; then n=$1; shift; left=$((left - 1)); else set -- "$@" "$word"; fi
    done
    if [ -z "$n" ]; then exec "$KIND-cli" "$@"; fi
    if [ "${1:-}" = --tls ]; then shift 3; fi # with the file of authorities; not on a socket
    connect "$n" "$KIND-cli" -s "$RUN/$n/sock" --user purveyor --no-auth-warning "$@" ;;
stream) connect "$2" "$KIND-cli" -s "$RUN/$2/sock" --user purveyor --no-auth-warning --rdb - ;;
accounts)
    for dir in "$PROJECTS"/[0-9]*/; do
        n=${dir%/} n=${n##*/}; [ -e "$dir" ] || continue
        echo "@$n"; cat "$dir/accounts.conf" 2>/dev/null
    done ;;
list)
    for on in "$PROJECTS"/[0-9]*/on; do
        n=${on%/on} n=${n##*/}; [ -e "$on" ] || continue; if ! alive "$n"; then pid=-; fi
        starts=0 code=-; read -r starts 2>/dev/null <"$RUN/$n.starts"; read -r code 2>/dev/null <"$RUN/$n.code"
        echo "$n $pid ${starts:-0} ${code:--}"
    done ;;
look)
    set --; for on in "$PROJECTS"/[0-9]*/on; do n=${on%/on}; if [ -e "$on" ]; then set -- "$@" "${n##*/}"; fi; done
    first=0 i=0; read -r first 2>/dev/null <"$RUN/looked"; [ "$first" -lt $# ] || first=0
    for n in "$@"; do
        if [ $(((i - first + $#) % $#)) -lt 64 ]; then
            (state "$n" >"$RUN/$n.state.new"; mv "$RUN/$n.state.new" "$RUN/$n.state") &
            if [ $((i % 8)) = 7 ]; then wait; fi
        fi
        i=$((i + 1))
    done
    wait; echo $((first + 64)) >"$RUN/looked"
    for n in "$@"; do
        word=serves starts=0 code=- account=-
        read -r word 2>/dev/null <"$RUN/$n.state"; if ! alive "$n"; then word=down; fi
        read -r starts 2>/dev/null <"$RUN/$n.starts"; read -r code 2>/dev/null <"$RUN/$n.code"
        read -r _ _ _ account 2>/dev/null <"$PROJECTS/$n/accounts.conf"
        echo "$n ${word:-serves} ${starts:-0} ${code:--} ${account:--}"
    done ;;
renew)
    for on in "$PROJECTS"/[0-9]*/on; do
        n=${on%/on} n=${n##*/}; [ -e "$on" ] || continue
        alive "$n" || continue # it takes the one that is there when it starts
        certify "$n" && ask "$n" CONFIG SET tls-cert-file "$RUN/$n/server.pem" tls-key-file "$RUN/$n/server.pem" || exit 1
    done ;;
*-server)
    rm -rf "${RUN:?}"/*; mkdir -p "$PROJECTS" "$RUN/admin"; chmod 711 "$PROJECTS" "$RUN"; chmod 700 "$RUN/admin"
    find /data -path "$PROJECTS" -prune -o ! -user "$OWNER" -exec chown -h "$OWNER:$OWNER" {} +
    chmod 755 /data # else nobody finds the settings in it
    trap sweep USR1; trap stop TERM INT
    for dir in "$PROJECTS"/[0-9]*/; do n=${dir%/}; if [ -e "$dir" ]; then prepare "${n##*/}"; fi; done
    if [ ! -e "$NETWORKS" ] && [ ! -e "$NETWORKS.sum" ]; then : >"$RUN/foreign"; fi
    hire own "$@"; sweep; turn=0
    until [ -e "$RUN/stopping" ]; do
        if [ ! -e "/proc/${idle:-none}" ]; then
            turn=$((turn + 1)); if [ $((turn % 20)) = 0 ]; then hire own "$@"; sweep; fi # a keeper that was killed is replaced
            now=$(located)
            if [ ! -e "/proc/${settling:-none}" ] && [ "$now" != "$(cat "$RUN/located" 2>/dev/null)" ]; then settle "$now" & settling=$!; fi
            sleep 1 & idle=$!
        fi
        wait "$idle"
    done
    i=0; while ls -d "$RUN"/*.keeper >/dev/null 2>&1; do i=$((i + 1)); if [ "$i" = 200 ]; then all -KILL; fi; sleep 0.1; done
    if [ -e "$RUN/failed" ]; then exit 1; fi
    say "all are at rest" ;;
*) echo "$1 is no command of the launcher" >&2; exit 2 ;;
esac
