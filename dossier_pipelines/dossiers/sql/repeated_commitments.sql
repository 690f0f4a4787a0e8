-- Commitments that have dossier, description, due date and creation in common with another. Grain: one row.
-- Reads raw.commitments once.
SELECT coalesce(sum(n), 0) AS violations, (array_agg(first_id))[1:20] AS examples
FROM (
    SELECT count(*) - 1 AS n, (array_agg(id ORDER BY id))[1] AS first_id
    FROM raw.commitments WHERE description IS NOT NULL
    GROUP BY tenant_id, dossier_id, description, due_date, created_at HAVING count(*) > 1
) AS repeated
