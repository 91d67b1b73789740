"""`python -m bench.scale`."""

import sys

from bench.scale.main import main

sys.exit(main())
