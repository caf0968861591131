"""`python -m kubesim` is the command `kubesim`."""

from kubesim.cli.main import main

if __name__ == "__main__":
    main()
