-- Count the planned notifications of each person and day, and open a digest where they exceed the day's number. One for
-- the inbox alone is sent nowhere, and counts nowhere.
-- Grain: one row per person and day. Uses daily_counts_pkey: its row is the lock that makes the number exact; writers of
-- one person and day wait for each other there, in the order of the key, so that they cannot deadlock.
-- A digest is closed by clearing its digest_id under the same lock; whoever comes late opens another one.
INSERT INTO notifications.daily_counts AS c (tenant_id, user_id, day, counted, digest_id)
SELECT p.tenant_id, p.user_id, p.day, count(*),
    CASE WHEN count(*) > CAST(:daily_number AS integer) THEN gen_random_uuid() END
FROM planning AS p
WHERE p.sends
GROUP BY p.tenant_id, p.user_id, p.day
ORDER BY p.tenant_id, p.user_id, p.day
ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET counted = c.counted + excluded.counted,
    digest_id = CASE WHEN c.counted + excluded.counted > CAST(:daily_number AS integer)
        THEN coalesce(c.digest_id, gen_random_uuid()) END
