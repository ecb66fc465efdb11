"""An API server of a few paths, for commands that are typed against it."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sovereign_gpu.cli.command import main

PROXY = "/api/v1/namespaces/sovereign-gpu-system/services/https:sovereign-gpu:read/proxy"


@dataclass
class Stand:
    """What is answered where, what was asked, and a terminal."""

    kubeconfig: Path
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """By path, or path?continue=token; what is called is worked out when it is asked for."""
    refusals: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    """What is answered to changes of a path, one after the other; then they are accepted."""
    changed: dict[str, list[tuple[str, dict[str, str], Any]]] = field(default_factory=dict)
    """By path: content type, query and body of the changes that were asked for."""
    accept: Callable[[str, Any], None] = lambda _path, _body: None
    """Carries out a change that is accepted."""
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    """Path, query, headers."""
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> http.server.ThreadingHTTPServer:
        """Serve in a thread."""
        stand = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Heads and bodies go out one by one; with it, each would wait for an acknowledgement.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                stand.asked.append((parts.path, query, dict(self.headers)))
                token = query.get("continue")
                key = f"{parts.path}?continue={token}" if token else parts.path
                self.answer(*stand.answers.get(key, (404, status_of(404, f"no {key}"))))

            def do_PATCH(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stand.lock:
                    changes = stand.changed.setdefault(parts.path, [])
                    changes.append((self.headers["Content-Type"], query, body))
                    refused = stand.refusals.get(parts.path)
                    if not refused and "dryRun" not in query:
                        stand.accept(parts.path, body)
                self.answer(*(refused.pop(0) if refused else (200, {})))

            def answer(self, status: int, content: Any) -> None:
                content = content() if callable(content) else content
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.identify({"token": "secret"})
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def identify(self, user: dict[str, Any], namespace: str = "") -> None:
        """Write the kubeconfig."""
        config = {
            "current-context": "here",
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
            ],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": user}],
        }
        self.kubeconfig.write_text(json.dumps(config))

    def operator(self, path: str, content: Any, status: int = 200) -> None:
        """Let the operator answer."""
        self.answers[PROXY + path] = (status, content)

    def type(self, *words: str) -> tuple[int, str, str]:
        """Type a command; return exit code, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        code = main((*words, "--kubeconfig", str(self.kubeconfig)), out, err)
        return code, out.getvalue(), err.getvalue()


def status_of(code: int, message: str) -> dict[str, Any]:
    """Return the API server's own refusal."""
    return {"kind": "Status", "code": code, "message": message}


def row(name: str, **fields: Any) -> dict[str, Any]:
    """Return a row of the queue."""
    return {
        "position": 1,
        "name": name,
        "namespace": "acme-train",
        "tenant": "acme",
        "pool": "munich",
        "state": "Waiting",
        "gpus": 8,
        "ageSeconds": 75,
        "gpusAhead": 0,
        "reason": "QuotaExhausted",
        "message": "asks for 8 GPUs",
        **fields,
    }


def why(**fields: Any) -> dict[str, Any]:
    """Return the answer about a pod."""
    return {
        "namespace": "acme-train",
        "name": "train",
        "tenant": "acme",
        "state": "Waiting",
        "reason": "QuotaExhausted",
        "message": "asks for 8 GPUs; tenant acme uses 16 of 16 guaranteed in pool munich",
        "admits": "8 more GPUs",
        "passesByItself": True,
        "gpus": 8,
        "priority": 0,
        "ageSeconds": 300,
        "position": 3,
        "podsWaiting": 12,
        "podsAhead": 2,
        "gpusAhead": 4,
        "pool": "",
        "node": "",
        "boundSeconds": None,
        "pools": [],
        **fields,
    }
