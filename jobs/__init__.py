"""Batch and stream jobs on Spark: what the log of events says of people and items, as windows, lists and counts.

Never imported by what serves. `aggregates` says what is computed, `stream` computes it while events come, `batch`
over the whole log; `training_set` joins both to what was shown.
"""
