"""The settings of a deployment: typed, read once from the environment and `.env`, documented in `.env.example`.

A wrong value prevents the start; the message has the variable's name and the expected form.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from cryptography.fernet import Fernet
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from keys import client_address, destinations
from messages_api.process import allowances, collector
from messages_api.process.allowances import Allowance
from messages_api.server import cors

BASE_DIR = Path(__file__).resolve().parent.parent
# Whether this runs from the wheel: its metadata lies beside it, and the folder is no place for data and settings.
INSTALLED = any(BASE_DIR.glob("bursar-*.dist-info"))
NO_FOLDER = Path(os.devnull)

ROLES = ("api", "admin", "worker", "beat")
# In SECOND_FACTOR_ROLES: every person.
ALL = "all"

BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "filesystem", "sentinel", "sqs")

CommaList = Annotated[list[str], NoDecode]


class WrongConfiguration(Exception):
    """Settings have values that can't be used. The message is for people and has a line per setting."""


class Configuration(BaseSettings):
    """Every setting of a deployment, with its default. In the environment, the names are in capitals."""

    # ENV_FILE names another file than the checkout's `.env`. Tests set it so that they read no file.
    model_config = SettingsConfigDict(
        env_file=os.environ.get("ENV_FILE") or (None if INSTALLED else BASE_DIR / ".env"),
        extra="ignore",
        env_ignore_empty=True,
    )

    # Django asks the value of each setting for this. Pydantic would take long to find that there is no such attribute.
    _mask_wrapped: ClassVar[bool] = True

    # Web server
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    web_processes: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    roles: CommaList = list(ROLES)
    drain_notice: float = Field(10, ge=0, le=600)
    stop_grace_seconds: int = Field(120, ge=0)
    allowed_hosts: CommaList = ["localhost", "127.0.0.1", "[::1]"]
    trusted_origins: CommaList = []
    public_url: str = ""
    cors_origins: CommaList = []
    tls_in_front: bool = False
    trusted_proxies: CommaList = []
    pages_at_once: int | None = Field(None, ge=1)
    max_page_bytes: int = Field(2_621_440, ge=65_536)
    session_hours: float = Field(12, gt=0, le=24 * 14)

    # Sign-in to pages
    second_factor_roles: CommaList = []
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = Field("", repr=False)
    oidc_name: str = "single sign-on"
    oidc_scopes: CommaList = ["openid", "profile", "email"]
    oidc_groups_claim: str = "groups"
    oidc_roles: Annotated[dict[str, Any], NoDecode] = {}
    oidc_creates_people: bool = False
    oidc_links_by_email: bool = False
    oidc_trusts_emails: bool = False
    oidc_is_second_factor: bool = False

    # Stores
    var_dir: Path = Field(NO_FOLDER if INSTALLED else BASE_DIR / "var", validate_default=True)
    database_url: str = ""
    celery_broker_url: str = ""
    spool_dir: Path | None = None
    archive_dir: Path | None = None

    # Secrets: kept in files under VAR_DIR/secrets unless set here. Lists start with the newest.
    secret_key: str = ""
    master_keys: CommaList = []
    peppers: CommaList = []

    # Upstream connections
    upstream_client: Literal["lean", "aiohttp"] = "lean"
    outbound_proxy: str = ""
    allowed_private_hosts: CommaList = []
    ca_bundle: Path | None = None
    upstream_connect_seconds: float = Field(10, gt=0)
    upstream_first_byte_seconds: float = Field(3600, gt=0)
    upstream_between_bytes_seconds: float = Field(900, gt=0)
    upstream_total_seconds: float = Field(7200, gt=0)
    retry_attempts: int = Field(3, ge=1, le=10)
    retry_seconds: float = Field(20, ge=0)
    ping_seconds: float = Field(15, gt=0)

    # Policy
    passthrough_customer: str = ""
    passthrough_base_url: str = "https://api.anthropic.com"
    passthrough_prefix: str = "sk-ant-"
    passthrough_failures: int = Field(10, ge=1)
    passthrough_rpm: int = Field(600, ge=1)
    passthrough_parallel: int = Field(50, ge=1)
    unpriced_models: Literal["high-rate", "refuse"] = "high-rate"
    unpriced_input_price: Decimal = Field(Decimal(30), ge=0)
    unpriced_output_price: Decimal = Field(Decimal(150), ge=0)
    allowances: Annotated[dict[str, Allowance], NoDecode] = dict(allowances.read(""))
    read_on_calls: int = Field(32, ge=0)
    read_on_seconds: float = Field(300, gt=0)
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    max_batch_bytes: int = Field(256 * 1024 * 1024, ge=1024)
    max_file_bytes: int = Field(500 * 1024 * 1024, ge=1024)
    body_memory_bytes: int = Field(512 * 1024 * 1024, ge=1024 * 1024)
    body_memory_bytes_per_key: int = Field(128 * 1024 * 1024, ge=1024 * 1024)
    body_grace_seconds: float = Field(60, gt=0)
    body_bytes_per_second: int = Field(16 * 1024, ge=1)
    batch_reader_bytes: int = Field(1024 * 1024 * 1024, ge=256 * 1024 * 1024)
    admission_queue: int = Field(4000, ge=1)
    admission_seconds: float = Field(5, gt=0)
    arbiter_away: Literal["refuse", "pass"] = "refuse"
    lease_seconds: float = Field(15, ge=1)
    retained_seconds: float = Field(3600, ge=0)
    refusal_days: int = Field(14, ge=1)
    expiry_notice_days: Annotated[list[int], NoDecode] = [14, 3, 1]
    free_rpm: int = Field(1200, ge=1)
    free_parallel: int = Field(50, ge=1)
    free_call_days: int = Field(90, ge=1)
    ledger_months: int | None = Field(None, ge=2, le=1200)
    archive_kept_days: int = Field(30, ge=0)

    # E-mail, for alerts and forgotten passwords
    email_host: str = ""
    email_port: int = Field(587, ge=1, le=65535)
    email_security: Literal["starttls", "tls", "none"] = "starttls"
    email_user: str = ""
    email_password: str = Field("", repr=False)
    email_from: str = "gateway@localhost"

    # Monitoring
    metrics_token: str = Field("", repr=False)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    otel_exporter_otlp_endpoint: str = ""
    otel_exporter_otlp_headers: str = Field("", repr=False)
    otel_service_name: str = "bursar"
    otel_traces_sampler_arg: float = Field(1, ge=0, le=1)

    # Development
    debug: bool = False

    @property
    def pages_of_a_process(self) -> int:
        """Pages that a web process works on at once. By default, so few that all processes together leave enough
        database connections for calls."""
        return self.pages_at_once or max(1, min(4, 64 // self.web_processes))

    def permits_plain_http(self, url: str) -> bool:
        """Whether single sign-on may use this URL without TLS: the deployment permits its private host."""
        try:
            return destinations.Destinations(self.allowed_private_hosts).names_private(urlsplit(url).hostname or "")
        except ValueError:
            return False

    @property
    def serves_web(self) -> bool:
        """Whether this machine listens on HOST:PORT."""
        return bool({"api", "admin"} & set(self.roles))

    @property
    def has_page_process(self) -> bool:
        """Whether a process of its own serves the pages of this machine, because web processes serve calls."""
        return {"api", "admin"} <= set(self.roles)

    @field_validator(
        *("roles", "allowed_hosts", "trusted_origins", "cors_origins", "trusted_proxies", "allowed_private_hosts"),
        *("master_keys", "peppers", "expiry_notice_days", "second_factor_roles", "oidc_scopes"),
        mode="before",
    )
    @classmethod
    def split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("roles")
    @classmethod
    def check_roles(cls, value: list[str]) -> list[str]:
        if not value or set(value) - set(ROLES):
            raise ValueError(f"expected some of {', '.join(ROLES)}, separated by commas")
        return value

    @field_validator("expiry_notice_days")
    @classmethod
    def check_expiry_notice_days(cls, value: list[int]) -> list[int]:
        if len(value) > 10 or not all(1 <= days <= 365 for days in value):
            raise ValueError("expected at most 10 numbers of days from 1 to 365, separated by commas")
        return value

    @field_validator("second_factor_roles")
    @classmethod
    def check_second_factor_roles(cls, value: list[str]) -> list[str]:
        if set(value) <= {ALL}:
            return value
        from administration.role_names import Role  # it needs Django's models, and most deployments' values don't

        if set(value) - {ALL, *Role.values}:
            raise ValueError(f"expected {ALL}, or some of {', '.join(Role.values)}, separated by commas")
        return value

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def read_oidc_roles(cls, value: object) -> object:
        """The JSON as it is; administration/group_roles.py says what it means."""
        if not isinstance(value, str):
            return value
        from administration import group_roles

        try:
            found = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(group_roles.SHAPE) from None
        group_roles.read(found)
        return found

    @field_validator("oidc_issuer")
    @classmethod
    def check_oidc_issuer(cls, value: str) -> str:
        parts = split(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("expected the provider's URL, like https://sso.example.com/realms/main")
        return value.rstrip("/")

    @model_validator(mode="after")
    def check_oidc(self) -> Self:
        if self.oidc_issuer and not self.oidc_client_id:
            raise ValueError("OIDC_CLIENT_ID: expected the client's id at the provider that OIDC_ISSUER names")
        if self.oidc_issuer.startswith("http://") and not self.permits_plain_http(self.oidc_issuer):
            raise ValueError("OIDC_ISSUER: expected https://, or a host in ALLOWED_PRIVATE_HOSTS")
        return self

    @field_validator("master_keys")
    @classmethod
    def check_master_keys(cls, value: list[str]) -> list[str]:
        for key in value:
            try:
                Fernet(key)
            except ValueError:
                raise ValueError("expected Fernet keys (32 bytes in URL-safe base64), separated by commas") from None
        return value

    @field_validator("peppers")
    @classmethod
    def check_peppers(cls, value: list[str]) -> list[str]:
        if any(len(pepper) < 32 for pepper in value):
            raise ValueError("expected secrets of 32 or more characters, separated by commas")
        return value

    @field_validator("secret_key")
    @classmethod
    def check_secret_key(cls, value: str) -> str:
        if value and len(value) < 50:
            raise ValueError("expected 50 or more random characters")
        return value

    @field_validator("metrics_token")
    @classmethod
    def check_metrics_token(cls, value: str) -> str:
        if value and (len(value) < 16 or not value.isascii() or not value.isprintable() or " " in value):
            raise ValueError("expected 16 or more printable ASCII characters without spaces")
        return value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def check_otel_exporter_otlp_endpoint(cls, value: str) -> str:
        if value:
            split(value)
            collector.traces_url(value)
        return value

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def check_otel_exporter_otlp_headers(cls, value: str) -> str:
        collector.read_headers(value)
        return value

    @field_validator("database_url")
    @classmethod
    def check_database_url(cls, value: str) -> str:
        parts = split(value)
        if value and (parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/")):
            raise ValueError("expected postgresql://user:password@host:port/name")
        return value

    @field_validator("celery_broker_url")
    @classmethod
    def check_celery_broker_url(cls, value: str) -> str:
        if value and split(value).scheme not in BROKER_SCHEMES:
            raise ValueError(f"expected a URL that starts with one of {', '.join(BROKER_SCHEMES)}")
        return value

    @field_validator("outbound_proxy", "passthrough_base_url")
    @classmethod
    def check_http_url(cls, value: str) -> str:
        parts = split(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("expected a URL like https://host:port")
        return value

    @field_validator("var_dir")
    @classmethod
    def check_var_dir(cls, value: Path) -> Path:
        if value == NO_FOLDER:
            raise ValueError("expected the folder for data: a package that is installed has none of its own")
        return value

    @field_validator("public_url")
    @classmethod
    def check_public_url(cls, value: str) -> str:
        parts = split(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("expected the address of the gateway's pages, like https://gateway.example.com")
        return value.rstrip("/")

    @field_validator("trusted_origins")
    @classmethod
    def check_trusted_origins(cls, value: list[str]) -> list[str]:
        if any(split(origin).scheme not in ("http", "https") or not split(origin).hostname for origin in value):
            raise ValueError("expected origins like https://gateway.example.com, separated by commas")
        return value

    @field_validator("cors_origins")
    @classmethod
    def check_cors_origins(cls, value: list[str]) -> list[str]:
        if value != [cors.ANY] and not all(cors.is_origin(origin) for origin in value):
            raise ValueError(
                "expected origins as browsers send them, like https://app.example.com or http://localhost:5173 (lower"
                " case, without a path, a slash at the end or a default port), separated by commas; or * alone"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def check_trusted_proxies(cls, value: list[str]) -> list[str]:
        try:
            client_address.networks(tuple(value))
        except ValueError:
            raise ValueError("expected addresses and networks like 10.0.0.0/8, separated by commas") from None
        return value

    @field_validator("allowed_private_hosts")
    @classmethod
    def check_allowed_private_hosts(cls, value: list[str]) -> list[str]:
        try:
            destinations.read_allowed(value)
        except ValueError as error:
            raise ValueError(f"{error}, separated by commas") from None
        return value

    @field_validator("email_from")
    @classmethod
    def check_email_from(cls, value: str) -> str:
        name, at, host = value.rpartition("@")
        if not (name and at and host) or not value.isprintable() or " " in value:
            raise ValueError("expected an address like gateway@example.com")
        return value

    @field_validator("allowances", mode="before")
    @classmethod
    def read_allowances(cls, value: object) -> object:
        return dict(allowances.read(value)) if isinstance(value, str) else value

    @field_validator("ca_bundle")
    @classmethod
    def check_ca_bundle(cls, value: Path | None) -> Path | None:
        if value and not value.is_file():
            raise ValueError("expected the path of an existing file of certificates in PEM format")
        return value


def split(url: str) -> SplitResult:
    """Like `urlsplit`, but its error doesn't quote the URL, which may contain a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("expected a URL") from None
    return parts


def explain(error: ValidationError) -> str:
    """One line per wrong setting, with its name and the expected form, but not its value, which may be a secret."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        message = fault["msg"].removeprefix("Value error, ")
        # What is about several settings names the wrong one itself.
        lines.append(f"{str(fault['loc'][0]).upper()}: {message}" if fault["loc"] else message)
    return "\n".join(lines)


@cache
def configuration() -> Configuration:
    """The deployment's configuration.

    Raises:
        WrongConfiguration: a value can't be used, or the file can't be read.
    """
    try:
        return Configuration()
    except ValidationError as error:
        raise WrongConfiguration(explain(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise WrongConfiguration(f"{Configuration.model_config.get('env_file')} can't be read: {reason}") from None
