#!/bin/bash
# The official MongoDB image's conventions over SecantusDB: MONGO_INITDB_ROOT_USERNAME and _PASSWORD (each also as
# _FILE) make the administrator on an empty /data/db, scripts in /docker-entrypoint-initdb.d run then, and the server
# demands a login from there on. Run as root, it goes on as the user mongodb.
set -Eeuo pipefail

if [[ ${1:-} == -* ]]; then set -- mongod "$@"; fi
[[ ${1:-} == mongod ]] || exec "$@"

if [[ $(id -u) == 0 ]]; then
    find /data/db ! -user mongodb -exec chown mongodb:mongodb {} +
    export HOME=/tmp # for the server looks there for settings
    exec setpriv --reuid=mongodb --regid=mongodb --clear-groups "$0" "$@"
fi

file_env() { # file_env NAME: take NAME from the file that NAME_FILE names
    local name=$1 from="${1}_FILE"
    if [[ -n ${!name:-} && -n ${!from:-} ]]; then
        echo "error: both $name and $from are set" >&2
        exit 1
    fi
    if [[ -n ${!from:-} ]]; then export "$name=$(<"${!from}")"; fi
    unset "$from"
}
file_env MONGO_INITDB_ROOT_USERNAME
file_env MONGO_INITDB_ROOT_PASSWORD

if [[ -n ${MONGO_INITDB_ROOT_USERNAME:-} && -n ${MONGO_INITDB_ROOT_PASSWORD:-} ]]; then
    # a mark that is written last says that the initialisation was brought to its end
    if [[ ! -e /data/db/.initialised ]]; then
        find /data/db -mindepth 1 -delete
        mongod --init
        for file in /docker-entrypoint-initdb.d/*.sh; do [[ -e $file ]] && . "$file"; done
        touch /data/db/.initialised
    fi
    set -- "$@" --auth
fi
unset MONGO_INITDB_ROOT_USERNAME MONGO_INITDB_ROOT_PASSWORD
exec "$@"
