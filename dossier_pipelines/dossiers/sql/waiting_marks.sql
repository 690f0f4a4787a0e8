-- How long changes wait to be in the scores. Grain: one row. Reads the marks that wait, which are few: a refresh takes
-- them away. Those of a tenant that is not registered no refresh takes, and none is started for them.
SELECT count(*) AS marks,
    extract(epoch FROM clock_timestamp() - min(m.marked_at)) AS oldest_seconds,
    extract(epoch FROM clock_timestamp() - max(m.marked_at)) AS newest_seconds
FROM platform.stale_marks AS m
WHERE m.consumer = 'dossiers.health'
    AND EXISTS (SELECT FROM platform.tenants AS t WHERE t.tenant_id = m.tenant_id)
