"""`python -m clawft_trio`: the command line."""

from clawft_trio.cli.entry import main

if __name__ == "__main__":
    main()
