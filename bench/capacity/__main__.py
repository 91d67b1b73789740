"""`python -m bench.capacity`."""

import sys

from bench.capacity.main import main

sys.exit(main())
