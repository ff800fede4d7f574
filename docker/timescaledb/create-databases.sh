#!/usr/bin/env bash
# Run by the database's image when its volume is empty: two databases, each with a role of its own that alone may enter.
set -euo pipefail

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv ingest_password INGEST_DB_PASSWORD
CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE ingest LOGIN PASSWORD :'ingest_password';
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE ingest OWNER ingest;
REVOKE CONNECT ON DATABASE airflow, ingest FROM PUBLIC;
\connect ingest
-- The extension must be made by the superuser; a server without it serves plain tables.
SELECT 'CREATE EXTENSION IF NOT EXISTS timescaledb' FROM pg_available_extensions WHERE name = 'timescaledb' \gexec
SQL
