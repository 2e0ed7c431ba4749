"""The entry point of the program `clawft-trio`: Ctrl-C while its modules load ends it like Ctrl-C at any other time."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line, run it and exit."""
    try:
        from clawft_trio.cli.main import main as run  # noqa: PLC0415  # takes some tenths of a second

        run()
    except KeyboardInterrupt:
        if os.environ.get("CLAWFT_TRACEBACK"):
            raise
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)
