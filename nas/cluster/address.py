"""Addresses of a hub: where it listens, where agents look for it, and when that needs certificates.

Dask's ports execute what they are sent, so one that other machines reach is opened with mutual TLS alone.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import UsageError
from search_spaces.system import machine

LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine reaches it."""
        return is_loopback(self.host)

    def url(self, *, encrypted: bool) -> str:
        """Return it as Dask writes it."""
        return f"{'tls' if encrypted else 'tcp'}://{self}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an address of version 6, which is written in brackets before a port."""
        return ":" in self.host

    @property
    def written_host(self) -> str:
        """The host as it is written before a port."""
        return f"[{self.host}]" if self.is_ipv6 else self.host

    def __str__(self) -> str:
        return f"{self.written_host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine as seen from itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """Read "HOST:PORT", or ":PORT" for this machine alone; raise UsageError for anything else."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not int(match["port"]) < 2**16:
        raise UsageError(
            f'An address is HOST:PORT, or :PORT for this machine alone, such as ":8786"; got "{text[:60]}".'
        )
    return Address(match["host"].strip("[]") or LOOPBACK, int(match["port"]))


def require_protected(address: Address, keys: Path | None) -> None:
    """Raise UsageError where other machines would reach an address that executes what it is sent."""
    if not address.is_loopback and keys is None:
        raise UsageError(
            f"{address} is open to other machines, and whoever reaches a port of Dask's can run programs as you: make "
            "certificates with `isp-nas cluster keys DIR`, copy DIR to every machine and give --tls DIR, or stay on "
            f":{address.port} and reach it through an SSH tunnel (ssh -L {address.port}:localhost:{address.port})."
        )


def reachable(address: Address) -> Address:
    """Return where agents of other machines find a hub that listens at `address`: an unspecified host is this one."""
    try:
        is_any = ipaddress.ip_address(address.host).is_unspecified
    except ValueError:
        is_any = False
    return Address(machine.host(), address.port) if is_any else address
