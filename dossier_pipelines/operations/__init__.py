"""Who watches the watchers: the locks of jobs, how every run ended, and the alarm when a job fails or does not run.

Owns nothing of a desk's. Writes ``platform.audit_log``, ``platform.job_alerts`` and the end of abandoned leases.
"""
