"""``python -m stackalign``: the command line."""

from stackalign.cli.__main__ import main

if __name__ == "__main__":
    main()
