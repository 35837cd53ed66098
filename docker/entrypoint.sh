#!/bin/sh
# Runs a command with secrets from files: NAME_FILE=/run/secrets/name becomes NAME=<what the file holds>.
set -eu
for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*\)_FILE=.*/\1/p'); do
    eval "path=\${${name}_FILE} already=\${${name}:-}"
    if [ -n "$already" ]; then
        echo "Both $name and ${name}_FILE are set; set one." >&2
        exit 1
    fi
    if [ ! -r "$path" ]; then
        echo "${name}_FILE names $path, which cannot be read." >&2
        exit 1
    fi
    value="$(cat "$path")"
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"
