"""The gateways beside ours: nginx, Portkey and LiteLLM, each from its registry into a folder of its own.

nginx only checks one key and passes bytes on: it is the limit. Portkey checks no key and keeps no ledger. LiteLLM runs
with its master key and without a database. So all three do less than we do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path

from bench.beside import bodies, cores
from bench.beside.subject import Missing, Program, Subject, Target, await_answers, free_port

KEY = "sk-bench-0001"
PATHS = {"at once": "/v1/messages", "events": "/events/v1/messages", "slow": "/slow/v1/messages"}
PORTKEY = "1.15.2"
# With newer parts, this version of Portkey answers 500 to each stream.
PORTKEY_PARTS = {"@hono/node-server": "1.3.3", "hono": "4.9.7", "@hono/node-ws": "1.2.0"}


def run(command: list[str | Path], folder: Path, what: str) -> str:
    """Run a step of an installation; what it prints.

    Raises:
        Missing: it fails.
    """
    try:
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Missing(f"{what}: {command[0]} can't be run ({error.strerror})") from None
    if answer.returncode:
        last = (answer.stderr.strip() or answer.stdout.strip() or "no reason given").splitlines()[-1]
        raise Missing(f"{what}: {last}")
    return answer.stdout.strip() or answer.stderr.strip()


class Peer:
    """A peer in a folder, with the ports of the fake provider by pace."""

    name: str
    program: Program | None = None

    def __init__(self, work: Path, provider: Mapping[str, int]) -> None:
        self.folder = work / self.name.lower()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.provider = provider
        self.port = 0
        self.versions = self.install()

    def install(self) -> str:
        """Have it in the folder; its name and version.

        Raises:
            Missing: it can't be had.
        """
        raise NotImplementedError

    def launch(self) -> Program:
        raise NotImplementedError

    def target(self, pace: str) -> Target:
        raise NotImplementedError

    def start(self, where: frozenset[int]) -> None:
        self.port = free_port()
        with cores.on(where):
            self.program = self.launch()
        await_answers(self.target("at once"), self.program)

    def stop(self) -> None:
        if self.program:
            self.program.stop()
            self.program = None

    def pids(self) -> set[int]:
        return self.program.pids() if self.program else set()

    @property
    def log(self) -> Path:
        return self.folder / "output.log"


class Nginx(Peer):
    name = "nginx"

    def install(self) -> str:
        program = self.folder / "root" / "usr" / "sbin" / "nginx"
        if not program.exists():
            run(["apt-get", "download", "nginx"], self.folder, "nginx")
            package = next(self.folder.glob("nginx_*.deb"))
            run(["dpkg", "-x", package, self.folder / "root"], self.folder, "nginx")
        self.binary = program
        return run([program, "-v"], self.folder, "nginx").rpartition(": ")[2].replace("/", " ")

    def launch(self) -> Program:
        settings = self.folder / "nginx.conf"
        settings.write_text(self.configuration())
        command: list[str | Path] = [self.binary, "-p", self.folder, "-e", self.folder / "error.log", "-c", settings]
        return Program(command, os.environ, self.log)

    def configuration(self) -> str:
        """One worker, no logs, one known key, and upstream connections that are kept."""
        places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        folders = "".join(f"  {place}_temp_path {self.folder}/temp_{place};\n" for place in places)
        upstreams = "".join(
            f"  upstream u{port} {{ server 127.0.0.1:{port}; keepalive 2048; keepalive_requests 1000000000; }}\n"
            for port in self.provider.values()
        )
        locations = "".join(
            f"    location = {path} {{ proxy_pass http://u{self.provider[pace]}/v1/messages; }}\n"
            for pace, path in PATHS.items()
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        return (
            f"{user}daemon off; worker_processes 1; pid {self.folder}/nginx.pid; worker_rlimit_nofile 16384;\n"
            "events { worker_connections 8192; }\nhttp {\n"
            f"  access_log off; client_body_buffer_size 256k; client_max_body_size 32m; tcp_nodelay on;\n{folders}"
            f"  keepalive_requests 1000000000;\n{upstreams}"
            f'  map $http_authorization $known {{ default 0; "Bearer {KEY}" 1; }}\n'
            f"  server {{\n    listen 127.0.0.1:{self.port} backlog=4096;\n    if ($known = 0) {{ return 401; }}\n"
            '    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;\n'
            f"{locations}  }}\n}}\n"
        )

    def target(self, pace: str) -> Target:
        return Target(self.port, PATHS[pace], {"authorization": f"Bearer {KEY}"})


class Portkey(Peer):
    name = "Portkey"

    def install(self) -> str:
        for needed in ("node", "npm"):
            if not shutil.which(needed):
                raise Missing(f"Portkey: {needed} is missing (Debian: apt-get install nodejs npm)")
        self.main = self.folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
        if not self.main.exists():
            wanted = {"name": "bench", "version": "1.0.0", "private": True, "overrides": PORTKEY_PARTS}
            wanted["dependencies"] = {"@portkey-ai/gateway": PORTKEY}
            (self.folder / "package.json").write_text(json.dumps(wanted))
            run(["npm", "install", "--no-audit", "--no-fund"], self.folder, "Portkey")
        package = json.loads((self.main.parent.parent / "package.json").read_text())
        return f"Portkey {package['version']} on Node {run(['node', '--version'], self.folder, 'Portkey')}"

    def launch(self) -> Program:
        environment = os.environ | {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
        return Program(["node", self.main, "--headless", f"--port={self.port}"], environment, self.log)

    def target(self, pace: str) -> Target:
        headers = {"x-portkey-provider": "anthropic", "x-api-key": "sk-ant-fake"}
        headers["x-portkey-custom-host"] = f"http://127.0.0.1:{self.provider[pace]}/v1"
        return Target(self.port, "/v1/messages", headers)


class LiteLLM(Peer):
    name = "LiteLLM"

    def install(self) -> str:
        self.binary = self.folder / "bin" / "litellm"
        if not self.binary.exists():
            venv.create(self.folder, with_pip=True)
            pip: list[str | Path] = [self.folder / "bin" / "pip", "install", "--quiet"]
            run([*pip, "litellm[proxy]"], self.folder, "LiteLLM")
        code = "import importlib.metadata as m, sys; print(m.version('litellm'), 'on Python', sys.version.split()[0])"
        return "LiteLLM " + run([self.folder / "bin" / "python", "-c", code], self.folder, "LiteLLM")

    def launch(self) -> Program:
        models = [
            {
                "model_name": self.target(pace).model,
                "litellm_params": {
                    "model": f"anthropic/{bodies.MODEL}",
                    "api_base": f"http://127.0.0.1:{port}",
                    "api_key": "sk-ant-fake",
                },
            }
            for pace, port in self.provider.items()
        ]
        settings = {
            "model_list": models,
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"set_verbose": False, "request_timeout": 60, "num_retries": 0},
        }
        # JSON is YAML.
        file = self.folder / "settings.yaml"
        file.write_text(json.dumps(settings))
        environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PYTHONPATH")}
        environment |= {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        listens = ["--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"]
        return Program([self.binary, "--config", file, *listens], environment, self.log)

    def target(self, pace: str) -> Target:
        model = bodies.MODEL if pace == "at once" else f"{bodies.MODEL}-{pace}"
        return Target(self.port, "/v1/messages", {"authorization": f"Bearer {KEY}"}, model)


PEERS: dict[str, type[Peer]] = {"nginx": Nginx, "portkey": Portkey, "litellm": LiteLLM}


def have(names: list[str], work: Path, provider: Mapping[str, int]) -> tuple[list[Subject], list[str]]:
    """The peers that can be had, and for each other one a line that says why it can't."""
    found: list[Subject] = []
    missing = []
    for name in names:
        try:
            found.append(PEERS[name](work, provider))
        except Missing as error:
            missing.append(str(error))
    return found, missing
