-- Whether anything waits to be planned or sent now. Grain: one row. Uses deliveries_due_idx and the
-- marks, each read up to the first entry.
SELECT EXISTS (SELECT FROM notifications.unplanned)
    OR EXISTS (
        SELECT FROM unnest(CAST(:channels AS text[])) AS c (channel)
        CROSS JOIN LATERAL (
            SELECT d.channel FROM notifications.deliveries AS d
            WHERE d.status IN ('queued', 'sending', 'failed') AND d.channel = c.channel
                AND d.next_attempt_at <= clock_timestamp()
            LIMIT 1
        ) AS first
    ) AS due
