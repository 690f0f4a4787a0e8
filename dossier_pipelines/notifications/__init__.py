"""The only place that sends: the inbox, the outbox of deliveries, the channels and the templates.

Owns the schema ``notifications``. A desk writes rows of ``notifications.notifications`` in the transaction of the
change that they tell of, and plans their deliveries in the same one; sending is a job of its own.
"""
