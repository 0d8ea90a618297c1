"""Which addresses may be listened at, and the certificates that others need."""

import stat
import sys
from pathlib import Path

import pytest
from flow import in_process, refusal

from nas.cluster.address import Address, parse_address, reachable, require_protected
from nas.cluster.keys import make_keys, require_keys
from search_spaces.errors import UsageError
from search_spaces.system import machine


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        (":8786", Address("127.0.0.1", 8786), True),
        ("localhost:1", Address("localhost", 1), True),
        ("[::1]:8786", Address("::1", 8786), True),
        ("127.9.9.9:8786", Address("127.9.9.9", 8786), True),
        ("0.0.0.0:8786", Address("0.0.0.0", 8786), False),
        ("box-1.lan:8786", Address("box-1.lan", 8786), False),
        ("[::]:8786", Address("::", 8786), False),
    ],
)
def test_addresses_are_read_and_those_of_this_machine_alone_are_known(
    text: str, address: Address, is_loopback: bool
) -> None:
    assert parse_address(text) == address
    assert address.is_loopback is is_loopback
    if is_loopback:
        require_protected(address, None)
    else:
        with pytest.raises(UsageError, match="whoever reaches a port of Dask's can run programs as you"):
            require_protected(address, None)


@pytest.mark.parametrize("text", ["", "8786", "host", ":x", "a b:1", ":99999", "tcp://a:1", "host:1:2"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="An address is HOST:PORT"):
        parse_address(text)


def test_an_unspecified_host_is_told_as_this_machine() -> None:
    assert reachable(Address("0.0.0.0", 5)) == Address(machine.host(), 5)
    assert reachable(Address("10.0.0.7", 5)) == Address("10.0.0.7", 5)


def test_keys_are_made_once_and_the_secret_is_the_owners_alone(tmp_path: Path) -> None:
    done = in_process("cluster", "keys", tmp_path / "keys")
    assert done.returncode == 0
    require_keys(tmp_path / "keys")
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "keys" / "key.pem").stat().st_mode) == 0o600
    before = (tmp_path / "keys" / "key.pem").read_bytes()
    assert "has ca.pem already" in refusal(in_process("cluster", "keys", tmp_path / "keys"))
    assert (tmp_path / "keys" / "key.pem").read_bytes() == before


def test_certificates_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no ca.pem"):
        require_keys(tmp_path)
    make_keys(tmp_path / "keys")
    (tmp_path / "keys" / "cert.pem").write_text("nothing")
    with pytest.raises(UsageError, match=r"cert.pem is no certificate"):
        require_keys(tmp_path / "keys")


REFUSED = {
    ("search", "--budget", "1", "--cluster", "0.0.0.0:8786"): "can run programs as you",
    ("search", "--budget", "1", "--cluster", "8786"): "An address is HOST:PORT",
    ("search", "--budget", "1", "--tls", "keys"): "protect a cluster; give --cluster",
    ("search", "--budget", "1", "--cluster", ":0", "--tls", "nowhere"): "has no ca.pem",
    ("search", "--budget", "1", "--cluster", ":0", "--backend", "tpu"): "tpu",
    ("search", "--budget", "1", "--stall", "0"): "--stall takes seconds above zero",
    ("worker", "box:8786"): "can run programs as you",
    ("worker", ":8786", "--workers", "0"): "--workers takes",
    ("worker", ":8786", "--memory", "much"): "A size is a number with a unit",
    ("worker", ":8786", "--wait", "12"): "--wait takes a time",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_a_cluster_cannot_do_is_refused_before_anything_is_read(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert REFUSED[arguments] in refusal(in_process(*arguments))
    assert list(tmp_path.iterdir()) == []
