"""E-mail addresses: what is written to, what is compared, and what is kept when it must be forgotten."""

from __future__ import annotations

import hashlib

import email_validator
from email_validator import EmailNotValidError, validate_email

# Names that documentation and tests use (RFC 2606) are addresses like any other here: the samples do.
_RESERVED_BUT_USED = {"test", "example", "invalid"}
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = [
    name for name in email_validator.SPECIAL_USE_DOMAIN_NAMES if name not in _RESERVED_BUT_USED
]


def normalise(email: str) -> tuple[str, str]:
    """
    Return the address as it is written to, and the key under which it is unique.

    The key folds case and writes the domain in its ASCII form: ``Ann@Bücher.example`` and
    ``ann@xn--bcher-kva.example`` are one reader; ``a+news@`` and ``a@`` are two.

    Raises:
        ValueError: not an address; the message says why without repeating it.
    """
    try:
        found = validate_email(email.strip(), check_deliverability=False)
    except EmailNotValidError as error:
        reason = str(error).replace(email.strip(), "the address")
        raise ValueError(f"not a valid address: {reason}") from None
    return found.normalized, f"{found.local_part.casefold()}@{found.ascii_domain.lower()}"


def address_hash(key: bytes, email_key: str) -> str:
    """The keyed hash that stands for an address on suppression and in events: 32 hex digits."""
    keyed = hashlib.blake2b(email_key.encode(), key=key[:64], digest_size=16, person=b"nl-suppression")
    return keyed.hexdigest()
