"""`python -m imos_core`: the command `imos`, where scripts are not on the path."""

import sys

from imos_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
