"""A plain client of the API server for tests and tools.

The product has its own client; what checks the product must not share its bugs. This one is
synchronous, never raises on an HTTP status, and leaves every object as the JSON it is.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters

from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rig.pki import KeyPair

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

NOT_FOUND = 404
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Response:
    """What the API server answered.

    Attributes:
        status: HTTP status.
        body: decoded JSON, or the text when it is none.
        headers: response headers (warnings of admission policies come here).
        request: method and path, for messages.
    """

    status: int
    body: Any
    headers: Any = None
    request: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - that is what 2xx means

    @property
    def message(self) -> str:
        """The message of a refusal, or the empty string."""
        if self.ok:
            return ""
        return str(
            self.body.get("message", self.body) if isinstance(self.body, dict) else self.body
        )

    @property
    def warnings(self) -> list[str]:
        """Texts of the Warning headers (a policy with action Warn answers through them)."""
        raw = self.headers.get("Warning", "") if self.headers else ""
        return [part for part in raw.split('"')[1::2] if part]

    def must(self) -> Any:
        """Return the body.

        Raises:
            RigError: the status is not 2xx.
        """
        if not self.ok:
            raise RigError(f"{self.request}: {self.status} {self.message}")
        return self.body


class Client:
    """One identity at one API server; may be used from several threads.

    Args:
        url: base URL of the API server.
        ca_file: the CA that signed its certificate.
        certificate: client certificate, or None when a token is given.
        token: bearer token, or None.
        timeout: seconds to wait for an answer.
    """

    def __init__(
        self,
        url: str,
        ca_file: Path,
        certificate: KeyPair | None = None,
        token: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._ca_file = ca_file
        self._certificate = certificate
        self._token = token
        self._timeout = timeout
        self._local = threading.local()
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # Proxies and .netrc of the environment have no say about loopback.
            session.trust_env = False
            session.verify = str(self._ca_file)
            if self._certificate is not None:
                session.cert = (str(self._certificate.certificate), str(self._certificate.key))
            if self._token is not None:
                session.headers["Authorization"] = f"Bearer {self._token}"
            self._local.session = session
        return session

    def close(self) -> None:
        """Close the calling thread's connections."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is not None:
            session.close()
            del self._local.session

    # --- requests ---------------------------------------------------------------------------
    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str | None = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Response:
        """Send one request and return the answer, whatever its status.

        Args:
            method: HTTP method.
            path: path below the base URL.
            body: object sent as JSON.
            content_type: of the body; JSON when omitted.
            headers: more request headers.
            **query: query parameters, as the API spells them (`labelSelector=…`).

        Raises:
            RigError: there was no HTTP answer at all.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        data = None
        if body is not None:
            sent["Content-Type"] = content_type or "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        try:
            answer = self._session().request(
                method,
                self.url + path,
                data=data,
                headers=sent,
                params=query,
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            raise RigError(f"{method} {path}: no answer from {self.url}: {error}") from error
        try:
            decoded = answer.json()
        except ValueError:
            decoded = answer.text
        return Response(answer.status_code, decoded, answer.headers, f"{method} {path}")

    def get(self, path: str, **query: Any) -> Response:
        """Read an object or a list."""
        return self.request("GET", path, **query)

    def create(self, path: str, body: Any, **query: Any) -> Response:
        """POST an object to a collection."""
        return self.request("POST", path, body, **query)

    def replace(self, path: str, body: Any, **query: Any) -> Response:
        """PUT an object."""
        return self.request("PUT", path, body, **query)

    def patch(
        self, path: str, body: Any, content_type: str = MERGE_PATCH, **query: Any
    ) -> Response:
        """PATCH an object; a list is sent as JSON patch unless a content type is given."""
        if isinstance(body, list) and content_type == MERGE_PATCH:
            content_type = JSON_PATCH
        return self.request("PATCH", path, body, content_type, **query)

    def delete(self, path: str, **query: Any) -> Response:
        """Delete an object, or a collection."""
        return self.request("DELETE", path, **query)

    def apply(
        self,
        obj: dict[str, Any],
        dry_run: bool = False,  # noqa: FBT001, FBT002 - reads well as a keyword
        field_manager: str = "rig",
        *,
        force: bool = True,
    ) -> Response:
        """Apply an object server-side, at the path that discovery names for its kind."""
        query: dict[str, Any] = {"fieldManager": field_manager, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", self.object_path(obj), obj, APPLY_PATCH, **query)

    def must(
        self,
        method: str | Response,
        path: str = "",
        body: Any = None,
        content_type: str | None = None,
        **query: Any,
    ) -> Any:
        """Send a request that has to succeed (or check a response) and return the body.

        Raises:
            RigError: the status is not 2xx; the message holds the API server's own.
        """
        if isinstance(method, Response):
            return method.must()
        return self.request(method, path, body, content_type, **query).must()

    def items(self, path: str, page: int = 2000, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield all objects of a list, read in chunks."""
        token: str | None = None
        while token != "":
            chunk = {"continue": token} if token else {}
            body = self.get(path, limit=page, **chunk, **query).must()
            yield from body["items"]
            token = body["metadata"].get("continue", "")

    # --- waiting ----------------------------------------------------------------------------
    def wait(
        self, path: str, predicate: Callable[[Any], Any], timeout: float = 30.0, **query: Any
    ) -> Any:
        """Read a path until the predicate holds for its body; return that body.

        Fields that do not exist yet (KeyError, IndexError, TypeError in the predicate) and
        answers other than 2xx mean: not yet.

        Args:
            path: what to read.
            predicate: called with the decoded body.
            timeout: seconds.
            **query: query parameters.

        Raises:
            RigError: it did not hold in time; the message shows what was there last.
        """
        return poll(lambda: self.get(path, **query), predicate, timeout, f"GET {path}")

    def wait_gone(self, path: str, timeout: float = 30.0) -> None:
        """Wait until a path answers 404."""
        wait_for(lambda: self.get(path).status == NOT_FOUND, timeout, f"{path} to be gone")

    # --- discovery --------------------------------------------------------------------------
    def object_path(self, obj: dict[str, Any]) -> str:
        """Return the path of an object from its apiVersion, kind, namespace and name."""
        return f"{self.collection_path(obj)}/{obj['metadata']['name']}"

    def collection_path(self, obj: dict[str, Any]) -> str:
        """Return the path to which an object is POSTed."""
        version, kind = obj["apiVersion"], obj["kind"]
        if (version, kind) not in self._kinds:
            self._discover(version)
        try:
            plural, namespaced = self._kinds[version, kind]
        except KeyError:
            raise RigError(f"the API server does not know {version} {kind}") from None
        base = _group_path(version)
        if not namespaced:
            return f"{base}/{plural}"
        return f"{base}/namespaces/{obj['metadata'].get('namespace', 'default')}/{plural}"

    def _discover(self, version: str) -> None:
        answer = self.get(_group_path(version))
        if answer.status == NOT_FOUND:
            return
        for resource in answer.must()["resources"]:
            if "/" not in resource["name"]:
                self._kinds[version, resource["kind"]] = resource["name"], resource["namespaced"]


def _group_path(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def poll(
    read: Callable[[], Response], predicate: Callable[[Any], Any], timeout: float, what: str
) -> Any:
    """Read until the predicate holds; see Client.wait."""
    last: list[Response] = []

    def holds() -> bool:
        last[:] = [read()]
        try:
            return bool(last[0].ok and predicate(last[0].body))
        except (KeyError, IndexError, TypeError):
            return False

    try:
        wait_for(holds, timeout, what)
    except RigError as error:
        seen = json.dumps(last[0].body)[:1500] if last else "nothing"
        raise RigError(f"{error}; last seen: {last[0].status if last else '-'} {seen}") from None
    return last[0].body


def wait_for(
    condition: Callable[[], Any],
    timeout: float,
    what: str,
    longest_pause: float = LONGEST_PAUSE_SECONDS,
) -> None:
    """Call a condition until it holds, more slowly with time.

    Raises:
        RigError: it did not hold within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RigError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, longest_pause)
