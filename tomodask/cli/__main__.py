"""`python -m tomodask.cli` is the same as `tomodask`."""

from tomodask.cli import main

if __name__ == "__main__":
    main()
