"""The command `kserve-doctor`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from kserve_core.doctor.findings import Finding, Report
from kserve_core.doctor.render import Painter
from kserve_core.endpoint import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from kserve_core.errors import ConfigurationError

_REFUSED = ("--token", "--api-key", "--bearer", "--bearer-token", "--password", "--key")
_NO_TOKEN = (
    "a token on the command line can be read in the list of processes and in the shell's history; "
    f"give --token-file FILE, or set {TOKEN_FILE_VARIABLE} or {TOKEN_VARIABLE}"
)
_EPILOG = f"""\
examples:
  kserve-doctor https://llm-demo.apps.example.com --token-file token --ca-cert ca.crt
  kserve-doctor grpcs://tgis-demo.apps.example.com:443
  kserve-doctor --isvc llm -n demo

The token comes from --token-file, or the environment: {TOKEN_VARIABLE}, {TOKEN_FILE_VARIABLE}.
Exit status: 0 everything works, 1 a step failed, 2 the command cannot be used as given.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints repeat no values: one of them might be a secret."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"kserve-doctor: {message}\nSee kserve-doctor --help.\n")


class _Refused(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        parser.error(_NO_TOKEN)


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = _Parser(
        prog="kserve-doctor",
        description="Examines an inference endpoint from the name to an answer, and says how to fix what is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("url", nargs="?", metavar="URL", help=f"the endpoint ({URL_VARIABLE} if left out)")
    cluster = made.add_argument_group("instead of a URL")
    cluster.add_argument("--isvc", metavar="NAME", help="an InferenceService, whose address the cluster is asked for")
    cluster.add_argument("-n", "--namespace", metavar="NS", help="its namespace")
    cluster.add_argument("--context", help="a context of the kubeconfig")
    cluster.add_argument("--kubeconfig", metavar="FILE", help="a kubeconfig file")
    cluster.add_argument("--allow-exec", action="store_true", help="run the program a kubeconfig names for credentials")
    cluster.add_argument(
        "--use-cluster-token", action="store_true", help="send the token for the cluster to the model as well"
    )
    how = made.add_argument_group("how to connect")
    how.add_argument("--token-file", metavar="FILE", help="a file that holds the token")
    how.add_argument("--ca-cert", metavar="FILE", action="append", help="CA certificates to trust; may be repeated")
    how.add_argument("--client-cert", metavar="FILE", help="a client certificate")
    how.add_argument("--client-key", metavar="FILE", help="its key, if it is not in the same file")
    how.add_argument("--insecure", action="store_true", help="connect even if the certificate is not accepted")
    how.add_argument("--protocol", type=_one_of("rest", "grpc"), metavar="{rest,grpc}", help="what to speak")
    what = made.add_argument_group("what to try")
    what.add_argument("--model", metavar="NAME", help="the model (any that is served, if left out)")
    what.add_argument("--runtime", metavar="NAME", help="the runtime (asked of the server, if left out)")
    what.add_argument("--no-generate", action="store_true", help="have no text generated")
    what.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="seconds for everything (default: 60)"
    )
    output = made.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the report as JSON")
    output.add_argument("--no-color", "--no-colour", action="store_true", help="print without colours")
    for name in _REFUSED:
        made.add_argument(name, nargs="?", action=_Refused, help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Examines what the command line names; returns the exit status."""
    made = parser()
    options, rest = made.parse_known_args(argv)
    if rest:
        names = [word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"]
        said = f"there is no option {' '.join(names)}" if names else "there is more than one URL, or an unknown option"
        made.error(said)
    if (options.url is None) == (options.isvc is None) and not (options.url is None and os.environ.get(URL_VARIABLE)):
        made.error("give either a URL or --isvc NAME")
    if options.isvc is None and (options.namespace or options.context or options.kubeconfig):
        made.error("-n, --context and --kubeconfig go with --isvc")
    if options.client_key and not options.client_cert:
        made.error("--client-key goes with --client-cert")
    show = _Shown(sys.stdout, options)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("kserve_core").addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what warnings and log lines say is in the report
            report = _examined(options, show)
    except ConfigurationError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        sys.stderr.write(f"kserve-doctor: {error.message}{hint}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nkserve-doctor: stopped\n")
        return 130
    show.end(report)
    return report.exit_code


class _Shown:
    """What is printed while the examination goes on, and at its end."""

    def __init__(self, out: TextIO, options: argparse.Namespace) -> None:
        self._out = out
        self._json = options.json
        plain = options.no_color or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        terminal = out.isatty()
        width = min(120, shutil.get_terminal_size().columns) if terminal else 100
        unicode = (out.encoding or "").lower().replace("-", "") in {"utf8", "utf8sig"}
        self._painter = Painter(colour=terminal and not plain, width=width, unicode=unicode)

    def begin(self, target: str) -> None:
        """Prints what is examined."""
        if not self._json:
            self._print(self._painter.head(target))

    def finding(self, finding: Finding) -> None:
        """Prints a finding."""
        text = self._painter.finding(finding)
        if text and not self._json:
            self._print(text)

    def end(self, report: Report) -> None:
        """Prints the rest."""
        if self._json:
            self._print(json.dumps(report.to_dict(), indent=2))
        else:
            self._print(self._painter.tail(report))

    def _print(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._out.flush()


def _examined(options: argparse.Namespace, show: _Shown) -> Report:
    client_cert = (options.client_cert, options.client_key) if options.client_cert else None
    settings: dict[str, Any] = {
        "api_key": Path(options.token_file) if options.token_file else None,
        "ca_cert": options.ca_cert,
        "client_cert": client_cert,
        "verify": not options.insecure,
        "model": options.model,
        "runtime": options.runtime,
        "protocol": options.protocol,
        "generate": not options.no_generate,
        "timeout": options.timeout,
        "on_finding": show.finding,
    }
    if options.isvc is not None:
        from kserve_core.doctor.cluster import examine_service

        show.begin(f"{options.namespace}/{options.isvc}" if options.namespace else options.isvc)
        return examine_service(
            options.isvc,
            namespace=options.namespace,
            context=options.context,
            kubeconfig=options.kubeconfig,
            allow_exec=options.allow_exec,
            use_cluster_token=options.use_cluster_token,
            **settings,
        )
    from kserve_core.doctor.examination import examine
    from kserve_core.endpoint import Endpoint

    connection = {name: settings.pop(name) for name in ("api_key", "ca_cert", "client_cert", "verify")}
    endpoint = Endpoint.create(options.url, **connection)
    show.begin(endpoint.base_url)
    return examine(endpoint, **settings)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        msg = "it must be a number of seconds above 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def _one_of(*choices: str) -> Any:
    def read(text: str) -> str:
        if text not in choices:
            msg = f"it must be {' or '.join(choices)}"
            raise argparse.ArgumentTypeError(msg)
        return text

    return read


if __name__ == "__main__":
    sys.exit(main())
