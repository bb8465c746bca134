#!/bin/bash
# The conventions of the official MariaDB image: MARIADB_ROOT_PASSWORD (or _FILE), MARIADB_DATABASE, data in /var/lib/mysql.
set -euo pipefail

DATA=/var/lib/mysql
[[ ${1:-} == -* ]] && set -- mariadbd "$@"
if [[ ${1:-} == mariadbd && $(id -u) == 0 ]]; then
    find "$DATA" \! -user mysql -exec chown mysql:mysql {} +
    exec setpriv --reuid=mysql --regid=mysql --init-groups --inh-caps=-all "$BASH_SOURCE" "$@"
fi

if [[ ${1:-} == mariadbd && ! -d $DATA/mysql ]]; then
    password=${MARIADB_ROOT_PASSWORD:-}
    [[ -n ${MARIADB_ROOT_PASSWORD_FILE:-} ]] && password=$(<"$MARIADB_ROOT_PASSWORD_FILE")
    if [[ -z $password ]]; then
        echo "entrypoint: set MARIADB_ROOT_PASSWORD or MARIADB_ROOT_PASSWORD_FILE" >&2
        exit 1
    fi
    mariadb-install-db --user=mysql --datadir="$DATA" --skip-test-db --auth-root-authentication-method=normal >/dev/null
    quoted=${password//\\/\\\\}
    quoted=${quoted//\'/\\\'}
    {
        echo "FLUSH PRIVILEGES;"
        echo "ALTER USER root@localhost IDENTIFIED BY '$quoted';"
        echo "CREATE USER root@'%' IDENTIFIED BY '$quoted';"
        echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
        if [[ -n ${MARIADB_DATABASE:-} ]]; then echo "CREATE DATABASE IF NOT EXISTS \`$MARIADB_DATABASE\`;"; fi
        echo "DELETE FROM mysql.global_priv WHERE User = '';"
    } | mariadbd --bootstrap --datadir="$DATA" 2>/dev/null
fi
unset MARIADB_ROOT_PASSWORD

exec "$@"
