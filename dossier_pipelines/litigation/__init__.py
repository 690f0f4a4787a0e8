"""Litigation: tasks and hearings that must not be missed, for many tenants at once.

Owns the raw tables tenants, courts, cases, tasks, hearings, case_documents and sla_policies; writes the schema
``litigation`` (task_flags, task_history, daily_metrics, anomalies and the views on them). Feeds the people who are
told, the automation rules that answer its events, and analysts.
"""
