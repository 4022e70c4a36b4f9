"""A provider that keeps files for real, over real sockets: what is uploaded can be listed, fetched and deleted.

Contents lie in a folder, so that large ones cost no memory. Each API key is an account with files of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Any

PART = 1 << 16
PATH = re.compile(r"/v1/files(?:/([^/?]+)(/content)?)?(?:\?.*)?")


class FilesProvider:
    """The server, in threads of its own.

    Attributes:
        accounts: API key to organisation and workspace.
        files: what is kept, by id.
        calls: method, path and API key of each call, in order; `headers` are theirs.
        before_answer: what an upload's answer waits for.
        cut_off: a client disconnected in the middle of a body.
        cut_content_after: bytes after which the provider hangs up itself.
        status: what uploads are refused with.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, tuple[str, str]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.folder = Path(tempfile.mkdtemp(prefix="files-provider-", dir="/tmp"))
        self.before_answer = threading.Event()
        self.before_answer.set()
        self.cut_off = threading.Event()
        self.cut_content_after: int | None = None
        self.status: int | None = None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FilesProvider:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.before_answer.set()
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.folder)

    def account(self, secret: str) -> tuple[str, str]:
        """The organisation and workspace of an API key."""
        return self.accounts.get(secret, ("org_" + secret[-4:], "wrkspc_" + secret[-4:]))

    def add(self, secret: str, file_id: str, content: bytes = b"made") -> dict[str, Any]:
        """A file that a model made."""
        (self.folder / file_id).write_bytes(content)
        return self.keep(secret, file_id, "made.txt", "text/plain", len(content), downloadable=True)

    def keep(self, secret: str, file_id: str, name: str, kind: str, size: int, **more: Any) -> dict[str, Any]:
        described = {
            "type": "file",
            "id": file_id,
            "filename": name,
            "mime_type": kind,
            "size_bytes": size,
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "downloadable": True,
        } | more
        self.files[file_id] = {"described": described, "account": self.account(secret)}
        return described


def handler_of(provider: FilesProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.note()
            body = Body(self.rfile, self.headers)
            boundary = self.headers["content-type"].partition("boundary=")[2].strip('"').encode()
            file_id = f"file_{len(provider.files):04d}{len(provider.calls):04d}"
            try:
                about, size = save(body, boundary, provider.folder / file_id)
            except ConnectionError:
                self.close_connection = True
                return provider.cut_off.set()
            if provider.status is not None:
                return self.say(provider.status, {"type": "error", "error": {"type": "api_error", "message": "no"}})
            name = re.search(rb'filename="([^"]*)"', about)
            kind = re.search(rb"(?i)content-type: *([^\r\n]+)", about)
            described = provider.keep(
                self.secret,
                file_id,
                name[1].decode() if name else "unnamed",
                kind[1].decode() if kind else "application/octet-stream",
                size,
            )
            provider.before_answer.wait(20)
            self.say(200, described)

        def do_GET(self) -> None:
            self.note()
            if self.path.startswith("/v1/models"):  # asked whether it takes a key
                provider.calls.pop()
                return self.say(200, {"data": []})
            match = PATH.fullmatch(self.path)
            assert match, self.path
            if match[1] is None:
                data = [file["described"] for file in provider.files.values() if file["account"] == self.account]
                return self.say(200, {"data": data, "has_more": False, "first_id": None, "last_id": None})
            file = provider.files.get(match[1])
            if file is None or file["account"] != self.account:
                return self.missing(match[1])
            if not match[2]:
                return self.say(200, file["described"])
            self.content(match[1], file["described"])

        def do_DELETE(self) -> None:
            self.note()
            match = PATH.fullmatch(self.path)
            assert match, self.path
            file = provider.files.get(match[1])
            if file is None or file["account"] != self.account:
                return self.missing(match[1])
            del provider.files[match[1]]
            self.say(200, {"id": match[1], "type": "file_deleted"})

        def note(self) -> None:
            self.secret = self.headers.get("x-api-key") or ""
            self.account = provider.account(self.secret)
            provider.calls.append((self.command, self.path, self.secret))
            provider.headers.append({name.lower(): value for name, value in self.headers.items()})

        def missing(self, file_id: str) -> None:
            fault = {"type": "not_found_error", "message": f"File not found: {file_id}"}
            self.say(404, {"type": "error", "error": fault})

        def say(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.head(status, "application/json", len(body))
            self.wfile.write(body)

        def head(self, status: int, kind: str, length: int) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(length))
            self.send_header("request-id", "req_files")
            self.send_header("anthropic-organization-id", self.account[0])
            self.send_header("anthropic-workspace-id", self.account[1])
            self.end_headers()

        def content(self, file_id: str, described: dict[str, Any]) -> None:
            self.head(200, described["mime_type"], described["size_bytes"])
            left = provider.cut_content_after
            with (provider.folder / file_id).open("rb") as content:
                while part := content.read(PART):
                    if left is not None:
                        part, left = part[:left], left - len(part)
                    try:
                        self.wfile.write(part)
                    except ConnectionError:
                        self.close_connection = True
                        return provider.cut_off.set()
                    if left is not None and left <= 0:
                        self.close_connection = True
                        return

    return Handler


class Body:
    """A request's body, by length or in chunks."""

    def __init__(self, source: BufferedIOBase, headers: Any) -> None:
        self.source = source
        self.chunked = "chunked" in headers.get("transfer-encoding", "")
        self.left = 0 if self.chunked else int(headers.get("content-length", 0))
        self.over = False

    def read(self) -> bytes:
        """The next bytes, empty at the end."""
        if self.chunked and not self.left and not self.over:
            size = self.source.readline()
            if not size:
                raise ConnectionResetError("the body is cut off")
            self.left = int(size, 16)
            if not self.left:
                self.source.readline()
                self.over = True
        read = self.source.read(min(self.left, PART))
        if self.left and not read:
            raise ConnectionResetError("the body is cut off")
        self.left -= len(read)
        if self.chunked and read and not self.left:
            self.source.readline()
        return read


def save(body: Body, boundary: bytes, path: Path) -> tuple[bytes, int]:
    """Write the content of a multipart body's part `file` to a path; its headers, and its size."""
    read = body.read()
    while b"\r\n\r\n" not in read[read.find(b'name="file"') :] and (more := body.read()):
        read += more
    start = read.index(b"\r\n\r\n", read.index(b'name="file"')) + 4
    about, rest = read[:start], read[start:]
    end = b"\r\n--" + boundary
    size = 0
    with path.open("wb") as content:
        while True:
            if end in rest:
                size += content.write(rest[: rest.index(end)])
                break
            size += content.write(rest[: -len(end)] if len(rest) > len(end) else b"")
            rest = rest[-len(end) :]
            more = body.read()
            assert more, "a multipart body without an end"
            rest += more
    while body.read():
        pass
    return about, size
