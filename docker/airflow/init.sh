#!/usr/bin/env bash
# Run once before Airflow's parts start, and again at every start: makes what is missing, leaves what is there.
set -euo pipefail

: "${AIRFLOW_ADMIN_PASSWORD:?}" "${INGEST_DB_PASSWORD:?}" "${AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE:?}"
umask 077

airflow db migrate

# Only Airflow reads this file: the plain password is what the simple auth manager compares with.
python - "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" <<'PYTHON'
import json, os, sys

path = sys.argv[1]
with open(path + ".new", "w") as file:
    json.dump({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}, file)
os.chmod(path + ".new", 0o660)  # other uids of group 0 run Airflow's parts
os.replace(path + ".new", path)
PYTHON

# Connections that exist stay as they are: people edit them in the UI.
connections=$(mktemp --suffix=.json)
trap 'rm -f "$connections"' EXIT
python - "$connections" <<'PYTHON'
import json, os, sys

binance = {"conn_type": "binance", "description": "Public market data needs no key"}
if os.environ.get("BINANCE_API_KEY"):
    binance |= {"login": os.environ["BINANCE_API_KEY"], "password": os.environ.get("BINANCE_API_SECRET", "")}
ingest = {
    "conn_type": "postgres",
    "description": "Ingest database",
    "host": os.environ.get("INGEST_DB_HOST", "timescaledb"),
    "port": int(os.environ.get("INGEST_DB_PORT", "5432")),
    "schema": "ingest",
    "login": "ingest",
    "password": os.environ["INGEST_DB_PASSWORD"],
}
with open(sys.argv[1], "w") as file:
    json.dump({"binance_default": binance, "ingest_default": ingest}, file)
PYTHON
airflow connections import "$connections"
