"""The environment, read once at a door into one frozen value and passed down."""

from __future__ import annotations

import getpass
import os
import secrets
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from newsletter.errors import SettingsError
from newsletter.faults import in_words, where


class Settings(BaseSettings):
    """What DESIGN calls the environment; names in upper case are the variables."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True
    )

    database_url: str = Field("sqlite:///subscribers.db", alias="DATABASE_URL")
    provider: Literal["maildir", "sendgrid", "smtp"] = Field("maildir", alias="NEWSLETTER_PROVIDER")
    sendgrid_api_key: SecretStr = Field(SecretStr(""), alias="SENDGRID_API_KEY")
    sendgrid_host: str = Field("https://api.sendgrid.com", alias="SENDGRID_HOST")
    sendgrid_webhook_public_key: str = Field("", alias="SENDGRID_WEBHOOK_PUBLIC_KEY")
    sendgrid_sandbox: bool = Field(False, alias="SENDGRID_SANDBOX")
    smtp_url: SecretStr = Field(SecretStr(""), alias="NEWSLETTER_SMTP_URL")
    smtp_return_path: str = Field("", alias="NEWSLETTER_SMTP_RETURN_PATH")
    bounces: str = Field("", alias="NEWSLETTER_BOUNCES")
    alarm_smtp_url: SecretStr = Field(SecretStr(""), alias="NEWSLETTER_ALARM_SMTP_URL")
    base_url: str = Field("http://127.0.0.1:8000", alias="NEWSLETTER_BASE_URL")
    secret_key: SecretStr = Field(SecretStr(""), alias="NEWSLETTER_SECRET_KEY")
    suppression_key: SecretStr = Field(SecretStr(""), alias="NEWSLETTER_SUPPRESSION_KEY")
    templates: Path = Field(Path("templates"), alias="NEWSLETTER_TEMPLATES")
    outbox: Path = Field(Path("outbox"), alias="NEWSLETTER_OUTBOX")
    system_outbox: Path = Field(Path("outbox-system"), alias="NEWSLETTER_SYSTEM_OUTBOX")
    in_flight: int = Field(4, alias="NEWSLETTER_IN_FLIGHT", ge=1, le=64)
    cancel_limit: int = Field(10, alias="NEWSLETTER_CANCEL_LIMIT", ge=1, le=100)
    actor: str = Field("", alias="NEWSLETTER_ACTOR")
    metrics_port: int = Field(0, alias="NEWSLETTER_METRICS_PORT", ge=0, le=65535)
    trusted_proxies: str = Field("", alias="NEWSLETTER_TRUSTED_PROXIES")
    allow_private_sources: bool = Field(False, alias="NEWSLETTER_ALLOW_PRIVATE_SOURCES")

    @field_validator("database_url")
    @classmethod
    def _database_lasts(cls, value: str) -> str:
        """What was sent to whom must outlive the command."""
        kind, _, name = value.partition(":///")
        if not value.strip() or (kind.startswith("sqlite") and name.partition("?")[0] in ("", ":memory:")):
            raise ValueError(
                "names no file, and what went out would be forgotten; write sqlite:///subscribers.db"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _base_url_is_safe(cls, value: str) -> str:
        """Links carry tokens: a public host must be https; loopback may be plain for trying out."""
        try:
            parts, _ = urlsplit(value), urlsplit(value).port
        except ValueError:
            raise ValueError("must be an absolute http(s) URL, with a port up to 65535 if any") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an absolute http(s) URL")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("a public host must be https, because the links carry tokens")
        return value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: str) -> str:
        """Whose ``X-Forwarded-For`` is believed: addresses or networks, comma-separated."""
        for part in filter(None, (part.strip() for part in value.split(","))):
            try:
                ip_network(part, strict=False)
            except ValueError:
                raise ValueError(
                    "must be addresses or networks such as 10.0.0.0/8, comma-separated"
                ) from None
        return value

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of *trusted_proxies*."""
        parts = filter(None, (part.strip() for part in self.trusted_proxies.split(",")))
        return tuple(ip_network(part, strict=False) for part in parts)

    @property
    def path_prefix(self) -> str:
        """The path under which the pages stand at *base_url*, without a final slash; mostly empty."""
        return urlsplit(self.base_url).path.rstrip("/")

    @property
    def is_public(self) -> bool:
        """Whether readers reach the pages by https."""
        return self.base_url.startswith("https://")

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a local SQLite file."""
        return self.database_url.startswith("sqlite")

    @property
    def who(self) -> str:
        """The name under which orders are recorded."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user without a name
            return f"uid {os.getuid()}"


def is_loopback(host: str) -> bool:
    """Whether *host* names this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def standing_at(settings: Settings, *, host: str, port: int) -> Settings:
    """*settings* with links to where the pages are served, unless NEWSLETTER_BASE_URL says where they stand."""
    if "base_url" in settings.model_fields_set:
        return settings
    name = host if is_loopback(host) else "127.0.0.1"
    return settings.model_copy(update={"base_url": f"http://{f'[{name}]' if ':' in name else name}:{port}"})


def load_settings() -> Settings:
    """
    Read the environment and ``.env``.

    Raises:
        SettingsError: names the variable and what is wrong with it; never its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{where(fault['loc'])} {in_words(fault)}" for fault in error.errors()]
        raise SettingsError(
            "The environment cannot be used. Mend it in .env or the shell: " + "; ".join(lines)
        ) from None
    except UnicodeDecodeError:
        raise SettingsError("The file .env is not UTF-8; save it as plain UTF-8 text.") from None
    except OSError as error:
        raise SettingsError(
            f"The file .env cannot be read ({error.strerror}); mend its permissions."
        ) from None


def unknown_names() -> dict[str, str]:
    """The variables of the environment and ``.env`` that look like ours and are none: each with what may be meant."""
    ours = [str(field.alias) for field in Settings.model_fields.values()]
    given = {*os.environ, *dotenv_values(".env", interpolate=False)}
    strange = sorted(
        name
        for name in given
        if name.upper().startswith(("NEWSLETTER_", "SENDGRID_")) and name.upper() not in ours
    )
    return {name: next(iter(get_close_matches(name.upper(), ours, 1)), "") for name in strange}


class Keys:
    """
    The keys that sign links (newest first; old ones go on verifying) and that hash addresses.

    The suppression key is never rotated: hashes of erased addresses cannot be made again.
    """

    __slots__ = ("signing", "suppression")

    def __init__(self, *, signing: tuple[bytes, ...], suppression: bytes) -> None:
        self.signing = signing
        self.suppression = suppression


def load_keys(settings: Settings) -> Keys:
    """
    Return the keys; on SQLite with maildir make them once, into a git-ignored 0600 file.

    Raises:
        SettingsError: a key is absent or too short where it must be given.
    """
    signing = tuple(
        part.strip().encode() for part in settings.secret_key.get_secret_value().split(",") if part.strip()
    )
    suppression = settings.suppression_key.get_secret_value().strip().encode()
    if signing and suppression:
        if any(len(key) < 16 for key in (*signing, suppression)):
            raise SettingsError(
                "NEWSLETTER_SECRET_KEY and NEWSLETTER_SUPPRESSION_KEY must be at least 16 characters; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        return Keys(signing=signing, suppression=suppression)
    if not settings.is_sqlite or settings.provider != "maildir":
        missing = [
            name
            for name, value in (
                ("NEWSLETTER_SECRET_KEY", signing),
                ("NEWSLETTER_SUPPRESSION_KEY", suppression),
            )
            if not value
        ]
        raise SettingsError(
            f"{' and '.join(missing)} must be set for PostgreSQL or a provider that sends, the same on every machine; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    made = _keys_file(keys_path(settings))
    return Keys(signing=signing or (made[0],), suppression=suppression or made[1])


def keys_path(settings: Settings) -> Path:
    """The key file lies beside the SQLite file, so that a copied folder stays whole."""
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    return database.with_name(f"{database.stem}.keys")


def _keys_file(path: Path) -> tuple[bytes, bytes]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingsError(
            f"The key file {path} cannot be made ({error.strerror}); make its folder writable or set the keys."
        ) from error
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n{secrets.token_urlsafe(32)}\n")
    lines = path.read_text(encoding="ascii").split()
    if len(lines) != 2:
        raise SettingsError(
            f"The key file {path} is damaged: it must hold two lines. Restore it from a backup; "
            "without it old links stop working and erased addresses can come back."
        )
    return lines[0].encode(), lines[1].encode()
