"""Flag before variable before default; what is wrong is named with its cure."""

import pytest

from guardian.errors import PolicyError
from guardian.settings import read_settings


def test_defaults_listen_on_this_machine_only() -> None:
    settings = read_settings({"GUARDIAN_POLICY": "p.yaml"})
    assert (settings.listen, settings.ops_listen) == ("127.0.0.1:8402", "127.0.0.1:9402")
    assert (settings.store, settings.log_level) == ("sqlite:///guardian.db", "INFO")


def test_a_flag_goes_before_its_variable() -> None:
    environ = {"GUARDIAN_POLICY": "e.yaml", "GUARDIAN_LISTEN": "0.0.0.0:1", "GUARDIAN_STORE": "memory://"}
    settings = read_settings(environ, policy="f.yaml", listen="[::1]:2", log_level="debug")
    assert (settings.policy.name, settings.listen, settings.store) == ("f.yaml", "[::1]:2", "memory://")
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GUARDIAN_POLICY", "", "--policy: missing"),
        ("GUARDIAN_LISTEN", "8402", "--listen: '8402' is not host:port"),
        ("GUARDIAN_LISTEN", ":8402", "not host:port"),
        ("GUARDIAN_LISTEN", "h:99999", "not host:port"),
        ("GUARDIAN_LISTEN", "h:-1", "not host:port"),
        ("GUARDIAN_LISTEN", "http://h:1", "is a URL; write only host:port, like 127.0.0.1:8402"),
        ("GUARDIAN_LISTEN", "::1:8402", r"write \[::1\]:8402"),
        ("GUARDIAN_OPS_LISTEN", "127.0.0.1:8402", "its own port"),
        ("GUARDIAN_STORE", "guardian.db", "not a store URL"),
        ("GUARDIAN_STORE", "sqlite://guardian.db", "three slashes before its path"),
        ("GUARDIAN_LOG_LEVEL", "loud", "DEBUG, INFO"),
    ],
)
def test_what_is_wrong_is_named_with_its_cure(name: str, value: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        read_settings({"GUARDIAN_POLICY": "p.yaml", name: value})


def test_a_store_url_is_not_printed() -> None:
    with pytest.raises(PolicyError) as caught:
        read_settings({"GUARDIAN_POLICY": "p", "GUARDIAN_STORE": "mysql://u:hunter2@h"})
    assert "hunter2" not in str(caught.value)


def test_two_listeners_may_both_take_any_free_port() -> None:
    read_settings({}, policy="p", listen="127.0.0.1:0", ops_listen="127.0.0.1:0")


def test_a_password_on_the_command_line_is_refused_and_taken_from_the_environment() -> None:
    url = "redis://:hush@cache:6379/0"
    with pytest.raises(PolicyError, match="GUARDIAN_STORE") as raised:
        read_settings({}, policy="f.yaml", store=url)
    assert "hush" not in str(raised.value)
    assert read_settings({"GUARDIAN_STORE": url}, policy="f.yaml").store == url
    named = "redis://guardian@cache:6379/0?password_file=/run/secrets/redis"
    assert read_settings({}, policy="f.yaml", store=named).store == named
