"""`python -m bursar_sim`."""

import sys

from bursar_sim.main import main

sys.exit(main(sys.argv[1:]))
