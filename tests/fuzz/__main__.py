"""The property tests with many new examples, or a bounded run that is guided by coverage.

python -m fuzz [--examples 2000] [pytest's arguments]
python -m fuzz --atheris [--seconds 60]      needs: pip install atheris
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="examples per property (default: 2000)")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the bytes")
    parser.add_argument("--seconds", type=int, default=60, help="how long atheris runs (default: 60)")
    options, rest = parser.parse_known_args()
    if options.atheris:
        return guided(options.seconds)
    environment = {**os.environ, "KSERVE_TEST_FUZZ": str(options.examples)}
    command = [sys.executable, "-m", "pytest", "-n", "2", str(HERE), *rest]
    return subprocess.run(command, cwd=HERE.parents[1], env=environment, check=False).returncode


def guided(seconds: int) -> int:
    """Feeds the decoders what atheris makes up; it ends the process at the first exception that is no error of ours."""
    try:
        import atheris
    except ImportError:
        print("atheris is not installed in this environment: pip install atheris")
        return 2
    with atheris.instrument_imports(include=["kserve_core"]):
        import fuzz.test_bytes as bytes_

        from kserve_core.calls import Response
        from kserve_core.error_bodies import read_error_body
        from kserve_core.errors import KServeError
        from kserve_core.failures import error_from_response

    def one(data: bytes) -> None:
        rng = random.Random(len(data))
        places = [rng.randrange(200) for _ in range(4)]
        assert bytes_.events(bytes_.cut(data, places)) == bytes_.events([data])
        assert bytes_.parse(bytes_.cut(data, places)) == bytes_.parse([data])
        read_error_body(data)
        error = error_from_response(Response(400 + len(data) % 200, {"content-type": "application/json"}, data))
        assert error is None or isinstance(error, KServeError)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=2000", "-rss_limit_mb=1024"], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
