"""Kubeconfigs of people: several files, a context by name, credentials from a command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from sovereign_gpu.cluster.credentials import load_context, load_credentials
from sovereign_gpu.cluster.errors import ConfigurationError

PLUGIN = """#!/bin/sh
printf '%s' "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/told"
printf '%s %s' "$EXTRA" "$*" >> "$(dirname "$0")/told"
cat "$(dirname "$0")/answer"
"""


def write(file: Path, name: str, user: dict[str, Any], **config: Any) -> Path:
    """Write a kubeconfig with one cluster, user and context of a name."""
    server = {"server": f"https://{name}"}
    context = {"cluster": name, "user": name, "namespace": f"{name}-space"}
    content = {
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
        **config,
    }
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_context_is_chosen_by_name_or_is_the_current_one(tmp_path: Path) -> None:
    file = str(write(tmp_path / "a", "first", {"token": "t"}, **{"current-context": "first"}))
    found, namespace = load_context(file, "")
    assert (found.server, found.token, namespace) == ("https://first", "t", "first-space")
    with pytest.raises(ConfigurationError, match=r"contexts\[name=second\]"):
        load_context(file, "second")


def test_several_files_are_one_and_the_first_word_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "token").write_text("from-file\n")
    first = write(tmp_path / "a", "one", {"token": "t"})
    second = write(
        tmp_path / "sub" / "b", "two", {"tokenFile": "token"}, **{"current-context": "two"}
    )
    files = os.pathsep.join(map(str, (tmp_path / "gone", first, second, "")))
    monkeypatch.setenv("KUBECONFIG", files)
    found, namespace = load_context("", "")
    assert (found.server, namespace) == ("https://two", "two-space")
    assert found.bearer() == "from-file"
    assert load_context("", "one")[0].token == "t"  # noqa: S105
    assert load_credentials().server == "https://two"


def test_the_usual_file_is_that_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", "home", {"token": "t"}, **{"current-context": "home"})
    assert load_context("", "")[0].server == "https://home"
    # The operator never takes the file of whoever happens to start it.
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="--kubeconfig"):
        load_credentials()


def test_in_a_pod_the_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found, namespace = load_context("", "")
    assert (found.server, namespace) == ("https://10.0.0.1:443", "default")


class TestPlugin:
    """A command that hands out credentials."""

    @pytest.fixture
    def plugin(self, tmp_path: Path) -> Path:
        file = tmp_path / "plugin"
        file.write_text(PLUGIN)
        file.chmod(0o755)
        return file

    def ask(self, plugin: Path, answer: Any, **spec: Any) -> Any:
        folder = plugin.parent
        (folder / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
        usual = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin"}
        user = {"exec": {**usual, **spec}}
        file = write(folder / "config", "cloud", user, **{"current-context": "cloud"})
        return load_context(str(file), "")[0]

    def test_gives_a_token(self, plugin: Path) -> None:
        found = self.ask(
            plugin,
            {"status": {"token": "fresh"}},
            args=["login", "me"],
            env=[{"name": "EXTRA", "value": "more"}],
            provideClusterInfo=True,
        )
        assert found.bearer() == "fresh"
        told, _, rest = (plugin.parent / "told").read_text().rpartition("}")
        info = json.loads(told + "}")
        assert (info["kind"], rest) == ("ExecCredential", "more login me")
        assert info["spec"]["cluster"]["server"] == "https://cloud"

    def test_gives_a_certificate(self, plugin: Path) -> None:
        status = {"clientCertificateData": "cert", "clientKeyData": "key"}
        found = self.ask(plugin, {"status": status})
        assert (found.client_cert_data, found.client_key_data) == ("cert", "key")
        assert found.bearer() is None
        assert "cluster" not in (plugin.parent / "told").read_text()

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ({"status": {}}, "without credentials"),
            ({"status": None}, "without credentials"),
            ({}, "status"),
            ("words", "Expecting value"),
        ],
    )
    def test_that_answers_something_else_is_named(
        self, plugin: Path, answer: Any, said: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"credential plugin ./plugin: .*" + said):
            self.ask(plugin, answer)

    def test_that_is_not_there_says_how_to_get_it(self, plugin: Path) -> None:
        with pytest.raises(ConfigurationError, match="get it from the cloud"):
            self.ask(plugin, {}, command="./none", installHint="get it from the cloud")

    def test_is_not_run_by_the_operator(self, plugin: Path) -> None:
        self.ask(plugin, {"status": {"token": "t"}})
        (plugin.parent / "told").unlink()
        with pytest.raises(ConfigurationError, match="user says exec"):
            load_credentials(str(plugin.parent / "config"))
        assert not (plugin.parent / "told").exists()
