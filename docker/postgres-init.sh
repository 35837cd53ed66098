#!/bin/sh
# Runs once, when the container makes its database: the login of web and worker. It may become the two roles that the
# application works in, and nothing else; `stonechat migrate`, with the owner's login, makes the rest.
set -eu
psql --set ON_ERROR_STOP=1 --quiet --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
\set password \`cat "$WEB_PASSWORD_FILE"\`
create role stonechat_app nologin;
create role stonechat_platform nologin;
create role stonechat_web login noinherit password :'password';
grant stonechat_app, stonechat_platform to stonechat_web;
SQL
