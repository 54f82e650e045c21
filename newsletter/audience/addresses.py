"""E-mail addresses: what is written to, what is compared, and what is kept when it must be forgotten."""

from __future__ import annotations

import hashlib
import re

import email_validator
from email_validator import EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

# Names that documentation and tests use (RFC 2606) are addresses like any other here: the samples do.
_RESERVED_BUT_USED = {"test", "example", "invalid"}
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = [
    name for name in email_validator.SPECIAL_USE_DOMAIN_NAMES if name not in _RESERVED_BUT_USED
]

# What nearly every address looks like. It takes less than the library does, never more: letters, digits
# and the commonest marks; labels of at most 63 without ``--`` in the third place (Punycode and what
# RFC 5890 reserves); a last letter. tests/test_addresses.py proves that verdict and result are the same.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(
    rf"(?P<local>(?=[^@]{{1,64}}@)[A-Za-z0-9_+'-]+(?:\.[A-Za-z0-9_+'-]+)*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*\.{_LABEL}(?<=[A-Za-z]))"
)
_LONGEST = 254  # RFC 5321 4.5.3.1.3, as the library counts it
_LOOKED_AT = frozenset(name.rpartition(".")[2] for name in email_validator.SPECIAL_USE_DOMAIN_NAMES)
_CASELESS = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)  # RFC 2142: the library writes them in lower case


def normalise(email: str) -> tuple[str, str]:
    """
    Return the address as it is written to, and the key under which it is unique.

    The key folds case and writes the domain in its ASCII form: ``Ann@Bücher.example`` and
    ``ann@xn--bcher-kva.example`` are one reader; ``a+news@`` and ``a@`` are two.

    Raises:
        ValueError: not an address; the message says why without repeating it.
    """
    email = email.strip()
    return plain(email) or by_library(email)


def plain(email: str) -> tuple[str, str] | None:
    """What ``by_library`` returns, twenty times sooner, for addresses of the common kind; None for others."""
    if len(email) > _LONGEST:
        return None
    found = _PLAIN.fullmatch(email)
    if found is None:
        return None
    local, domain = found["local"], found["domain"].lower()
    folded = local.lower()
    if domain.rpartition(".")[2] in _LOOKED_AT or folded in _CASELESS:
        return None
    return f"{local}@{domain}", f"{folded}@{domain}"


def by_library(email: str) -> tuple[str, str]:
    """
    The same, as email-validator says it, whatever the address.

    Raises:
        ValueError: not an address.
    """
    try:
        found = validate_email(email, check_deliverability=False)
    except EmailNotValidError as error:
        reason = str(error).replace(email, "the address")
        raise ValueError(f"not a valid address: {reason}") from None
    return found.normalized, f"{found.local_part.casefold()}@{found.ascii_domain.lower()}"


def address_hash(key: bytes, email_key: str) -> str:
    """The keyed hash that stands for an address on suppression and in events: 32 hex digits."""
    keyed = hashlib.blake2b(email_key.encode(), key=key[:64], digest_size=16, person=b"nl-suppression")
    return keyed.hexdigest()
