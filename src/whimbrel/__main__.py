"""`python -m whimbrel` is the command `whim`."""

from whimbrel.cli.main import main

if __name__ == "__main__":
    main()
