-- Whether anything waits to be planned or sent now. Grain: one row. Uses notifications_unplanned_idx and
-- deliveries_due_idx, each read up to its first entry.
SELECT EXISTS (SELECT FROM notifications.notifications AS n WHERE n.planned_at IS NULL)
    OR EXISTS (
        SELECT FROM unnest(CAST(:channels AS text[])) AS c (channel)
        CROSS JOIN LATERAL (
            SELECT d.channel FROM notifications.deliveries AS d
            WHERE d.status IN ('queued', 'sending', 'failed') AND d.channel = c.channel
                AND d.next_attempt_at <= clock_timestamp()
            LIMIT 1
        ) AS first
    ) AS due
