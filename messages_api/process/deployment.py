"""What the API needs to know of its deployment: a part of `gateway_project.configuration.Configuration`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from messages_api.process.allowances import Allowance


class Deployment(Protocol):
    """The settings that the API reads. `.env.example` describes them."""

    upstream_client: Literal["lean", "aiohttp"]
    outbound_proxy: str
    ca_bundle: Path | None
    upstream_connect_seconds: float
    upstream_first_byte_seconds: float
    upstream_between_bytes_seconds: float
    upstream_total_seconds: float
    retry_attempts: int
    retry_seconds: float
    ping_seconds: float
    passthrough_base_url: str
    passthrough_failures: int
    passthrough_rpm: int
    passthrough_parallel: int
    allowances: dict[str, Allowance]
    read_on_calls: int
    read_on_seconds: float
    max_body_bytes: int
    max_batch_bytes: int
    max_file_bytes: int
    body_memory_bytes: int
    body_memory_bytes_per_key: int
    batch_reader_bytes: int
    admission_queue: int
    admission_seconds: float
    arbiter_away: Literal["refuse", "pass"]
    lease_seconds: float
    retained_seconds: float
    free_rpm: int
    free_parallel: int
    otel_exporter_otlp_endpoint: str
    otel_exporter_otlp_headers: str
    otel_service_name: str
    otel_traces_sampler_arg: float
