#!/bin/bash
# The official image's conventions: `rustfs [options]` or options alone; the folders that RUSTFS_VOLUMES names (by commas,
# spaces, {1...4}) are made and passed as arguments.
set -e
[[ ${1:-} == -* || $# == 0 ]] && set -- rustfs "$@"
[[ $1 == rustfs || $1 == /usr/bin/rustfs ]] || exec "$@"
shift
folders=()
for name in ${RUSTFS_VOLUMES//,/ }; do
    if [[ $name =~ ^(.*)\{([0-9]+)\.\.\.([0-9]+)\}(.*)$ ]]; then
        for number in $(seq "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"); do
            folders+=("${BASH_REMATCH[1]}$number${BASH_REMATCH[4]}")
        done
    else
        folders+=("$name")
    fi
done
mkdir -p "${folders[@]}"
exec /usr/bin/rustfs "$@" "${folders[@]}"
