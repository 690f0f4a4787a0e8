-- Take the marks that are visible now; what commits later is left for the next check. Grain: one row per mark of a tenant
-- in task_moments. Reads the marks, which are few: every check takes them away.
WITH taken AS (
    DELETE FROM litigation.task_marks AS k
    USING task_moments AS m
    WHERE k.tenant_id = m.tenant_id
    RETURNING k.tenant_id, k.task_id, k.came
)
INSERT INTO taken_marks (tenant_id, task_id, came)
SELECT t.tenant_id, t.task_id, t.came FROM taken AS t
