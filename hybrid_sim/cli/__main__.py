"""Lets `python -m hybrid_sim.cli` do what `hybrid-sim` does."""

import sys

from hybrid_sim.cli import main

sys.exit(main())
