"""`python -m hybrid_sim` is `hybrid-sim`."""

import sys

from hybrid_sim.cli import main

if __name__ == "__main__":
    sys.exit(main())
