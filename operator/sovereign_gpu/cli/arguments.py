"""The words of the command line, as far as they have a counterpart the same as kubectl's."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from sovereign_gpu import __version__

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 3600.0
_CODES = """\
exit codes:
  0  answered, or done; for why: the pod runs, or is released and about to
  1  failed; for uninstall: refused, or something was left undone
  2  the command line is wrong
  3  why: the pod waits, and what it waits for comes about by itself
  4  why: the pod waits until somebody acts
  5  why: there is no such pod, or it has finished
"""
_UNINSTALL = """\
Run it with an administrator's rights before `helm uninstall`, and again at any time after that:
each run does what is left to do. It asks nothing, and refuses while an operator runs; scale that
down first, and suspend what would scale it up again.

  pods         --release removes the gate sovereign-gpu.io/quota, no other gate and nothing else;
               kube-scheduler then takes them as room comes free, whatever their tenant's quota.
               --keep leaves them waiting; --release frees them later. Running pods run on.
  namespaces   the operator's labels and annotations go. GPU pods are refused there from then on,
               until helm has removed the admission policies as well; do that soon.
  nodes        the record of the machine goes. A residency label goes when nothing selects it:
               the selectors that pods were given at creation cannot be taken out again. It stays
               everywhere for pods that are not bound yet and for templates (a DaemonSet would lose
               running pods with it), and on a node for pods bound there (its kubelet fails them
               at its next restart otherwise). It stops nobody; run this again when they have ended.
  stays        GpuPools, TenantQuotas, DataResidencyPolicies and their definitions, the pool labels
               and taints of nodes, labels and annotations of pods.

Pods made later need their own toleration of the GPU taint. Whatever cannot be changed is listed,
the rest is done, and the exit code is 1.
"""
_REPORT = """\
Looks at the namespaces in which a policy with enforcement Warn holds. Every pod, claim and Service
there is handed to the API server once more as a dry run, and what the policies say is listed; so is
where running pods stand. Nothing is changed. It takes the right to read and to create them.

exit codes: 0 nothing would be refused, 4 something would, 1 failed
"""
_STATIC = """\
The API server reads the policies from a directory of its machine and lets nobody but the
maintainers change or delete the chart's admission policies, their bindings and the definitions of
the three kinds: not even cluster-admin. Needs Kubernetes 1.37, or 1.36 with a feature gate.
"""
_VIEWS = {
    "why": "why a pod waits, what would admit it, and what is ahead of it",
    "queue": "pods that wait, in the order in which they are served (as squeue)",
    "top": "what each tenant has, borrows, lends and waits for (as sshare)",
    "nodes": "pools and what is free in them (as sinfo); -o wide: node by node",
}


def parse(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Return the options.

    Raises:
        SystemExit: --help, --version (0), or words that make no command (2).
    """
    program = _program()
    parser = argparse.ArgumentParser(
        prog=program,
        description="See who waits for GPUs, why, and what is free; take the product out again.",
        epilog=f"{_CODES}\n`{program} operator --help` is about running the operator.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_common(environment, suppress=False)],
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="view", metavar="COMMAND", required=True)
    for view, text in _VIEWS.items():
        command = commands.add_parser(
            view,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            parents=[_common(environment, suppress=True)],
        )
        if view == "why":
            command.add_argument("pod", metavar="POD", help="name, or NAMESPACE/NAME")
    _report(commands, environment)
    _render(commands)
    uninstall = _uninstall(commands, environment)
    found = parser.parse_args(words)
    if found.view == "uninstall" and (found.namespace or found.server):
        uninstall.error("it is about the whole cluster and asks the API server: no -n, no --server")
    return found


def _report(commands: Any, environment: Mapping[str, str]) -> None:
    text = "what policies with enforcement Warn would refuse of what is there today"
    commands.add_parser(
        "report",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_common(environment, suppress=True)],
    )


def _render(commands: Any) -> None:
    text = "files for the API servers, so that the policies cannot be removed by the API"
    command = commands.add_parser(
        "render-static",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_STATIC,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--out", required=True, metavar="DIR", help="where to write them")
    command.add_argument(
        "--directory",
        default="/etc/kubernetes/sovereign-gpu",
        metavar="PATH",
        help="where the policies will lie on the machines of the API servers",
    )
    command.add_argument(
        "--maintainer",
        action="append",
        default=[],
        metavar="USER",
        help="user name that may change what is guarded, such as that of the GitOps controller; "
        "may be repeated",
    )


def _uninstall(commands: Any, environment: Mapping[str, str]) -> argparse.ArgumentParser:
    text = "free or keep what waits and take the operator's marks off, before helm uninstall"
    command: argparse.ArgumentParser = commands.add_parser(
        "uninstall",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_UNINSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[_common(environment, suppress=True)],
    )
    gates = command.add_mutually_exclusive_group(required=True)
    gates.add_argument("--release", action="store_true", help="let all waiting pods go")
    gates.add_argument("--keep", action="store_true", help="leave waiting pods gated")
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="let the API server judge every change, make none, and list them",
    )
    return command


def _program() -> str:
    # kubectl starts a plugin by its file and shows people two words.
    called = PurePath(sys.argv[0]).name
    return "kubectl sovereign-gpu" if called.startswith("kubectl-") else "sovereign-gpu"


def _common(environment: Mapping[str, str], *, suppress: bool) -> argparse.ArgumentParser:
    """Return flags that may stand before and behind the command; behind they have no default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)

    def default(value: object) -> object:
        return argparse.SUPPRESS if suppress else value

    def text(*flags: str, usual: str = "", help: str) -> None:  # noqa: A002 – argparse's word
        parser.add_argument(*flags, default=default(usual), help=help)

    def switch(*flags: str, help: str) -> None:  # noqa: A002 – argparse's word
        parser.add_argument(*flags, action="store_true", default=default(False), help=help)  # noqa: FBT003

    text("-n", "--namespace", help="namespace; the context's if omitted")
    switch("-A", "--all-namespaces", help="pods of all namespaces, for those who may list them")
    parser.add_argument(
        "-o",
        "--output",
        choices=("table", "wide", "json", "yaml"),
        default=default("table"),
        help="form of the answer",
    )
    switch("--no-headers", help="no line of titles")
    text("--kubeconfig", help="kubeconfig file")
    text("--context", help="context of the kubeconfig")
    parser.add_argument(
        "--request-timeout",
        type=_seconds,
        default=default(10.0),
        help="most time for one answer: 5, 500ms, 30s, 1m",
    )
    text(
        "--operator-namespace",
        usual=environment.get("SOVEREIGN_GPU_OPERATOR_NAMESPACE", "sovereign-gpu-system"),
        help="where the operator is installed (SOVEREIGN_GPU_OPERATOR_NAMESPACE)",
    )
    text("--server", help="address of the operator's read API instead, https://HOST:PORT")
    text("--certificate-authority", help="with --server: file with its authority")
    switch("--insecure-skip-tls-verify", help="with --server: believe any certificate")
    return parser


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text)
    value = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < value <= _LONGEST:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed 1ms to 1h")
    return value
