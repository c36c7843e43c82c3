"""`python -m cutbert`: the same as the command `cutbert`."""

import sys

from cutbert.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
