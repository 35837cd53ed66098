#!/bin/sh
# Makes the files in secrets/ that docker-compose.yml reads. What exists is kept.
#
# The folder is closed to others; the files in it are not, because containers mount them one by one and read them as users
# of their own.
set -eu
cd "${1:-$(dirname "$0")/..}"
mkdir -p secrets
chmod 700 secrets

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep_or_make() {
    if [ ! -s "secrets/$1" ]; then
        (umask 022 && printf '%s\n' "$2" >"secrets/$1.new" && mv "secrets/$1.new" "secrets/$1")
        echo "made secrets/$1"
    fi
}

keep_or_make platform_keys "$(random)"
keep_or_make postgres_password "$(random)"
keep_or_make web_password "$(random)"
keep_or_make qdrant_api_key "$(random)"
keep_or_make redis_password "$(random)"
keep_or_make owner_database_url "postgresql://postgres:$(cat secrets/postgres_password)@postgres:5432/stonechat"
keep_or_make database_url "postgresql://stonechat_web:$(cat secrets/web_password)@postgres:5432/stonechat"
keep_or_make redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
