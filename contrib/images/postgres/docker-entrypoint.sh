#!/bin/bash
# The conventions of the official PostgreSQL image: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and
# POSTGRES_INITDB_ARGS (each also as NAME_FILE), PGDATA, /docker-entrypoint-initdb.d, arguments handed on.
set -Eeuo pipefail
shopt -s nullglob

from_file() { # from_file NAME DEFAULT: NAME, or the content of the file that NAME_FILE names
    local name=$1 file=${1}_FILE
    if [[ -n ${!name:-} && -n ${!file:-} ]]; then
        echo "entrypoint: set $name or $file, not both" >&2
        exit 1
    fi
    if [[ -n ${!file:-} ]]; then
        printf -v "$name" '%s' "$(<"${!file}")"
    else
        printf -v "$name" '%s' "${!name:-$2}"
    fi
    export "${name?}"
    unset "$file"
}

initialise() {
    from_file POSTGRES_USER postgres
    from_file POSTGRES_PASSWORD ''
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_INITDB_ARGS ''
    if [[ -z $POSTGRES_PASSWORD && ${POSTGRES_HOST_AUTH_METHOD:-} != trust ]]; then
        echo "entrypoint: no superuser password: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" >&2
        exit 1
    fi
    local arguments=()
    eval "arguments=($POSTGRES_INITDB_ARGS)"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"

    local options="-c listen_addresses=''"
    [[ $# -gt 1 ]] && options+=$(printf ' %q' "${@:2}")
    pg_ctl --pgdata="$PGDATA" --wait --options="$options" start
    local run=(psql --no-password --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER")
    if [[ $POSTGRES_DB != postgres ]]; then
        "${run[@]}" --dbname=postgres --set=name="$POSTGRES_DB" <<<'CREATE DATABASE :"name"'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) "${run[@]}" --dbname="$POSTGRES_DB" --file="$file" ;;
            *.sql.gz) gunzip --stdout "$file" | "${run[@]}" --dbname="$POSTGRES_DB" ;;
        esac
    done
    pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
    unset POSTGRES_PASSWORD
}

if [[ ${1:-} == -* ]]; then
    set -- postgres "$@"
fi

if [[ ${1:-} == postgres ]]; then
    if [[ $(id -u) == 0 ]]; then
        mkdir -p "$PGDATA"
        find "$PGDATA" \! -user postgres -exec chown postgres:postgres {} +
        chown postgres:postgres /run/postgresql "$(dirname "$PGDATA")"
        chmod 0700 "$PGDATA"
        exec setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all "$BASH_SOURCE" "$@"
    fi
    [[ -s $PGDATA/PG_VERSION ]] || initialise "$@"
    unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
fi

exec "$@"
