"""Speed, measured as ratios in one run: ours beside the plain way, on the same data and the same server.

`make bench` runs all of it. No test asserts a time; these figures are looked at.
"""
