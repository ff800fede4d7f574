from __future__ import annotations

import importlib
import json
from importlib.metadata import distribution
from pathlib import Path

import airflow
import jsonschema
import pytest
from packaging.utils import canonicalize_name

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.provider_info import get_provider_info

INFO = get_provider_info()
SCHEMAS = Path(airflow.__file__).parent


def test_fits_the_schema_that_airflow_reads() -> None:
    schema = json.loads((SCHEMAS / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_fits_the_strict_schema_of_the_community() -> None:
    schema = json.loads((SCHEMAS / "provider.yaml.schema.json").read_text())
    jsonschema.validate({**INFO, "state": "ready", "source-date-epoch": 0, "versions": ["0.1.0"]}, schema)


def test_package_name_is_the_canonical_name_of_the_distribution() -> None:
    assert INFO["package-name"] == canonicalize_name(distribution("airflow-provider-binance").metadata["Name"])


def test_every_dotted_path_imports() -> None:
    for kind in ("hooks", "operators"):
        for entry in INFO[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)
    for entry in INFO["connection-types"]:
        module, _, name = entry["hook-class-name"].rpartition(".")
        hook = getattr(importlib.import_module(module), name)
        assert (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"])
        assert hook.conn_name_attr == "binance_conn_id"
        assert hook.default_conn_name == "binance_default"


def test_form_has_every_setting_but_those_with_a_place_of_their_own() -> None:
    [form] = INFO["connection-types"]
    elsewhere = {"api_key", "api_secret", "store_url", "store_schema", "stream"}  # the sidecar's is in its file
    assert set(form["conn-fields"]) == set(BinanceConfig.model_fields) - elsewhere


def test_secret_fields_have_names_that_airflow_masks() -> None:
    from airflow.sdk._shared.secrets_masker import DEFAULT_SENSITIVE_FIELDS

    for name in ("private_key", "private_key_password"):
        assert any(word in name for word in DEFAULT_SENSITIVE_FIELDS)


def test_airflow_offers_the_form() -> None:
    """What the UI asks for has our labels and fields."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    [meta] = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "binance"]
    assert meta.hook_name == "Binance"
    assert meta.standard_fields is not None
    assert meta.standard_fields.host is not None
    assert meta.standard_fields.host.hidden
    assert meta.extra_fields is not None
    assert "spot_rest_url" in meta.extra_fields


@pytest.mark.parametrize("module", ["hooks", "operators"])
def test_importing_uses_nothing_deprecated(module: str) -> None:
    """Each module imports with Airflow's deprecation warnings as errors, which the suite's settings make them."""
    importlib.reload(importlib.import_module(f"airflow_provider_binance.{module}.binance"))
