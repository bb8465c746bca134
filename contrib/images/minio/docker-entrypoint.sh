#!/bin/bash
# The official image's conventions: arguments are minio's own.
set -e
[[ ${1:-} == minio ]] || set -- minio "$@"
exec "$@"
