-- The tables under row security, and the views that are read with the rights of who reads. No partition: it would be read
-- past the security of its table. Grain: one row per table or view. Reads the catalog.
SELECT n.nspname AS schema, c.relname AS name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN (
        'platform', 'ingestion', 'raw', 'dossiers', 'notifications', 'litigation', 'automation_rules'
    )
    AND NOT c.relispartition
    AND c.oid <> CAST('platform.analysts' AS regclass)
    AND (c.relkind IN ('r', 'p') AND c.relrowsecurity
        OR c.relkind = 'v' AND 'security_invoker=true' = ANY (c.reloptions))
ORDER BY n.nspname, c.relname
