#!/bin/sh
# Runs once, when the container makes its database: gives it to the owner role, and makes the login of web and worker. That
# may become the two roles that the application works in, and nothing else. `stonechat migrate` makes the rest.
set -eu
psql --set ON_ERROR_STOP=1 --set database="$POSTGRES_DB" --quiet --no-psqlrc \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
\set password \`cat "$WEB_PASSWORD_FILE"\`
create role stonechat_owner nologin;
alter database :"database" owner to stonechat_owner;
create role stonechat_app nologin;
create role stonechat_platform nologin;
create role stonechat_web login noinherit password :'password';
grant stonechat_app, stonechat_platform to stonechat_web;
SQL
