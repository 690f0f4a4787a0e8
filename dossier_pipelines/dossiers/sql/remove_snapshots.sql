-- Remove the stored spans that are no more. Grain: one row per span. Uses snapshot_spans_pkey.
DELETE FROM dossiers.snapshot_spans AS x
USING (
    SELECT t.tenant_id, t.dossier_id, t.year, t.first_day FROM snapshot_touched AS t
    EXCEPT
    SELECT m.tenant_id, m.dossier_id, m.year, m.first_day FROM snapshot_merged AS m
) AS gone
WHERE x.tenant_id = gone.tenant_id AND x.dossier_id = gone.dossier_id AND x.year = gone.year
    AND x.first_day = gone.first_day
