"""Litigation: deadlines, hearings, the figures of every day and the health of the automation, for a desk of lawyers.

Owns the litigation desk's calculations. Pure so far: ``anomalies`` judges series of daily metrics and knows nothing of
where they are stored; it is imported inside of runs only, since it needs numpy.
"""
