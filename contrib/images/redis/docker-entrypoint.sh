#!/bin/sh
# The conventions of the official Redis and Valkey images: options or a configuration file alone go to the
# server, /data belongs to its user, the server does not run as root.
set -eu

if command -v valkey-server >/dev/null; then server=valkey-server; else server=redis-server; fi

case ${1:-} in
    -* | *.conf) set -- "$server" "$@" ;;
esac

case ${1:-} in
    redis-server | valkey-server)
        shift
        set -- "$server" "$@"
        if [ "$(id -u)" = 0 ]; then
            find . \! -user redis -exec chown redis:redis {} +
            exec setpriv --reuid=redis --regid=redis --init-groups --inh-caps=-all "$0" "$@"
        fi
        umask 0077
        ;;
esac

exec "$@"
