"""The command line: reads the words, asks, prints.

The operator answers for the whole cluster at once and shows each what they may see. When it cannot
be asked, the same is worked out here from what the user may read, and a line on stderr says so.
"""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from sovereign_gpu.cli import arguments, asking, tables
from sovereign_gpu.cli.connection import Connection
from sovereign_gpu.cli.question import Exit, FailedError, NotAskedError, Question
from sovereign_gpu.cli.text import wants_colour
from sovereign_gpu.cluster.credentials import Credentials, load_context
from sovereign_gpu.cluster.errors import ConfigurationError

_SETTLED = frozenset({"Running", "Released", "Ending"})


def main(words: Sequence[str], out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Answer one command; returns the exit code.

    Args:
        words: the command line without the program's name.
        out: where answers go; stdout if omitted.
        err: where everything else goes; stderr if omitted.
    """
    out, err = out or sys.stdout, err or sys.stderr
    options = arguments.parse(words)
    try:
        if options.view in _TASKS:
            return _TASKS[options.view](options, out, err)
        question, credentials = _question(options)
        document = _answer(options, question, credentials, err)
        _print(options, document, lambda: _lines(options, question, document, out), out)
    except FailedError as error:
        err.write(f"error: {error}\n")
        return error.code
    except ConfigurationError as error:
        err.write(f"error: {error}\n")
        return Exit.FAILURE
    except BrokenPipeError:  # somebody pages and has seen enough
        sys.stderr.close()
        return Exit.OK
    return _code(document) if question.view == "why" else Exit.OK


def _question(options: Namespace) -> tuple[Question, Credentials]:
    credentials, usual = load_context(options.kubeconfig, options.context)
    namespace = "" if options.all_namespaces else options.namespace or usual
    pod = getattr(options, "pod", "")
    if "/" in pod:
        namespace, _, pod = pod.removeprefix("pod/").rpartition("/")
        namespace = namespace or options.namespace or usual
    elif options.view == "why" and not namespace:
        raise FailedError("--all-namespaces: why is asked of one pod; name it NAMESPACE/POD")
    by_node = options.view == "nodes" and options.output == "wide"
    return Question(options.view, namespace, pod, by_node), credentials


def _answer(
    options: Namespace, question: Question, credentials: Credentials, err: TextIO
) -> dict[str, Any]:
    try:
        with contextlib.closing(_operator(options, credentials)) as operator:
            return operator.answer(question)
    except NotAskedError as reason:
        err.write(f"operator not asked: {reason}\n")
    return _without_operator(options, question, credentials, err)


def _operator(options: Namespace, credentials: Credentials) -> asking.Operator:
    if not options.server:
        return asking.through_the_api_server(
            credentials, options.operator_namespace, options.request_timeout
        )
    return asking.directly(
        credentials,
        options.server,
        options.certificate_authority,
        options.request_timeout,
        verify=not options.insecure_skip_tls_verify,
    )


def _without_operator(
    options: Namespace, question: Question, credentials: Credentials, err: TextIO
) -> dict[str, Any]:
    # Engine and decoders take a while to load, and most commands do without them.
    from sovereign_gpu.cli import cluster, partial  # noqa: PLC0415

    connection = _connection(options, credentials)
    api = cluster.Cluster(connection)
    with contextlib.closing(connection):
        try:
            document = cluster.answer(api, question)
            err.write("worked out here from the cluster as it is\n")
        except cluster.NotAllowedError as missing:
            err.write(f"showing what you may read yourself: {missing}\n")
            document = partial.answer(api, question)
    return document


def _connection(options: Namespace, credentials: Credentials) -> Connection:
    """Return a connection to the API server, as the user."""
    token = credentials.bearer()
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    timeout = options.request_timeout
    return Connection(credentials.server, credentials.ssl_context(), timeout, headers)


def _uninstall(options: Namespace, out: TextIO, err: TextIO) -> Exit:
    from sovereign_gpu.cli import changing, uninstall  # noqa: PLC0415 – most commands change nothing

    credentials, _ = load_context(options.kubeconfig, options.context)
    server = changing.Server(lambda: _connection(options, credentials), dry_run=options.dry_run)
    with contextlib.closing(server):
        document, code = uninstall.run(options, server, err)
    _print(options, document, lambda: uninstall.lines(document, release=options.release), out)
    return code


def _report(options: Namespace, out: TextIO, _: TextIO) -> Exit:
    from sovereign_gpu.cli import changing, report  # noqa: PLC0415 – as for uninstall

    credentials, usual = load_context(options.kubeconfig, options.context)
    options.namespace = options.namespace or usual
    server = changing.Server(lambda: _connection(options, credentials))
    with contextlib.closing(server):
        document, code = report.run(options, server)
    _print(options, document, lambda: report.lines(document, headers=not options.no_headers), out)
    return code


def _render(options: Namespace, out: TextIO, _: TextIO) -> Exit:
    from sovereign_gpu.cli import rendering  # noqa: PLC0415 – reads the whole catalogue

    return rendering.run(options, out)


_TASKS: dict[str, Callable[[Namespace, TextIO, TextIO], Exit]] = {
    "uninstall": _uninstall,
    "report": _report,
    "render-static": _render,
}
"""Commands that are no question about the books."""


def _lines(
    options: Namespace, question: Question, document: dict[str, Any], out: TextIO
) -> list[str]:
    return tables.lines(
        question.view,
        document,
        wide=options.output == "wide",
        headers=not options.no_headers,
        colours=wants_colour(out),
    )


def _print(
    options: Namespace, document: dict[str, Any], lines: Callable[[], list[str]], out: TextIO
) -> None:
    match options.output:
        case "json":
            json.dump(document, out, indent=2)
            out.write("\n")
        case "yaml":
            import yaml  # noqa: PLC0415 – for this alone

            dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            yaml.dump(document, out, dumper, sort_keys=False, width=1 << 20)
        case _:
            out.write("".join(f"{line}\n" for line in lines()))


def _code(document: dict[str, Any]) -> Exit:
    if document["state"] in _SETTLED and not document["reason"]:
        return Exit.OK
    return Exit.WAITS if document["passesByItself"] else Exit.STUCK
