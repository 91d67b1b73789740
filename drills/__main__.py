"""`python -m drills`, which is `make drill`."""

import sys

from drills.main import main

sys.exit(main())
