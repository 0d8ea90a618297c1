"""Certificates by which a hub and its agents know each other: one authority, one certificate for all machines.

    DIR/ca.pem     the authority, whose own key is thrown away: nobody can add a certificate later
        cert.pem   what every machine shows
        key.pem    its key, for the owner's eyes alone: who has it can run programs on every machine

Both sides of every connection show the certificate, and take no other.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import UsageError
from search_spaces.system.file_errors import sentence

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
VALID_DAYS = 825
_CLOCKS_DIFFER = timedelta(days=1)


def make_keys(folder: Path) -> datetime:
    """Write certificates into a folder and return until when they hold; raise UsageError where some are there."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError:
        raise missing_extra() from None
    present = [name for name in (AUTHORITY, CERTIFICATE, KEY) if (folder / name).exists()]
    if present:
        raise UsageError(f"{folder} has {present[0]} already; name an empty folder, or remove the old certificates.")
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("isp-nas cluster authority", authority_key, authority_key, None)
    certificate = _certificate("isp-nas cluster", key, authority_key, authority)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / KEY, secret, mode=0o600)
        for name, made in ((CERTIFICATE, certificate), (AUTHORITY, authority)):
            _write(folder / name, made.public_bytes(serialization.Encoding.PEM), mode=0o644)
    except OSError as error:
        raise UsageError(sentence(error, path=folder, action="write to")) from None
    return certificate.not_valid_after_utc


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that only its owner can read from its first byte on; one that is there is left alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _certificate(
    name: str,
    key: "ec.EllipticCurvePrivateKey",
    signed_with: "ec.EllipticCurvePrivateKey",
    issuer: "x509.Certificate | None",
) -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_with.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(is_authority=issuer is None), critical=True)
    )
    return certificate.sign(signed_with, hashes.SHA256())


def _usage(*, is_authority: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def require_keys(folder: Path) -> None:
    """Raise UsageError where a folder lacks certificates, or they hold no longer."""
    missing = [name for name in (AUTHORITY, CERTIFICATE, KEY) if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder} has no {missing[0]}; make certificates with `isp-nas cluster keys {folder}`, once, and copy the "
            "folder to every machine."
        )
    try:
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except ModuleNotFoundError:
        raise missing_extra() from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / CERTIFICATE} is no certificate ({error}); copy the folder again.") from None
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise UsageError(
            f"The certificates in {folder} ended on {certificate.not_valid_after_utc:%Y-%m-%d}; make new ones in "
            "another folder with `isp-nas cluster keys DIR`."
        )


def missing_extra() -> UsageError:
    """Return the error of an installation without what a cluster needs."""
    return UsageError(
        "A cluster needs more packages than a search of one machine; give pip install -c constraints.txt "
        '".[cluster]" in the checkout.'
    )
