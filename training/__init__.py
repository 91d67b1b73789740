"""Offline: data, models, training, export, evaluation, registration. Knows `winnow`, never the services."""

import os

# Read when torch loads its OpenMP: threads that wait must sleep. Where they spin, a busy machine of two cores trains
# twenty times slower, an idle one no faster.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
