-- The views outside the project's schemas that are built on a relation inside them: dropping ours would drop them too.
-- Grain: one row per view. Reads the catalog only.
SELECT DISTINCT format('%I.%I', n.nspname, v.relname) AS name
FROM pg_depend AS d
JOIN pg_rewrite AS w ON d.classid = CAST('pg_rewrite' AS regclass) AND w.oid = d.objid
JOIN pg_class AS v ON v.oid = w.ev_class
JOIN pg_namespace AS n ON n.oid = v.relnamespace
JOIN pg_class AS t ON d.refclassid = CAST('pg_class' AS regclass) AND t.oid = d.refobjid
JOIN pg_namespace AS o ON o.oid = t.relnamespace
WHERE o.nspname = ANY (:schemas) AND n.nspname <> ALL (:schemas)
ORDER BY name
