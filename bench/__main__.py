"""`python -m bench`: measure and print. See docs/benchmarks.md."""

import sys

from bench.run import main

sys.exit(main())
