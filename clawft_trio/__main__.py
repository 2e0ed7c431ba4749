"""`python -m clawft_trio`: the command line."""

from clawft_trio.cli.main import main

main()
