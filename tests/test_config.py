"""Settings: who wins, what is refused, and that no secret shows."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_binance.config import BinanceConfig
from airflow_provider_binance.errors import ConfigError
from airflow_provider_binance.market import Market
from tests.keys import KINDS, key_pair

LOCAL = dict.fromkeys(
    ("spot_rest_url", "um_rest_url", "cm_rest_url", "archive_url", "archive_listing_url"), "http://127.0.0.1:1"
)


def test_keyword_beats_connection_beats_environment_beats_file_beats_default(tmp_path):
    """The order of precedence, one rung at a time."""
    file = tmp_path / "binance.yaml"
    file.write_text("egress_id: file\nsymbols: [BTCUSDT]\n")
    environ = {"BINANCE_EGRESS_ID": "environment"}
    connection = {"egress_id": "connection"}
    assert BinanceConfig.load(environ={}).egress_id is None
    assert BinanceConfig.load(environ={}, config_file=file).egress_id == "file"
    assert BinanceConfig.load(environ=environ, config_file=file).egress_id == "environment"
    assert BinanceConfig.load(environ=environ, connection=connection, config_file=file).egress_id == "connection"
    loaded = BinanceConfig.load(environ=environ, connection=connection, config_file=file, egress_id="keyword")
    assert (loaded.egress_id, loaded.symbols) == ("keyword", ["BTCUSDT"])


@pytest.mark.parametrize("text", ["BTCUSDT,ETHUSDT", '["BTCUSDT", "ETHUSDT"]', " BTCUSDT , ETHUSDT "])
def test_lists_are_json_or_comma_separated(text: str):
    """Both spellings of the environment mean the same."""
    assert BinanceConfig.load(environ={"BINANCE_SYMBOLS": text}).symbols == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.parametrize(
    "given",
    [
        {"testnet": "perhaps"},
        {"rate_limit_requests_per_minute": 0},
        {"markets": "spot,options"},
        {"environment": "staging"},
        {"symbols": "[1"},
    ],
)
def test_bad_values_name_the_field_the_value_and_every_way_to_set_it(given: dict[str, object]):
    """A bad setting is told so that it can be found."""
    [(name, value)] = given.items()
    with pytest.raises(ConfigError) as caught:
        BinanceConfig(**given)
    text = str(caught.value)
    assert name in text
    assert repr(value) in text
    assert f"BINANCE_{name.upper()}" in text
    assert "--config" in text


def test_unknown_settings_are_refused_with_the_accepted_ones():
    """A typo is not swallowed."""
    with pytest.raises(ConfigError, match=r"unknown setting 'api_kye'.*api_key"):
        BinanceConfig(api_kye="x")


def test_unreadable_files_are_refused_by_name(tmp_path):
    """No traceback for a missing or broken YAML file."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    for file in (tmp_path / "none.yaml", broken):
        with pytest.raises(ConfigError, match=file.name):
            BinanceConfig.load(environ={}, config_file=file)


def test_no_secret_shows_in_repr_errors_or_pickled_text():
    """Keys, DSN and proxy passwords are masked."""
    pem = key_pair("ed25519").private
    config = BinanceConfig(
        api_key="KEYKEYKEY", api_secret="SECRETSECRET", store_url="postgresql://u:DSNPASS@h/db",
        proxies="http://u:PROXYPASS@proxy:3128", private_key=pem, private_key_password="PEMPASS",
    )  # fmt: skip
    shown = repr(config) + str(config) + repr([config])
    for secret in ("KEYKEYKEY", "SECRETSECRET", "DSNPASS", "PROXYPASS", pem, pem.splitlines()[1], "PEMPASS"):
        assert secret not in shown
        assert secret in config.secrets()
    with pytest.raises(ConfigError) as caught:
        BinanceConfig(api_secret=["SECRETSECRET"])
    assert "SECRETSECRET" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # our own bytes


def test_the_hosts_tell_the_environment():
    """Binance's own hosts, its test hosts, loopback; a mix must say so."""
    assert BinanceConfig().environment == "production"
    assert BinanceConfig(testnet=True).environment == "testnet"
    assert BinanceConfig(testnet=True).has_archive is False
    assert BinanceConfig(**LOCAL).environment == "simulator"
    assert BinanceConfig(spot_rest_url="https://data-api.binance.vision").environment == "production"
    with pytest.raises(ConfigError, match="BINANCE_ENVIRONMENT"):
        BinanceConfig(spot_rest_url="https://binance.example.org")
    mixed = BinanceConfig(spot_rest_url="https://binance.example.org", environment="production")
    assert mixed.environment == "production"


def test_urls_have_no_trailing_slash_and_default_per_market():
    """A prefix is kept, a slash at its end is not."""
    config = BinanceConfig(um_rest_url="https://fapi.binance.com/prefix/")
    assert config.rest_url(Market.UM) == "https://fapi.binance.com/prefix"
    assert config.rest_url(Market.SPOT) == "https://api.binance.com"
    assert config.archive_url == "https://data.binance.vision"


def test_the_egress_is_named_proxied_or_direct_and_a_simulators_own():
    """The weight budget is kept per address."""
    assert BinanceConfig().egress == "direct"
    assert BinanceConfig(egress_id="nat-1", proxies="http://p:1").egress == "nat-1"
    assert BinanceConfig(proxies="http://u:pw@p:1").egress == "http://u:***@p:1"
    assert BinanceConfig(**LOCAL).egress == "127.0.0.1:1"


# --- Private keys ---------------------------------------------------------------------------------------------------


def key_of(config: BinanceConfig) -> str:
    assert config.private_key is not None
    return config.private_key.get_secret_value()


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_key_is_the_same_however_it_is_given(kind: str, tmp_path):
    """Pasted, with \\n for newlines or blanks instead of them, with Windows' newlines, as a file."""
    pem = key_pair(kind).private
    file = tmp_path / "key.pem"
    file.write_text(f"Bag Attributes: none\n{pem}")
    head, body, end = pem.partition("-----\n")[0], "".join(pem.splitlines()[1:-1]), pem.splitlines()[-1]
    for given in (pem, pem.replace("\n", "\\n"), pem.replace("\n", "\r\n"), f"{head}----- {body} {end}", str(file)):
        assert key_of(BinanceConfig(private_key=given)) == pem
    legacy = key_pair("rsa").legacy
    assert key_of(BinanceConfig(private_key=legacy)) == legacy


def test_what_is_no_private_key_is_refused_without_showing_it(tmp_path):
    """One line: what it is, what is wanted, how to set it."""
    public, ec = key_pair("rsa").public, key_pair("ec").legacy
    file = tmp_path / "key.pem"
    file.write_text("SECRETSECRET")
    bad = {
        "PEMPEM": "no private key",
        public: "is a public key",
        ec: "EC key; Binance takes RSA and Ed25519",
        str(tmp_path / "none.pem"): "cannot be read: No such file",
        str(tmp_path): "cannot be read: Is a directory",
        str(file): "no private key",
    }
    for given, told in bad.items():
        with pytest.raises(ConfigError, match=told) as caught:
            BinanceConfig(private_key=given)
        text = str(caught.value)
        assert "BINANCE_PRIVATE_KEY" in text
        assert "\n" not in text
        for secret in ("PEMPEM", "SECRETSECRET", *public.splitlines()[1:-1], *ec.splitlines()[1:-1]):
            assert secret not in text


# --- Reading again --------------------------------------------------------------------------------------------------


def test_settings_are_read_again_the_way_they_were_read(tmp_path, monkeypatch):
    """The environment and the file as they are now; keywords stay; what was built by hand is what it is."""
    file = tmp_path / "binance.yaml"
    file.write_text("api_key: one\nsymbols: [BTCUSDT]\n")
    config = BinanceConfig.load(config_file=file, egress_id="mine")
    file.write_text("api_key: two\nsymbols: [BTCUSDT]\negress_id: file\n")
    monkeypatch.setenv("BINANCE_API_SECRET", "three")
    again = pickle.loads(pickle.dumps(config)).reread()  # our own bytes
    assert (again.api_key.get_secret_value(), again.api_secret.get_secret_value()) == ("two", "three")
    assert again.egress_id == "mine"
    assert again.reread() == again
    by_hand = BinanceConfig(api_key="hand")
    assert by_hand.reread() is by_hand
    assert by_hand.reread_by(lambda: again) == by_hand
    assert by_hand.reread_by(lambda: again).reread() == again


@pytest.mark.parametrize("key", ["KEYone\nKEYtwo", "KEY one", "KEY\x00", "KEYключ"])
def test_an_api_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError, match="setting api_key: it has blanks") as raised:
        BinanceConfig(api_key=key)
    assert "KEY" not in str(raised.value).replace("BINANCE_API_KEY", "")
    assert BinanceConfig(api_key=" KEYone\n").api_key.get_secret_value() == "KEYone", "around it they do no harm"
