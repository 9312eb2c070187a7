"""`python -m storefs`: the same as the command `storefs`."""

from storefs.cli import main

if __name__ == "__main__":
    main()
