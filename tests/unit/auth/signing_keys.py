"""Keys to sign with, and what the DNS says of them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kumo_py.auth.canonical import Fields, relaxed_field
from kumo_py.auth.dkim_keys import KeyRecords, PrivateKey
from kumo_py.auth.dkim_sign import Signer

NAME = "s1._domainkey.example.com"
NOW = 1_700_000_000


@cache
def rsa_key(bits: int = 1024) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


@cache
def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(key: RSAPrivateKey | Ed25519PrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def rsa_record(key: RSAPrivateKey | None = None, tags: str = "v=DKIM1;") -> str:
    public = (key or rsa_key()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"{tags} p={base64.b64encode(der).decode()}"


def ed25519_record() -> str:
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(ed25519_key().public_key().public_bytes_raw()).decode()}"


def signer(
    *headers: str,
    key: RSAPrivateKey | Ed25519PrivateKey | None = None,
    relaxed_header: bool = True,
    relaxed_body: bool = True,
    expiration: int | None = None,
    over_sign: bool = False,
) -> Signer:
    """One of example.com, selector s1."""
    return Signer(
        PrivateKey(key or rsa_key()),
        domain="example.com",
        selector="s1",
        headers=headers or ("From", "To", "Subject"),
        relaxed_header=relaxed_header,
        relaxed_body=relaxed_body,
        expiration=expiration,
        over_sign=over_sign,
    )


def records(*texts: str) -> dict[str, KeyRecords]:
    """What the DNS says of s1: the RSA key unless told otherwise."""
    return {NAME: KeyRecords(texts or (rsa_record(),))}


def hand_signed(tags: str, data: bytes, key: RSAPrivateKey | Ed25519PrivateKey | None = None) -> bytes:
    """The message with a DKIM-Signature of these tags on top; `@bh` is the relaxed body's hash, h= is From."""
    fields = Fields(data)
    body_hash = base64.b64encode(fields.body_hash(relaxed=True)[0]).decode()
    head = f"DKIM-Signature: {tags.replace('@bh', body_hash)}; b=".encode()
    hashed = [fields.canonical(field, relaxed=True) for field in fields.chosen((b"from",))]
    hashed.append(relaxed_field(b"DKIM-Signature", head.partition(b":")[2])[:-2])
    signature = PrivateKey(key or rsa_key()).sign(hashlib.sha256(b"".join(hashed)).digest())
    return head + base64.b64encode(signature) + b"\r\n" + data
